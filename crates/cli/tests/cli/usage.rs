//! Help, exit codes and what goes where.

use std::io::Write;
use std::process::Stdio;

use crate::common::{failure, lakefold, sql, stderr, stdout};

#[test]
fn help() {
    // As wide as it gets, whatever the terminal of the test.
    let output = lakefold()
        .args(["sql", "--help"])
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    assert!(output.status.success());
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap());
}

#[test]
fn top_level_help_lists_the_commands() {
    let output = lakefold().arg("--help").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains("sql") && text.contains("Manifold"),
        "{text}"
    );
    assert!(
        [
            "  fit ",
            "  transform ",
            "  embed ",
            "  run ",
            "  evaluate ",
            "  index "
        ]
        .iter()
        .all(|name| text.contains(name)),
        "{text}"
    );
}

#[test]
fn help_of_the_other_commands() {
    for command in ["fit", "transform", "embed", "run", "evaluate", "index"] {
        let output = lakefold()
            .args([command, "--help"])
            .env("COLUMNS", "100")
            .output()
            .unwrap();
        assert!(output.status.success());
        insta::assert_snapshot!(command, String::from_utf8(output.stdout).unwrap());
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [
        &["--memory-limit", "4x"][..],
        &["--memory-limit", "0"],
        &["--threads", "0"],
        &["--format", "xml"],
        &["--max-rows", "few"],
        &["--no-such-flag"],
        &["-q", "-v"],
    ] {
        let output = sql(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
        assert!(stderr(&output).contains("error:"), "{}", stderr(&output));
    }
    let message = stderr(&sql(&["--memory-limit", "4x"]));
    assert!(
        message.contains("such as 512m, 4g or 1.5GiB, or 'unlimited'"),
        "{message}"
    );
    assert_eq!(lakefold().output().unwrap().status.code(), Some(2));
}

#[test]
fn results_go_to_stdout_and_the_rest_to_stderr() {
    let output = sql(&["-c", "SELECT 1 AS a"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "+---+\n| a |\n+---+\n| 1 |\n+---+\n"
    );
    let text = stderr(&output);
    assert!(
        text.starts_with("1 row in ") && text.lines().count() == 1,
        "{text}"
    );

    let quiet = sql(&["-q", "-c", "SELECT 1 AS a"]);
    assert_eq!(stderr(&quiet), "");
    let quiet_failure = sql(&["-q", "-c", "SELECT b"]);
    assert!(
        stderr(&quiet_failure).starts_with("error: "),
        "{}",
        stderr(&quiet_failure)
    );
}

#[test]
fn definitions_print_nothing() {
    let output = sql(&[
        "-c",
        "CREATE TABLE t AS SELECT 1 AS a; SET datafusion.execution.batch_size = 10",
    ]);
    assert!(output.status.success());
    assert_eq!((output.stdout.len(), stderr(&output).as_str()), (0, ""));
}

#[test]
fn commands_and_files_run_in_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("insert.sql");
    std::fs::write(
        &file,
        "-- two statements\nINSERT INTO t VALUES (2);\nINSERT INTO t VALUES (3);\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let text = stdout(&[
        "--format",
        "csv",
        "-c",
        "CREATE TABLE t (a INT); INSERT INTO t VALUES (1)",
        "-f",
        file,
        "--command",
        "SELECT a FROM t ORDER BY a",
    ]);
    assert!(text.ends_with("a\n1\n2\n3\n"), "{text}");
}

#[test]
fn statements_are_read_from_stdin() {
    let mut child = lakefold()
        .args(["sql", "--format", "ndjson", "-q"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(b"SELECT 1 AS a;\n-- more\nSELECT 'x;y' AS b")
        .unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "{\"a\":1}\n{\"b\":\"x;y\"}\n"
    );
}

#[test]
fn nothing_to_run_is_done() {
    let output = sql(&["-c", " ; -- nothing"]);
    assert!(output.status.success() && output.stdout.is_empty());
}

#[test]
fn the_failing_statement_is_named() {
    let text = failure(&[
        "-c",
        "SET datafusion.execution.batch_size = 10",
        "-c",
        "CREATE TABLE t (a INT); SELECT b FROM t",
    ]);
    assert!(text.contains("error: No field named b"), "{text}");
    assert!(
        text.contains("in statement 2 of -c 2: SELECT b FROM t"),
        "{text}"
    );
    let text = failure(&["-f", "no/such/file.sql"]);
    assert!(text.contains("cannot read 'no/such/file.sql'"), "{text}");
}

#[test]
fn a_syntax_error_anywhere_runs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("x.csv");
    let statements = format!("COPY (SELECT 1) TO '{}'; SELECT FROM", target.display());
    let text = failure(&["-c", &statements]);
    assert!(text.contains("syntax error"), "{text}");
    assert!(!target.exists());
}

#[test]
fn errors_have_no_layers() {
    for statement in [
        "SELECT * FROM 'nowhere.parquet'",
        "SELECT lle_embed(a, 2) FROM (VALUES (1)) AS t (a)",
        "SELECT arrow_cast('x', 'Int64')",
        "SELECT no_such_function(1)",
    ] {
        let text = failure(&["-q", "-c", statement]);
        for layer in [
            "Execution error",
            "External error",
            "Error during planning",
            "Arrow error:",
            "backtrace",
        ] {
            assert!(!text.contains(layer), "{text}");
        }
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let mut child = lakefold()
        .args([
            "sql",
            "--format",
            "csv",
            "-c",
            "SELECT value FROM generate_series(1, 5000000)",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), "");
}

#[test]
fn statements_with_effects_run_though_nobody_reads() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("x.csv");
    let copy = format!(
        "SELECT value FROM generate_series(1, 5000000);
         CREATE TABLE t AS SELECT 1 AS a; SELECT no_such_column FROM t;
         COPY t TO '{}'",
        target.display()
    );
    let run = |last: &str| {
        let mut child = lakefold()
            .args(["sql", "--format", "csv", "-c", &copy, "-c", last])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        child.wait_with_output().unwrap()
    };
    let output = run("SELECT 1");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "a\n1\n");
    let output = run("INSERT INTO missing VALUES (1)");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("error: no table 'missing'"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn stderr_may_be_closed_as_well() {
    let mut child = lakefold()
        .args(["sql", "-c", "SELECT 1", "-c", "SELECT nope"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}
