//! What a job is to do: the flags of the command line, or a TOML file of the same names.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::str::FromStr;

use datafusion::common::file_options::parquet_writer::parse_compression_string;
use datafusion::common::{plan_datafusion_err, plan_err};
use datafusion::error::Result;
use datafusion::parquet::basic::Encoding;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

use super::size::ByteSize;

/// What kind of job it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Apply a model, or any row-wise expressions, to every row.
    Transform,
    /// Fit a model first, then apply it.
    Embed,
}

/// What happens to a row whose vector no model can take: NaN, infinity, a NULL inside, or the wrong
/// number of dimensions. A NULL vector is not invalid; its embedding is NULL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnInvalid {
    /// The job fails and names file and row.
    #[default]
    Error,
    /// The row's embedding is NULL, and the row is counted.
    Null,
}

/// What the output is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A directory of Parquet files.
    #[default]
    Parquet,
    /// A Delta Lake table: the same files, and a log that each run adds one transaction to.
    Delta,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "parquet" => Ok(Self::Parquet),
            "delta" => Ok(Self::Delta),
            _ => Err(format!("'{text}' is not a format: write parquet or delta")),
        }
    }
}

/// A number, or `auto`: a parameter of the fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FitValue {
    /// A whole number.
    Count(u64),
    /// Any other number.
    Number(f64),
    /// A name, or `auto`.
    Name(String),
}

impl FitValue {
    /// As SQL has it.
    pub fn sql(&self) -> String {
        match self {
            FitValue::Count(count) => count.to_string(),
            FitValue::Number(number) => number.to_string(),
            FitValue::Name(name) => format!("'{}'", name.replace('\'', "''")),
        }
    }
}

/// Parameters of the fit of [`Task::Embed`], by their names in `lle_fit`.
pub type FitOptions = BTreeMap<String, FitValue>;

/// The parameters that a fit takes in a job.
pub const FIT_OPTION_NAMES: [&str; 11] = [
    "n_components",
    "n_neighbors",
    "reg",
    "method",
    "solver",
    "seed",
    "n_landmarks",
    "landmark_neighbors",
    "landmark_choice",
    "sample_size",
    "neighbors_algorithm",
];

/// A job: read INPUT, compute, write OUTPUT.
///
/// In TOML the names are those of the flags, with `-` or `_`; `[fit]` holds the parameters of the fit
/// and `[options]` those of object stores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Job {
    /// What kind of job it is.
    #[serde(rename = "command")]
    pub task: Task,
    /// File, glob, directory or URL of the rows.
    pub input: String,
    /// Directory or URL that the output is written to.
    pub output: String,
    /// Which version of the input is read, where that is a Delta Lake table; by default the newest.
    #[serde(default, alias = "input_version")]
    pub input_version: Option<u64>,
    /// What the output is.
    #[serde(default)]
    pub format: Format,
    /// Column of vectors.
    #[serde(default)]
    pub column: Option<String>,
    /// Path or URL of the model: read by a transform, written by an embed.
    #[serde(default)]
    pub model: Option<String>,
    /// Name of the column that is added.
    #[serde(default = "default_output_column", alias = "output_column")]
    pub output_column: String,
    /// The expressions of the output, row by row, in place of `*` and the embedding of `column`.
    #[serde(default)]
    pub select: Option<String>,
    /// Which rows are kept.
    #[serde(default, rename = "where")]
    pub filter: Option<String>,
    /// What happens to invalid rows.
    #[serde(default, alias = "on_invalid")]
    pub on_invalid: OnInvalid,
    /// Replace what another job, or this one with other parameters, has written.
    #[serde(default)]
    pub overwrite: bool,
    /// Embed changed input files anew.
    #[serde(default)]
    pub incremental: bool,
    /// Check the checksums of all output that is kept.
    #[serde(default)]
    pub verify: bool,
    /// Rows at which a chunk is full.
    #[serde(default = "default_chunk_rows", alias = "chunk_rows")]
    pub chunk_rows: NonZeroUsize,
    /// Bytes of input, as stored, at which a chunk is full.
    #[serde(default = "default_chunk_bytes", alias = "chunk_bytes")]
    pub chunk_bytes: ByteSize,
    /// Rows of a row group at most.
    #[serde(default = "default_row_group_rows", alias = "row_group_rows")]
    pub row_group_rows: NonZeroUsize,
    /// Bytes of a row group at most, by the writer's estimate.
    #[serde(default = "default_row_group_bytes", alias = "row_group_bytes")]
    pub row_group_bytes: ByteSize,
    /// Codec of the pages, such as `zstd(3)`, `snappy` or `uncompressed`.
    #[serde(default, deserialize_with = "compression")]
    pub compression: Compression,
    /// Encodings by column, in place of the writer's choice.
    #[serde(default, alias = "encodings")]
    pub encoding: BTreeMap<String, ColumnEncoding>,
    /// Parameters of the fit.
    #[serde(default, deserialize_with = "fit_options")]
    pub fit: FitOptions,
    /// Configuration of object stores, over that of the environment.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Memory of the process.
    #[serde(default, alias = "memory_limit")]
    pub memory_limit: Option<ByteSize>,
    /// Threads to use.
    #[serde(default)]
    pub threads: Option<NonZeroUsize>,
    /// Where the summary goes as JSON: `json` for stdout, else a file.
    #[serde(default)]
    pub summary: Option<String>,
    /// File that Prometheus metrics are written to.
    #[serde(default, alias = "metrics_file")]
    pub metrics_file: Option<String>,
}

