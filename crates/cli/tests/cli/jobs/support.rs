//! A small lake, a model, and looking at directories.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;

use crate::common::{lakefold, stderr, stdout};

/// Rows of one file of [`lake`].
pub(crate) const ROWS: usize = 5000;
/// Its row groups, and with [`transform`] its chunks.
pub(crate) const CHUNKS: usize = 20;

struct Shared {
    _directory: tempfile::TempDir,
    file: PathBuf,
    model: PathBuf,
}

static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.parquet");
    write_table(&file, &rows(1, ROWS));
    let model = directory.path().join("model.parquet");
    fit(&file, &model, "--seed=0");
    Shared {
        _directory: directory,
        file,
        model,
    }
});

/// A model of the rows of [`rows`].
pub(crate) fn model() -> &'static str {
    SHARED.model.to_str().unwrap()
}

/// Fits a model with 100 landmarks.
pub(crate) fn fit(file: &Path, model: &Path, option: &str) {
    let output = lakefold()
        .args(["fit", "--column", "v", "--n-neighbors", "8", "--reg", "0.1"])
        .args(["--solver", "landmarks", "--n-landmarks", "100", option])
        .arg("--model")
        .args([model, file])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

/// `id`, `name` and `v`, a vector of three numbers on a spiral, for ids from `first` to `last`.
pub(crate) fn rows(first: usize, last: usize) -> String {
    format!(
        "SELECT value AS id, 'row ' || value AS name,
         arrow_cast(make_array(cos(value * 0.013) * value, sin(value * 0.013) * value, value % 17),
                    'FixedSizeList(3, Float32)') AS v
         FROM generate_series({first}, {last})"
    )
}

/// Writes a query as one file with row groups of 250 rows.
pub(crate) fn write_table(path: &Path, query: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    stdout(&[
        "-q",
        "-c",
        "SET datafusion.execution.parquet.max_row_group_size = 250",
        "-c",
        &format!("COPY ({query}) TO '{}'", path.display()),
    ]);
}

/// A directory with `lake/a.parquet` of [`ROWS`] rows.
pub(crate) fn lake() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("lake")).unwrap();
    std::fs::copy(&SHARED.file, directory.path().join("lake/a.parquet")).unwrap();
    directory
}

/// `lakefold transform lake out --column v --model …` in a directory, a chunk for each row group.
pub(crate) fn transform(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = lakefold();
    command
        .current_dir(directory)
        .args(["transform", "lake", "out"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let given = |flag: &str| arguments.iter().any(|given| given.starts_with(flag));
    if !given("--chunk-rows") {
        command.args(["--chunk-rows", "250"]);
    }
    if !given("--select") {
        command.args(["--column", "v", "--model", model()]);
    }
    command
}

/// A job that must end well; its stderr.
pub(crate) fn done(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stderr(&output)
}

/// A job that must fail with exit code 1; its stderr.
pub(crate) fn fails(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    stderr(&output)
}

/// The JSON that a run wrote on stdout.
pub(crate) fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Files below a directory with their contents, by relative path. The lock, which names a process, is
/// left out.
pub(crate) fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(next) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(&next) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap();
                let name = name.to_str().unwrap().to_owned();
                if name != "_lakefold/lock" {
                    // A file can vanish while a job runs.
                    if let Ok(content) = std::fs::read(&path) {
                        found.insert(name, content);
                    }
                }
            }
        }
    }
    found
}

/// Names of the files that readers of the table see.
pub(crate) fn visible(directory: &Path) -> Vec<String> {
    let names = contents(directory).into_keys();
    names.filter(|name| !name.starts_with('_')).collect()
}

/// One value of a query, as text.
pub(crate) fn value(query: &str) -> String {
    let csv = stdout(&["-q", "--format", "csv", "-c", query]);
    csv.lines().nth(1).unwrap_or_default().to_owned()
}

/// Waits until `ready`, while the child runs.
pub(crate) fn wait_until(child: &mut Child, ready: impl Fn() -> bool) -> bool {
    for _ in 0..6000 {
        if ready() {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return ready();
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    false
}
