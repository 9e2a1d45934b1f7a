//! `attention_topk` and `attention_topk_error` in FROM.

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;

use crate::support::{error, lists, plan_error, query, roll_batch, session_with, with_number_type};

async fn attended(ctx: &SessionContext, sql: &str) -> Vec<(i64, Option<Vec<f64>>)> {
    let result = query(ctx, sql).await.unwrap();
    let ids = result
        .column(0)
        .as_primitive::<Int64Type>()
        .values()
        .to_vec();
    let column = datafusion::arrow::compute::cast(
        result.column(1),
        &DataType::new_list(DataType::Float64, true),
    );
    ids.into_iter().zip(lists(&column.unwrap())).collect()
}

fn assert_near(found: &[(i64, Option<Vec<f64>>)], expected: &[(i64, Option<Vec<f64>>)], by: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.0, expected.0);
        let pairs = found.1.iter().flatten().zip(expected.1.iter().flatten());
        for (f, e) in pairs {
            assert!(
                (f - e).abs() <= by * e.abs().max(1.0),
                "{}: {f}, not {e}",
                found.0
            );
        }
        assert_eq!(
            found.1.as_ref().map(Vec::len),
            expected.1.as_ref().map(Vec::len)
        );
    }
}

/// The definition, in SQL: the k best keys by rank, and the aggregate over them.
#[tokio::test(flavor = "multi_thread")]
async fn agrees_with_attention_over_ranked_keys() {
    for (number_type, by) in [(DataType::Float64, 1e-10), (DataType::Float32, 1e-5)] {
        let ctx = session_with(with_number_type(&roll_batch(120), &number_type));
        for (similarity, order) in [
            ("dot", "inner_product(q.x, d.x) DESC"),
            ("cosine", "cosine_distance(q.x, d.x)"),
            ("l2", "array_distance(q.x, d.x)"),
        ] {
            for k in [1, 7, 500] {
                let expected = format!(
                    "SELECT id, attention(q, x, [x[1], x[2]], 0.3, '{similarity}') AS attention FROM (
                        SELECT q.id, q.x AS q, d.x, row_number() OVER (PARTITION BY q.id ORDER BY {order}) AS rank
                        FROM t AS q CROSS JOIN t AS d WHERE q.id % 10 = 3)
                    WHERE rank <= {k} GROUP BY id ORDER BY id"
                );
                let expected = attended(&ctx, &expected).await;
                assert_eq!(expected.len(), 12);
                for method in ["exact", "hnsw", "auto"] {
                    let sql = format!(
                        "SELECT id, attention FROM attention_topk(
                            (SELECT * FROM t WHERE id % 10 = 3 ORDER BY id), id, x, t, x, [x[1], x[2]],
                            k => {k}, scale => 0.3, similarity => '{similarity}', method => '{method}')"
                    );
                    assert_near(&attended(&ctx, &sql).await, &expected, by);
                }
            }
        }
    }
}

#[tokio::test]
async fn the_least_weight_is_that_of_the_last_key() {
    let ctx = session_with(roll_batch(10));
    let sql = "SELECT attention, least_weight FROM attention_topk(
        (SELECT 1 AS id, [1.0] AS q), id, q,
        (SELECT column1 AS k, column2 AS v FROM (VALUES ([2.0], [10.0, 0.0]), ([1.0], [0.0, 10.0]), ([-9.0], [5.0, 5.0]))), k, v,
        k => 2, scale => 1)";
    let row = query(&ctx, sql).await.unwrap();
    let first = 1.0 / (1.0 + (-1.0_f64).exp());
    let found = lists(row.column(0))[0].clone().unwrap();
    assert!((found[0] - 10.0 * first).abs() < 1e-12, "{found:?}");
    assert!((found[1] - 10.0 * (1.0 - first)).abs() < 1e-12, "{found:?}");
    let least = row.column(1).as_primitive::<Float64Type>().value(0);
    assert!((least - (1.0 - first)).abs() < 1e-15, "{least}");
}

