//! Runs every example of queries/ and checks that it gives what it promises.

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use lakefold_tests::{repository, session};

/// The last statement's result, as a table.
async fn run(name: &str) -> String {
    std::env::set_current_dir(repository()).unwrap();
    let sql = std::fs::read_to_string(format!("queries/{name}.sql")).unwrap();
    let session = session().unwrap();
    let mut last = Vec::new();
    for statement in session.statements(&sql).unwrap() {
        last = session
            .execute(statement)
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
    }
    let rows: usize = last.iter().map(RecordBatch::num_rows).sum();
    assert!(rows > 0, "{name} returns no row");
    pretty_format_batches(&last).unwrap().to_string()
}

/// Numbers of the last column, row by row.
fn numbers(table: &str) -> Vec<f64> {
    table
        .lines()
        .filter_map(|line| line.rsplit('|').nth(1)?.trim().parse().ok())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_has_a_test() {
    let mut names: Vec<String> = std::fs::read_dir(repository().join("queries"))
        .unwrap()
        .filter_map(|entry| {
            Some(
                entry
                    .unwrap()
                    .file_name()
                    .to_str()?
                    .strip_suffix(".sql")?
                    .to_owned(),
            )
        })
        .collect();
    names.sort();
    let tested = [
        "embed_per_group",
        "embed_table",
        "features_from_columns",
        "join_metadata",
        "nearest_in_embedding",
        "softmax_scores",
        "swiss_roll_truth",
        "write_chunks",
    ];
    assert_eq!(names, tested);
}

#[tokio::test(flavor = "multi_thread")]
async fn embed_table() {
    let table = run("embed_table").await;
    assert_eq!(
        table.lines().filter(|line| line.contains('[')).count(),
        10,
        "{table}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn embed_per_group() {
    insta::assert_snapshot!(run("embed_per_group").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn features_from_columns() {
    let table = run("features_from_columns").await;
    assert_eq!(
        table.lines().filter(|line| line.contains('[')).count(),
        10,
        "{table}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn join_metadata() {
    let table = run("join_metadata").await;
    assert!(
        table.contains("median_kib") && table.lines().count() > 10,
        "{table}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nearest_in_embedding() {
    let table = run("nearest_in_embedding").await;
    println!("{table}");
    assert!(!numbers(&table).is_empty(), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn softmax_scores() {
    let table = run("softmax_scores").await;
    println!("{table}");
    assert!(!table.contains("NaN"), "{table}");
}

/// One coordinate follows the roll and the other its height.
#[tokio::test(flavor = "multi_thread")]
async fn swiss_roll_truth() {
    let table = run("swiss_roll_truth").await;
    println!("{table}");
    assert!(numbers(&table).iter().any(|v| *v > 0.9), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn write_chunks() {
    let out = repository().join("out/chunks");
    if out.exists() {
        std::fs::remove_dir_all(&out).unwrap();
    }
    let table = run("write_chunks").await;
    assert!(table.contains("5000"), "{table}");
    assert!(
        std::fs::read_dir(out).unwrap().count() >= 2,
        "several chunks"
    );
}
