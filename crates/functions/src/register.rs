//! Adding the functions to a session.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::prelude::SessionContext;

use crate::attention::{
    AttendInBlocks, Attention, AttentionWeights, Linear, MultiHeadAttention, SELF_ATTENTION,
    SelfAttention,
};
use crate::barycenter_weights::BarycenterWeights;
use crate::index::{HnswSettings, IndexCatalog, SearchWithHnsw};
use crate::lle_embed::{self, LleEmbed};
use crate::lle_reconstruction_error::{self, LleReconstructionError};
use crate::lle_rule::EmbedWithLleExec;
use crate::lle_transform::LleTransform;
use crate::relations::{LakefoldRelations, relation_functions};
use crate::softmax::Softmax;
use crate::wide_scans::CutWideScans;

/// Names of the window functions. In Lakefold's own session they may be called without OVER.
pub const WINDOW_FUNCTION_NAMES: [&str; 3] = [
    lle_embed::NAME,
    lle_reconstruction_error::NAME,
    SELF_ATTENTION,
];

/// Every scalar function, by name.
///
/// # Errors
/// Never in practice: only if `DataFusion` rejects a signature.
pub fn all_scalar_udfs() -> Result<Vec<ScalarUDF>> {
    Ok(vec![
        ScalarUDF::from(BarycenterWeights::try_new()?),
        ScalarUDF::from(LleTransform::try_new()?),
        ScalarUDF::from(AttentionWeights::try_new()?),
        ScalarUDF::from(Linear::try_new()?),
        ScalarUDF::from(MultiHeadAttention::try_new()?),
        ScalarUDF::from(Softmax::try_new()?),
    ])
}

/// Every window function, by name: those of [`WINDOW_FUNCTION_NAMES`].
///
/// # Errors
/// Never in practice: only if `DataFusion` rejects a signature.
pub fn all_window_udfs() -> Result<Vec<WindowUDF>> {
    Ok(vec![
        WindowUDF::from(LleEmbed::try_new()?),
        WindowUDF::from(LleReconstructionError::try_new()?),
        WindowUDF::from(SelfAttention::try_new()?),
    ])
}

/// Every aggregate function, by name.
///
/// # Errors
/// Never in practice: only if `DataFusion` rejects a signature.
pub fn all_aggregate_udfs() -> Result<Vec<AggregateUDF>> {
    Ok(vec![AggregateUDF::from(Attention::try_new()?)])
}

/// Names of all functions: window functions first, then aggregates and scalar ones, then those in FROM.
///
/// # Errors
/// Never in practice: only if `DataFusion` rejects a signature.
pub fn function_names() -> Result<Vec<String>> {
    let windows = all_window_udfs()?;
    let scalars = all_scalar_udfs()?;
    let aggregates = all_aggregate_udfs()?;
    let windows = windows.iter().map(WindowUDF::name);
    Ok(windows
        .chain(aggregates.iter().map(AggregateUDF::name))
        .chain(scalars.iter().map(ScalarUDF::name))
        .chain(relation_functions().map(|(name, _)| name))
        .map(str::to_owned)
        .collect())
}

/// The rules that plan `lle_embed` with [`crate::LleExec`] and `self_attention` with
/// [`crate::SelfAttentionExec`], for people who build a session state of their own: they belong at the front
/// of the physical optimizer rules.
pub fn physical_optimizer_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    vec![Arc::new(EmbedWithLleExec), Arc::new(AttendInBlocks)]
}

/// Adds every function to `ctx`, and the optimizer rules that plan them and cut what they read. Calling it
/// again changes nothing.
///
/// Adding a rule means building the session's state anew. Tables, functions and settings are kept;
/// statements prepared with PREPARE are not, so register first.
///
/// # Errors
/// Never in practice: only if `DataFusion` rejects a function.
pub fn register_all(ctx: &SessionContext) -> Result<()> {
    for function in all_scalar_udfs()? {
        ctx.register_udf(function);
    }
    for function in all_aggregate_udfs()? {
        ctx.register_udaf(function);
    }
    for function in all_window_udfs()? {
        ctx.register_udwf(function);
    }
    let state = ctx.state_ref();
    let mut state = state.write();
    let relations = LakefoldRelations::new(Arc::clone(state.catalog_list()));
    if state
        .physical_optimizers()
        .iter()
        .any(|rule| rule.name() == EmbedWithLleExec::NAME)
    {
        return Ok(());
    }
    state.register_relation_planner(Arc::new(relations))?;
    let indexes = Arc::new(IndexCatalog::default());
    state.config_mut().set_extension(Arc::clone(&indexes));
    let extensions = &mut state.config_mut().options_mut().extensions;
    if extensions.get::<HnswSettings>().is_none() {
        extensions.insert(HnswSettings::default());
    }
    let rules = physical_optimizer_rules()
        .into_iter()
        .chain(std::iter::once(Arc::new(SearchWithHnsw::new(indexes)) as _))
        .chain(state.physical_optimizers().iter().cloned())
        .chain(std::iter::once(
            Arc::new(CutWideScans::new(Arc::clone(state.runtime_env()))) as _,
        ))
        .collect();
    *state = SessionStateBuilder::new_from_existing(state.clone())
        .with_session_id(state.session_id().to_owned())
        .with_physical_optimizer_rules(rules)
        .build();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_registered_and_documented() {
        let names: Vec<String> = all_window_udfs()
            .unwrap()
            .iter()
            .map(|function| function.name().to_owned())
            .collect();
        assert_eq!(names, WINDOW_FUNCTION_NAMES);
        assert_eq!(
            function_names().unwrap(),
            [
                "lle_embed",
                "lle_reconstruction_error",
                "self_attention",
                "attention",
                "barycenter_weights",
                "lle_transform",
                "attention_weights",
                "linear",
                "multi_head_attention",
                "softmax",
                "attention_topk",
                "attention_topk_error",
                "embedding_quality",
                "knn",
                "knn_join",
                "laplacian_eigenmaps",
                "lle",
                "lle_fit",
                "pca"
            ]
        );
        assert!(
            all_window_udfs()
                .unwrap()
                .iter()
                .all(|function| function.documentation().is_some())
        );
        assert!(
            all_scalar_udfs()
                .unwrap()
                .iter()
                .all(|function| function.documentation().is_some())
        );
    }

    #[test]
    fn registering_twice_adds_rules_once_and_keeps_the_session() {
        let ctx = SessionContext::new();
        let before = ctx.state();
        register_all(&ctx).unwrap();
        register_all(&ctx).unwrap();
        let after = ctx.state();
        let rules = after.physical_optimizers();
        assert_eq!(rules.len(), before.physical_optimizers().len() + 4);
        assert_eq!(rules[0].name(), EmbedWithLleExec::NAME);
        assert_eq!(rules[rules.len() - 1].name(), CutWideScans::NAME);
        assert_eq!(after.session_id(), before.session_id());
    }
}
