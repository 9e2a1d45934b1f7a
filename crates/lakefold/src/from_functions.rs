//! Functions in FROM: what must be known before planning.

use datafusion::error::{DataFusionError, Result};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, ObjectNamePart, Query, TableFactor, Value,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use lakefold_functions::relation_functions;

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
