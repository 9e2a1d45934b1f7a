//! The interactive shell.

use std::io::IsTerminal;
use std::path::PathBuf;

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Behavior, Config, Editor};
use tokio::runtime::Runtime;

use crate::failure::Failure;
use crate::repl_commands::{self, Next};
use crate::repl_helper::{SqlHelper, is_complete};
use crate::runner::Runner;
use crate::scripts::Script;
use crate::stderr::say;

const PROMPT: &str = "lakefold> ";
/// While a statement waits for its semicolon.
const CONTINUED: &str = "     ...> ";

/// Reads and runs statements until `\q` or Ctrl-D. Ctrl-C stops a statement or clears the input.
pub(crate) fn run(runtime: &Runtime, runner: &mut Runner) -> Result<(), Failure> {
    let failed = |error: ReadlineError| Failure::Failed(error.to_string());
    let mut config = Config::builder();
    if !std::io::stdout().is_terminal() {
        // Results go to a file: the prompt must not.
        config = config.behavior(Behavior::PreferTerm);
    }
    let mut editor: Editor<SqlHelper, FileHistory> =
        Editor::with_config(config.build()).map_err(failed)?;
    editor.set_helper(Some(SqlHelper::new(runner.session.context())));
    let history = history_path();
    if let Some(path) = &history {
        // Absent the first time.
        let _ = editor.load_history(path);
    }
    if !runner.quiet {
        let version = env!("CARGO_PKG_VERSION");
        say(&format!(
            "Lakefold {version}. End statements with ';'. \\? for help, \\q to quit."
        ));
    }
    let result = read_and_run(runtime, runner, &mut editor);
    if let Some(path) = &history {
        let saved = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        if saved.is_err() || editor.save_history(path).is_err() {
            tracing::warn!("cannot save the history to '{}'", path.display());
        }
    }
    result
}

fn read_and_run(
    runtime: &Runtime,
    runner: &mut Runner,
    editor: &mut Editor<SqlHelper, FileHistory>,
) -> Result<(), Failure> {
    let mut input = String::new();
    loop {
        let prompt = if input.is_empty() { PROMPT } else { CONTINUED };
        match editor.readline(prompt) {
            Ok(line) => input.push_str(&line),
            Err(ReadlineError::Interrupted) => {
                input.clear();
                continue;
            }
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(Failure::Failed(error.to_string())),
        }
        if let Some(command) = command_word(&input) {
            command.clone_into(&mut input);
        } else if !is_complete(&input) {
            input.push('\n');
            continue;
        }
        let statement = std::mem::take(&mut input);
        let line = statement.trim();
        // Fails only where there is no history to keep.
        let _ = editor.add_history_entry(line);
        let result = if let Some(command) = line.strip_prefix('\\') {
            match repl_commands::run(runtime, runner, command) {
                Ok(Next::Quit) => return Ok(()),
                Ok(Next::Continue) => Ok(()),
                Err(failure) => Err(failure),
            }
        } else {
            let script = Script {
                source: "the input".to_owned(),
                text: line.to_owned(),
            };
            runtime.block_on(runner.run_script(&script, false))
        };
        match result {
            Ok(()) => {}
            Err(Failure::OutputClosed) => return Err(Failure::OutputClosed),
            Err(failure) => {
                failure.report();
            }
        }
    }
}

/// The command meant by people who do not know `\q` and `\?` yet.
fn command_word(input: &str) -> Option<&'static str> {
    match input
        .trim()
        .trim_end_matches(';')
        .to_ascii_lowercase()
        .as_str()
    {
        "exit" | "quit" => Some("\\q"),
        "help" => Some("\\?"),
        _ => None,
    }
}

/// `$XDG_DATA_HOME/lakefold/history`, by default `~/.local/share/lakefold/history`.
fn history_path() -> Option<PathBuf> {
    let data = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(std::env::home_dir()?.join(".local/share")))?;
    Some(data.join("lakefold/history"))
}
