//! The flags of jobs.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use lakefold::{ByteSize, ColumnEncoding, Compression, Format};

use crate::args::{FitParameters, SessionArgs};

/// Embed every row of a table of Parquet files by a model, or compute any row-wise expressions
///
/// Writes a directory of Parquet files with the columns of the input and the embedding, chunk by chunk. A
/// file is visible only when it is whole. Run again, the same command goes on where it stopped, and ends
/// with the same bytes.
#[derive(Debug, Args)]
#[command(after_help = TRANSFORM_EXAMPLES)]
pub(crate) struct TransformArgs {
    #[command(flatten)]
    pub(crate) places: Places,

    /// Column of vectors, spelled as in the files
    #[arg(
        long,
        value_name = "NAME",
        requires = "model",
        required_unless_present = "select"
    )]
    pub(crate) column: Option<String>,

    /// File or URL of the model, as `lakefold fit` writes it
    #[arg(long, value_name = "MODEL", requires = "column")]
    pub(crate) model: Option<String>,

    /// Columns of the output as SQL, each computed from its row, in place of --column and --model
    #[arg(long, value_name = "SQL", conflicts_with_all = ["column", "model", "output_column"])]
    pub(crate) select: Option<String>,

    #[command(flatten)]
    pub(crate) job: JobArgs,

    #[command(flatten)]
    pub(crate) run: JobRunArgs,

    #[command(flatten)]
    pub(crate) session: SessionArgs,
}

/// Fit an embedding and embed every row of a table of Parquet files by it
///
/// As `fit` and `transform` in one. The model is kept with the output; later runs over more files use it as
/// it is.
#[derive(Debug, Args)]
#[command(after_help = EMBED_EXAMPLES)]
pub(crate) struct EmbedArgs {
    #[command(flatten)]
    pub(crate) places: Places,

    /// Column of vectors, spelled as in the files
    #[arg(long, value_name = "NAME")]
    pub(crate) column: String,

    /// File or URL that the model is written to [default: OUTPUT/_lakefold/model.parquet]
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,

    #[command(flatten)]
    pub(crate) parameters: FitParameters,

    #[command(flatten)]
    pub(crate) job: JobArgs,

    #[command(flatten)]
    pub(crate) run: JobRunArgs,

    #[command(flatten)]
    pub(crate) session: SessionArgs,
}

/// Run a job from a TOML file
///
/// The file has `command = "transform"` or `"embed"` and the flags of that command under their names, with
/// the parameters of a fit under [fit] and those of stores under [options]. Flags given here hold beside
/// the file's.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct RunArgs {
    /// The job
    #[arg(value_name = "JOB.TOML")]
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) run: JobRunArgs,

    #[command(flatten)]
    pub(crate) session: SessionArgs,
}

/// From where to where.
#[derive(Debug, Args)]
pub(crate) struct Places {
    /// File, glob, directory (hive partitions and Delta Lake tables included) or URL (s3://, gs://, az://,
    /// https://) of the rows
    #[arg(value_name = "INPUT")]
    pub(crate) input: String,

    /// Directory or URL that the files are written to
    #[arg(value_name = "OUTPUT")]
    pub(crate) output: String,

    /// Version of INPUT to read, where it is a Delta Lake table [default: the newest]
    #[arg(long, value_name = "N")]
    pub(crate) input_version: Option<u64>,
}

