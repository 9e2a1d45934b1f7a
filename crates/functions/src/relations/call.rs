//! The arguments of a function in FROM.

use std::collections::BTreeMap;

use datafusion::common::{DFSchema, Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::create_physical_expr;
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, Ident, ObjectName, TableFactor, Value,
};

use super::Signature;
use super::planner::Catalogs;
use crate::constants::{constant, magnitude, whole_number};

/// One argument by position or name.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Whether a call must give it when it is planned.
    pub(crate) required: bool,
}

/// What an argument is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A subquery, or the name of a table.
    Table,
    /// An expression over the columns of the table before it.
    Column,
    /// A constant.
    Value,
}

impl Parameter {
    pub(crate) const fn table(name: &'static str) -> Self {
        Self::new(name, Kind::Table, true)
    }

    pub(crate) const fn column(name: &'static str) -> Self {
        Self::new(name, Kind::Column, true)
    }

    pub(crate) const fn optional_column(name: &'static str) -> Self {
        Self::new(name, Kind::Column, false)
    }

    pub(crate) const fn value(name: &'static str) -> Self {
        Self::new(name, Kind::Value, false)
    }

    const fn new(name: &'static str, kind: Kind, required: bool) -> Self {
        Self {
            name,
            kind,
            required,
        }
    }
}

/// Arguments by parameter.
pub(crate) struct Call {
    signature: &'static Signature,
    tables: BTreeMap<&'static str, LogicalPlan>,
    columns: BTreeMap<&'static str, Expr>,
    values: BTreeMap<&'static str, ScalarValue>,
}

impl Call {
    pub(crate) fn parse(
        signature: &'static Signature,
        arguments: Vec<FunctionArg>,
        catalogs: &Catalogs,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<Self> {
        let mut given = assign(signature, arguments, context)?;
        let mut call = Self {
            signature,
            tables: BTreeMap::new(),
            columns: BTreeMap::new(),
            values: BTreeMap::new(),
        };
        let mut table = None;
        for parameter in signature.parameters {
            let Some(argument) = given.remove(parameter.name) else {
                if parameter.required {
                    return plan_err!(
                        "{} needs {}: write {}",
                        signature.name,
                        parameter.name,
                        signature.syntax()
                    );
                }
                continue;
            };
            match parameter.kind {
                Kind::Table => {
                    let plan = plan_table(signature, parameter, argument, catalogs, context)?;
                    table = Some(plan.clone());
                    call.tables.insert(parameter.name, plan);
                }
                Kind::Column => {
                    let empty = DFSchema::empty();
                    let schema = table
                        .as_ref()
                        .map_or(&empty, |table| table.schema().as_ref());
                    let column = context.sql_to_expr(argument, schema)?;
                    call.columns.insert(parameter.name, column);
                }
                Kind::Value => {
                    let value = value(signature, parameter, argument, context)?;
                    call.values.insert(parameter.name, value);
                }
            }
        }
        Ok(call)
    }

    /// The plan of a table argument, which every call has.
    pub(crate) fn table(&self, name: &str) -> Result<LogicalPlan> {
        let table = self.tables.get(name).cloned();
        table.ok_or_else(|| plan_datafusion_err!("{} needs {name}", self.signature.name))
    }

    /// A column argument, which every call has.
    pub(crate) fn column(&self, name: &str) -> Result<Expr> {
        let column = self.columns.get(name).cloned();
        column.ok_or_else(|| plan_datafusion_err!("{} needs {name}", self.signature.name))
    }

    /// A column argument that a call may leave out; NULL in its place means the same.
    pub(crate) fn optional_column(&self, name: &str) -> Option<Expr> {
        let column = self.columns.get(name)?;
        let is_null = matches!(column, Expr::Literal(value, _) if value.is_null());
        (!is_null).then(|| column.clone())
    }

    /// A whole number of at least `least`; `None` where it was left out.
    pub(crate) fn whole_number(&self, name: &str, least: u64) -> Result<Option<u64>> {
        whole_number(&self.value(name), least, name, self.signature.name)
    }

    /// A finite number of at least 0; `None` where it was left out.
    pub(crate) fn magnitude(&self, name: &str) -> Result<Option<f64>> {
        magnitude(&self.value(name), name, self.signature.name)
    }

    /// A constant; NULL where it was left out.
    pub(crate) fn value(&self, name: &str) -> ScalarValue {
        self.values.get(name).cloned().unwrap_or(ScalarValue::Null)
    }

    /// A constant text; `None` where it was left out.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>> {
        let value = self.value(name);
        match value.try_as_str() {
            Some(text) => Ok(text.map(str::to_owned)),
            None if value.is_null() => Ok(None),
            None => plan_err!(
                "{name} of {} must be text, got {value}",
                self.signature.name
            ),
        }
    }
}

