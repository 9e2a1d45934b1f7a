//! Job files and dry runs.

use super::support::{CHUNKS, ROWS, done, json, lake, model, transform};
use crate::common::{lakefold, stderr};

#[test]
fn a_dry_run_tells_the_plan_and_writes_nothing() {
    let directory = lake();
    let output = transform(directory.path(), &["--dry-run"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    for wanted in [
        "lake: 1 files, 5000 rows",
        "out: 20 chunks",
        "column   embedding FixedSizeList(2 x Float32)",
        "chunk    a.00019-00019.parquet: 250 rows, row groups 19..20 of ",
        model(),
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(!directory.path().join("out").exists());
    let plan = json(
        &transform(directory.path(), &["--dry-run", "--summary=json"])
            .output()
            .unwrap(),
    );
    assert_eq!(plan["rows"], ROWS);
    assert_eq!(plan["chunks"].as_array().unwrap().len(), CHUNKS);
    assert!(plan["memory"].as_u64().unwrap() > 100 << 20);
}

#[test]
fn a_job_file_does_as_its_flags() {
    let directory = lake();
    let job = directory.path().join("job.toml");
    let text = format!(
        "command = 'transform'\ninput = 'lake'\noutput = 'out'\ncolumn = 'v'\nmodel = '{}'\n\
         chunk-rows = 250\nmemory-limit = '400m'\nthreads = 2\n",
        model()
    );
    std::fs::write(&job, &text).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = lakefold();
        command
            .current_dir(directory.path())
            .args(["run", "job.toml"]);
        command.args(arguments).output().unwrap()
    };
    let output = run(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    // The flags name the same job.
    let text_of_flags = done(transform(directory.path(), &[]));
    assert!(
        text_of_flags.contains("20 chunks were written before"),
        "{text_of_flags}"
    );
    std::fs::write(&job, format!("{text}colour = 'red'\n")).unwrap();
    let output = run(&["--dry-run"]);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(
        message.contains("'job.toml': TOML parse error at line 9, column 1")
            && message.contains("colour"),
        "{message}"
    );
    assert_eq!(
        lakefold()
            .args(["run", "no.toml"])
            .output()
            .unwrap()
            .status
            .code(),
        Some(1)
    );
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [
        &["transform", "a", "b"][..],
        &["transform", "a", "b", "--column", "v"],
        &["transform", "a", "b", "--select", "*", "--model", "m"],
        &[
            "transform",
            "a",
            "b",
            "--column",
            "v",
            "--model",
            "m",
            "--compression",
            "zip",
        ],
        &[
            "transform",
            "a",
            "b",
            "--column",
            "v",
            "--model",
            "m",
            "--option",
            "x",
        ],
        &["embed", "a", "b"],
        &["run"],
    ] {
        let output = lakefold().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn chunks_are_events_of_a_json_log() {
    let directory = lake();
    let text = done(transform(directory.path(), &["--log-format=json"]));
    let events: Vec<serde_json::Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert_eq!(events.len(), CHUNKS, "{text}");
    assert_eq!(events[0]["fields"]["rows"], 250);
    assert_eq!(events[0]["level"], "INFO");
}
