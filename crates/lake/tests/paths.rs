//! `FROM 'path'` against real files.

use std::path::Path;

use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::prelude::{SessionConfig, SessionContext};
use tempfile::TempDir;

fn session() -> SessionContext {
    let config = SessionConfig::new()
        .with_target_partitions(4)
        .with_round_robin_repartition(false)
        .with_repartition_file_scans(false);
    let ctx = SessionContext::new_with_config(config);
    lakefold_lake::enable_paths(&ctx);
    ctx
}

/// Writes the result of `sql` into one Parquet file.
async fn write(path: &Path, sql: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let frame = SessionContext::new().sql(sql).await.unwrap();
    let options = DataFrameWriteOptions::new().with_single_file_output(true);
    frame
        .write_parquet(path.to_str().unwrap(), options, None)
        .await
        .unwrap();
}

async fn read(sql: &str) -> Vec<String> {
    let batches = session().sql(sql).await.unwrap().collect().await.unwrap();
    let text = pretty_format_batches(&batches).unwrap().to_string();
    let rows = text.lines().filter(|line| line.starts_with('|')).skip(1);
    rows.map(|row| {
        row.replace([' ', '|'], " ")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    })
    .collect()
}

async fn error(sql: &str) -> String {
    match session().sql(sql).await {
        Err(error) => error.strip_backtrace(),
        Ok(frame) => frame.collect().await.unwrap_err().strip_backtrace(),
    }
}

struct Lake(TempDir);