/// A column argument as its user knows it.
pub(crate) fn written(column: &Expr) -> String {
    match column {
        Expr::Column(column) => column.name.clone(),
        other => other.schema_name().to_string(),
    }
}

/// Which argument belongs to which parameter.
fn assign(
    signature: &'static Signature,
    arguments: Vec<FunctionArg>,
    context: &dyn RelationPlannerContext,
) -> Result<BTreeMap<&'static str, SqlExpr>> {
    let name = signature.name;
    let mut given = BTreeMap::new();
    for (place, argument) in arguments.into_iter().enumerate() {
        let (parameter, expression) = match argument {
            FunctionArg::Unnamed(expression) => {
                let Some(parameter) = signature.parameters.get(place) else {
                    return plan_err!(
                        "{name} has too many arguments: write {}",
                        signature.syntax()
                    );
                };
                if !given.is_empty() && given.len() != place {
                    return plan_err!(
                        "{name} has an argument without a name after named ones: name it as well"
                    );
                }
                (parameter, expression)
            }
            FunctionArg::Named { name, arg, .. }
            | FunctionArg::ExprNamed {
                name: SqlExpr::Identifier(name),
                arg,
                ..
            } => (find(signature, name, context)?, arg),
            FunctionArg::ExprNamed { name: other, .. } => {
                return plan_err!("{name}: '{other}' is not the name of an argument");
            }
        };
        let FunctionArgExpr::Expr(expression) = expression else {
            return plan_err!(
                "{name} takes no * as {}: write {}",
                parameter.name,
                signature.syntax()
            );
        };
        if given.insert(parameter.name, expression).is_some() {
            return plan_err!(
                "{} of {name} is given twice: keep one of them",
                parameter.name
            );
        }
    }
    Ok(given)
}

fn find(
    signature: &'static Signature,
    name: Ident,
    context: &dyn RelationPlannerContext,
) -> Result<&'static Parameter> {
    let name = context.normalize_ident(name);
    let parameter = signature.parameters.iter().find(|p| p.name == name);
    parameter.ok_or_else(|| {
        plan_datafusion_err!(
            "{} has no argument '{name}': write {}",
            signature.name,
            signature.syntax()
        )
    })
}

fn plan_table(
    signature: &Signature,
    parameter: &Parameter,
    argument: SqlExpr,
    catalogs: &Catalogs,
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let named = |name: ObjectName| TableFactor::Table {
        name,
        alias: None,
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    };
    let relation = match argument {
        SqlExpr::Subquery(subquery) => TableFactor::Derived {
            lateral: false,
            subquery,
            alias: None,
            sample: None,
        },
        SqlExpr::Identifier(name) => named(ObjectName::from(vec![name])),
        SqlExpr::CompoundIdentifier(names) => named(ObjectName::from(names)),
        SqlExpr::Value(value) => match value.value {
            Value::SingleQuotedString(path) => {
                named(ObjectName::from(vec![Ident::with_quote('"', path)]))
            }
            other => {
                return plan_err!(
                    "{} of {} must be a table or a query in parentheses, got {other}",
                    parameter.name,
                    signature.name
                );
            }
        },
        other => {
            return plan_err!(
                "{} of {} must be a table or a query in parentheses, got {other}: write {}",
                parameter.name,
                signature.name,
                signature.syntax()
            );
        }
    };
    catalogs.plan(relation, context)
}

fn value(
    signature: &Signature,
    parameter: &Parameter,
    argument: SqlExpr,
    context: &mut dyn RelationPlannerContext,
) -> Result<ScalarValue> {
    let schema = DFSchema::empty();
    let written = argument.to_string();
    let expression = context.sql_to_expr(argument, &schema).map_err(|error| {
        error.context(format!(
            "{} of {} must be a constant, got {written}",
            parameter.name, signature.name
        ))
    })?;
    let physical = create_physical_expr(
        &expression,
        &schema,
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )?;
    constant(&physical, parameter.name, signature.name)
}
