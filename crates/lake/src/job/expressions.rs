//! The expressions of a job: planned once, applied to each chunk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ScalarValue, plan_datafusion_err, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF, Volatility};
use datafusion::prelude::SessionContext;

use super::chunk_table::ChunkTable;
use super::valid_vector::ValidVector;

/// The function whose first argument is checked.
const TRANSFORM: &str = "lle_transform";

/// The name of a column of vectors, and the dimensions of the model that takes them.
pub(crate) type Vector = (String, usize);

/// What a job computes of each row.
#[derive(Debug, Clone)]
pub(crate) struct Expressions {
    plan: LogicalPlan,
    /// Dimensions of the models by the text that names them.
    dimensions: BTreeMap<String, usize>,
    /// Columns of the input that are read.
    pub(crate) read: Vec<String>,
    /// Columns that every file must have, because something is computed from them.
    pub(crate) needed: Vec<String>,
}

impl Expressions {
    /// Plans `SELECT select FROM table WHERE filter`. Columns in `partitions` stay in the names of
    /// directories and are left out of the files.
    ///
    /// # Errors
    /// For what cannot be planned; and for what is not computed of each row for itself, or not the same
    /// each time.
    pub(crate) async fn plan(
        context: &SessionContext,
        table: &ChunkTable,
        select: &str,
        filter: Option<&str>,
        partitions: &[String],
        dimensions: BTreeMap<String, usize>,
    ) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "lakefold_job_input_{}",
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        context.register_table(&name, Arc::new(table.clone()))?;
        // Line ends, so that a comment in the text ends with it.
        let mut sql = format!("SELECT {select}\nFROM {name}");
        if let Some(filter) = filter {
            sql = format!("{sql}\nWHERE ({filter}\n)");
        }
        let plan = context.state().create_logical_plan(&sql).await;
        context.deregister_table(&name)?;
        let plan = plan.map_err(|error| error.context("in the expressions of the job"))?;
        check_row_wise(&plan, &name)?;
        let needed = needed_columns(&plan)?;
        let plan = without_partitions(plan, partitions)?;
        let read = columns_of(&plan)?;
        Ok(Self {
            plan,
            dimensions,
            read,
            needed,
        })
    }

    /// The columns of the output.
    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::clone(self.plan.schema().inner())
    }

    /// The plan over a chunk. With `invalid`, rows that no model takes become NULL and are counted.
    pub(crate) fn over(
        &self,
        chunk: Arc<dyn TableProvider>,
        invalid: Option<&Arc<AtomicUsize>>,
    ) -> Result<LogicalPlan> {
        let plan = self.plan.clone().transform_up(|node| {
            let counter = match &node {
                LogicalPlan::TableScan(_) => {
                    return Ok(Transformed::yes(with_source(node, &chunk)));
                }
                // A row that a filter looks at is counted where it is embedded.
                LogicalPlan::Filter(_) => None,
                _ => invalid.map(Arc::clone),
            };
            if invalid.is_none() {
                return Ok(Transformed::no(node));
            }
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                let checked = expr.transform_up(|expr| Ok(self.checked(expr, counter.as_ref())))?;
                Ok(checked.update_data(|expr| name.restore(expr)))
            })
        });
        plan.map(|plan| plan.data)
    }

    /// `lle_transform(v, m)` as `lle_transform(valid_vector(v), m)`.
    fn checked(&self, expr: Expr, invalid: Option<&Arc<AtomicUsize>>) -> Transformed<Expr> {
        let Some((function, dimensions)) = self.transform_call(&expr) else {
            return Transformed::no(expr);
        };
        let check = ValidVector::new(dimensions, invalid.map(Arc::clone));
        let mut call = function.clone();
        let vectors = call.args[0].clone();
        let check = Arc::new(ScalarUDF::from(check));
        call.args[0] = Expr::ScalarFunction(ScalarFunction::new_udf(check, vec![vectors]));
        Transformed::yes(Expr::ScalarFunction(call))
    }

    /// A call of `lle_transform`, and the dimensions of its model.
    fn transform_call<'a>(&self, expr: &'a Expr) -> Option<(&'a ScalarFunction, usize)> {
        let Expr::ScalarFunction(function) = expr else {
            return None;
        };
        let [_, Expr::Literal(model, _)] = function.args.as_slice() else {
            return None;
        };
        let model = model.try_as_str().flatten()?;
        let dimensions = *self.dimensions.get(model)?;
        (function.name() == TRANSFORM).then_some((function, dimensions))
    }

    /// For finding the row that stopped a chunk: whether a row passes the filter, then each vector
    /// that is embedded, one row for every row of the chunk; with the vectors' names and dimensions.
    pub(crate) fn vectors(
        &self,
        chunk: &Arc<dyn TableProvider>,
    ) -> Result<Option<(LogicalPlan, Vec<Vector>)>> {
        let (mut keep, mut vectors, mut found, mut scan) = (None, Vec::new(), Vec::new(), None);
        self.plan.apply(|node| {
            match node {
                LogicalPlan::Filter(filter) => keep = Some(filter.predicate.clone()),
                LogicalPlan::TableScan(_) => scan = Some(with_source(node.clone(), chunk)),
                _ => {}
            }
            for expr in node.expressions() {
                expr.apply(|expr| {
                    if let Some((call, dimensions)) = self.transform_call(expr) {
                        let vector = call.args[0].clone();
                        found.push((written(&vector), dimensions));
                        vectors.push(vector.alias(format!("v{}", vectors.len())));
                    }
                    Ok(TreeNodeRecursion::Continue)
                })?;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        let Some(scan) = scan.filter(|_| !vectors.is_empty()) else {
            return Ok(None);
        };
        let keep = keep.unwrap_or_else(|| Expr::Literal(ScalarValue::Boolean(Some(true)), None));
        let columns = std::iter::once(keep.alias("keep")).chain(vectors);
        let plan = LogicalPlanBuilder::from(scan).project(columns)?.build()?;
        Ok(Some((plan, found)))
    }
}

/// A column by its name alone, anything else as it is displayed.
fn written(expr: &Expr) -> String {
    match expr {
        Expr::Column(column) => column.name.clone(),
        other => other.to_string(),
    }
}

fn with_source(node: LogicalPlan, table: &Arc<dyn TableProvider>) -> LogicalPlan {
    match node {
        LogicalPlan::TableScan(mut scan) => {
            scan.source = provider_as_source(Arc::clone(table));
            LogicalPlan::TableScan(scan)
        }
        other => other,
    }
}

fn check_row_wise(plan: &LogicalPlan, table: &str) -> Result<()> {
    plan.apply(|node| {
        match node {
            LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {}
            LogicalPlan::TableScan(scan) if scan.table_name.table() == table => {}
            other => {
                let kind = other.display().to_string();
                let kind = kind.split([':', ' ']).next().unwrap_or_default();
                return plan_err!(
                    "a job computes each row for itself, chunk by chunk, and cannot do '{kind}': use \
                     `lakefold sql` with COPY for aggregates, windows, joins, sorting and unnesting"
                );
            }
        }
        for expr in node.expressions() {
            expr.apply(|expr| {
                check_expression(expr)?;
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn check_expression(expr: &Expr) -> Result<()> {
    match expr {
        Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) => plan_err!(
            "a job's expressions know one table, its input: no subqueries; use `lakefold sql` with COPY"
        ),
        Expr::ScalarVariable(..) => plan_err!("a job's expressions know no variables, got {expr}"),
        Expr::ScalarFunction(call) => match call.func.signature().volatility {
            Volatility::Immutable => Ok(()),
            Volatility::Stable | Volatility::Volatile => plan_err!(
                "{} gives another value in each run, so that a resumed job would not end as an \
                 uninterrupted one: write a constant, or compute it from the row",
                call.name()
            ),
        },
        _ => Ok(()),
    }
}

/// Columns that something is computed from; those that are passed on may be missing.
fn needed_columns(plan: &LogicalPlan) -> Result<Vec<String>> {
    let mut needed = Vec::new();
    plan.apply(|node| {
        for expr in node.expressions() {
            if passed_on(&expr).is_none() {
                needed.extend(expr.column_refs().into_iter().map(|c| c.name.clone()));
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    needed.sort_unstable();
    needed.dedup();
    Ok(needed)
}

/// The column of an expression that is nothing else.
fn passed_on(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => passed_on(&alias.expr),
        _ => None,
    }
}

/// All columns of the input that occur.
fn columns_of(plan: &LogicalPlan) -> Result<Vec<String>> {
    let mut columns = Vec::new();
    plan.apply(|node| {
        for expr in node.expressions() {
            columns.extend(expr.column_refs().into_iter().map(|c| c.name.clone()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    columns.sort_unstable();
    columns.dedup();
    Ok(columns)
}

/// The plan without the columns that the output's directories tell.
fn without_partitions(plan: LogicalPlan, partitions: &[String]) -> Result<LogicalPlan> {
    if partitions.is_empty() {
        return Ok(plan);
    }
    let LogicalPlan::Projection(top) = &plan else {
        return Err(plan_datafusion_err!(
            "a job's expressions are a list of columns"
        ));
    };
    let is_partition = |name: &str| partitions.iter().any(|partition| partition == name);
    let mut kept = Vec::new();
    let outputs = plan.schema().iter().zip(&top.expr);
    for ((qualifier, field), expr) in outputs {
        if !is_partition(field.name()) {
            kept.push(Expr::Column(Column::from((qualifier, field))));
            continue;
        }
        let same = passed_on(expr).is_some_and(|column| column.name == *field.name());
        if !same {
            return plan_err!(
                "'{}' is a partition column, whose value is in the directories' names: give the \
                 computed column another name",
                field.name()
            );
        }
    }
    if kept.len() == plan.schema().fields().len() {
        return Ok(plan);
    }
    LogicalPlanBuilder::from(plan).project(kept)?.build()
}
