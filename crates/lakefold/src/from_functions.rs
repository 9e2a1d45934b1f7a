//! Functions in FROM, and the files that functions read: what must be known before planning.

use std::ops::ControlFlow;

use datafusion::error::{DataFusionError, Result};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectNamePart, Query, TableFactor,
    Value, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use lakefold_functions::relation_functions;

use crate::rewrite::argument_name;

/// Makes a query of each table that is named as an argument of a function in FROM: the tables of queries
/// are resolved before planning, those of arguments are not.
pub(crate) fn tables_to_queries(factor: &mut TableFactor) -> Result<()> {
    let TableFactor::Table {
        name,
        args: Some(arguments),
        ..
    } = factor
    else {
        return Ok(());
    };
    let [ObjectNamePart::Identifier(name)] = name.0.as_slice() else {
        return Ok(());
    };
    let name = name.value.to_lowercase();
    let Some((_, tables)) = relation_functions().find(|(known, _)| *known == name) else {
        return Ok(());
    };
    for place in tables {
        if let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))) =
            arguments.args.get_mut(place)
            && let Some(query) = query_of(argument)?
        {
            *argument = Expr::Subquery(query);
        }
    }
    Ok(())
}

/// `SELECT * FROM table`, where the argument is the name of a table or a quoted path.
fn query_of(argument: &Expr) -> Result<Option<Box<Query>>> {
    let is_table = match argument {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => true,
        Expr::Value(value) => matches!(value.value, Value::SingleQuotedString(_)),
        _ => false,
    };
    if !is_table {
        return Ok(None);
    }
    Parser::new(&GenericDialect {})
        .try_with_sql(&format!("SELECT * FROM {argument}"))
        .and_then(|mut parser| parser.parse_query())
        .map(Some)
        .map_err(|error| DataFusionError::SQL(Box::new(error), None))
}

/// A function whose argument `place`, by name `parameter`, is the path or URL of a file that is read while a
/// statement is planned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader {
    pub(crate) function: &'static str,
    pub(crate) place: usize,
    pub(crate) parameter: &'static str,
}

/// The paths and URLs that a statement calls the function with.
pub(crate) fn files_of_calls(statement: &impl Visit, reader: Reader) -> Vec<String> {
    let mut search = Files {
        reader,
        found: Vec::new(),
    };
    let ControlFlow::Continue(()) = statement.visit(&mut search);
    search.found
}

struct Files {
    reader: Reader,
    found: Vec<String>,
}

impl Visitor for Files {
    type Break = std::convert::Infallible;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        let Reader {
            function: name,
            place,
            parameter,
        } = self.reader;
        if let Expr::Function(function) = expr
            && function.name.to_string().eq_ignore_ascii_case(name)
            && let FunctionArguments::List(list) = &function.args
        {
            for (position, argument) in list.args.iter().enumerate() {
                let (FunctionArg::Unnamed(value)
                | FunctionArg::Named { arg: value, .. }
                | FunctionArg::ExprNamed { arg: value, .. }) = argument;
                let is_file = match argument_name(argument) {
                    Some(name) => name == parameter,
                    None => position == place,
                };
                if is_file
                    && let FunctionArgExpr::Expr(Expr::Value(value)) = value
                    && let Value::SingleQuotedString(path) = &value.value
                {
                    self.found.push(path.clone());
                }
            }
        }
        ControlFlow::Continue(())
    }
}
