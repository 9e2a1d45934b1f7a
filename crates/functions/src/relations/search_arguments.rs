//! The parameters of a search for neighbours, and what they mean.

use super::call::Parameter;

/// Of every function that searches.
pub(super) const METHOD: Parameter = Parameter::value("method");
pub(super) const EF_SEARCH: Parameter = Parameter::value("ef_search");
pub(super) const M: Parameter = Parameter::value("m");
pub(super) const EF_CONSTRUCTION: Parameter = Parameter::value("ef_construction");
pub(super) const SEED: Parameter = Parameter::value("seed");

/// What those mean.
pub(super) const METHOD_ARGUMENTS: &[(&str, &str)] = &[
    (
        "method",
        "`exact`: all rows are compared. `hnsw`: through a graph (Malkov and Yashunin 2018) that finds most of the \
         nearest rows, and is built for this call unless there is an index that has it. `auto`: whichever a cost \
         model of rows, dimensions and k expects to be faster, and `exact` where the memory limit has no room for \
         a graph; EXPLAIN shows the choice and the recall to expect, EXPLAIN ANALYZE the recall measured on a \
         sample of up to 100 queries. `auto` when omitted.",
    ),
    (
        "ef_search",
        "Rows that a search through the graph keeps in view: more find more and take longer. 64 or twice `k`, \
         whichever is more, when omitted.",
    ),
    (
        "m",
        "Edges of a row in the graph, from 2 to 256; twice as many on its lowest level. 16 when omitted, or what \
         an index has.",
    ),
    (
        "ef_construction",
        "Rows kept in view while the graph is built, at least `m`. 200 when omitted, or what an index has.",
    ),
    (
        "seed",
        "Of the graph. 0 when omitted, or what an index has.",
    ),
];

/// The arguments of `knn` and `knn_join` after those that name rows, and what they mean.
pub(super) const SEARCH_ARGUMENTS: &[(&str, &str)] = &[
    (
        "k",
        "Neighbours of each row; an error if there are not as many. 12 when omitted.",
    ),
    (
        "metric",
        "`l2`: Euclidean distance, as `array_distance` gives it. `cosine`: 1 less the cosine of the angle, \
         from 0 to 2, as `cosine_distance` gives it. `inner_product` or `ip`: the product itself, as \
         `inner_product` gives it, the largest first. `l2` when omitted.",
    ),
];