#[tokio::test]
async fn nulls_and_nothing() {
    let ctx = session_with(roll_batch(10));
    let queries = "(SELECT id, CASE WHEN id = 4 THEN NULL ELSE x END AS x FROM t ORDER BY id)";
    // Keys without a value and values without a key are not seen: one pair is left.
    let keys = "(SELECT CASE WHEN id = 2 THEN NULL WHEN id < 4 THEN x END AS k,
        CASE WHEN id IN (1, 3) THEN NULL ELSE [id * 1.0, 7.0] END AS v FROM t WHERE id > 0)";
    let sql = format!("SELECT * FROM attention_topk({queries}, id, x, {keys}, k, v)");
    let message = query(&ctx, &sql).await.unwrap();
    assert_eq!(message.num_rows(), 10);
    assert!(
        (0..10).all(|row| message.column(1).is_null(row)),
        "no pair is whole"
    );

    let keys = "(SELECT CASE WHEN id > 2 THEN NULL ELSE x END AS k,
        CASE WHEN id IN (1, 9) THEN NULL ELSE [id * 1.0, 7.0] END AS v FROM t WHERE id > 0)";
    let sql = format!("SELECT * FROM attention_topk({queries}, id, x, {keys}, k, v)");
    let found = attended(&ctx, &sql).await;
    for (id, mean) in &found {
        let expected = (*id != 4).then(|| vec![2.0, 7.0]);
        assert_eq!(*mean, expected, "{id}");
    }
    let weights = query(&ctx, &sql).await.unwrap();
    assert_eq!(weights.column(2).null_count(), 1);

    let empty = "(SELECT * FROM t WHERE id < 0)";
    let sql = format!("SELECT * FROM attention_topk({empty}, id, x, t, x, x)");
    assert_eq!(query(&ctx, &sql).await.unwrap().num_rows(), 0);
    let sql = format!("SELECT * FROM attention_topk(t, id, x, {empty}, x, x)");
    let none = query(&ctx, &sql).await.unwrap();
    assert_eq!(none.column(1).null_count(), 10);
    for (queries, keys) in [(empty, "t"), ("t", empty), (empty, empty)] {
        let sql = format!("SELECT * FROM attention_topk_error({queries}, id, x, {keys}, x, x)");
        let row = query(&ctx, &sql).await.unwrap();
        assert_eq!(row.num_rows(), 1);
        let error = row.column_by_name("mean_error").unwrap();
        assert!(error.is_null(0), "{queries} {keys}");
    }
}

#[tokio::test]
async fn values_keep_their_kind_of_list() {
    let ctx = session_with(roll_batch(30));
    for (cast, expected) in [
        ("FixedSizeList(3, Float32)", "FixedSizeList(3 x Float32)"),
        ("LargeList(Int16)", "LargeList(Float32)"),
        ("List(Float64)", "List(Float64)"),
    ] {
        let sql = format!(
            "SELECT arrow_typeof(attention) FROM attention_topk(
                (SELECT id, arrow_cast(x, 'List(Float32)') AS x FROM t), id, x,
                (SELECT arrow_cast(x, 'List(Float32)') AS x, arrow_cast(x, '{cast}') AS v FROM t), x, v, k => 3) LIMIT 1"
        );
        let row = query(&ctx, &sql).await.unwrap();
        let text =
            datafusion::arrow::util::display::array_value_to_string(row.column(0), 0).unwrap();
        assert_eq!(text, expected, "{cast}");
    }
}

