//! The command line of Lakefold: results on stdout, everything else on stderr.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated. A reader that closes the pipe
//! early (`| head`) ends the program quietly with 0.

mod args;
mod auto;
mod evaluate;
mod failure;
mod fit;
mod index;
mod index_args;
mod index_info;
mod input;
mod job;
mod job_args;
mod job_progress;
mod logging;
mod memory_size;
mod numbers;
mod one_row;
mod output;
mod progress;
mod repl;
mod repl_commands;
mod repl_helper;
mod runner;
mod scripts;
mod startup;
mod stderr;
mod table;

use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches};

use crate::args::{Cli, Command, SqlArgs};
use crate::failure::Failure;
use crate::runner::Runner;
use crate::startup::Start;

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let Some((_, matches)) = matches.subcommand() else {
        return ExitCode::SUCCESS;
    };
    let result = match cli.command {
        Command::Sql(arguments) => sql(&arguments, matches),
        Command::Fit(arguments) => {
            let start = Start::new("fit", &arguments.session);
            startup::run(&start, |runtime, session, progress| {
                runtime.block_on(fit::run(&session, &arguments, &progress))
            })
        }
        Command::Transform(arguments) => job::transform(&arguments),
        Command::Embed(arguments) => job::embed(&arguments),
        Command::Run(arguments) => job::run(&arguments),
        Command::Evaluate(arguments) => {
            let start = Start::new("evaluate", &arguments.session);
            startup::run(&start, |runtime, session, progress| {
                runtime.block_on(evaluate::run(&session, &arguments, &progress))
            })
        }
        Command::Index(arguments) => {
            let start = Start::new("index", arguments.command.session());
            startup::run(&start, |runtime, session, progress| {
                runtime.block_on(index::run(&session, &arguments.command, &progress))
            })
        }
    };
    result.unwrap_or_else(|failure| failure.report())
}

/// `lakefold sql`.
fn sql(arguments: &SqlArgs, matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let scripts = scripts::read(arguments, matches).map_err(Failure::Failed)?;
    let start = Start::new("lakefold", &arguments.session);
    startup::run(&start, |runtime, session, progress| {
        let mut runner = Runner::new(session, arguments, progress);
        match scripts {
            Some(scripts) => runtime.block_on(runner.run_scripts(&scripts)),
            None => repl::run(runtime, &mut runner),
        }
    })
}