impl Lake {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, below: &str) -> String {
        self.0.path().join(below).to_str().unwrap().to_owned()
    }

    async fn write(&self, below: &str, sql: &str) {
        write(&self.0.path().join(below), sql).await;
    }

    fn write_text(&self, below: &str, text: &str) {
        let path = self.0.path().join(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

#[tokio::test]
async fn files_come_in_natural_order_of_their_names() {
    let lake = Lake::new();
    for part in [10, 2, 1, 9] {
        lake.write(
            &format!("t/part_{part}.parquet"),
            &format!("SELECT {part} AS a"),
        )
        .await;
    }
    let directory = lake.path("t");
    for name in [
        format!("{directory}/"),
        format!("{directory}/*.parquet"),
        directory,
    ] {
        assert_eq!(
            read(&format!("SELECT a FROM '{name}'")).await,
            ["1", "2", "9", "10"],
            "{name}"
        );
    }
    let pattern = lake.path("t/part_?.parquet");
    assert_eq!(
        read(&format!("SELECT a FROM '{pattern}' LIMIT 2")).await,
        ["1", "2"]
    );
    let counted = read(&format!("SELECT count(*) FROM '{}'", lake.path("t/"))).await;
    assert_eq!(counted, ["4"]);
}

#[tokio::test]
async fn hive_partitions_are_columns() {
    let lake = Lake::new();
    lake.write("t/year=2025/section=a%20b/x.parquet", "SELECT 1 AS a")
        .await;
    lake.write("t/year=2026/section=c/x.parquet", "SELECT 2 AS a")
        .await;
    let null = "__HIVE_DEFAULT_PARTITION__";
    lake.write(
        &format!("t/year=2026/section={null}/x.parquet"),
        "SELECT 3 AS a",
    )
    .await;
    let table = lake.path("t/");
    assert_eq!(
        read(&format!(
            "SELECT a, year, section IS NULL AS n FROM '{table}'"
        ))
        .await,
        ["1 2025 false", "3 2026 true", "2 2026 false"]
    );
    assert_eq!(
        read(&format!("SELECT a FROM '{table}' WHERE section = 'a b'")).await,
        ["1"]
    );
    assert_eq!(
        read(&format!(
            "SELECT a FROM '{table}' WHERE year = '2026' AND a > 2"
        ))
        .await,
        ["3"]
    );
    assert_eq!(
        read(&format!(
            "SELECT year, count(*) FROM '{table}' GROUP BY year ORDER BY year"
        ))
        .await,
        ["2025 1", "2026 2"]
    );
    // A glob has them as well.
    let glob = lake.path("t/*/*/*.parquet");
    assert_eq!(
        read(&format!("SELECT a FROM '{glob}' WHERE year = '2025'")).await,
        ["1"]
    );

    lake.write("t/x.parquet", "SELECT 4 AS a").await;
    let mixed = error(&format!("SELECT * FROM '{table}'")).await;
    assert!(
        mixed.contains("different partition columns") && mixed.contains("x.parquet"),
        "{mixed}"
    );
}

#[tokio::test]
async fn a_partition_column_that_is_in_the_files_is_read_from_them() {
    let lake = Lake::new();
    lake.write("t/a=7/x.parquet", "SELECT 1 AS a, 2 AS b").await;
    assert_eq!(
        read(&format!("SELECT a, b FROM '{}'", lake.path("t/"))).await,
        ["1 2"]
    );
}

#[tokio::test]
async fn a_missing_file_says_where_it_looked_and_what_is_there() {
    let lake = Lake::new();
    lake.write("x.parquet", "SELECT 1 AS a").await;
    let missing = error(&format!("SELECT * FROM '{}'", lake.path("y.parquet"))).await;
    assert!(
        missing.contains(&format!("no file '{}'", lake.path("y.parquet"))),
        "{missing}"
    );
    assert!(missing.contains("there are: 'x.parquet'"), "{missing}");
    let missing = error(&format!(
        "SELECT * FROM '{}'",
        lake.path("nowhere/y.parquet")
    ))
    .await;
    assert!(missing.contains("no data files are there"), "{missing}");
    // A bare word is a table, whatever files there are.
    let table = error("SELECT * FROM nowhere").await;
    assert!(
        table.contains("table 'datafusion.public.nowhere' not found"),
        "{table}"
    );
    let store = error("SELECT * FROM 's3://bucket/x.parquet'").await;
    assert!(
        store.contains("no object store is registered for 's3://bucket/x.parquet'"),
        "{store}"
    );
}

#[tokio::test]
async fn directories_and_globs_without_data_are_errors() {
    let lake = Lake::new();
    std::fs::create_dir(lake.0.path().join("empty")).unwrap();
    lake.write_text("text/README.md", "hello");
    lake.write("nested/deep/x.parquet", "SELECT 1 AS a").await;
    for (name, expected) in [
        ("empty/", "no files in directory"),
        ("text/", "no data files in"),
        ("nested/", "subdirectories are read only"),
        ("nested/*.parquet", "no file matches"),
        ("nested/{a,b}.parquet", "; braces are not expanded"),
        ("nested/{a,b}*.parquet", "; braces are not expanded"),
        ("nowhere/", "no files in directory"),
    ] {
        let message = error(&format!("SELECT * FROM '{}'", lake.path(name))).await;
        assert!(
            message.contains(expected) && message.contains(name),
            "{name}: {message}"
        );
    }
    let deep = lake.path("nested/**/*.parquet");
    assert_eq!(read(&format!("SELECT a FROM '{deep}'")).await, ["1"]);
}

#[tokio::test]
async fn files_that_do_not_belong_together_are_named() {
    let lake = Lake::new();
    lake.write("types/1.parquet", "SELECT 1 AS a").await;
    lake.write("types/2.parquet", "SELECT 'x' AS a").await;
    let types = error(&format!("SELECT * FROM '{}'", lake.path("types/"))).await;
    assert!(
        types.contains("column 'a' is Int64 in") && types.contains("types/2.parquet"),
        "{types}"
    );

    lake.write("tables/1.parquet", "SELECT 1 AS a").await;
    lake.write("tables/2.parquet", "SELECT 1 AS b").await;
    let tables = error(&format!("SELECT * FROM '{}'", lake.path("tables/"))).await;
    assert!(tables.contains("shares no column with"), "{tables}");

    lake.write("formats/1.parquet", "SELECT 1 AS a").await;
    lake.write_text("formats/2.csv", "a\n1\n");
    let formats = error(&format!("SELECT * FROM '{}'", lake.path("formats/"))).await;
    assert!(
        formats.contains("several formats") && formats.contains("2.csv"),
        "{formats}"
    );

    // A column that came later is NULL in older files.
    lake.write("grown/1.parquet", "SELECT 1 AS a").await;
    lake.write("grown/2.parquet", "SELECT 2 AS a, 3 AS b").await;
    let grown = lake.path("grown/");
    assert_eq!(
        read(&format!("SELECT a, b IS NULL AS n FROM '{grown}'")).await,
        ["1 true", "2 false"]
    );
}

#[tokio::test]
async fn a_damaged_file_is_named() {
    let lake = Lake::new();
    lake.write("t/1.parquet", "SELECT 1 AS a").await;
    lake.write("t/2.parquet", "SELECT 1 AS a").await;
    let path = lake.0.path().join("t/2.parquet");
    let bytes = std::fs::read(&path).unwrap();
    for cut in [0, 3, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let message = error(&format!("SELECT * FROM '{}'", lake.path("t/"))).await;
        assert!(message.contains("2.parquet' ("), "{cut}: {message}");
        assert!(
            message.contains("is not a whole parquet file"),
            "{cut}: {message}"
        );
    }
    lake.write_text("text.parquet", "id,name\n1,x\n");
    let message = error(&format!("SELECT * FROM '{}'", lake.path("text.parquet"))).await;
    assert!(message.contains("not a whole parquet file"), "{message}");
}

#[tokio::test]
async fn a_delta_lake_table_is_not_read_as_plain_files() {
    let lake = Lake::new();
    lake.write("t/1.parquet", "SELECT 1 AS a").await;
    lake.write_text("t/_delta_log/00000000000000000000.json", "{}");
    let message = error(&format!("SELECT * FROM '{}'", lake.path("t/"))).await;
    assert!(message.contains("Delta Lake"), "{message}");
    assert_eq!(
        read(&format!("SELECT a FROM '{}'", lake.path("t/*.parquet"))).await,
        ["1"]
    );
}

#[tokio::test]
async fn metadata_files_and_unknown_files_are_left_out() {
    let lake = Lake::new();
    lake.write("t/1.parquet", "SELECT 1 AS a").await;
    for name in [
        "t/_SUCCESS",
        "t/.1.parquet.crc",
        "t/_metadata.json",
        "t/2.parquet.tmp",
    ] {
        lake.write_text(name, "x");
    }
    assert_eq!(
        read(&format!("SELECT a FROM '{}'", lake.path("t/"))).await,
        ["1"]
    );
}

#[tokio::test]
async fn other_formats_are_read_by_extension() {
    let lake = Lake::new();
    lake.write_text("x.csv", "a,b\n1,x\n2,y\n");
    lake.write_text("x.tsv", "a\tb\n1\tx\n");
    lake.write_text("x.jsonl", "{\"a\": 1, \"b\": [0.5, 1.5]}\n");
    assert_eq!(
        read(&format!("SELECT b, a + 1 FROM '{}'", lake.path("x.csv"))).await,
        ["x 2", "y 3"]
    );
    assert_eq!(
        read(&format!("SELECT b FROM '{}'", lake.path("x.tsv"))).await,
        ["x"]
    );
    assert_eq!(
        read(&format!("SELECT b[2] FROM '{}'", lake.path("x.jsonl"))).await,
        ["1.5"]
    );
    // By content where the name does not tell.
    lake.write("x.parquet", "SELECT 5 AS a").await;
    std::fs::rename(
        lake.0.path().join("x.parquet"),
        lake.0.path().join("plain.data"),
    )
    .unwrap();
    assert_eq!(
        read(&format!("SELECT a FROM '{}'", lake.path("plain.data"))).await,
        ["5"]
    );
    lake.write_text("noise.data", "?");
    let message = error(&format!("SELECT a FROM '{}'", lake.path("noise.data"))).await;
    assert!(message.contains("cannot tell the format"), "{message}");
}

#[tokio::test]
async fn names_with_spaces_and_signs_are_names() {
    let lake = Lake::new();
    for name in [
        "a b.parquet",
        "ä%20ö.parquet",
        "a[1].parquet",
        "100%.parquet",
        "a+b&c.parquet",
    ] {
        lake.write_text("scratch", "");
        let target = lake.0.path().join(name);
        lake.write("plain.parquet", "SELECT 1 AS a").await;
        std::fs::rename(lake.0.path().join("plain.parquet"), target).unwrap();
        assert_eq!(
            read(&format!("SELECT a FROM '{}'", lake.path(name))).await,
            ["1"],
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_view_sees_files_that_came_later() {
    let lake = Lake::new();
    lake.write("t/1.parquet", "SELECT 1 AS a").await;
    let ctx = session();
    ctx.sql(&format!(
        "CREATE VIEW v AS SELECT a FROM '{}'",
        lake.path("t/")
    ))
    .await
    .unwrap();
    lake.write("t/2.parquet", "SELECT 2 AS a").await;
    let rows = ctx
        .sql("SELECT a FROM v")
        .await
        .unwrap()
        .count()
        .await
        .unwrap();
    assert_eq!(rows, 2);
}