/// The codec of an output file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Compression(String);

impl Compression {
    /// For the writer.
    ///
    /// # Errors
    /// Never for one that was parsed.
    pub(crate) fn codec(&self) -> Result<datafusion::parquet::basic::Compression> {
        parse_compression_string(&self.0)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self("zstd(1)".to_owned())
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wanted = || {
            format!(
                "'{text}' is not a codec: write uncompressed, snappy, lz4_raw, gzip(6), brotli(4) or \
                 zstd(1), where the number is the level"
            )
        };
        let lower = text.trim().to_ascii_lowercase();
        // A codec with levels may go without one here.
        let default_level = match lower.as_str() {
            "zstd" => "zstd(1)",
            "gzip" => "gzip(6)",
            "brotli" => "brotli(4)",
            other => other,
        };
        parse_compression_string(default_level).map_err(|_| wanted())?;
        Ok(Self(default_level.to_owned()))
    }
}

fn compression<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Compression, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(D::Error::custom)
}

fn fit_options<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<FitOptions, D::Error> {
    let options: BTreeMap<String, FitValue> = BTreeMap::deserialize(deserializer)?;
    options
        .into_iter()
        .map(|(name, value)| {
            let name = name.replace('-', "_");
            if FIT_OPTION_NAMES.contains(&name.as_str()) {
                Ok((name, value))
            } else {
                Err(D::Error::custom(format!(
                    "a fit has no parameter '{name}', it has {}",
                    FIT_OPTION_NAMES.join(", ")
                )))
            }
        })
        .collect()
}

/// How the values of a column are laid out in a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnEncoding {
    /// One after the other.
    Plain,
    /// A dictionary for each column of a row group, as long as it is small.
    Dictionary,
    /// Byte by byte of all values: floats compress better so.
    #[serde(alias = "byte_stream_split")]
    ByteStreamSplit,
    /// Differences: for whole numbers.
    #[serde(alias = "delta_binary_packed")]
    DeltaBinaryPacked,
}

impl ColumnEncoding {
    /// `None` for a dictionary, which is a setting of its own.
    pub(crate) fn encoding(self) -> Option<Encoding> {
        match self {
            ColumnEncoding::Plain => Some(Encoding::PLAIN),
            ColumnEncoding::Dictionary => None,
            ColumnEncoding::ByteStreamSplit => Some(Encoding::BYTE_STREAM_SPLIT),
            ColumnEncoding::DeltaBinaryPacked => Some(Encoding::DELTA_BINARY_PACKED),
        }
    }
}

impl FromStr for ColumnEncoding {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.to_ascii_lowercase().replace('_', "-").as_str() {
            "plain" => Ok(Self::Plain),
            "dictionary" => Ok(Self::Dictionary),
            "byte-stream-split" => Ok(Self::ByteStreamSplit),
            "delta-binary-packed" => Ok(Self::DeltaBinaryPacked),
            _ => Err(format!(
                "'{text}' is not an encoding: write plain, dictionary, byte-stream-split or \
                 delta-binary-packed"
            )),
        }
    }
}

fn default_output_column() -> String {
    "embedding".to_owned()
}

const fn default_chunk_rows() -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add((1 << 20) - 1)
}

const fn default_chunk_bytes() -> ByteSize {
    ByteSize::new(256 << 20)
}

const fn default_row_group_rows() -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add((1 << 20) - 1)
}

const fn default_row_group_bytes() -> ByteSize {
    ByteSize::new(64 << 20)
}

