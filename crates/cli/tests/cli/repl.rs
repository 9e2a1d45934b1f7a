//! The interactive shell, through a pseudo-terminal.

use std::process::Stdio;

use rexpect::session::{PtySession, spawn_command};

use crate::common::lakefold;

const TIMEOUT_MILLISECONDS: u64 = 30_000;

struct Shell {
    session: PtySession,
    _data: tempfile::TempDir,
}

impl Shell {
    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut command = lakefold();
        command
            .stdin(Stdio::inherit())
            .args(["sql", "--memory-limit", "4g"])
            .env("XDG_DATA_HOME", data.path())
            .env("NO_COLOR", "1")
            .env("TERM", "xterm");
        let session = spawn_command(command, Some(TIMEOUT_MILLISECONDS)).unwrap();
        let mut shell = Self {
            session,
            _data: data,
        };
        shell.expect("\\q to quit");
        shell
    }

    /// Types a line once the prompt is there: what is typed before may be lost.
    fn send(&mut self, line: &str) {
        self.expect("lakefold> ");
        self.session.send_line(line).unwrap();
    }

    fn expect(&mut self, text: &str) {
        self.session.exp_string(text).unwrap();
    }

    fn quit(mut self) {
        self.send("\\q");
        self.session.exp_eof().unwrap();
        let status = self.session.process().wait().unwrap();
        let status = format!("{status:?}");
        assert!(
            status.starts_with("Exited(") && status.ends_with(", 0)"),
            "{status}"
        );
    }
}

#[test]
fn statements_may_take_several_lines_and_errors_end_nothing() {
    let mut shell = Shell::start();
    shell.send("SELECT 20 +");
    shell.expect("     ...> ");
    shell.session.send_line("22 AS answer;").unwrap();
    shell.expect("| answer |");
    shell.expect("| 42     |");
    shell.send("SELECT nope;");
    shell.expect("error: No field named nope");
    shell.send("CREATE TABLE t AS SELECT 7 AS seven; SELECT seven FROM t;");
    shell.expect("| 7     |");
    shell.quit();
}

#[test]
fn commands_start_with_a_backslash() {
    let mut shell = Shell::start();
    shell.send("\\?");
    shell.expect("list Lakefold's functions");
    shell.send("\\h lle_embed");
    shell.expect("n_neighbors:");
    shell.send("\\d sample_data/digits.parquet");
    shell.expect("| pixels ");
    shell.send("\\format ndjson");
    shell.send("SELECT 1 AS a;");
    shell.expect("{\"a\":1}");
    shell.send("\\nonsense");
    shell.expect("no command '\\nonsense'");
    shell.send("\\format xml");
    shell.expect("no format 'xml': choose table, csv, json, ndjson");
    shell.send("\\h");
    shell.expect("lle_embed ");
    shell.expect("softmax ");
    shell.expect("embedding_quality ");
    shell.send("\\h pca");
    shell.expect("or input, features, n_components");
    shell.expect("n_components: Dimensions of the result");
    shell.quit();
}

#[test]
fn tables_are_listed_without_views_of_the_engine() {
    let mut shell = Shell::start();
    shell.send("CREATE TABLE mine (a INT);");
    shell.send("\\format csv");
    shell.send("\\d");
    shell.expect("public,mine,BASE TABLE");
    shell.expect("1 row in");
    shell.quit();
}

#[test]
fn words_of_those_who_know_no_commands_yet() {
    let mut shell = Shell::start();
    shell.send("help");
    shell.expect("list Lakefold's functions");
    shell.send("SELECT 1");
    shell.expect("     ...> ");
    shell.session.send_control('c').unwrap();
    shell.send("Exit;");
    shell.session.exp_eof().unwrap();
}

#[test]
fn control_c_stops_the_fit_and_not_the_shell() {
    let mut shell = Shell::start();
    shell.send(
        "SELECT lle_embed(make_array(random(), random(), random(), random(), random(), random()), 2, 40) \
         FROM generate_series(1, 400000);",
    );
    // The progress bar.
    shell.expect("lakefold: neighbours");
    shell.session.send_control('c').unwrap();
    shell.expect("interrupted");
    shell.send("SELECT 6 * 7 AS answer;");
    shell.expect("| 42     |");
    shell.quit();
}
