//! `lakefold evaluate` and `lakefold fit`.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::common::{lakefold, stderr, stdout};

fn run(arguments: &[&str]) -> Output {
    lakefold().args(arguments).output().unwrap()
}

/// Stdout and stderr of a run that must succeed.
fn success(arguments: &[&str]) -> (String, String) {
    let output = run(arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (text, stderr(&output))
}

/// Stderr of a run that must fail with an exit code and write nothing on stdout.
fn failure(code: i32, arguments: &[&str]) -> String {
    let output = run(arguments);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(output.stdout.is_empty());
    text
}

/// Digits with an embedding, in a file and with columns whose names need quotes.
fn embedded(directory: &Path) -> String {
    let path = directory.join("it's 1.parquet").display().to_string();
    let sql = format!(
        "COPY (SELECT pixels AS \"Pixels.of \"\"x\"\"\", label AS \"Label\", pixels,
                lle_embed(pixels, 2) OVER () AS embedding
         FROM 'sample_data/digits.parquet') TO '{}'",
        path.replace('\'', "''")
    );
    stdout(&["-q", "-c", &sql]);
    path
}

#[test]
fn an_embedding_is_measured_as_one_json_object() {
    let directory = tempfile::tempdir().unwrap();
    let path = embedded(directory.path());
    let columns = [
        "--features",
        "Pixels.of \"x\"",
        "--embedding",
        "embedding",
        "--label",
        "Label",
    ];
    let (text, errors) = success(&[&["evaluate", path.as_str()], &columns[..]].concat());
    assert_eq!((errors.as_str(), text.lines().count()), ("", 1));
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&found["rows"], &found["k"]), (&1797.into(), &12.into()));
    let trustworthiness = found["trustworthiness"].as_f64().unwrap();
    assert!((0.7..1.0).contains(&trustworthiness), "{text}");
    assert!(found["label_accuracy"].as_f64().unwrap() > 0.3, "{text}");

    let options = [
        "--k",
        "5",
        "--sample-size",
        "300",
        "--seed",
        "7",
        "--threads",
        "1",
    ];
    let sampled = [&["evaluate", path.as_str()], &columns[..4], &options].concat();
    let (text, _) = success(&sampled);
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(found["measured_rows"], 300);
    assert!(found["label_accuracy"].is_null());
    assert_eq!(success(&sampled).0, text);
    let sql = "SELECT * FROM embedding_quality(
        (SELECT pixels, lle_embed(pixels, 2) OVER () AS e FROM 'sample_data/digits.parquet'),
        pixels, e, k => 5, sample_size => 300, seed => 7)";
    assert_eq!(stdout(&["-q", "--format", "ndjson", "-c", sql]), text);
}

#[test]
fn what_cannot_be_measured() {
    let digits = "sample_data/digits.parquet";
    let text = failure(
        1,
        &[
            "evaluate",
            digits,
            "--features",
            "Pixels",
            "--embedding",
            "pixels",
        ],
    );
    assert!(
        text.contains("'sample_data/digits.parquet' has no column 'Pixels', it has 'id', "),
        "{text}"
    );
    let both = ["--features", "pixels", "--embedding", "pixels"];
    let text = failure(1, &[&["evaluate", "nowhere.parquet"], &both[..]].concat());
    assert!(text.contains("nowhere.parquet"), "{text}");
    let text = failure(
        1,
        &[&["evaluate", digits, "--k", "2000"], &both[..]].concat(),
    );
    assert!(
        text.contains("k = 2000 needs more than 4000 rows"),
        "{text}"
    );
    failure(2, &["evaluate", digits, "--features", "pixels"]);
    failure(2, &[&["evaluate", digits, "--k", "0"], &both[..]].concat());
}

