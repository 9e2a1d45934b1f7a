//! The real attention of a language model: layer 0 of all-MiniLM-L6-v2 on 40 sentences, 12 heads.
//!
//! The data is beside the checkout, see the README there; without it the tests have nothing to compare.

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Float64Type, Int64Type};
use lakefold_tests::{repository, session};

const ROWS: i64 = 5688;

/// The largest distance of a row's vector from the expected one, and the rows.
async fn compared(relation: &str) -> Option<(f64, i64)> {
    let file = repository().join("../shared/data/minilm_attention.parquet");
    if !file.exists() {
        eprintln!("skipped: {} is not there", file.display());
        return None;
    }
    let session = session().unwrap();
    let file = file.canonicalize().unwrap();
    let sql = format!(
        "WITH t AS (SELECT * FROM '{}'), compared AS ({relation})
         SELECT max(array_distance(found, expected)) AS error, count(*) AS rows FROM compared",
        file.display()
    );
    let batches = session.sql(&sql).await.unwrap().collect().await.unwrap();
    let error = batches[0].column(0).as_primitive::<Float64Type>().value(0);
    Some((
        error,
        batches[0].column(1).as_primitive::<Int64Type>().value(0),
    ))
}

async fn assert_equal(relation: &str) {
    if let Some((error, rows)) = compared(relation).await {
        assert_eq!(rows, ROWS);
        assert!(error < 1e-5, "{error:e}");
        eprintln!("largest error of a vector of 32: {error:.1e}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn self_attention_over_the_sentence() {
    assert_equal(
        "SELECT expected, self_attention(query, key, value) OVER (PARTITION BY sentence_id, head) AS found
         FROM t",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attention_of_each_query_as_an_aggregate() {
    assert_equal(
        "SELECT expected, found
         FROM t JOIN (SELECT q.sentence_id AS s, q.head AS h, q.position AS p,
                             attention(q.query, k.key, k.value) AS found
                      FROM t q JOIN t k ON q.sentence_id = k.sentence_id AND q.head = k.head
                      GROUP BY q.sentence_id, q.head, q.position) AS attended
              ON sentence_id = s AND head = h AND position = p",
    )
    .await;
}

/// A sentence's mask by frames: what a causal model computes, by the aggregate and by the window.
#[tokio::test(flavor = "multi_thread")]
async fn a_causal_frame_is_the_aggregate_of_what_came_before() {
    assert_equal(
        "SELECT self_attention(query, key, value)
                    OVER (PARTITION BY sentence_id, head ORDER BY position ROWS UNBOUNDED PRECEDING) AS found,
                before AS expected
         FROM t JOIN (SELECT q.sentence_id AS s, q.head AS h, q.position AS p,
                             attention(q.query, k.key, k.value) AS before
                      FROM t q JOIN t k ON q.sentence_id = k.sentence_id AND q.head = k.head
                      WHERE k.position <= q.position
                      GROUP BY q.sentence_id, q.head, q.position) AS causal
              ON sentence_id = s AND head = h AND position = p",
    )
    .await;
}
