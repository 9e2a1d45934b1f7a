//! Scans of sequences give batches that are cut by bytes.

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use lakefold_functions::WIDE_BATCH_BYTES;

use crate::support::{query, session};

/// Rows of each batch, and the most bytes of numbers in one.
async fn batches(ctx: &SessionContext, sql: &str) -> (Vec<usize>, usize) {
    let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
    let bytes = |batch: &RecordBatch| {
        let columns = batch.columns().iter();
        let bytes = columns.map(|column| column.to_data().get_slice_memory_size().unwrap());
        bytes.sum::<usize>()
    };
    let largest = batches.iter().map(bytes).max().unwrap_or_default();
    (batches.iter().map(RecordBatch::num_rows).collect(), largest)
}

/// 20 rows of 4 MiB: a dictionary makes the file small, which must not deceive.
#[tokio::test(flavor = "multi_thread")]
async fn sequences_are_read_in_batches_of_64_mib() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sequences.parquet");
    let config = SessionConfig::new().with_target_partitions(1);
    let ctx = session(config);
    let rows = "SELECT i AS id, [1.0, 2.0] AS vector,
            array_repeat(array_repeat(arrow_cast(i, 'Float32'), 1024), 1024) AS x
        FROM generate_series(1, 20) AS t (i)";
    let copy = format!("COPY ({rows}) TO '{}' STORED AS PARQUET", path.display());
    query(&ctx, &copy).await.unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() < 8 << 20);
    let path = path.to_str().unwrap();
    ctx.register_parquet("t", path, ParquetReadOptions::default())
        .await
        .unwrap();

    for (sql, expected) in [
        ("SELECT x FROM t", [16, 4]),
        ("SELECT id, x FROM t WHERE id > 0", [15, 5]),
        (
            "SELECT multi_head_attention(x, x, x, 1) FROM (SELECT array_slice(x, 1, 2) AS x FROM t)",
            [16, 4],
        ),
    ] {
        let (rows, largest) = batches(&ctx, sql).await;
        assert_eq!(rows, expected, "{sql}");
        // Offsets come on top.
        assert!(
            largest <= WIDE_BATCH_BYTES + WIDE_BATCH_BYTES / 100,
            "{sql}: {largest}"
        );
    }
    for sql in ["SELECT id, vector FROM t", "SELECT id FROM t WHERE id > 0"] {
        assert_eq!(batches(&ctx, sql).await.0, [20], "{sql}");
    }
    // A smaller batch size stays.
    query(&ctx, "SET datafusion.execution.batch_size = 7")
        .await
        .unwrap();
    assert_eq!(batches(&ctx, "SELECT x FROM t").await.0, [7, 7, 6]);
}
