//! The optimizer rule that puts [`SelfAttentionExec`] in place of `DataFusion`'s window operator.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use super::exec::{AttentionCall, SelfAttentionExec};
use super::self_attention::SelfAttention;
use crate::fixed_lists::as_lists;
use crate::window_rule::{Replacement, arguments};

/// Replaces every window operator that computes `self_attention` by [`SelfAttentionExec`], which computes
/// frames in blocks; other window functions of the same operator stay in one of `DataFusion`'s.
///
/// It must run before the rules that insert repartitions and sorts, because the operator has requirements
/// of its own.
#[derive(Debug, Default, Clone, Copy)]
pub struct AttendInBlocks;

impl AttendInBlocks {
    /// What [`PhysicalOptimizerRule::name`] returns.
    pub const NAME: &'static str = "attend_in_blocks";
}

impl PhysicalOptimizerRule for AttendInBlocks {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let replacement = Replacement {
            is_call: |expr| arguments::<SelfAttention>(expr).is_some(),
            together: |a, b| a.partition_by() == b.partition_by() && a.order_by() == b.order_by(),
            operator: attention_exec,
        };
        replacement.optimize(plan, config)
    }

    fn name(&self) -> &str {
        Self::NAME
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn attention_exec(
    exprs: &[Arc<dyn WindowExpr>],
    input: Arc<dyn ExecutionPlan>,
    can_repartition: bool,
) -> Result<Arc<dyn ExecutionPlan>> {
    let call = |expr: &Arc<dyn WindowExpr>| {
        let arguments = arguments::<SelfAttention>(expr).unwrap_or_default();
        AttentionCall::try_new(
            arguments,
            expr.field()?,
            Arc::clone(expr.get_window_frame()),
        )
    };
    let calls = exprs.iter().map(call).collect::<Result<Vec<_>>>()?;
    let first = exprs.first();
    let partition_by = first.map_or(&[][..], |expr| expr.partition_by()).to_vec();
    let order_by = first.map_or(&[][..], |expr| expr.order_by()).to_vec();
    let mut keys = partition_by.clone();
    keys.extend(order_by.iter().map(|order| Arc::clone(&order.expr)));
    let columns = input.schema();
    // Without keys nothing is sorted.
    let input = if keys.is_empty() {
        input
    } else {
        let used = exprs.iter().filter_map(arguments::<SelfAttention>);
        keys.extend(used.flatten().filter(|used| !used.is::<Column>()).cloned());
        as_lists(input, &keys)?
    };
    let exec = SelfAttentionExec::try_new(calls, partition_by, order_by, can_repartition, input)?;
    Ok(Arc::new(exec.with_columns(&columns)?))
}
