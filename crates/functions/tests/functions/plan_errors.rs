//! Calls of `lle_embed` that no data could make right end while planning.

use datafusion::arrow::datatypes::{DataType, Field};
use std::sync::Arc;

use crate::support::{plan_error, roll_batch, session_with, with_type};

/// A call and a part of the message that it must get.
const CALLS: &[(&str, &str)] = &[
    (
        "lle_embed() OVER ()",
        "lle_embed takes 2 to 4 arguments, got 0",
    ),
    (
        "lle_embed(x) OVER ()",
        "lle_embed takes 2 to 4 arguments, got 1: write lle_embed(features, n_components",
    ),
    ("lle_embed(x, 2, 5, '', 1) OVER ()", "got 5"),
    (
        "lle_embed(id, 2) OVER ()",
        "features of lle_embed must be a list of numbers, got Int64: write make_array(a, b, …)",
    ),
    (
        "lle_embed(grp, 2) OVER ()",
        "got Utf8: if it is a list written as text, as CSV has it, parse it: CAST(string_to_array(",
    ),
    (
        "lle_embed(make_array(grp), 2) OVER ()",
        "cast its elements to a number type first",
    ),
    (
        "lle_embed(x, id) OVER ()",
        "n_components of lle_embed must be a constant, got id: one fit has one",
    ),
    (
        "lle_embed(x, 2, id) OVER ()",
        "n_neighbors of lle_embed must be a constant",
    ),
    (
        "lle_embed(x, 2, 5, grp) OVER ()",
        "options of lle_embed must be a constant",
    ),
    (
        "lle_embed(x, random()) OVER ()",
        "n_components of lle_embed must be a constant",
    ),
    (
        "lle_embed(x, NULL) OVER ()",
        "n_components of lle_embed has no default, got NULL",
    ),
    (
        "lle_embed(x, 0) OVER ()",
        "n_components of lle_embed must be 'auto' or a whole number from 1 to 2147483647, got 0",
    ),
    ("lle_embed(x, -1) OVER ()", "got -1"),
    ("lle_embed(x, 1.5) OVER ()", "got 1.5"),
    (
        "lle_embed(x, 99999999999999999999) OVER ()",
        "n_components of lle_embed must be 'auto' or a whole number",
    ),
    (
        "lle_embed(x, 'two') OVER ()",
        "n_components of lle_embed must be 'auto' or a whole number",
    ),
    (
        "lle_embed(x, '2') OVER ()",
        "n_components of lle_embed must be 'auto' or a whole number from 1 to 2147483647, got '2': leave the quotes out",
    ),
    (
        "lle_embed(x, 2, 'reg=0.1') OVER ()",
        "n_neighbors of lle_embed must be 'auto' or a whole number from 1 to 2147483647, got 'reg=0.1': options are the \
         fourth argument, write options => 'reg=0.1'",
    ),
    (
        "lle_embed(x, 4) OVER ()",
        "n_components of lle_embed must be at most the number of features, got 4 where column x has 3 dimensions",
    ),
    (
        "lle_embed(x, 2, 0) OVER ()",
        "n_neighbors of lle_embed must be 'auto' or a whole number from 1",
    ),
    ("lle_embed(x, 2, -7) OVER ()", "got -7"),
    (
        "lle_embed(x, 2, 5, 7) OVER ()",
        "options of lle_embed must be text",
    ),
    (
        "lle_embed(x, 2, 5, 'solvr=exact') OVER ()",
        "unknown option 'solvr' of lle_embed, did you mean 'solver'?",
    ),
    (
        "lle_embed(x, 2, 5, 'n_neighbors=6') OVER ()",
        "given as an argument and in options",
    ),
    (
        "lle_embed(x, 2, NULL, 'reg=-1') OVER ()",
        "reg must be a finite number of at least 0, got -1",
    ),
    (
        "lle_embed(x, 2, NULL, 'reg=1,reg=2') OVER ()",
        "option reg of lle_embed is given twice",
    ),
    (
        "lle_embed(x, 2, NULL, 'method=umap') OVER ()",
        "method must be one of standard, modified, hessian, ltsa",
    ),
    (
        "lle_embed(x, k => 2) OVER ()",
        "Unknown parameter name 'k'. Valid parameters are: [features, n_components, n_neighbors, options]",
    ),
    (
        "lle_embed(x, 2) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)",
        "lle_embed fits whole partitions, it cannot follow the window frame",
    ),
    (
        "lle_embed(x, 2) OVER (ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)",
        "leave the frame out",
    ),
    (
        "lle_embed(x, 2) FILTER (WHERE id > 3) OVER ()",
        "FILTER clause can only be used with aggregate window functions",
    ),
    (
        "lle_embed(DISTINCT x, 2) OVER ()",
        "lle_embed takes no DISTINCT",
    ),
    (
        "lle_embed(x, 2) IGNORE NULLS OVER ()",
        "lle_embed takes no IGNORE NULLS",
    ),
];

#[tokio::test]
async fn every_impossible_call_says_what_to_write() {
    let fixed =
        DataType::FixedSizeList(Arc::new(Field::new_list_field(DataType::Float64, true)), 3);
    let ctx = session_with(with_type(&roll_batch(30), &fixed));
    for (call, expected) in CALLS {
        let message = plan_error(&ctx, &format!("SELECT {call} FROM t")).await;
        assert!(message.contains(expected), "{call}: {message}");
    }
}
