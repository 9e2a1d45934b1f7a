//! The flags of `lakefold index`.

use std::num::NonZeroUsize;

use clap::{Args, Subcommand, ValueEnum};
use lakefold::{Metric, VectorStorage};

use crate::args::{Format, SessionArgs};

/// Build and search HNSW indexes of vectors in Parquet files
///
/// An index is a file beside the Parquet, .lakefold/NAME.hnsw in its directory. `ORDER BY
/// array_distance(column, [...]) LIMIT k` is answered from it.
#[derive(Debug, Args)]
#[command(after_help = INDEX_EXAMPLES)]
pub(crate) struct IndexArgs {
    #[command(subcommand)]
    pub(crate) command: IndexCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IndexCommand {
    Build(BuildArgs),
    Info(InfoArgs),
    Verify(VerifyArgs),
    Search(SearchArgs),
}

impl IndexCommand {
    pub(crate) fn session(&self) -> &SessionArgs {
        match self {
            Self::Build(arguments) => &arguments.session,
            Self::Info(arguments) => &arguments.session,
            Self::Verify(arguments) => &arguments.session,
            Self::Search(arguments) => &arguments.session,
        }
    }
}

/// Build an index of a column of vectors
///
/// Vectors and graph are held in memory while it is built. Recall is measured against exact search and
/// kept in the file, which appears whole or not at all. A summary goes to stderr.
#[derive(Debug, Args)]
#[command(after_help = INDEX_EXAMPLES)]
pub(crate) struct BuildArgs {
    /// File, glob, directory or URL of the Parquet
    #[arg(value_name = "INPUT")]
    pub(crate) input: String,

    /// Column of vectors, spelled as in the files
    #[arg(long, value_name = "NAME")]
    pub(crate) column: String,

    /// Name of the index [default: the column's]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Column whose values name the rows in the results of `index search` [default: none, rows are named
    /// by file and number]
    #[arg(long, value_name = "NAME")]
    pub(crate) id_column: Option<String>,

    /// What is nearest: l2, cosine or inner_product
    #[arg(long, value_name = "NAME", value_parser = metric, default_value = "l2")]
    pub(crate) metric: Metric,

    /// Links of a row, from 2 to 256. More find more and take more memory
    #[arg(long, value_name = "M", default_value = "16")]
    pub(crate) m: usize,

    /// Rows kept in view while one is inserted. More build a better graph, and take longer
    #[arg(long, value_name = "N", default_value = "200")]
    pub(crate) ef_construction: usize,

    /// Of the levels
    #[arg(long, value_name = "SEED", default_value = "0")]
    pub(crate) seed: u64,

    /// What searches walk through: f32, the vectors themselves; int8, codes of eight bits beside them, which is
    /// faster; or auto, codes where they find as much
    #[arg(long, value_name = "NAME", value_parser = storage, default_value = "auto")]
    pub(crate) storage: VectorStorage,

    /// File or URL of the index, NAME.hnsw, elsewhere than beside the Parquet. SQL does not look there
    #[arg(long, value_name = "PATH")]
    pub(crate) index: Option<String>,

    /// Build it again if it is there
    #[arg(long)]
    pub(crate) replace: bool,

    /// What is said of the index, and where
    #[arg(long, value_enum, default_value_t = InfoFormat::Text)]
    pub(crate) format: InfoFormat,

    #[command(flatten)]
    pub(crate) session: SessionArgs,
}

/// Which index.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The index file, or the file, glob, directory or URL that it is of
    #[arg(value_name = "INDEX")]
    pub(crate) index: String,

    /// Name of the index, where INDEX is a table that has several
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// Show what an index says about itself
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    pub(crate) which: Which,

    /// How it is shown
    #[arg(long, value_enum, default_value_t = InfoFormat::Text)]
    pub(crate) format: InfoFormat,

    #[command(flatten)]
    pub(crate) session: SessionArgs,
}

/// Check an index: its bytes, its files, its graph, its recall and every vector
///
/// Ends with exit code 1 if anything is not as it should be.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) which: Which,

    /// How it is shown
    #[arg(long, value_enum, default_value_t = InfoFormat::Text)]
    pub(crate) format: InfoFormat,

    #[command(flatten)]
    pub(crate) session: SessionArgs,
}

/// Find the nearest rows of vectors in an index
///
/// Reads the index alone: one row a pair, with the neighbour's id (or its file and row number), its rank
/// and its distance.
#[derive(Debug, Args)]
#[command(after_help = SEARCH_EXAMPLES)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    pub(crate) which: Which,

    /// A vector to search for, such as '[0.1, 0.2]'
    #[arg(
        long,
        value_name = "VECTOR",
        conflicts_with = "queries",
        required_unless_present = "queries"
    )]
    pub(crate) vector: Option<String>,

    /// File, glob, directory or URL of vectors to search for
    #[arg(long, value_name = "INPUT", requires = "column")]
    pub(crate) queries: Option<String>,

    /// Column of --queries with the vectors
    #[arg(long, value_name = "NAME", requires = "queries")]
    pub(crate) column: Option<String>,

    /// Column of --queries that names them in the result [default: none, they are numbered from 0]
    #[arg(long, value_name = "NAME", requires = "queries")]
    pub(crate) query_id: Option<String>,

    /// Neighbours of each
    #[arg(short, long, value_name = "K", default_value = "10")]
    pub(crate) k: NonZeroUsize,

    /// Rows kept in view during a search, at least K. More find more of the true neighbours
    #[arg(long, value_name = "N", default_value = "64")]
    pub(crate) ef_search: NonZeroUsize,

    /// How results are written to stdout
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,

    #[command(flatten)]
    pub(crate) session: SessionArgs,
}

/// How an index is described.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InfoFormat {
    /// Lines for people
    Text,
    /// A JSON object on stdout
    Json,
}

fn metric(name: &str) -> Result<Metric, String> {
    Metric::parse(name).map_err(|error| error.to_string())
}

fn storage(name: &str) -> Result<VectorStorage, String> {
    VectorStorage::parse(name).map_err(|error| error.to_string())
}

const INDEX_EXAMPLES: &str = "\
Examples:
  lakefold index build packages.parquet --column embedding --metric cosine --id-column package
  lakefold index info packages.parquet
  lakefold index verify packages.parquet
  lakefold sql -c \"SELECT package FROM 'packages.parquet'
    ORDER BY cosine_distance(embedding, [0.1, 0.2, 0.3]) LIMIT 10\"

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted";

const SEARCH_EXAMPLES: &str = "\
Examples:
  lakefold index search packages.parquet --vector '[0.1, 0.2, 0.3]' -k 5
  lakefold index search .lakefold/embedding.hnsw --queries new.parquet --column embedding
    --query-id package --ef-search 200 --format csv

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted";
