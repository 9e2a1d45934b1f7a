//! The models that a job's expressions name.

use std::ops::ControlFlow;

use datafusion::common::plan_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Value, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use lakefold_functions::LleTransform;

use super::stores::register_store;
use crate::Location;

/// A model that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoadedModel {
    /// As the expressions name it.
    pub(crate) name: String,
    /// SHA-256 of its contents.
    pub(crate) id: String,
    pub(crate) dimensions: usize,
}

/// The paths and URLs that a statement names as models of `lle_transform`.
pub fn transform_models(statement: &impl Visit) -> Vec<String> {
    let mut search = Models(Vec::new());
    let ControlFlow::Continue(()) = statement.visit(&mut search);
    search.0
}

struct Models(Vec<String>);

impl Visitor for Models {
    type Break = std::convert::Infallible;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        if let Expr::Function(function) = expr
            && function
                .name
                .to_string()
                .eq_ignore_ascii_case("lle_transform")
            && let FunctionArguments::List(list) = &function.args
        {
            for argument in &list.args {
                let (FunctionArg::Unnamed(argument)
                | FunctionArg::Named { arg: argument, .. }
                | FunctionArg::ExprNamed { arg: argument, .. }) = argument;
                if let FunctionArgExpr::Expr(Expr::Value(value)) = argument
                    && let Value::SingleQuotedString(path) = &value.value
                {
                    self.0.push(path.clone());
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// Reads the models of a list of expressions into the session's `lle_transform`.
///
/// # Errors
/// For a syntax error, or a model that cannot be read.
pub(crate) async fn load_models(
    context: &SessionContext,
    select: &str,
    options: &std::collections::BTreeMap<String, String>,
) -> Result<Vec<LoadedModel>> {
    let statements =
        Parser::parse_sql(&GenericDialect {}, &format!("SELECT {select}")).map_err(|error| {
            DataFusionError::SQL(Box::new(error), None).context("in the expressions of the job")
        })?;
    let mut names: Vec<String> = statements.iter().flat_map(transform_models).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let state = context.state();
    let function = state.scalar_functions().get("lle_transform").cloned();
    let function = function.as_ref().map(|function| function.inner());
    let Some(transform) = function.and_then(|f| f.downcast_ref::<LleTransform>()) else {
        return plan_err!("the session has no lle_transform: register Lakefold's functions first");
    };
    let mut models = Vec::new();
    for name in names {
        register_store(context, &Location::parse(&name)?, options)?;
        let cache = transform.models();
        cache.load(&name, &context.runtime_env()).await?;
        if let (Some(id), Some(dimensions)) = (cache.id(&name), cache.dimensions(&name)) {
            models.push(LoadedModel {
                name,
                id,
                dimensions,
            });
        }
    }
    Ok(models)
}
