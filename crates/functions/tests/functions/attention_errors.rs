//! What `attention` and `self_attention` refuse, and what they say.

use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::support::{error, lists, plan_error, query, session};

const TABLE: &str = "(VALUES (1, 'a', [1.0, 0.0], [1.0, 2.0], [5.0]),
    (2, 'a', [1.0, 0.0], [3.0, 4.0], [6.0]),
    (3, 'b', [0.0, 1.0], [5.0, 6.0], [7.0])) AS t (id, g, q, k, v)";

#[tokio::test]
async fn plans_that_cannot_be_are_refused_before_any_row_is_read() {
    let ctx = session(SessionConfig::new());
    for (call, expected) in [
        ("attention(q, k)", "takes 3 to 5 arguments, got 2"),
        (
            "attention(g, k, v)",
            "query of attention must be a list of numbers, got Utf8",
        ),
        (
            "attention(q, k, id)",
            "value of attention must be a list of numbers, got Int64",
        ),
        (
            "attention(q, k, v, 'x')",
            "scale of attention must be a number, got Utf8",
        ),
        (
            "attention(q, k, v, 1, 2)",
            "similarity of attention must be 'dot', 'cosine' or 'l2', got Int64",
        ),
        (
            "attention(q, k, v, 1, 'manhattan')",
            "'dot', 'cosine' or 'l2', got 'manhattan'",
        ),
        ("attention(q, k, v, max(id))", "max"),
        ("attention(q, k, v, 1e999)", "scale must be a finite number"),
        (
            "attention(DISTINCT q, k, v)",
            "take the distinct rows in a subquery",
        ),
        (
            "self_attention(q, k, v, id) OVER ()",
            "scale of self_attention must be a constant, got CAST(id AS Float64)",
        ),
        (
            "self_attention(q, k) OVER ()",
            "takes 3 to 5 arguments, got 2",
        ),
        (
            "self_attention(q, k, v) IGNORE NULLS OVER ()",
            "takes no IGNORE NULLS",
        ),
    ] {
        let sql = format!("SELECT {call} FROM {TABLE}");
        let found = error(&ctx, &sql).await;
        assert!(found.contains(expected), "{call}: {found}");
    }
    let fixed = "SELECT self_attention(arrow_cast(q, 'FixedSizeList(2, Float64)'),
        arrow_cast([1.0, 2.0, 3.0], 'FixedSizeList(3, Float64)'), v) OVER () FROM t";
    let sql = format!("WITH t AS (SELECT * FROM {TABLE}) {fixed}");
    let found = plan_error(&ctx, &sql).await;
    assert!(
        found.contains("query has 2 dimensions and key has 3"),
        "{found}"
    );
}

#[tokio::test]
async fn bad_rows_are_named() {
    let ctx = session(SessionConfig::new());
    for (call, expected) in [
        (
            "attention(q, k, v)",
            "attention: q in row 2 of its batch (counted from 0) differs from the query of the group's other \
             rows: one query a group, add q to GROUP BY, or write self_attention(…) OVER (PARTITION BY …)",
        ),
        (
            "attention([1.0], k, v)",
            "query [1.0] has 1 dimensions and key k has 2: both need the same number",
        ),
        (
            "attention([1.0, 2.0], CASE WHEN id = 2 THEN [1.0] ELSE k END, v)",
            "row 1 of its batch (counted from 0) has 1 dimensions, but row 0 has 2",
        ),
        (
            "attention([1.0, 2.0], CASE WHEN id = 2 THEN ['NaN'::DOUBLE, 1.0] ELSE k END, v)",
            "row 1 of its batch (counted from 0) has a score of NaN",
        ),
        (
            "attention([1.0, 2.0], CASE WHEN id = 2 THEN [NULL, 1.0] ELSE k END, v)",
            "row 1 of its batch (counted from 0) has NULL in dimension 0",
        ),
        (
            "self_attention(q, CASE WHEN id = 2 THEN ['NaN'::DOUBLE, 1.0] ELSE k END, v) OVER (ORDER BY id)",
            "the query q of row 1 of its batch (counted from 0, id = 2) has a score of NaN with the key \
             CASE",
        ),
        (
            "self_attention(q, k, CASE WHEN id = 3 THEN ['NaN'::DOUBLE] ELSE v END) OVER (ORDER BY id)",
            "that row 2 of its batch (counted from 0, id = 3) may see give NaN in dimension 0",
        ),
        (
            "self_attention(q, k, CASE WHEN id = 3 THEN ['inf'::DOUBLE] ELSE v END) OVER (ORDER BY id)",
            "that row 2 of its batch (counted from 0, id = 3) may see give inf in dimension 0",
        ),
        (
            "self_attention([1.0], k, v) OVER ()",
            "has 1 dimensions and key k has 2: both need the same number",
        ),
    ] {
        let sql = format!("SELECT {call} FROM {TABLE}");
        let found = error(&ctx, &sql).await;
        assert!(found.contains(expected), "{call}: {found}");
    }
}

