//! `linear`, with weights from Parquet files.

use std::path::Path;

use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::support::{error, query, session};

async fn write(ctx: &SessionContext, path: &Path, rows: &str) {
    let sql = format!("COPY ({rows}) TO '{}' STORED AS PARQUET", path.display());
    query(ctx, &sql).await.unwrap();
}

async fn shown(ctx: &SessionContext, sql: &str) -> Vec<String> {
    let batch = query(ctx, sql).await.unwrap();
    let options = FormatOptions::default().with_null("NULL");
    let formatter = ArrayFormatter::try_new(batch.column(0), &options).unwrap();
    (0..batch.num_rows())
        .map(|row| formatter.value(row).to_string())
        .collect()
}

const LAYERS: &str = "SELECT * FROM (VALUES
    (0, 'a', [1.0, 2.0], 0.5), (1, 'b', [1.0, 0.0], NULL), (2, 'a', [0.0, -1.0], 10.0), (3, 'a', [1.0, 1.0], 0.0)
) AS t (place, name, weight, bias) ORDER BY place";

#[tokio::test(flavor = "multi_thread")]
async fn vectors_and_sequences_of_all_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layers.parquet");
    let ctx = session(SessionConfig::new());
    write(&ctx, &path, LAYERS).await;
    let layer = |x: &str, name: &str| format!("SELECT linear({x}, '{}', '{name}')", path.display());
    for (x, name, expected) in [
        ("[3.0, 4.0]", "a", "[11.5, 6.0, 7.0]"),
        ("[3.0, 4.0]", "b", "[3.0]"),
        (
            "[[3, 4], NULL, [0, 0]]",
            "a",
            "[[11.5, 6.0, 7.0], NULL, [0.5, 10.0, 0.0]]",
        ),
        ("[]::double[][]", "a", "[]"),
        ("NULL", "a", "NULL"),
        ("NULL::double[][]", "a", "NULL"),
        (
            "arrow_cast([3, 4], 'LargeList(Int8)')",
            "a",
            "[11.5, 6.0, 7.0]",
        ),
        (
            "arrow_cast([[3, 4]], 'FixedSizeList(1, FixedSizeList(2, Float16))')",
            "b",
            "[[3.0]]",
        ),
    ] {
        assert_eq!(shown(&ctx, &layer(x, name)).await, [expected], "{x}");
    }
    let rows = format!(
        "SELECT linear(x, '{}', 'b') FROM (VALUES (1, [[1.0, 2.0]]), (2, NULL), (3, [NULL]), (4, [[5.0, 6.0], [7, 8]]))
         AS t (i, x) WHERE i > 1 ORDER BY i",
        path.display()
    );
    assert_eq!(
        shown(&ctx, &rows).await,
        ["NULL", "[NULL]", "[[5.0], [7.0]]"]
    );
    // NULL sequences of a fixed length have vectors all the same, which may be anything.
    let fixed = format!(
        "SELECT linear(arrow_cast(x, 'FixedSizeList(2, List(Float64))'), '{}', 'b')
         FROM (VALUES (1, [[1.0, 2.0], NULL]), (2, NULL), (3, [[5.0, 6.0], [7, 8]])) AS t (i, x) ORDER BY i",
        path.display()
    );
    assert_eq!(
        shown(&ctx, &fixed).await,
        ["[[1.0], NULL]", "NULL", "[[5.0], [7.0]]"]
    );
    for (x, expected) in [
        (
            "arrow_cast([3, 4], 'FixedSizeList(2, Float16)')",
            "FixedSizeList(3 x Float64)",
        ),
        (
            "arrow_cast([[3, 4]], 'LargeList(FixedSizeList(2, Float32))')",
            "LargeList(FixedSizeList(3 x Float64))",
        ),
        (
            "arrow_cast([[3, 4]], 'FixedSizeList(1, List(Float32))')",
            "FixedSizeList(1 x List(Float64))",
        ),
    ] {
        let typed = layer(x, "a").replace("SELECT ", "SELECT arrow_typeof(") + ")";
        assert_eq!(shown(&ctx, &typed).await, [expected], "{x}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_layer_needs_no_name_and_floats_stay_narrow() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layer.parquet");
    let ctx = session(SessionConfig::new());
    let rows = "SELECT arrow_cast([1.0, 2.0], 'FixedSizeList(2, Float32)') AS weight";
    write(&ctx, &path, rows).await;
    let call = |x: &str| format!("linear({x}, weights => '{}')", path.display());
    let narrow = call("arrow_cast([3, 4], 'List(Float32)')");
    assert_eq!(
        shown(&ctx, &format!("SELECT arrow_typeof({narrow})")).await,
        ["List(Float32)"]
    );
    assert_eq!(shown(&ctx, &format!("SELECT {narrow}")).await, ["[11.0]"]);
    let wide = format!("SELECT arrow_typeof({})", call("[3.0, 4.0]"));
    assert_eq!(shown(&ctx, &wide).await, ["List(Float64)"]);
}

