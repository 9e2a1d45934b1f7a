//! Every flag, defined once: help and parsing follow from here.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use datafusion_cli::print_options::MaxRows;

use crate::memory_size::MemoryLimit;

/// Manifold learning as SQL functions over Parquet.
#[derive(Debug, Parser)]
#[command(
    name = "lakefold",
    version,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Sql(SqlArgs),
}

/// Run SQL over files
///
/// Reads statements from -c and -f in the order given, else from stdin, else starts an interactive
/// shell. FROM takes tables, files, directories and globs, such as FROM 'lake/*.parquet'. The first
/// statement that fails ends the run. Where the reader of stdout leaves, as in `| head`, queries are
/// skipped from then on, quietly, and statements that write or define something still run.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SqlArgs {
    /// SQL to run: one or more statements separated by semicolons. May be repeated
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    pub(crate) commands: Vec<String>,

    /// File with SQL to run, or `-` for stdin. May be repeated and mixed with -c
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// How results are written to stdout. `table` is for people: it shortens long lists and shows
    /// --max-rows rows. The others write every row in full, as it comes. Each statement with a result
    /// writes one of its own: a csv header or a json array for each
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,

    /// Rows that `--format table` shows, or `none` for all
    #[arg(long, value_name = "N", default_value = "40")]
    pub(crate) max_rows: MaxRows,

    /// Memory for fits, sorts, joins and aggregates, such as 512m, 4g, 1.5GiB (units of 1024), or
    /// `unlimited` [default: 80 % of the machine's or container's memory]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory_limit: Option<MemoryLimit>,

    /// Threads to use [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,

    /// Print nothing on stderr but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print what each fit found and did
    #[arg(short, long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
}

/// The formats of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns
    Table,
    /// Comma-separated values with a header; lists and structs as JSON text
    Csv,
    /// One array of objects
    Json,
    /// One object a line
    Ndjson,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Format::Table => "table",
            Format::Csv => "csv",
            Format::Json => "json",
            Format::Ndjson => "ndjson",
        })
    }
}

const EXAMPLES: &str = "\
Examples:
  Look at a file:
    lakefold sql -c \"SELECT * FROM 'packages.parquet' LIMIT 5\"

  Embed a column of vectors in two dimensions, into a directory of Parquet files:
    lakefold sql -c \"COPY (SELECT id, lle_embed(embedding, 2) AS xy FROM 'packages.parquet')
      TO 'out/'\"

  One embedding for each group, with other parameters, as CSV:
    lakefold sql --format csv -c \"SELECT id, lle_embed(embedding, 2, n_neighbors => 20)
      OVER (PARTITION BY section) AS xy FROM 'lake/*.parquet'\" > xy.csv

  Run a file of statements with 4 GiB of memory:
    lakefold sql -f report.sql --memory-limit 4g

Environment:
  LAKEFOLD_LOG or RUST_LOG   what is logged on stderr, such as info or lakefold_manifold=debug
  XDG_DATA_HOME              where the shell keeps its history [default: ~/.local/share]
  NO_COLOR                   no colours in the shell

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted";
