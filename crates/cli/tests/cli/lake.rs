//! Files in, files out.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::{failure, lakefold, sql, stderr, stdout};

fn csv(statement: &str) -> String {
    stdout(&["-q", "--format", "csv", "-c", statement])
}

/// Data files, in the order in which they are read.
fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_by_key(|name| (name.len(), name.clone()));
    names
}

#[test]
fn sample_data_is_read_by_path() {
    assert_eq!(
        csv("SELECT count(*) AS n FROM 'sample_data/digits.parquet'"),
        "n\n1797\n"
    );
    assert_eq!(
        csv("SELECT count(*) AS n FROM './sample_data/../sample_data/digi*.parquet'"),
        "n\n1797\n"
    );
    let mixed = failure(&["-q", "-c", "SELECT * FROM 'sample_data/*.parquet'"]);
    assert!(
        mixed.contains("column '") || mixed.contains("shares no column"),
        "{mixed}"
    );
}

#[test]
fn copy_writes_chunks_that_read_back_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let target = format!("{}/", out.display());
    let output = sql(&[
        "--format",
        "csv",
        "-c",
        &format!(
            "COPY (SELECT value, value % 7 AS b FROM generate_series(1, 2500000)) TO '{target}'"
        ),
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "count\n2500000\n");
    let chunks = files(&out);
    assert_eq!(chunks.len(), 3, "{chunks:?}");
    let path = |chunk: &str| format!("{target}{chunk}");
    // Cut between batches, so up to a batch more than a million.
    let first: usize = csv(&format!("SELECT max(value) FROM '{}'", path(&chunks[0])))
        .lines()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    assert!((1_000_000..1_000_000 + 8192).contains(&first), "{first}");
    let second = csv(&format!("SELECT min(value) FROM '{}'", path(&chunks[1])));
    assert_eq!(second.lines().nth(1).unwrap(), (first + 1).to_string());
    let sorted = "SELECT count(*) FROM (SELECT value, row_number() OVER () AS place FROM";
    assert_eq!(
        csv(&format!("{sorted} '{target}') WHERE value = place"))
            .lines()
            .nth(1),
        Some("2500000")
    );
    let compression = std::fs::read(out.join(&chunks[0])).unwrap();
    assert!(compression.len() < 8_000_000, "{}", compression.len());
}

#[test]
fn many_chunks_are_set_by_the_user_and_keep_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let target = format!("{}/out/", directory.path().display());
    let statements = format!(
        "SET datafusion.execution.soft_max_rows_per_output_file = 1000;
         SET datafusion.execution.batch_size = 500;
         COPY (SELECT value FROM generate_series(1, 12000)) TO '{target}' STORED AS PARQUET"
    );
    csv(&statements);
    assert_eq!(files(&directory.path().join("out")).len(), 12);
    let values = csv(&format!("SELECT value FROM '{target}'"));
    let expected: Vec<_> = (1..=12_000).map(|value| value.to_string()).collect();
    assert!(values.lines().skip(1).eq(expected));
}

#[test]
fn copying_into_a_full_directory_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let target = format!("{}/out/", directory.path().display());
    let copy = format!("COPY (SELECT 1 AS a) TO '{target}'");
    assert!(!stderr(&sql(&["-c", &copy])).contains("already holds"));
    let second = sql(&["-c", &copy]);
    assert!(second.status.success());
    assert!(
        stderr(&second).contains("already holds 1 file(s)"),
        "{}",
        stderr(&second)
    );
    let without_slash = target.trim_end_matches('/');
    for stored_as in ["", "STORED AS PARQUET"] {
        let copy = format!("COPY (SELECT 1 AS a) TO '{without_slash}' {stored_as}");
        let text = stderr(&sql(&["-c", &copy]));
        assert!(text.contains("file(s): COPY adds"), "{copy}: {text}");
    }
    assert_eq!(
        csv(&format!("SELECT count(*) AS n FROM '{target}'")),
        "n\n4\n"
    );
}

/// Fails on its last row, the only one of its file.
fn failing_after(rows: usize) -> String {
    format!(
        "SELECT arrow_cast(CASE WHEN value = {rows} THEN 'x' ELSE '1' END, 'Int8') AS a
         FROM generate_series(1, {rows})"
    )
}

#[test]
fn a_failed_copy_leaves_a_single_file_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    for extension in ["parquet", "csv", "json"] {
        let target = directory.path().join(format!("x.{extension}"));
        std::fs::write(&target, "precious").unwrap();
        for query in [
            failing_after(1),
            failing_after(100_000),
            // Fails in the fit, before the first row.
            "SELECT lle_embed(make_array(value, 1.0), 2) AS y FROM generate_series(1, 3)"
                .to_owned(),
        ] {
            let copy = format!("COPY ({query}) TO '{}'", target.display());
            let text = failure(&["-c", &copy]);
            assert_eq!(text.lines().count(), 1, "{text}");
            assert_eq!(std::fs::read(&target).unwrap(), b"precious", "{copy}");
        }
        let copy = format!("COPY (SELECT 1 AS a) TO '{}'", target.display());
        csv(&copy);
        let read = format!("SELECT a FROM '{}'", target.display());
        assert_eq!(csv(&read), "a\n1\n");
    }
    assert_eq!(files(directory.path()).len(), 3, "nothing was left aside");
}