#[tokio::test]
async fn infinite_values_with_a_weight_are_refused() {
    let ctx = session(SessionConfig::new().with_batch_size(50));
    let infinite = "CASE WHEN value = 70 THEN ['-inf'::DOUBLE, 1.0] ELSE [0.0, 'inf'::DOUBLE] END";
    let value = format!("CASE WHEN value < 70 THEN [2.0, 3.0] ELSE {infinite} END");
    let series = "FROM generate_series(1, 99) AS t (value)";
    for (select, expected) in [
        // The row of value 70 is the 20th of the second batch.
        (
            format!("attention([1.0], [1.0], {value}) {series}"),
            "in row 19 of its batch has -inf in dimension 0 (both counted from 0): filter the row out or replace",
        ),
        (
            format!("attention([1.0], [1.0], {value}) {series} GROUP BY value % 2 ORDER BY 1"),
            "of its batch has ",
        ),
        // Too many groups to look at after every batch.
        (
            format!("attention([1.0], [1.0], {value}) {series} GROUP BY value % 35 + 1 ORDER BY 1"),
            "of a group give ",
        ),
        (
            format!(
                "attention([1.0], [1.0], {value}) {series} WHERE value <= 70 GROUP BY value % 35"
            ),
            "of a group give -inf in dimension 0 (counted from 0): filter out the rows with NaN, infinity or",
        ),
        // In a window, which evaluates the aggregate again and again.
        (
            format!("attention([1.0], [1.0], {value}) OVER (ORDER BY value) {series}"),
            "has -inf in dimension 0",
        ),
        (
            format!("attention([1.0], [1.0], [1e308]) {series}"),
            "numbers too large to be added up",
        ),
    ] {
        let found = error(&ctx, &format!("SELECT {select}")).await;
        assert!(found.contains(expected), "{select}: {found}");
    }
    // What weighs nothing may hold anything.
    let key = "CASE WHEN value < 70 THEN [1.0] ELSE ['-inf'::DOUBLE] END";
    for group in ["value < 0", "value % 30"] {
        let sql = format!("SELECT attention([1.0], {key}, {value}) AS a {series} GROUP BY {group}");
        let batch = query(&ctx, &sql).await.unwrap();
        let means = lists(batch.column(0));
        assert!(means.contains(&Some(vec![2.0, 3.0])), "{sql}: {means:?}");
        assert!(
            means.iter().flatten().all(|mean| *mean == [2.0, 3.0]),
            "{sql}: {means:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_does_not_fit_says_so() {
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_limit(1 << 20, 1.0)
        .build_arc()
        .unwrap();
    let config = SessionConfig::new().with_target_partitions(1);
    let ctx = SessionContext::new_with_config_rt(config, runtime);
    lakefold_functions::register_all(&ctx).unwrap();
    let sql = |group: &str| {
        format!(
            "SELECT count(a) FROM (SELECT self_attention([1.0, 2.0], [value::DOUBLE, 1.0], [value::DOUBLE])
             OVER (PARTITION BY {group}) AS a FROM generate_series(1, 40000))"
        )
    };
    let found = error(&ctx, &sql("value < 0")).await;
    assert!(found.contains("self_attention: no memory for"), "{found}");
    assert!(found.contains("the limit is 1.0 MiB"), "{found}");
}