fn number(row: &RecordBatch, name: &str) -> f64 {
    row.column_by_name(name)
        .unwrap()
        .as_primitive::<Float64Type>()
        .value(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missed_is_measured() {
    let ctx = session_with(roll_batch(1000));
    let measured = async |k: usize, more: &str| {
        let sql = format!(
            "SELECT * FROM attention_topk_error((SELECT * FROM t WHERE id % 3 = 0), id, x, t, x, x,
                k => {k}, similarity => 'l2', scale => 0.05, sample_size => 40{more})"
        );
        query(&ctx, &sql).await.unwrap()
    };
    let all = measured(1000, "").await;
    assert!(number(&all, "largest_error") < 1e-12);
    assert!((number(&all, "least_weight_covered") - 1.0).abs() < 1e-12);
    let (few, more) = (measured(5, "").await, measured(100, "").await);
    assert!(number(&few, "mean_error") > 2.0 * number(&more, "mean_error"));
    assert!(number(&few, "mean_weight_covered") < number(&more, "mean_weight_covered"));
    assert!(number(&few, "largest_error") >= number(&few, "mean_error"));
    assert_eq!(number(&few, "recall"), 1.0);
    let row = |name: &str| {
        more.column_by_name(name)
            .unwrap()
            .as_primitive::<Int64Type>()
            .value(0)
    };
    let counts = ["queries", "keys", "k", "measured_queries"].map(row);
    assert_eq!(counts, [334, 1000, 100, 40]);

    // The error of one query by hand: the aggregate over all keys.
    let one = "(SELECT * FROM t WHERE id = 3)";
    let sql = format!(
        "SELECT array_distance(a.attention, e.attention) / array_distance(e.attention, [0.0, 0.0, 0.0]) AS error
        FROM attention_topk({one}, id, x, t, x, x, k => 5, similarity => 'l2', scale => 0.05) AS a
        CROSS JOIN (SELECT attention(q.x, d.x, d.x, 0.05, 'l2') AS attention FROM {one} AS q CROSS JOIN t AS d) AS e"
    );
    let by_hand = number(&query(&ctx, &sql).await.unwrap(), "error");
    let sql = format!(
        "SELECT mean_error FROM attention_topk_error({one}, id, x, t, x, x, k => 5, similarity => 'l2', scale => 0.05)"
    );
    let measured = number(&query(&ctx, &sql).await.unwrap(), "mean_error");
    assert!((by_hand - measured).abs() < 1e-9, "{by_hand} {measured}");

    let text =
        "EXPLAIN ANALYZE SELECT * FROM attention_topk(t, id, x, t, x, x, k => 5, method => 'hnsw')";
    let batches = ctx.sql(text).await.unwrap().collect().await.unwrap();
    let text = pretty_format_batches(&batches).unwrap().to_string();
    for part in [
        "hnsw_queries=1.00 K",
        "measured_queries=16",
        "sampled_error=",
        "sampled_weight_covered=",
        "sampled_recall=",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn bad_arguments_are_named_before_anything_is_read() {
    let ctx = session_with(roll_batch(30));
    for (call, expected) in [
        (
            "attention_topk(t, id, x, t, x)",
            "attention_topk needs value: write attention_topk((SELECT …) or queries",
        ),
        (
            "attention_topk(t, id, x, t, grp, x)",
            "key of attention_topk must be a list of numbers, got",
        ),
        (
            "attention_topk(t, id, x, t, x, x, scale => -1)",
            "scale of attention_topk must be above 0, got -1",
        ),
        (
            "attention_topk(t, id, x, t, x, x, similarity => 'l1')",
            "similarity must be 'dot', 'cosine' or 'l2', got 'l1'",
        ),
        (
            "attention_topk(t, id, x, t, x, x, k => 0)",
            "k of attention_topk must be a whole number of at least 1, got 0",
        ),
        (
            "attention_topk(t, id, x, t, x, x, method => 'best')",
            "method of attention_topk must be one of auto, exact, hnsw",
        ),
        (
            "attention_topk_error(t, id, x, t, x, x, sample_size => 0)",
            "sample_size of attention_topk_error must be a whole number of at least 1",
        ),
        (
            "attention_topk(t, id, arrow_cast(x, 'FixedSizeList(3, Float64)'),
                (SELECT arrow_cast(x[1:2], 'FixedSizeList(2, Float64)') AS k, x FROM t), k, x)",
            "has 3 dimensions and key, k, has 2: both need the same number",
        ),
    ] {
        let message = plan_error(&ctx, &format!("SELECT * FROM {call}")).await;
        assert!(message.contains(expected), "{call}: {message}");
    }
}

#[tokio::test]
async fn bad_rows_are_named() {
    let ctx = session_with(roll_batch(30));
    let replaced = |vector: &str| {
        format!("(SELECT id, x, CASE WHEN id = 7 THEN {vector} ELSE x END AS y FROM t)")
    };
    let nan = replaced("['NaN'::DOUBLE, 0.0, 0.0]");
    let short = replaced("[1.0]");
    let zero = replaced("[0.0, 0.0, 0.0]");
    for (call, expected) in [
        (
            format!("attention_topk({nan}, id, y, t, x, x)"),
            "attention_topk of column y: row 7 of its batch (counted from 0, id = 7) has NaN",
        ),
        (
            format!("attention_topk(t, id, x, {nan}, y, x)"),
            "attention_topk of column y: row 7 of its batch (counted from 0) has NaN in dimension 0",
        ),
        (
            format!("attention_topk(t, id, x, {nan}, x, y)"),
            "attention_topk of column y: row 7 of its batch (counted from 0) has NaN in dimension 0",
        ),
        (
            format!("attention_topk(t, id, x, {short}, x, y)"),
            "row 7 of its batch (counted from 0) has 1 dimensions, but row 0 has 3",
        ),
        (
            format!("attention_topk(t, id, x, {zero}, y, x, similarity => 'cosine')"),
            "has zeros only, which have no direction",
        ),
        (
            "attention_topk(t, id, x, (SELECT x[1:2] AS k, x FROM t), k, x)".to_owned(),
            "query of attention_topk, x, has 3 dimensions (row 0 of its batch (counted from 0, id = 0)) and key, k, has 2",
        ),
        (
            "attention_topk_error(t, id, x, (SELECT x[1:2] AS k, x FROM t), k, x)".to_owned(),
            "query of attention_topk_error, x, has 3 dimensions",
        ),
    ] {
        let message = error(&ctx, &format!("SELECT * FROM {call}")).await;
        assert!(message.contains(expected), "{call}: {message}");
    }
}