#[test]
fn a_model_is_written_and_used() {
    let directory = tempfile::tempdir().unwrap();
    let input = embedded(directory.path());
    let model = directory.path().join("the model's.parquet");
    let model = model.to_str().unwrap();
    let arguments = [
        "fit",
        input.as_str(),
        "--column",
        "Pixels.of \"x\"",
        "--model",
        model,
        "--n-components",
        "3",
        "--n-neighbors",
        "20",
        "--reg",
        "0.01",
        "--method",
        "Standard",
        "--solver",
        "landmarks",
        "--seed",
        "4",
        "--n-landmarks",
        "300",
        "--landmark-neighbors",
        "30",
        "--sample-size",
        "1000",
        "--memory-limit",
        "1g",
    ];
    let (text, errors) = success(&arguments);
    assert_eq!(text, "");
    for part in [
        "1,797 rows (1,000 distinct fitted) of 64 dimensions to 3: 20 neighbours, reg 0.01, method standard, \
         solver landmarks, 300 landmarks\n",
        "trustworthiness 0.",
        "wrote '",
    ] {
        assert!(errors.contains(part), "{errors}");
    }
    let bytes = std::fs::read(model).unwrap();
    let quiet = [&arguments[..], &["-q", "--format", "json"]].concat();
    let (text, errors) = success(&quiet);
    assert_eq!(errors, "");
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&found["solver"], &found["landmarks"]),
        (&"landmarks".into(), &300.into())
    );
    assert_eq!(found["model"], model);
    assert_eq!(found["eigenvalues"].as_array().unwrap().len(), 3);
    // Nothing in a model tells when or where it was made.
    assert_eq!(std::fs::read(model).unwrap(), bytes);

    let sql = format!(
        "SELECT count(*) AS n FROM (SELECT lle_transform(pixels, '{}') AS y
         FROM 'sample_data/digits.parquet') WHERE array_length(y) = 3",
        model.replace('\'', "''")
    );
    assert_eq!(stdout(&["-q", "--format", "csv", "-c", &sql]), "n\n1797\n");
}

#[test]
fn what_cannot_be_fitted() {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("m.parquet");
    let fit = |more: &[&'static str]| {
        let base = ["fit", "sample_data/digits.parquet", "--model"];
        let mut arguments: Vec<&str> = base.to_vec();
        arguments.push(model.to_str().unwrap());
        arguments.extend(more);
        arguments.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let fails = |code, more: &[&'static str]| {
        let arguments = fit(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        failure(code, &arguments)
    };
    let text = fails(1, &["--column", "embedding"]);
    assert!(text.contains("has no column 'embedding', it has"), "{text}");
    let text = fails(1, &["--column", "label"]);
    assert!(text.contains("must be a list of numbers"), "{text}");
    let text = fails(1, &["--column", "pixels", "--n-components", "65"]);
    assert!(text.contains("n_components = 65"), "{text}");
    for (wrong, expected) in [
        (["--n-components", "0"], "write a number or 'auto'"),
        (["--n-neighbors", "few"], "write a number or 'auto'"),
        (["--reg", "much"], "write a number or 'auto'"),
        (
            ["--solver", "magic"],
            "solver must be one of auto, dense, exact, landmarks",
        ),
        (["--method", "umap"], "method must be one of standard"),
        (["--format", "csv"], "possible values: text, json"),
    ] {
        let text = fails(2, &[&["--column", "pixels"], &wrong[..]].concat());
        assert!(text.contains(expected), "{text}");
    }
    assert!(!model.exists());
}

#[test]
fn control_c_stops_the_measurement() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("points.parquet");
    let path = path.to_str().unwrap();
    let copy = format!(
        "COPY (SELECT make_array(random(), random(), random(), random()) AS x
         FROM generate_series(1, 60000)) TO '{path}'"
    );
    stdout(&["-q", "-c", &copy]);
    // Minutes of work, if nothing stopped it.
    let columns = ["--features", "x", "--embedding", "x"];
    let mut child = lakefold()
        .args(["evaluate", path, "--sample-size", "60000", "-q"])
        .args(columns)
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(child.try_wait().unwrap(), None);
    let id = child.id().to_string();
    let kill = Command::new("kill").args(["-INT", &id]).status().unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
