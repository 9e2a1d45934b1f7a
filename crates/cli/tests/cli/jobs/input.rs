//! What a job makes of bad, odd and empty input.

use super::support::{
    ROWS, contents, done, fails, json, lake, model, rows, transform, value, visible, write_table,
};

/// The rows of the lake with other vectors for some.
fn with_vector(rows: usize, change: &str) -> String {
    format!(
        "SELECT value AS id, CASE {change} ELSE make_array(cos(value * 0.013) * value,
         sin(value * 0.013) * value, CAST(value % 17 AS DOUBLE)) END AS v
         FROM generate_series(1, {rows})"
    )
}

const BAD: &str = "WHEN value = 1237 THEN make_array(1.0, 'NaN'::double, 2.0)
    WHEN value = 1240 THEN make_array(1.0, NULL, 2.0)
    WHEN value = 3000 THEN make_array(1.0, 2.0)
    WHEN value = 3001 THEN NULL";

#[test]
fn one_bad_row_is_named_with_its_file() {
    let directory = lake();
    write_table(
        &directory.path().join("lake/a.parquet"),
        &with_vector(ROWS, BAD),
    );
    let text = fails(transform(directory.path(), &["--threads=1"]));
    assert!(
        text.contains(
            "lake/a.parquet': column 'v' has NaN in dimension 1 in row 1236 (counted from 0), the model \
             takes 3 finite numbers"
        ),
        "{text}"
    );
    // Rows that are left out are not to blame.
    let text = fails(transform(
        directory.path(),
        &["--threads=1", "--where=id <> 1237", "--overwrite"],
    ));
    assert!(
        text.contains("has NULL in dimension 1 in row 1239"),
        "{text}"
    );
    let text = fails(transform(
        directory.path(),
        &["--threads=1", "--where=id > 1240", "--overwrite"],
    ));
    assert!(text.contains("has 2 dimensions in row 2999"), "{text}");
}

#[test]
fn bad_rows_can_become_null_and_are_counted() {
    let directory = lake();
    write_table(
        &directory.path().join("lake/a.parquet"),
        &with_vector(ROWS, BAD),
    );
    let arguments = ["--on-invalid=null", "--summary=json"];
    let output = transform(directory.path(), &arguments).output().unwrap();
    let text = crate::common::stderr(&output);
    let summary = json(&output);
    assert_eq!(summary["invalid_rows"], 3);
    assert_eq!(summary["rows"], ROWS);
    assert!(
        text.contains("3 rows with invalid vectors got NULL"),
        "{text}"
    );
    let out = directory.path().join("out").display().to_string();
    let ids = value(&format!(
        "SELECT string_agg(CAST(id AS VARCHAR), ' ' ORDER BY id) FROM '{out}/' WHERE embedding IS NULL"
    ));
    assert_eq!(ids, "1237 1240 3000 3001");
    // What was there is passed on as it was.
    let kept = value(&format!(
        "SELECT array_length(v) FROM '{out}/' WHERE id = 3000"
    ));
    assert_eq!(kept, "2");
}

#[test]
fn an_empty_table_gives_an_empty_table() {
    let directory = lake();
    let file = directory.path().join("lake/a.parquet");
    write_table(&file, &format!("{} WHERE value < 0", rows(1, 5)));
    let text = done(transform(directory.path(), &[]));
    assert!(text.contains("0 rows in 1 chunk"), "{text}");
    let out = directory.path().join("out");
    let read = value(&format!(
        "SELECT count(*) || ' ' || count(embedding) FROM '{}/'",
        out.display()
    ));
    assert_eq!(read, "0 0");
    std::fs::remove_file(&file).unwrap();
    std::fs::remove_dir_all(&out).unwrap();
    let text = fails(transform(directory.path(), &[]));
    assert!(text.contains("no files in directory 'lake'"), "{text}");
    assert!(!out.exists());
}

#[test]
fn a_file_without_the_column_is_named() {
    let directory = lake();
    write_table(
        &directory.path().join("lake/b.parquet"),
        "SELECT value AS id, 'x' AS name FROM generate_series(1, 10)",
    );
    let text = fails(transform(directory.path(), &[]));
    assert!(text.contains("lake/b.parquet' has no column 'v'"), "{text}");
    // A column that is only passed on may be missing.
    write_table(
        &directory.path().join("lake/b.parquet"),
        &format!("SELECT id, v FROM ({})", rows(1, 10)),
    );
    done(transform(directory.path(), &[]));
    let out = directory.path().join("out").display().to_string();
    let nulls = value(&format!("SELECT count(*) FROM '{out}/' WHERE name IS NULL"));
    assert_eq!(nulls, "10");
}

#[test]
fn files_that_disagree_or_are_damaged_are_named() {
    let directory = lake();
    let other = directory.path().join("lake/b.parquet");
    write_table(&other, "SELECT 'x' AS id, make_array(1.0, 2.0, 3.0) AS v");
    let text = fails(transform(directory.path(), &[]));
    assert!(
        text.contains("column 'id' is Int64 in '") && text.contains("lake/b.parquet'"),
        "{text}"
    );
    std::fs::write(&other, "PAR1 but no more").unwrap();
    let text = fails(transform(directory.path(), &[]));
    assert!(
        text.contains("lake/b.parquet' (16 bytes) is not a whole Parquet file"),
        "{text}"
    );
    let text = fails(transform(directory.path(), &["--where=nothing = 1"]));
    assert!(text.contains("b.parquet"), "{text}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let directory = lake();
    let run = |arguments: &[&str]| {
        let mut command = crate::common::lakefold();
        command.current_dir(directory.path()).arg("transform");
        command.args(arguments);
        fails(command)
    };
    for (arguments, wanted) in [
        (
            vec!["lake", "out", "--column", "w", "--model", model()],
            "no column 'w', it has 'id', 'name', 'v'",
        ),
        (
            vec![
                "lake",
                "out",
                "--column",
                "v",
                "--model",
                model(),
                "--output-column",
                "name",
            ],
            "has a column 'name' already",
        ),
        (
            vec!["lake", "lake", "--column", "v", "--model", model()],
            "lies in the output 'lake'",
        ),
        (
            vec!["lake", "out", "--column", "v", "--model", "no.parquet"],
            "no model file 'no.parquet'",
        ),
        (
            vec!["no", "out", "--column", "v", "--model", model()],
            "no file 'no'",
        ),
        (
            vec![
                "lake",
                "out",
                "--column",
                "v",
                "--model",
                model(),
                "--memory-limit",
                "20m",
            ],
            "the memory limit is 20.0 MiB: raise it to",
        ),
        (
            vec!["ftp://host/x", "out", "--column", "v", "--model", model()],
            "no store is known for 'ftp://'",
        ),
    ] {
        let text = run(&arguments);
        assert!(text.contains(wanted), "{wanted}: {text}");
        assert!(visible(&directory.path().join("out")).is_empty());
    }
    assert_eq!(contents(&directory.path().join("lake")).len(), 1);
}