#[test]
fn an_interrupted_copy_leaves_a_single_file_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    for extension in ["parquet", "csv"] {
        let target = directory.path().join(format!("x.{extension}"));
        std::fs::write(&target, "precious").unwrap();
        let copy = format!(
            "COPY (SELECT value, random() AS r FROM generate_series(1, 20000000000)) TO '{}'",
            target.display()
        );
        let mut child = lakefold().args(["sql", "-q", "-c", &copy]).spawn().unwrap();
        // CSV has begun to write by then; Parquet has a row group in memory.
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(child.try_wait().unwrap(), None);
        let id = child.id().to_string();
        let kill = Command::new("kill").args(["-INT", &id]).status().unwrap();
        assert!(kill.success());
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");
        assert_eq!(files(directory.path()), [format!("x.{extension}")]);
        std::fs::remove_file(&target).unwrap();
    }
}

#[test]
fn lists_are_no_csv_and_the_old_file_stays() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("x.csv");
    std::fs::write(&target, "precious").unwrap();
    let copy = format!("COPY (SELECT [1.0, 2.0] AS v) TO '{}'", target.display());
    failure(&["-c", &copy]);
    assert_eq!(std::fs::read(&target).unwrap(), b"precious");
    assert_eq!(files(directory.path()), ["x.csv"]);
}

#[test]
fn a_failed_copy_to_a_directory_leaves_whole_files_and_says_how_many() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let small_files = "SET datafusion.execution.soft_max_rows_per_output_file = 1000;
        SET datafusion.execution.batch_size = 1000;";
    let copy = |rows| {
        let query = failing_after(rows);
        failure(&[
            "-c",
            &format!("{small_files} COPY ({query}) TO '{}'", out.display()),
        ])
    };
    let text = copy(1);
    assert!(
        text.contains("error: Cannot cast string 'x'") && !text.contains("still there"),
        "{text}"
    );
    assert!(!out.exists() || files(&out).is_empty());
    let text = copy(50_001);
    let written = files(&out);
    assert!(!written.is_empty());
    let news = format!(
        "{} file(s) that were finished are still there",
        written.len()
    );
    assert!(text.contains(&news), "{written:?} {text}");
    let rows = csv(&format!("SELECT count(*) AS n FROM '{}/'", out.display()));
    assert_eq!(rows, format!("n\n{}\n", 1000 * written.len()));
}

#[test]
fn chunks_are_in_order_for_readers_that_sort_by_name() {
    let directory = tempfile::tempdir().unwrap();
    for (format, extension) in [("PARQUET", "parquet"), ("CSV", "csv"), ("JSON", "json")] {
        let out = directory.path().join(format);
        csv(&format!(
            "SET datafusion.execution.soft_max_rows_per_output_file = 1000;
             SET datafusion.execution.batch_size = 1000;
             COPY (SELECT value FROM generate_series(1, 12000)) TO '{}/' STORED AS {format}",
            out.display()
        ));
        let mut names = files(&out);
        names.sort();
        assert_eq!(names.len(), 12);
        for (index, name) in names.iter().enumerate() {
            let end = format!("_{index:05}.{extension}");
            assert!(name.ends_with(&end), "{names:?}");
            let path = out.join(name);
            let first = csv(&format!("SELECT min(value) AS v FROM '{}'", path.display()));
            assert_eq!(first, format!("v\n{}\n", 1000 * index + 1));
        }
    }
    let single = directory.path().join("ABCDEFGHIJKLMNOP_1.parquet");
    csv(&format!("COPY (SELECT 1 AS a) TO '{}'", single.display()));
    assert!(single.exists(), "a name of the user's is kept");
}

#[test]
fn a_word_is_a_table_and_the_error_says_how_to_name_a_file() {
    let text = failure(&["-q", "-c", "SELECT * FROM digits"]);
    assert!(
        text.contains("error: no table 'digits'") && text.contains("FROM 'digits.parquet'"),
        "{text}"
    );
}

#[test]
fn missing_and_truncated_files_are_named() {
    let text = failure(&["-q", "-c", "SELECT * FROM 'sample_data/digit.parquet'"]);
    assert!(
        text.contains("error: no file 'sample_data/digit.parquet' (looked in '"),
        "{text}"
    );
    assert!(text.contains("'digits.parquet'"), "{text}");

    let directory = tempfile::tempdir().unwrap();
    let cut = directory.path().join("cut.parquet");
    let whole =
        std::fs::read(crate::common::repository().join("sample_data/digits.parquet")).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let text = failure(&["-q", "-c", &format!("SELECT * FROM '{}'", cut.display())]);
    assert!(
        text.contains("cut.parquet' (") && text.contains("may be cut off"),
        "{text}"
    );
}

#[test]
fn text_columns_keep_their_type_from_file_to_file() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("x.parquet");
    let source = "sample_data/debian_packages.parquet";
    csv(&format!(
        "COPY (SELECT package, embedding FROM '{source}' LIMIT 10) TO '{}'",
        target.display()
    ));
    let types = |file: &str| {
        csv(&format!(
            "SELECT arrow_typeof(package), arrow_typeof(embedding) FROM '{file}' LIMIT 1"
        ))
    };
    let tail = |text: String| text.lines().nth(1).unwrap().to_owned();
    assert_eq!(tail(types(target.to_str().unwrap())), tail(types(source)));
}
