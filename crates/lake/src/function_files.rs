//! The files that functions read while a statement is planned: models and weights.

use std::ops::ControlFlow;

use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Value, Visit, Visitor,
};
use lakefold_functions::{Linear, LleTransform};

/// A path or URL that a function is called with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FunctionFile {
    /// In lower case.
    pub function: &'static str,
    /// As the call names it.
    pub name: String,
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedFile {
    /// As the call names it.
    pub name: String,
    /// SHA-256 of its contents.
    pub id: String,
    /// Of the features that a model takes; `None` for weights.
    pub dimensions: Option<usize>,
}

/// A function whose second argument, by name `parameter`, is such a file.
struct Reader {
    function: &'static str,
    parameter: &'static str,
}

const READERS: [Reader; 2] = [
    Reader {
        function: "lle_transform",
        parameter: "model",
    },
    Reader {
        function: "linear",
        parameter: "weights",
    },
];

/// The files that a statement's calls name.
pub fn files_of_functions(statement: &impl Visit) -> Vec<FunctionFile> {
    let mut search = Files(Vec::new());
    let ControlFlow::Continue(()) = statement.visit(&mut search);
    search.0
}

struct Files(Vec<FunctionFile>);

impl Visitor for Files {
    type Break = std::convert::Infallible;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        if let Expr::Function(function) = expr {
            let called = function.name.to_string();
            let mut readers = READERS.iter();
            let reader = readers.find(|reader| called.eq_ignore_ascii_case(reader.function));
            if let Some(reader) = reader {
                self.0.extend(file_of(function, reader));
            }
        }
        ControlFlow::Continue(())
    }
}

fn file_of(function: &Function, reader: &Reader) -> Option<FunctionFile> {
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let is_file = |(place, argument): &(usize, &FunctionArg)| match argument {
        FunctionArg::Unnamed(_) => *place == 1,
        FunctionArg::Named { name, .. }
        | FunctionArg::ExprNamed {
            name: Expr::Identifier(name),
            ..
        } => name.value.eq_ignore_ascii_case(reader.parameter),
        FunctionArg::ExprNamed { .. } => false,
    };
    let (_, argument) = list.args.iter().enumerate().find(is_file)?;
    let (FunctionArg::Unnamed(argument)
    | FunctionArg::Named { arg: argument, .. }
    | FunctionArg::ExprNamed { arg: argument, .. }) = argument;
    if let FunctionArgExpr::Expr(Expr::Value(value)) = argument
        && let Value::SingleQuotedString(path) = &value.value
    {
        return Some(FunctionFile {
            function: reader.function,
            name: path.clone(),
        });
    }
    None
}

/// Reads a file into the session's function, unless it is there and has not changed. `None` where a user has
/// replaced the function.
///
/// # Errors
/// For a session without the function, and a file that cannot be read or is none of that kind.
pub async fn load_file(
    context: &SessionContext,
    file: &FunctionFile,
) -> Result<Option<LoadedFile>> {
    let state = context.state();
    let Some(function) = state.scalar_functions().get(file.function) else {
        return plan_err!(
            "the session has no {}: register Lakefold's functions first",
            file.function
        );
    };
    let (name, env) = (&file.name, context.runtime_env());
    let (id, dimensions) = if let Some(transform) = function.inner().downcast_ref::<LleTransform>()
    {
        let models = transform.models();
        models.load(name, &env).await?;
        (models.id(name), models.dimensions(name))
    } else if let Some(linear) = function.inner().downcast_ref::<Linear>() {
        let files = linear.files();
        files.load(name, &env).await?;
        (files.id(name), None)
    } else {
        return Ok(None);
    };
    Ok(id.map(|id| LoadedFile {
        name: name.clone(),
        id,
        dimensions,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    #[test]
    fn files_are_found_by_place_and_by_name() {
        let sql = "SELECT LLE_transform(x, 'a.parquet'), linear(y, weights => 'b.parquet', name => 'q'),
            linear(y, 'c.parquet', 'no file'), softmax(z, 'd'), lle_transform(x, model => 's3://b/e.parquet')";
        let statements = Parser::parse_sql(&GenericDialect {}, sql).unwrap();
        let files = files_of_functions(&statements);
        let found: Vec<_> = files
            .iter()
            .map(|f| (f.function, f.name.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("lle_transform", "a.parquet"),
                ("linear", "b.parquet"),
                ("linear", "c.parquet"),
                ("lle_transform", "s3://b/e.parquet")
            ]
        );
    }
}
