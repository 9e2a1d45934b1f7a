//! The optimizer rule that puts [`LleExec`] in place of `DataFusion`'s window operator.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use crate::lle_embed::LleEmbed;
use crate::lle_exec::{LleCall, LleExec};
use crate::window_rule::{Replacement, arguments};

/// Replaces every window operator that computes `lle_embed` by [`LleExec`]; other window functions of
/// the same operator stay in one of `DataFusion`'s.
///
/// It must run before the rules that insert repartitions and sorts, because [`LleExec`] has
/// requirements of its own.
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
        let replacement = Replacement {
            is_call: |expr| arguments::<LleEmbed>(expr).is_some(),
            together: |a, b| a.partition_by() == b.partition_by(),
            operator: lle_exec,
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

fn lle_exec(
    exprs: &[Arc<dyn WindowExpr>],
    input: Arc<dyn ExecutionPlan>,
    can_repartition: bool,
) -> Result<Arc<dyn ExecutionPlan>> {
    let call = |expr: &Arc<dyn WindowExpr>| {
        let arguments = arguments::<LleEmbed>(expr).unwrap_or_default();
        LleCall::try_new(arguments, expr.field()?, &input.schema())
    };
    let calls = exprs.iter().map(call).collect::<Result<Vec<_>>>()?;
    let partition_by = exprs.first().map_or(&[][..], |expr| expr.partition_by());
    Ok(Arc::new(LleExec::try_new(
        calls,
        partition_by.to_vec(),
        can_repartition,
        input,
    )?))
}
