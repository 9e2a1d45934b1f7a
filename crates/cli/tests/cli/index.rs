//! `lakefold index`, and queries answered from an index.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::common::{lakefold, sql, stderr, stdout};

fn run(arguments: &[&str]) -> Output {
    lakefold().args(arguments).output().unwrap()
}

/// Stdout and stderr of a run that must succeed.
fn success(arguments: &[&str]) -> (String, String) {
    let output = run(arguments);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (text, stderr(&output))
}

/// Stderr of a run that must fail with an exit code.
fn failure(code: i32, arguments: &[&str]) -> String {
    let output = run(arguments);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    text
}

/// The digits in a directory of their own.
fn digits(directory: &Path) -> String {
    let path = directory.join("digits.parquet").display().to_string();
    let copy =
        format!("COPY (SELECT id, label, pixels FROM 'sample_data/digits.parquet') TO '{path}'");
    stdout(&["-q", "-c", &copy]);
    path
}

fn query(path: &str) -> String {
    format!(
        "SELECT id FROM '{path}' ORDER BY cosine_distance(pixels, (SELECT 1)) LIMIT 5"
    )
    .replace(
        "(SELECT 1)",
        "[0,0,5,13,9,1,0,0,0,0,13,15,10,15,5,0,0,3,15,2,0,11,8,0,0,4,12,0,0,8,8,0,0,5,8,0,0,9,8,0,0,4,11,0,1,12,7,0,0,2,14,5,10,12,0,0,0,0,6,13,10,0,0,0]",
    )
}

#[test]
fn an_index_is_built_described_and_verified() {
    let directory = tempfile::tempdir().unwrap();
    let path = digits(directory.path());
    let build = [
        "index",
        "build",
        &path,
        "--column",
        "pixels",
        "--metric",
        "cosine",
        "--id-column",
        "id",
    ];
    let (text, said) = success(&build);
    assert_eq!(text, "");
    assert!(
        said.contains("1,797 rows of 64 dimensions, metric cosine")
            && said.contains("recall@10 by ef_search")
            && said.contains(".lakefold/pixels.hnsw' ("),
        "{said}"
    );
    let again = failure(1, &build);
    assert!(
        again.contains("already") && again.contains("--replace"),
        "{again}"
    );
    let (text, said) = success(&[&build[..], &["--replace", "-q", "--format", "json"]].concat());
    let built: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((said.as_str(), &built["rows"]), ("", &1797.into()));

    let (text, _) = success(&["index", "info", &path]);
    for line in [
        "metric            cosine",
        "state             valid",
        "ids               id",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let (text, _) = success(&["index", "info", &path, "--format", "json"]);
    let described: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (
            &described["valid"],
            &described["m"],
            &described["sources"][0]["path"]
        ),
        (&true.into(), &16.into(), &"digits.parquet".into())
    );
    let (text, _) = success(&["index", "verify", &path]);
    for check in [
        "checksums",
        "sources",
        "reachability",
        "self-recall",
        "codes",
        "recall",
        "vectors",
    ] {
        assert!(text.contains(&format!("ok      {check}")), "{text}");
    }
}

#[test]
fn storage_is_chosen_shown_and_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = digits(directory.path());
    let build = ["index", "build", &path, "--column", "pixels"];
    // Pixels are whole numbers, which are their own codes.
    let (_, said) = success(&build);
    assert!(
        said.contains("storage int8 (auto), recall@10 with ef_search 64: "),
        "{said}"
    );
    let (text, _) = success(&["index", "info", &path]);
    assert!(
        text.contains("storage           int8 (auto), recall@10 with ef_search 64: "),
        "{text}"
    );
    for (storage, kept) in [("f32", "f32"), ("int8", "int8"), ("AUTO", "int8")] {
        let again = ["--replace", "--storage", storage, "-q"];
        success(&[&build[..], &again].concat());
        let (text, _) = success(&["index", "info", &path, "--format", "json"]);
        let described: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(described["storage"], kept);
        assert_eq!(described["storage_option"], storage.to_lowercase());
        assert_eq!(described["storage_recall"].is_null(), storage == "f32");
        let (text, _) = success(&["index", "verify", &path]);
        assert!(!text.contains("FAILED"), "{text}");
    }
    let refused = failure(
        2,
        &[&build[..], &["--replace", "--storage", "f16"]].concat(),
    );
    assert!(
        refused.contains("storage must be one of auto, f32, int8, got 'f16'"),
        "{refused}"
    );
}

#[test]
fn an_index_is_searched_without_its_table() {
    let directory = tempfile::tempdir().unwrap();
    let path = digits(directory.path());
    let build = [
        "index",
        "build",
        &path,
        "--column",
        "pixels",
        "--metric",
        "cosine",
        "--id-column",
        "id",
        "-q",
    ];
    success(&build);
    let search = [
        "index",
        "search",
        &path,
        "--queries",
        &path,
        "--column",
        "pixels",
        "--query-id",
        "id",
        "-k",
        "3",
        "--ef-search",
        "500",
        "--format",
        "csv",
    ];
    let (text, said) = success(&search);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        (lines.len(), lines[0]),
        (1 + 3 * 1797, "query,id,rank,distance")
    );
    assert!(said.contains("1,797 queries in"), "{said}");
    let own = lines[1..].iter().step_by(3).filter(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        fields[0] == fields[1]
    });
    assert!(own.count() > 1790, "{}", lines[1]);
    let file = directory
        .path()
        .join(".lakefold/pixels.hnsw")
        .display()
        .to_string();
    let vector = format!("[{}]", vec!["1"; 64].join(","));
    let (text, _) = success(&[
        "index", "search", &file, "--vector", &vector, "--format", "json",
    ]);
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (found.as_array().unwrap().len(), &found[9]["rank"]),
        (10, &10.into())
    );
    let message = failure(1, &["index", "search", &file, "--vector", "[1, 2]"]);
    assert!(
        message.contains("2 dimensions") && message.contains("has 64"),
        "{message}"
    );
    let message = failure(
        1,
        &[
            "index",
            "search",
            &file,
            "--vector",
            &vector.replace('1', "0"),
        ],
    );
    assert!(message.contains("zeros only"), "{message}");
}

