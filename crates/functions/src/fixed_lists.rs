//! Lists of a fixed size on their way through repartitions and sorts.
//!
//! Both copy rows. Arrow's `take` copies a `FixedSizeList` number by number, by an index that it makes for each; of a
//! `List` it copies rows. Between the two only offsets have to be made, so fixed lists travel as lists.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

type Plan = Arc<dyn ExecutionPlan>;

/// `plan` with a `List` for each `FixedSizeList` of numbers that no key needs as it is.
pub(crate) fn as_lists(plan: Plan, keys: &[Arc<dyn PhysicalExpr>]) -> Result<Plan> {
    let needed: HashSet<Column> = keys.iter().flat_map(collect_columns).collect();
    let schema = plan.schema();
    let types = schema.fields().iter().enumerate().map(|(place, field)| {
        let needed = needed.iter().any(|column| column.index() == place);
        match field.data_type() {
            DataType::FixedSizeList(number, _) if number.data_type().is_primitive() && !needed => {
                DataType::List(Arc::clone(number))
            }
            other => other.clone(),
        }
    });
    cast(plan, &types.collect::<Vec<_>>())
}

/// `plan`, whose first columns are those that `original` has as they were.
pub(crate) fn restored(plan: Plan, original: &Schema) -> Result<Plan> {
    let schema = plan.schema();
    let originals = original.fields().iter();
    let others = schema.fields().iter().skip(original.fields().len());
    let types = originals
        .chain(others)
        .map(|field| field.data_type().clone());
    cast(plan, &types.collect::<Vec<_>>())
}

fn cast(plan: Plan, types: &[DataType]) -> Result<Plan> {
    let schema = plan.schema();
    let mut same = true;
    let columns = schema
        .fields()
        .iter()
        .enumerate()
        .zip(types)
        .map(|((place, field), wanted)| {
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), place));
            let expr = if field.data_type() == wanted {
                column
            } else {
                same = false;
                Arc::new(CastExpr::new(column, wanted.clone(), None))
            };
            ProjectionExpr::new(expr, field.name())
        });
    let columns: Vec<ProjectionExpr> = columns.collect();
    if same {
        return Ok(plan);
    }
    Ok(Arc::new(ProjectionExec::try_new(columns, plan)?))
}
