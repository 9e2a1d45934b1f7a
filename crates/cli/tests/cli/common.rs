//! What the tests of the binary share.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The repository, whose `sample_data` the tests read by relative path.
pub(crate) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The binary, run in the repository, with no settings from outside.
pub(crate) fn lakefold() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lakefold"));
    command
        .current_dir(repository())
        .env_remove("LAKEFOLD_LOG")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

/// `lakefold sql` with arguments.
pub(crate) fn sql(arguments: &[&str]) -> Output {
    lakefold().arg("sql").args(arguments).output().unwrap()
}

/// Stdout of a run that must succeed.
pub(crate) fn stdout(arguments: &[&str]) -> String {
    let output = sql(arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What a run wrote on stderr.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Stderr of a run that must fail with exit code 1 and write nothing on stdout.
pub(crate) fn failure(arguments: &[&str]) -> String {
    let output = sql(arguments);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    stderr(&output)
}
