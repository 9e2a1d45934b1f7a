//! What the functions in FROM say of themselves.

use datafusion::logical_expr::{DocSection, Documentation};

use super::SIGNATURES;

/// The reference's sections.
pub(super) const MANIFOLD_LEARNING: DocSection = section("Manifold learning");
pub(super) const ATTENTION: DocSection = section("Attention");

const fn section(label: &'static str) -> DocSection {
    DocSection {
        include: true,
        label,
        description: None,
    }
}

/// The arguments of a fit, which `lle` and `lle_fit` share.
pub(super) const FIT_ARGUMENTS: &[(&str, &str)] = &[
    (
        "n_components",
        "Dimensions of the embedding, at most the number of features, or `'auto'`: as many as the data has \
         of its own. 2 when omitted.",
    ),
    (
        "n_neighbors",
        "Neighbours of each row (k), or `'auto'`: chosen by trustworthiness on a sample. `'auto'` when \
         omitted.",
    ),
    (
        "reg",
        "Regularisation of the weights, a multiple of the local Gram matrix's trace, or `'auto'`. `'auto'` \
         when omitted.",
    ),
    (
        "method",
        "Which local geometry is kept: `standard`, `modified`, `hessian` or `ltsa`. `standard` when omitted.",
    ),
    (
        "solver",
        "`dense`, `exact`, `landmarks` or `auto`, which picks by predicted cost and memory. `auto` when \
         omitted.",
    ),
    (
        "seed",
        "Of samples, landmarks and start vectors. 0 when omitted.",
    ),
    (
        "n_landmarks",
        "Landmarks of the landmarks solver. When omitted, it decides.",
    ),
    (
        "landmark_neighbors",
        "Landmarks that a row is a combination of. When omitted, the solver decides.",
    ),
    (
        "landmark_choice",
        "Which rows become landmarks: `uniform`, `k-means++` or `farthest`. `uniform` when omitted.",
    ),
    (
        "sample_size",
        "Beyond this many rows the fit sees a sample of as many, those with the smallest seeded hashes. \
         65,536 when omitted.",
    ),
    (
        "neighbors_algorithm",
        "How the rows' neighbours are found: `exact`, `hnsw` (through a graph, which misses a few of the nearest) \
         or `auto`: whichever a cost model of rows, dimensions and neighbours expects to be faster. `auto` \
         when omitted.",
    ),
];

/// The table and the column of every function that fits.
pub(super) const INPUT_ARGUMENTS: &[(&str, &str)] = &[
    (
        "input",
        "A query in parentheses, the name of a table, or a path in quotes.",
    ),
    (
        "features",
        "A column of `input`, or an expression over its columns: a list of numbers, as for `lle_embed`.",
    ),
];

/// The documentation of the function `name` in FROM.
pub fn relation_documentation(name: &str) -> Option<Documentation> {
    let signature = SIGNATURES
        .into_iter()
        .find(|signature| signature.name == name)?;
    let documentation = Documentation::builder(
        signature.section.clone(),
        signature.description,
        format!("SELECT … FROM {}", signature.syntax()),
    )
    .with_sql_example(signature.example);
    let arguments = signature.arguments.iter().copied().flatten();
    let documentation = arguments.fold(documentation, |documentation, (name, description)| {
        documentation.with_argument(*name, *description)
    });
    Some(documentation.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_described() {
        for signature in SIGNATURES {
            let described = signature.arguments.iter().copied().flatten();
            let described: Vec<_> = described.map(|(name, _)| *name).collect();
            let parameters = signature.parameters.iter();
            let parameters: Vec<_> = parameters.map(|parameter| parameter.name).collect();
            assert_eq!(described, parameters, "{}", signature.name);
        }
        assert!(relation_documentation("lle_embed").is_none());
    }
}
