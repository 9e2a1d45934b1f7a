//! Putting operators of our own in place of `DataFusion`'s window operator.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::WindowUDFImpl;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::window::{StandardWindowExpr, WindowExpr};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec, WindowUDFExpr};
use datafusion::physical_plan::{ExecutionPlan, InputOrderMode};

type Plan = Arc<dyn ExecutionPlan>;
type Call = Arc<dyn WindowExpr>;

/// The arguments of a call of `F`, and nothing for other window functions.
pub(crate) fn arguments<F: WindowUDFImpl>(expr: &Call) -> Option<&[Arc<dyn PhysicalExpr>]> {
    let standard = expr.as_any().downcast_ref::<StandardWindowExpr>()?;
    let call = standard
        .get_standard_func_expr()
        .as_any()
        .downcast_ref::<WindowUDFExpr>()?;
    call.fun().inner().is::<F>().then(|| call.args())
}

/// An operator for the calls of one function.
pub(crate) struct Replacement {
    /// Whether a window function is one of its calls.
    pub(crate) is_call: fn(&Call) -> bool,
    /// Whether two calls can share an operator.
    pub(crate) together: fn(&Call, &Call) -> bool,
    /// The operator, over a plan whose first columns are those of the window operator's input. The last
    /// argument tells whether partitions may be spread.
    pub(crate) operator: fn(&[Call], Plan, bool) -> Result<Plan>,
}

impl Replacement {
    /// Replaces every window operator that computes such calls; other window functions of the same operator
    /// stay in one of `DataFusion`'s.
    ///
    /// A `BoundedWindowAggExec` never holds them, because their evaluators do not support it.
    pub(crate) fn optimize(&self, plan: Plan, config: &ConfigOptions) -> Result<Plan> {
        let can_repartition =
            config.execution.target_partitions > 1 && config.optimizer.repartition_windows;
        plan.transform_up(|node| match node.downcast_ref::<WindowAggExec>() {
            Some(window) if window.window_expr().iter().any(self.is_call) => {
                self.replace(window, can_repartition).map(Transformed::yes)
            }
            _ => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn replace(&self, window: &WindowAggExec, can_repartition: bool) -> Result<Plan> {
        let mut plan = Arc::clone(window.input());
        let exprs = window.window_expr();
        let input_columns = plan.schema().fields().len();
        let of = |positions: &[usize]| -> Vec<Call> {
            let exprs = positions
                .iter()
                .map(|&position| Arc::clone(&exprs[position]));
            exprs.collect()
        };
        // Positions among the window expressions, in the order in which their columns are added.
        let (calls, others): (Vec<usize>, Vec<usize>) =
            (0..exprs.len()).partition(|&position| (self.is_call)(&exprs[position]));
        let mut added = others.clone();
        if !others.is_empty() {
            plan = window_exec(of(&others), plan, can_repartition)?;
        }
        let mut remaining = calls;
        while let Some(&first) = remaining.first() {
            let (together, later): (Vec<usize>, Vec<usize>) = remaining
                .into_iter()
                .partition(|&position| (self.together)(&exprs[first], &exprs[position]));
            plan = (self.operator)(&of(&together), plan, can_repartition)?;
            added.extend(together);
            remaining = later;
        }
        if added.is_sorted() {
            return Ok(plan);
        }
        restore_order(&plan, input_columns, &added)
    }
}

/// What the physical planner does with window functions that it can or cannot stream.
fn window_exec(exprs: Vec<Call>, input: Plan, can_repartition: bool) -> Result<Plan> {
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
fn restore_order(plan: &Plan, input_columns: usize, added: &[usize]) -> Result<Plan> {
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
