//! Functions in FROM: `lle((SELECT …), features, n_components => 2)`.
//!
//! `DataFusion`'s table functions take neither subqueries of several columns nor named arguments, so
//! these are planned from the syntax tree.

mod call;
mod lle;
mod lle_fit;
mod planner;
mod reduction;

pub use planner::LakefoldRelations;

use call::Parameter;

/// A function in FROM.
pub(crate) struct Signature {
    pub(crate) name: &'static str,
    pub(crate) parameters: &'static [Parameter],
}

impl Signature {
    /// How the call is written, for error messages.
    pub(crate) fn syntax(&self) -> String {
        let parameters = self.parameters.iter().map(|parameter| {
            let name = parameter.name;
            match parameter.kind {
                call::Kind::Table => format!("(SELECT …) or {name}"),
                call::Kind::Column => name.to_owned(),
                call::Kind::Value => format!("{name} => …"),
            }
        });
        format!(
            "{}({})",
            self.name,
            parameters.collect::<Vec<_>>().join(", ")
        )
    }
}

/// All functions in FROM.
pub(crate) const SIGNATURES: [&Signature; 2] = [&lle::SIGNATURE, &lle_fit::SIGNATURE];

/// Names of the functions in FROM, and which of their arguments are tables.
pub fn relation_functions() -> impl Iterator<Item = (&'static str, Vec<usize>)> {
    SIGNATURES.iter().map(|signature| {
        let tables = signature.parameters.iter().enumerate();
        let tables = tables.filter(|(_, parameter)| parameter.kind == call::Kind::Table);
        (signature.name, tables.map(|(place, _)| place).collect())
    })
}