impl Job {
    /// A job with defaults: chunks of 1,048,576 rows or 256 MiB, row groups of 64 MiB, zstd(1).
    pub fn new(task: Task, input: impl Into<String>, output: impl Into<String>) -> Self {
        Self {
            task,
            input: input.into(),
            output: output.into(),
            input_version: None,
            format: Format::default(),
            column: None,
            model: None,
            output_column: default_output_column(),
            select: None,
            filter: None,
            on_invalid: OnInvalid::default(),
            overwrite: false,
            incremental: false,
            verify: false,
            chunk_rows: default_chunk_rows(),
            chunk_bytes: default_chunk_bytes(),
            row_group_rows: default_row_group_rows(),
            row_group_bytes: default_row_group_bytes(),
            compression: Compression::default(),
            encoding: BTreeMap::new(),
            fit: FitOptions::new(),
            options: BTreeMap::new(),
            memory_limit: None,
            threads: None,
            summary: None,
            metrics_file: None,
        }
    }

    /// Reads a job file; `source` is its name, for errors.
    ///
    /// # Errors
    /// For what is no TOML or no job, with line and column.
    pub fn from_toml(text: &str, source: &str) -> Result<Self> {
        let job: Self = toml::from_str(text).map_err(|error| {
            plan_datafusion_err!("'{source}': {}", error.to_string().trim_end())
        })?;
        job.check()
            .map_err(|error| error.context(format!("'{source}'")))?;
        Ok(job)
    }

    /// Whether the parts fit together.
    ///
    /// # Errors
    /// When something is missing, or means nothing beside something else.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [("input", &self.input), ("output", &self.output)] {
            if value.is_empty() {
                return plan_err!("{name} is empty: write a path or URL");
            }
        }
        match (self.task, &self.column, &self.select) {
            (_, Some(_), Some(_)) => plan_err!(
                "column and select exclude each other: write the column as an argument in select, \
                 such as *, lle_transform(v, 'm.parquet') AS embedding"
            ),
            (Task::Embed, None, _) => {
                plan_err!("embed needs column: the column of vectors to fit and embed")
            }
            (Task::Transform, None, None) => {
                plan_err!("transform needs column and model, or select")
            }
            (Task::Transform, Some(_), None) if self.model.is_none() => plan_err!(
                "transform needs model: the file that `lakefold fit` wrote; `lakefold embed` fits first"
            ),
            (Task::Transform, None, Some(_)) if self.model.is_some() => plan_err!(
                "model goes with column: in select it is the second argument of lle_transform"
            ),
            (Task::Transform, _, _) if !self.fit.is_empty() => {
                plan_err!("a transform fits nothing: leave out [fit], or write command = \"embed\"")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Job::from_toml(text, "job.toml")
            .unwrap_err()
            .strip_backtrace()
    }

    #[test]
    fn a_job_file_is_the_flags() {
        let job = Job::from_toml(
            "command = 'embed'\ninput = 'a/'\noutput = 'b'\ncolumn = 'v'\nrow-group-bytes = '1m'\n\
             on_invalid = 'null'\ncompression = 'ZSTD'\n[fit]\nn-components = 3\nreg = 0.1\n\
             n_neighbors = 'auto'\n[options]\naws_region = 'x'",
            "job.toml",
        )
        .unwrap();
        assert_eq!(job.task, Task::Embed);
        assert_eq!(job.row_group_bytes.bytes(), 1 << 20);
        assert_eq!(job.on_invalid, OnInvalid::Null);
        assert_eq!(job.compression.as_str(), "zstd(1)");
        assert_eq!(job.fit["n_components"].sql(), "3");
        assert_eq!(job.fit["n_neighbors"].sql(), "'auto'");
        assert_eq!(job.options["aws_region"], "x");
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let start = "command = 'transform'\ninput = 'a'\noutput = 'b'\n";
        for (text, wanted) in [
            ("colour = 'v'", "line 4, column 1"),
            ("chunk-bytes = '4x'", "line 4, column 15"),
            ("compression = 'zip'", "line 4, column 15"),
            ("on-invalid = 'skip'", "line 4, column 14"),
            ("chunk-rows = 0", "line 4, column 14"),
            ("[fit]\nneighbors = 2", "line 4, column 1"),
            ("column = ", "line 4"),
        ] {
            let message = error(&format!("{start}{text}"));
            assert!(message.contains(wanted), "{text}: {message}");
            assert!(message.contains("'job.toml'"), "{message}");
        }
        assert!(error(start).contains("transform needs column and model"));
        let both = format!("{start}column = 'v'\nselect = '*'");
        assert!(error(&both).contains("exclude each other"));
    }
}