async fn write_files(ctx: &SessionContext, folder: &Path) {
    let path = |name: &str| folder.join(name);
    write(ctx, &path("layers.parquet"), LAYERS).await;
    for (name, rows) in [
        ("none", "SELECT 1 AS bias"),
        ("text", "SELECT ['a'] AS weight"),
        ("null", "SELECT NULL::double[] AS weight"),
        (
            "ragged",
            "SELECT * FROM (VALUES ([1.0]), ([1.0, 2.0])) AS t (weight)",
        ),
        ("nan", "SELECT ['NaN'::double] AS weight"),
        ("bias", "SELECT [1.0] AS weight, 'x' AS bias"),
        (
            "half",
            "SELECT * FROM (VALUES ([1.0], 1.0), ([1.0], NULL)) AS t (weight, bias)",
        ),
        ("names", "SELECT [1.0] AS weight, 1 AS name"),
        ("single", "SELECT [1.0] AS weight"),
        ("empty", "SELECT [1.0] AS weight WHERE false"),
    ] {
        write(ctx, &path(&format!("{name}.parquet")), rows).await;
    }
    std::fs::write(path("broken.parquet"), "not Parquet").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_files_and_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let ctx = session(SessionConfig::new());
    write_files(&ctx, folder.path()).await;
    for (x, file, name, expected) in [
        ("[1.0]", "layers", "'a'", "has 1 numbers, the layer of"),
        (
            "[[1.0, 2.0], [1.0]]",
            "layers",
            "'a'",
            "row 0 of its batch (counted from 0): position 1 has 1 numbers",
        ),
        (
            "arrow_cast([1], 'FixedSizeList(1, Float32)')",
            "layers",
            "'a'",
            "x of linear has 1 numbers, the layer",
        ),
        (
            "[1.0, 2.0]",
            "layers",
            "'c'",
            "has no layer 'c', it has a, b",
        ),
        (
            "[1.0, 2.0]",
            "layers",
            "NULL",
            "has several layers: say which as the third argument, one of a, b",
        ),
        ("[1.0, NULL]", "layers", "'a'", "has NULL as number 1"),
        (
            "['NaN'::double, 1.0]",
            "layers",
            "'a'",
            "the result is NaN in place 0 (counted from 0): remove NaN",
        ),
        (
            "[1.0]",
            "single",
            "'a'",
            "has no column 'name' to find 'a' in",
        ),
        ("[1.0]", "none", "NULL", "has no column 'weight'"),
        ("[1.0]", "text", "NULL", "must be a list of numbers"),
        (
            "[1.0]",
            "null",
            "NULL",
            "is NULL in some row: every output feature needs its weights",
        ),
        ("[1.0]", "ragged", "NULL", "dimensions"),
        (
            "[1.0]",
            "nan",
            "NULL",
            "a weight or bias is NaN or infinite",
        ),
        ("[1.0]", "bias", "NULL", "'bias' of"),
        (
            "[1.0]",
            "half",
            "NULL",
            "'bias' is NULL in 1 of 2 rows: a layer has a bias in every row or in none",
        ),
        ("[1.0]", "names", "NULL", "must be text, got Int64"),
        ("[1.0]", "empty", "NULL", "has no rows"),
        ("[1.0]", "missing", "NULL", "no file of weights"),
        (
            "[1.0]",
            "broken",
            "NULL",
            "is not a Parquet file of weights",
        ),
    ] {
        let file = folder.path().join(format!("{file}.parquet"));
        let sql = format!("SELECT linear({x}, '{}', {name})", file.display());
        let message = error(&ctx, &sql).await;
        assert!(message.contains(expected), "{sql}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_calls() {
    let ctx = session(SessionConfig::new());
    for (call, expected) in [
        ("linear([1.0])", "linear takes 2 or 3 arguments, got 1"),
        (
            "linear(1, 'w.parquet')",
            "x of linear must be a list of numbers",
        ),
        (
            "linear([1.0], 7)",
            "weights of linear must be text, got Int64",
        ),
        (
            "linear([1.0], NULL)",
            "weights of linear must be the path or URL of a file of weights, got NULL",
        ),
        (
            "linear([1.0], 'w' || i)",
            "weights of linear must be a constant",
        ),
        (
            "linear([1.0], 's3://bucket/w.parquet')",
            "only Lakefold's own session reads weights by URL",
        ),
    ] {
        let sql = format!("SELECT {call} FROM generate_series(1, 2) AS t (i)");
        let message = error(&ctx, &sql).await;
        assert!(message.contains(expected), "{call}: {message}");
    }
}
