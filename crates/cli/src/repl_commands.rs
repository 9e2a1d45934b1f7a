//! The shell's own commands, which start with a backslash.

use clap::ValueEnum;
use datafusion::logical_expr::Documentation;
use lakefold::{error_message, function_names, relation_documentation};
use tokio::runtime::Runtime;

use crate::args::Format;
use crate::failure::Failure;
use crate::runner::Runner;
use crate::scripts::Script;
use crate::stderr::say;

const HELP: &str = "\
\\d                list tables
\\d NAME           columns of a table or file
\\h                list Lakefold's functions
\\h FUNCTION       what a function does
\\i FILE           run a file of SQL
\\format [FORMAT]  show or set the format: table, csv, json, ndjson
\\rows [N]         show or set the rows that tables show, or none for all
\\quiet            switch counts and notes off or on
\\?                this list
\\q                quit (or Ctrl-D, quit, exit)

SET datafusion.execution.soft_max_rows_per_output_file = 100000;  changes a setting
SHOW ALL;                                                         lists them";

/// `SHOW TABLES` would list `DataFusion`'s own views as well.
const TABLES: &str = "SELECT table_schema, table_name, table_type FROM information_schema.tables
    WHERE table_schema <> 'information_schema' ORDER BY table_schema, table_name";

/// Whether the shell goes on.
pub(crate) enum Next {
    Continue,
    Quit,
}

/// Runs a command without its backslash.
pub(crate) fn run(runtime: &Runtime, runner: &mut Runner, command: &str) -> Result<Next, Failure> {
    let (name, argument) = match command.split_once(char::is_whitespace) {
        Some((name, argument)) => (
            name,
            Some(argument.trim().trim_end_matches(';')).filter(|a| !a.is_empty()),
        ),
        None => (command.trim_end_matches(';'), None),
    };
    match (name, argument) {
        ("q" | "quit", None) => return Ok(Next::Quit),
        ("?" | "help", None) => say(HELP),
        ("d", None) => run_sql(runtime, runner, TABLES)?,
        ("d", Some(table)) => run_sql(runtime, runner, &format!("DESCRIBE {}", quoted(table)))?,
        ("h", None) => list_functions(runner)?,
        ("h", Some(function)) => describe_function(runner, function)?,
        ("i", Some(path)) => run_file(runtime, runner, path)?,
        ("format", None) => say(&format!("{}", runner.format)),
        ("format", Some(format)) => {
            runner.format = Format::from_str(format, true).map_err(|_| {
                let known: Vec<_> = Format::value_variants()
                    .iter()
                    .map(Format::to_string)
                    .collect();
                Failure::Failed(format!("no format '{format}': choose {}", known.join(", ")))
            })?;
        }
        ("rows", None) => say(&format!("{}", runner.max_rows)),
        ("rows", Some(rows)) => runner.max_rows = rows.parse().map_err(Failure::Failed)?,
        ("quiet", None) => runner.quiet = !runner.quiet,
        _ => {
            return Err(Failure::Failed(format!(
                "no command '\\{command}': \\? lists them"
            )));
        }
    }
    Ok(Next::Continue)
}

fn run_sql(runtime: &Runtime, runner: &Runner, sql: &str) -> Result<(), Failure> {
    let script = Script {
        source: sql.to_owned(),
        text: sql.to_owned(),
    };
    runtime.block_on(runner.run_script(&script, false))
}

fn run_file(runtime: &Runtime, runner: &Runner, path: &str) -> Result<(), Failure> {
    let path = path.trim_matches('\'');
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Failed(format!("cannot read '{path}': {error}")))?;
    let script = Script {
        source: path.to_owned(),
        text,
    };
    runtime.block_on(runner.run_script(&script, true))
}

/// Paths need quotes in SQL; people forget them after `\d`.
fn quoted(name: &str) -> String {
    let is_path = name.contains(['/', '*']) || std::path::Path::new(name).exists();
    if is_path && !name.starts_with(['\'', '"']) {
        format!("'{name}'")
    } else {
        name.to_owned()
    }
}

fn list_functions(runner: &Runner) -> Result<(), Failure> {
    let names = function_names().map_err(|error| Failure::Failed(error_message(&error)))?;
    for name in names {
        let summary = documentation(runner, &name)
            .and_then(|doc| {
                doc.description
                    .split_inclusive('.')
                    .next()
                    .map(str::to_owned)
            })
            .unwrap_or_default();
        say(&format!("{name:<26}{}", summary.trim()));
    }
    say("\\h NAME describes one, DataFusion's as well, which SHOW FUNCTIONS; lists");
    Ok(())
}

fn describe_function(runner: &Runner, name: &str) -> Result<(), Failure> {
    let name = name.trim_end_matches("()").to_lowercase();
    let Some(doc) = documentation(runner, &name) else {
        return Err(Failure::Failed(format!(
            "no function '{name}' with a description: \\h lists Lakefold's, SHOW FUNCTIONS; DataFusion's"
        )));
    };
    say(&format!(
        "{}\n\n{}",
        doc.syntax_example,
        doc.description.trim()
    ));
    for (argument, description) in doc.arguments.iter().flatten() {
        say(&format!("\n  {argument}: {description}"));
    }
    if let Some(example) = &doc.sql_example {
        say(&format!("\n{}", example.trim()));
    }
    Ok(())
}

fn documentation(runner: &Runner, name: &str) -> Option<Documentation> {
    let state = runner.session.state();
    let window = state
        .window_functions()
        .get(name)
        .and_then(|f| f.documentation().cloned());
    let scalar = || {
        state
            .scalar_functions()
            .get(name)
            .and_then(|f| f.documentation().cloned())
    };
    let aggregate = || {
        state
            .aggregate_functions()
            .get(name)
            .and_then(|f| f.documentation().cloned())
    };
    window
        .or_else(scalar)
        .or_else(aggregate)
        .or_else(|| relation_documentation(name))
}
