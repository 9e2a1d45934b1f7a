//! Inputs that are Delta Lake tables.

use super::delta_log::Log;
use super::support::{done, fails, lake, rows, transform, value, visible, write_table};
use crate::common::{failure, lakefold, stdout};

/// `lake/` copied into a table `t/`, as jobs and others write them; then a job from `t` to `out`.
fn copy(directory: &std::path::Path, arguments: &[&str]) -> std::process::Command {
    let mut command = lakefold();
    command
        .current_dir(directory)
        .args([
            "transform",
            "lake",
            "t",
            "--format=delta",
            "--select=id, name, v",
        ])
        .args(["--chunk-rows=250", "--incremental"])
        .args(arguments);
    command
}

fn from_table(directory: &std::path::Path, arguments: &[&str]) -> std::process::Command {
    let mut command = lakefold();
    command
        .current_dir(directory)
        .args(["transform", "t", "out", "--select=*, id % 7 AS seven"])
        .args(arguments);
    command
}

fn ids(table: &std::path::Path) -> String {
    value(&format!(
        "SELECT count(*) || ' ' || max(id) FROM '{}/'",
        table.display()
    ))
}

#[test]
fn only_files_of_the_version_are_read() {
    let directory = lake();
    let path = directory.path();
    let b = path.join("lake/b.parquet");
    write_table(&b, &rows(6001, 6250));
    done(copy(path, &[]));
    write_table(&b, &rows(7001, 7250));
    done(copy(path, &[]));
    // Three chunks of b would be read otherwise: what was removed from the table is still there.
    assert_eq!(visible(&path.join("t")).len(), 22);
    assert_eq!(ids(&path.join("t")), "5250 7250");
    done(from_table(path, &[]));
    assert_eq!(ids(&path.join("out")), "5250 7250");
    // Vectors are of fixed length, as the files have them.
    let kind = format!(
        "SELECT arrow_typeof(v) FROM '{}/' LIMIT 1",
        path.join("t").display()
    );
    assert!(
        value(&kind).contains("FixedSizeList(3 x"),
        "{}",
        value(&kind)
    );
    // The table before, on request.
    let text = fails(from_table(path, &["--input-version=0"]));
    assert!(text.contains("--incremental"), "{text}");
    done(from_table(path, &["--input-version=0", "--incremental"]));
    assert_eq!(ids(&path.join("out")), "5250 6250");
    let text = fails(from_table(path, &["--input-version=9"]));
    assert!(text.contains("cannot read version 9"), "{text}");
    let mut plain = transform(path, &["--input-version=0"]);
    plain.stdin(std::process::Stdio::null());
    let text = fails(plain);
    assert!(text.contains("is no Delta Lake table"), "{text}");
}

#[test]
fn rows_that_left_the_table_leave_the_output() {
    let directory = lake();
    let path = directory.path();
    write_table(&path.join("lake/b.parquet"), &rows(6001, 6250));
    done(copy(path, &[]));
    done(from_table(path, &["--format=delta"]));
    assert_eq!(ids(&path.join("out")), "5250 6250");
    std::fs::remove_file(path.join("lake/b.parquet")).unwrap();
    done(copy(path, &["--overwrite"]));
    // Other than of a directory, the log says that they are gone: their output is not kept silently.
    let text = fails(from_table(path, &["--format=delta"]));
    assert!(
        text.contains("has been removed from the input's table"),
        "{text}"
    );
    done(from_table(path, &["--format=delta", "--incremental"]));
    assert_eq!(ids(&path.join("out")), "5000 5000");
    assert_eq!(Log::read(&path.join("out")).paths(1, "remove").len(), 1);
}

#[test]
fn partition_values_come_from_the_log() {
    let directory = lake();
    let path = directory.path();
    std::fs::remove_file(path.join("lake/a.parquet")).unwrap();
    write_table(&path.join("lake/day=2026-11-23/x.parquet"), &rows(1, 250));
    done(copy(path, &[]));
    // As other writers do: a date, and a file whose path does not say it.
    let t = path.join("t");
    let commit = t.join("_delta_log/00000000000000000000.json");
    let name = Log::read(&t).newest().into_iter().next().unwrap();
    std::fs::rename(t.join(&name), t.join("part-0.parquet")).unwrap();
    let text = std::fs::read_to_string(&commit).unwrap();
    let text = text.replace(&name, "part-0.parquet");
    let string = r#"\"name\":\"day\",\"type\":\"string\""#;
    assert!(text.contains(string), "{text}");
    let text = text.replace(string, r#"\"name\":\"day\",\"type\":\"date\""#);
    std::fs::write(&commit, text).unwrap();
    let days = format!(
        "SELECT arrow_typeof(day) || ' ' || count(*) FROM '{}/' WHERE day > DATE '2026-01-01'
         GROUP BY arrow_typeof(day)",
        t.display()
    );
    assert_eq!(value(&days), "Date32 250");
    done(from_table(path, &[]));
    assert_eq!(
        visible(&path.join("out")),
        ["day=2026-11-23/part-0.00000-00000.parquet"]
    );
}

#[test]
fn what_would_give_wrong_rows_is_refused() {
    let directory = lake();
    let path = directory.path();
    done(copy(path, &[]));
    let t = path.join("t");
    let commit = t.join("_delta_log/00000000000000000000.json");
    let whole = std::fs::read_to_string(&commit).unwrap();
    let query = format!("SELECT count(*) FROM '{}/'", t.display());
    assert_eq!(
        stdout(&["-q", "--format", "csv", "-c", &query])
            .lines()
            .nth(1),
        Some("5000")
    );
    let protocol = r#""minReaderVersion":1,"minWriterVersion":2"#;
    assert!(whole.contains(protocol), "{whole}");
    let with = |feature: &str| {
        let features = format!(
            r#""minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["{feature}"],"writerFeatures":["{feature}"]"#
        );
        whole.replace(protocol, &features)
    };
    let vector = r#""deletionVector":{"storageType":"u","pathOrInlineDv":"vBn[lx{q8@P<9BNH/isA","offset":1,"sizeInBytes":36,"cardinality":2},"dataChange":true"#;
    let mapped = r#""configuration":{"delta.columnMapping.mode":"name","delta.columnMapping.maxColumnId":"3"}"#;
    for (text, wanted) in [
        (
            with("deletionVectors").replace("\"dataChange\":true", vector),
            "deletion vector",
        ),
        (
            with("columnMapping")
                .replace("\"configuration\":{}", mapped)
                .replace("\\\"metadata\\\":{}", &mapping_of_columns()),
            "column mapping",
        ),
        (with("somethingNew"), "Delta Lake table"),
        (
            whole.replace(
                r#"\"name\":\"id\",\"type\":\"long\""#,
                r#"\"name\":\"id\",\"type\":\"double\""#,
            ),
            "column 'id' of the Delta Lake table",
        ),
        (whole.replace(".parquet\"", "x.parquet\""), "is not there"),
    ] {
        assert_ne!(text, whole);
        std::fs::write(&commit, &text).unwrap();
        let message = failure(&["-q", "-c", &query]);
        assert!(message.contains(wanted), "{wanted}: {message}");
        let message = fails(from_table(path, &[]));
        assert!(message.contains(wanted), "{wanted}: {message}");
        assert!(!path.join("out").exists());
    }
}

/// The kernel wants each mapped column to say its number and name.
fn mapping_of_columns() -> String {
    r#"\"metadata\":{\"delta.columnMapping.id\":1,\"delta.columnMapping.physicalName\":\"c\"}"#
        .to_owned()
}
