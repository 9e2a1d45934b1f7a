//! Every flag, defined once: help and parsing follow from here.

use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use datafusion_cli::print_options::MaxRows;
use lakefold::{Method, NeighborsAlgorithm, Solver};

use crate::auto::NumberOrAuto;
use crate::index_args::IndexArgs;
use crate::job_args::{EmbedArgs, RunArgs, TransformArgs};
use crate::memory_size::MemoryLimit;

/// Manifold learning and attention as SQL functions over Parquet.
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
    Fit(FitArgs),
    Transform(TransformArgs),
    Embed(EmbedArgs),
    Run(RunArgs),
    Evaluate(EvaluateArgs),
    Index(IndexArgs),
}

/// Run SQL over files
///
/// Reads statements from -c and -f in the order given, else from stdin, else starts an interactive
/// shell. FROM takes tables, files, directories, globs and URLs, such as FROM 'lake/*.parquet' or
/// FROM 's3://lake/docs/'. The first statement that fails ends the run. Where the reader of stdout leaves, as in `| head`, queries are
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

    #[command(flatten)]
    pub(crate) session: SessionArgs,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct SessionArgs {
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

impl SessionArgs {
    /// Whether to tell what each fit found; on a terminal the line takes the place of the bar.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose || (!self.quiet && std::io::stderr().is_terminal())
    }
}

/// Fit an embedding and write it as a model
///
/// The model is a Parquet file, one row a landmark, which lle_transform reads. Rows are read once as a
/// stream. A summary goes to stderr.
#[derive(Debug, Args)]
#[command(after_help = FIT_EXAMPLES)]
pub(crate) struct FitArgs {
    /// File, glob, directory or URL of the rows
    #[arg(value_name = "INPUT")]
    pub(crate) input: String,

    /// Column of vectors, spelled as in the file
    #[arg(long, value_name = "NAME")]
    pub(crate) column: String,

    /// File or URL that the model is written to
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: String,

    #[command(flatten)]
    pub(crate) parameters: FitParameters,

    /// What is said of the fit, and where
    #[arg(long, value_enum, default_value_t = FitFormat::Text)]
    pub(crate) format: FitFormat,

    #[command(flatten)]
    pub(crate) session: SessionArgs,
}

/// Parameters of a fit.
#[derive(Debug, Args)]
pub(crate) struct FitParameters {
    /// Dimensions of the embedding, or `auto` [default: 2]
    #[arg(long, value_name = "D")]
    pub(crate) n_components: Option<NumberOrAuto<NonZeroUsize>>,

    /// Neighbours of each row, or `auto` [default: auto]
    #[arg(long, value_name = "K")]
    pub(crate) n_neighbors: Option<NumberOrAuto<NonZeroUsize>>,

    /// Regularisation of the weights, times the trace of the local Gram matrix, or `auto`
    /// [default: auto]
    #[arg(long, value_name = "REG")]
    pub(crate) reg: Option<NumberOrAuto<f64>>,

    /// Which local geometry is kept: standard, modified, hessian or ltsa [default: standard]
    #[arg(long, value_name = "NAME", value_parser = method)]
    pub(crate) method: Option<String>,

    /// How the eigenproblem is solved: auto, dense, exact or landmarks [default: auto]
    #[arg(long, value_name = "NAME", value_parser = solver)]
    pub(crate) solver: Option<String>,

    /// Of samples, landmarks and start vectors [default: 0]
    #[arg(long, value_name = "SEED")]
    pub(crate) seed: Option<u64>,

    /// Landmarks of the landmarks solver [default: it decides]
    #[arg(long, value_name = "L")]
    pub(crate) n_landmarks: Option<NonZeroUsize>,

    /// Landmarks that a row is a combination of [default: the solver decides]
    #[arg(long, value_name = "M")]
    pub(crate) landmark_neighbors: Option<NonZeroUsize>,

    /// Rows that are fitted at most; of more, a sample of this many [default: 65536]
    #[arg(long, value_name = "N")]
    pub(crate) sample_size: Option<NonZeroUsize>,

    /// How neighbours are found: auto, exact or hnsw [default: auto]
    #[arg(long, value_name = "NAME", value_parser = neighbors_algorithm)]
    pub(crate) neighbors_algorithm: Option<String>,
}

/// What `fit` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FitFormat {
    /// A summary on stderr, nothing on stdout
    Text,
    /// All diagnostics as a JSON object on stdout
    Json,
}

/// Measure how good an embedding is
///
/// Writes one JSON object to stdout: trustworthiness, continuity, neighborhood_preservation and
/// lle_objective, exact up to --sample-size rows and beyond it on a sample; with --label also the share
/// of rows whose label wins the vote of their 10 nearest neighbours.
#[derive(Debug, Args)]
#[command(after_help = EVALUATE_EXAMPLES)]
pub(crate) struct EvaluateArgs {
    /// File, glob, directory or URL of the rows
    #[arg(value_name = "INPUT")]
    pub(crate) input: String,

    /// Column of the vectors that were embedded, spelled as in the file
    #[arg(long, value_name = "NAME")]
    pub(crate) features: String,

    /// Column of their embedding
    #[arg(long, value_name = "NAME")]
    pub(crate) embedding: String,

    /// Column of labels
    #[arg(long, value_name = "NAME")]
    pub(crate) label: Option<String>,

    /// Neighbours of each row
    #[arg(long, value_name = "K", default_value = "12")]
    pub(crate) k: NonZeroUsize,

    /// Rows that are measured at most. Time grows with its square
    #[arg(long, value_name = "N", default_value = "5000")]
    pub(crate) sample_size: NonZeroUsize,

    /// Of the sample and of the split of labelled rows
    #[arg(long, value_name = "SEED", default_value = "0")]
    pub(crate) seed: u64,

    #[command(flatten)]
    pub(crate) session: SessionArgs,
}

fn method(name: &str) -> Result<String, String> {
    let method = Method::parse(name).map_err(|error| error.to_string())?;
    Ok(method.name().to_owned())
}

fn solver(name: &str) -> Result<String, String> {
    let solver = Solver::parse(name).map_err(|error| error.to_string())?;
    Ok(solver.name().to_owned())
}

fn neighbors_algorithm(name: &str) -> Result<String, String> {
    let algorithm = NeighborsAlgorithm::parse(name).map_err(|error| error.to_string())?;
    Ok(algorithm.name().to_owned())
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
  AWS_…, GOOGLE_…, AZURE_…   credentials and settings of s3://, gs:// and az:// URLs, such as AWS_REGION
  XDG_DATA_HOME              where the shell keeps its history [default: ~/.local/share]
  NO_COLOR                   no colours in the shell

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted";

const FIT_EXAMPLES: &str = "\
Examples:
  lakefold fit packages.parquet --column embedding --model packages.model.parquet --n-components 16
  lakefold sql -c \"SELECT package, lle_transform(embedding, 'packages.model.parquet') AS e
    FROM 'packages.parquet'\"

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted";

const EVALUATE_EXAMPLES: &str = "\
Examples:
  lakefold sql -c \"COPY (SELECT *, lle_embed(embedding, 16) AS e FROM 'packages.parquet') TO 'e.parquet'\"
  lakefold evaluate e.parquet --features embedding --embedding e --label section

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted";