/// What is computed and how it is written.
#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// parquet: a directory of files; delta: a Delta Lake table, to which each run adds one transaction
    #[arg(long, value_name = "FORMAT", default_value = "parquet")]
    pub(crate) format: Format,

    /// Name of the column that is added
    #[arg(long, value_name = "NAME", default_value = "embedding")]
    pub(crate) output_column: String,

    /// Rows to keep, as SQL
    #[arg(long = "where", value_name = "SQL")]
    pub(crate) filter: Option<String>,

    /// What becomes of a row whose vector has NaN, infinity, a NULL inside or a wrong length
    #[arg(long, value_enum, default_value_t = OnInvalidArg::Error)]
    pub(crate) on_invalid: OnInvalidArg,

    /// Rows at which a chunk is full; it is one file of the output
    #[arg(long, value_name = "N", default_value = "1048576")]
    pub(crate) chunk_rows: NonZeroUsize,

    /// Bytes of input, as stored, at which a chunk is full
    #[arg(long, value_name = "SIZE", default_value = "256m")]
    pub(crate) chunk_bytes: ByteSize,

    /// Rows of a row group at most
    #[arg(long, value_name = "N", default_value = "1048576")]
    pub(crate) row_group_rows: NonZeroUsize,

    /// Bytes of a row group at most, by the writer's estimate
    #[arg(long, value_name = "SIZE", default_value = "64m")]
    pub(crate) row_group_bytes: ByteSize,

    /// uncompressed, snappy, lz4_raw, gzip(6), brotli(4) or zstd(1), where the number is the level
    #[arg(long, value_name = "CODEC", default_value = "zstd(1)")]
    pub(crate) compression: Compression,

    /// COLUMN=plain, dictionary, byte-stream-split or delta-binary-packed. May be repeated
    #[arg(long, value_name = "COLUMN=ENCODING", value_parser = pair::<ColumnEncoding>)]
    pub(crate) encoding: Vec<(String, ColumnEncoding)>,

    /// Configuration of the object stores over that of the environment, such as region=eu-central-1,
    /// endpoint=http://localhost:9000, allow_http=true or max_retries=3. May be repeated
    #[arg(long = "option", value_name = "KEY=VALUE", value_parser = pair::<String>)]
    pub(crate) options: Vec<(String, String)>,
}

/// How a job is run and watched.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct JobRunArgs {
    /// Print the plan, write nothing: files, chunks, rows, bytes, memory and the model
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Replace what another job, or this one with other parameters or input, has written
    #[arg(long)]
    pub(crate) overwrite: bool,

    /// Write the output of changed input files anew. New files are always embedded
    #[arg(long)]
    pub(crate) incremental: bool,

    /// Check the checksums of all output files that are kept, not only of a run that was cut short
    #[arg(long)]
    pub(crate) verify: bool,

    /// Write the summary as JSON: `json` to stdout, anything else to that file
    #[arg(long, value_name = "json|FILE")]
    pub(crate) summary: Option<String>,

    /// Write Prometheus metrics to a file for the textfile collector
    #[arg(long, value_name = "FILE")]
    pub(crate) metrics_file: Option<String>,

    /// How events are logged on stderr. As JSON, each chunk is one
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object an event
    Json,
}

/// What becomes of invalid rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnInvalidArg {
    /// The job fails and names file and row
    Error,
    /// The embedding is NULL, and the rows are counted
    Null,
}

fn pair<T: std::str::FromStr>(text: &str) -> Result<(String, T), String>
where
    T::Err: std::fmt::Display,
{
    let (key, value) = text
        .split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| format!("'{text}' is not of the form KEY=VALUE"))?;
    let value = value.parse().map_err(|error: T::Err| error.to_string())?;
    Ok((key.to_owned(), value))
}

const TRANSFORM_EXAMPLES: &str = "\
Examples:
  lakefold transform 'lake/*.parquet' embedded/ --column embedding --model model.parquet
  lakefold transform s3://lake/docs/ s3://lake/embedded/ --column v --model s3://lake/model.parquet
  lakefold transform lake/ out/ --select \"*, lle_transform(v, 'm.parquet') AS e, softmax(scores) AS p\"
  lakefold transform lake/ table/ --column v --model model.parquet --format delta

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated; a job that did not end can
be run again";

const EMBED_EXAMPLES: &str = "\
Examples:
  lakefold embed lake/ embedded/ --column embedding --n-components 16
  lakefold embed lake/ embedded/ --column embedding --where \"lang = 'en'\" --memory-limit 1g

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated; a job that did not end can
be run again";

const RUN_EXAMPLES: &str = "\
Example, job.toml:
  command = \"embed\"
  input = \"s3://lake/docs/\"
  output = \"s3://lake/embedded/\"
  column = \"embedding\"
  memory-limit = \"2g\"
  on-invalid = \"null\"

  [fit]
  n-components = 16

  [options]
  region = \"eu-central-1\"

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated; a job that did not end can
be run again";