#[test]
fn a_query_is_answered_from_the_index_and_warns_once_it_is_stale() {
    let directory = tempfile::tempdir().unwrap();
    let path = digits(directory.path());
    let exact = stdout(&["-q", "--format", "csv", "-c", &query(&path)]);
    success(&[
        "index", "build", &path, "--column", "pixels", "--metric", "cosine", "-q",
    ]);
    let explain = format!("EXPLAIN {}", query(&path));
    let plan = stdout(&["-q", "--format", "csv", "-c", &explain]);
    assert!(plan.contains("HnswScanExec: index=pixels, column=pixels, metric=cosine, k=5, ef_search=64, expected_recall="), "{plan}");
    let set = format!("SET hnsw.ef_search = 400; {}", query(&path));
    assert_eq!(stdout(&["-q", "--format", "csv", "-c", &set]), exact);

    digits(directory.path());
    let output = sql(&["--format", "csv", "-c", &query(&path)]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), exact);
    let said = stderr(&output);
    assert!(
        said.contains("WARN") && said.contains("is stale") && said.contains("REINDEX TABLE"),
        "{said}"
    );
    let output = run(&["index", "verify", &path]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("FAILED  sources"), "{text}");
    let (text, _) = success(&["index", "info", &path]);
    assert!(text.contains("stale: "), "{text}");
    let vector = format!("[{}]", vec!["1"; 64].join(","));
    let (_, said) = success(&["index", "search", &path, "--vector", &vector]);
    assert!(
        said.contains("the index 'pixels' is stale, because "),
        "{said}"
    );
    let file = directory.path().join(".lakefold/pixels.hnsw");
    let file = file.display().to_string();
    let (_, said) = success(&["index", "search", &file, "--vector", &vector]);
    assert!(!said.contains("stale"), "{said}");
    success(&[
        "index",
        "build",
        &path,
        "--column",
        "pixels",
        "--metric",
        "cosine",
        "--replace",
        "-q",
    ]);
    success(&["index", "verify", &path]);
}

#[test]
fn a_file_cut_short_or_altered_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.parquet").display().to_string();
    let copy = format!(
        "COPY (SELECT value AS id, make_array(value * 0.5, 1.0) AS v FROM generate_series(1, 20) AS s (value)) TO '{path}'"
    );
    stdout(&["-q", "-c", &copy]);
    success(&[
        "index",
        "build",
        &path,
        "--column",
        "v",
        "--id-column",
        "id",
        "--m",
        "4",
        "-q",
    ]);
    let index = directory.path().join(".lakefold/v.hnsw");
    let name = index.display().to_string();
    let whole = std::fs::read(&index).unwrap();
    for end in (0..whole.len()).step_by(whole.len() / 12) {
        std::fs::write(&index, &whole[..end]).unwrap();
        let message = failure(1, &["index", "info", &name]);
        assert!(
            message.contains("not a whole index file"),
            "{end}: {message}"
        );
    }
    for at in (0..whole.len()).step_by(whole.len() / 12) {
        let mut altered = whole.clone();
        altered[at] ^= 0x10;
        std::fs::write(&index, &altered).unwrap();
        let message = failure(1, &["index", "verify", &name]);
        assert!(
            message.contains("index") && !message.contains("panic"),
            "{at}: {message}"
        );
    }
    std::fs::write(&index, &whole).unwrap();
    success(&["index", "verify", &name]);
}

#[test]
fn wrong_usage() {
    for arguments in [
        &["index"][..],
        &["index", "build", "x"],
        &[
            "index", "build", "x", "--column", "v", "--metric", "hamming",
        ],
        &["index", "build", "x", "--column", "v", "--m", "1000"],
        &["index", "search", "x"],
        &["index", "search", "x", "--vector", "[1]", "-k", "0"],
    ] {
        failure(2, arguments);
    }
    let message = failure(1, &["index", "info", "nowhere.hnsw"]);
    assert!(message.contains("no index '"), "{message}");
    let message = failure(1, &["index", "info", "sample_data/digits.parquet"]);
    assert!(message.contains("has no index"), "{message}");
}

#[test]
fn an_index_elsewhere_knows_its_table() {
    let directory = tempfile::tempdir().unwrap();
    let path = digits(directory.path());
    let elsewhere = tempfile::tempdir().unwrap();
    let index = elsewhere.path().join("x.hnsw").display().to_string();
    success(&[
        "index", "build", &path, "--column", "pixels", "--index", &index, "-q",
    ]);
    assert!(!directory.path().join(".lakefold").exists());
    let (text, _) = success(&["index", "verify", &index]);
    assert!(text.contains("ok      vectors"), "{text}");
    digits(directory.path());
    failure(1, &["index", "verify", &index]);
}
