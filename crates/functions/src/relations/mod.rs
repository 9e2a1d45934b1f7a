//! Functions in FROM: `lle((SELECT …), features, n_components => 2)`.
//!
//! `DataFusion`'s table functions take neither subqueries of several columns nor named arguments, so
//! these are planned from the syntax tree.

mod added_column;
mod attention_topk;
mod attention_topk_error;
mod call;
mod choice;
mod documentation;
mod embedding_quality;
mod indexing;
mod joined_pairs;
mod knn;
mod knn_join;
mod laplacian_eigenmaps;
mod lle;
mod lle_fit;
mod look_ahead;
mod measured;
mod nearest;
mod parts;
mod pca;
mod planner;
mod quality_input;
mod reduction;
mod search;
mod search_arguments;
mod search_metrics;
mod searched_rows;
mod topk_answers;
mod topk_error;
mod topk_keys;
mod topk_measures;
mod topk_plan;
mod topk_reduction;

use datafusion::common::Result;
use datafusion::logical_expr::{DocSection, LogicalPlan};

pub use documentation::relation_documentation;
pub use planner::LakefoldRelations;
pub use reduction::relation_inputs;

pub(crate) use pca::NAME as PCA;

use call::{Call, Parameter};

/// A function in FROM.
pub(crate) struct Signature {
    pub(crate) name: &'static str,
    /// Of the reference.
    pub(crate) section: DocSection,
    pub(crate) parameters: &'static [Parameter],
    pub(crate) plan: fn(&Call) -> Result<LogicalPlan>,
    /// What it does; the first sentence is its summary.
    pub(crate) description: &'static str,
    /// Lists of parameters and what they mean; together all parameters, in order.
    pub(crate) arguments: &'static [&'static [(&'static str, &'static str)]],
    /// Markdown with SQL that the tests run.
    pub(crate) example: &'static str,
}

impl Signature {
    /// How the call is written.
    pub(crate) fn syntax(&self) -> String {
        let parameters = self.parameters.iter().map(|parameter| {
            let name = parameter.name;
            match parameter.kind {
                call::Kind::Table => format!("(SELECT …) or {name}"),
                call::Kind::Column if parameter.required => name.to_owned(),
                call::Kind::Column | call::Kind::Value => format!("{name} => …"),
            }
        });
        format!(
            "{}({})",
            self.name,
            parameters.collect::<Vec<_>>().join(", ")
        )
    }
}

/// All functions in FROM, by name.
pub(crate) const SIGNATURES: [&Signature; 9] = [
    &attention_topk::SIGNATURE,
    &attention_topk_error::SIGNATURE,
    &embedding_quality::SIGNATURE,
    &knn::SIGNATURE,
    &knn_join::SIGNATURE,
    &laplacian_eigenmaps::SIGNATURE,
    &lle::SIGNATURE,
    &lle_fit::SIGNATURE,
    &pca::SIGNATURE,
];

/// Names of the functions in FROM, and which of their arguments are tables.
pub fn relation_functions() -> impl Iterator<Item = (&'static str, Vec<usize>)> {
    SIGNATURES.iter().map(|signature| {
        let tables = signature.parameters.iter().enumerate();
        let tables = tables.filter(|(_, parameter)| parameter.kind == call::Kind::Table);
        (signature.name, tables.map(|(place, _)| place).collect())
    })
}
