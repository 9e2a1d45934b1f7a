//! The optimizer rule that puts [`LleExec`] in place of `DataFusion`'s window operator.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::window::{StandardWindowExpr, WindowExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec, WindowUDFExpr};
use datafusion::physical_plan::{ExecutionPlan, InputOrderMode};

use crate::lle_embed::LleEmbed;
use crate::lle_exec::{LleCall, LleExec};

/// Replaces every window operator that computes `lle_embed` by [`LleExec`]; other window functions of
/// the same operator stay in one of `DataFusion`'s.
///
/// It must run before the rules that insert repartitions and sorts, because [`LleExec`] has
/// requirements of its own. A `BoundedWindowAggExec` never holds `lle_embed`, which cannot be computed
/// before its whole partition is known.
#[derive(Debug, Default, Clone, Copy)]
pub struct EmbedWithLleExec;

impl EmbedWithLleExec {
    /// What [`PhysicalOptimizerRule::name`] returns.
    pub const NAME: &'static str = "embed_with_lle_exec";
}

impl PhysicalOptimizerRule for EmbedWithLleExec {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let can_repartition =
            config.execution.target_partitions > 1 && config.optimizer.repartition_windows;
        plan.transform_up(|node| match node.downcast_ref::<WindowAggExec>() {
            Some(window)
                if window
                    .window_expr()
                    .iter()
                    .any(|expr| arguments(expr).is_some()) =>
            {
                replace(window, can_repartition).map(Transformed::yes)
            }
            _ => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        Self::NAME
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The arguments of a call of `lle_embed`, and nothing for other window functions.
fn arguments(expr: &Arc<dyn WindowExpr>) -> Option<&[Arc<dyn PhysicalExpr>]> {
    let standard = expr.as_any().downcast_ref::<StandardWindowExpr>()?;
    let call = standard
        .get_standard_func_expr()
        .as_any()
        .downcast_ref::<WindowUDFExpr>()?;
    call.fun().inner().is::<LleEmbed>().then(|| call.args())
}

fn replace(window: &WindowAggExec, can_repartition: bool) -> Result<Arc<dyn ExecutionPlan>> {
    let mut plan = Arc::clone(window.input());
    let input_columns = plan.schema().fields().len();
    // Positions among the window expressions, in the order in which their columns are added.
    let (calls, others): (Vec<usize>, Vec<usize>) = (0..window.window_expr().len())
        .partition(|&position| arguments(&window.window_expr()[position]).is_some());
    let mut added = others.clone();
    if !others.is_empty() {
        let others = others
            .iter()
            .map(|&position| Arc::clone(&window.window_expr()[position]));
        plan = window_exec(others.collect(), plan, can_repartition)?;
    }
    let mut remaining = calls;
    while let Some(&first) = remaining.first() {
        let partition_by = window.window_expr()[first].partition_by();
        let (together, later): (Vec<usize>, Vec<usize>) = remaining
            .into_iter()
            .partition(|&position| window.window_expr()[position].partition_by() == partition_by);
        let calls = together
            .iter()
            .filter_map(|&position| {
                let expr = &window.window_expr()[position];
                let arguments = arguments(expr)?;
                let call = |field| LleCall::try_new(arguments, field, &window.input().schema());
                Some(expr.field().and_then(call))
            })
            .collect::<Result<Vec<_>>>()?;
        plan = Arc::new(LleExec::try_new(
            calls,
            partition_by.to_vec(),
            can_repartition,
            plan,
        )?);
        added.extend(together);
        remaining = later;
    }
    if added.is_sorted() {
        return Ok(plan);
    }
    restore_order(&plan, input_columns, &added)
}

/// What the physical planner does with window functions that it can or cannot stream.
fn window_exec(
    exprs: Vec<Arc<dyn WindowExpr>>,
    input: Arc<dyn ExecutionPlan>,
    can_repartition: bool,
) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(if exprs.iter().all(|expr| expr.uses_bounded_memory()) {
        Arc::new(BoundedWindowAggExec::try_new(
            exprs,
            input,
            InputOrderMode::Sorted,
            can_repartition,
        )?)
    } else {
        Arc::new(WindowAggExec::try_new(exprs, input, can_repartition)?)
    })
}

/// Puts the window columns back in the order of the query; `added[i]` is the place of column i.
fn restore_order(
    plan: &Arc<dyn ExecutionPlan>,
    input_columns: usize,
    added: &[usize],
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut sources: Vec<usize> = (0..input_columns + added.len()).collect();
    for (column, &place) in added.iter().enumerate() {
        sources[input_columns + place] = input_columns + column;
    }
    let schema = plan.schema();
    let columns = sources.into_iter().map(|source| {
        let name = schema.field(source).name();
        (
            Arc::new(Column::new(name, source)) as Arc<dyn PhysicalExpr>,
            name.clone(),
        )
    });
    Ok(Arc::new(ProjectionExec::try_new(
        columns,
        Arc::clone(plan),
    )?))
}
