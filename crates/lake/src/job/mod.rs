//! Jobs: a table of Parquet in, the same table with computed columns out, as a stream, chunk by chunk.
//!
//! A chunk is a range of row groups of one input file, planned from footers alone, and becomes one
//! output file. It is computed with a plan of its own over exactly these row groups, written aside,
//! recorded with its checksum, and then shown under its name. A job that was killed at any moment goes
//! on where it stopped and ends with the same bytes.

mod budget;
mod chunk_run;
mod chunk_table;
mod chunks;
mod delta;
mod description;
mod diagnose;
mod digest;
mod expressions;
mod fit;
mod footers;
mod identity;
mod manifest;
mod models;
mod output;
mod pinned;
mod plan;
mod report;
mod resume;
mod run;
mod size;
mod spec;
mod stores;
mod valid_vector;
mod writer;

pub use description::{ChunkDescription, JobDescription};
pub use report::{JobControl, JobReporter, JobStop, JobSummary, Seconds, Work, peak_memory};
pub use run::{plan_job, run_job};
pub use size::ByteSize;
pub use spec::{
    ColumnEncoding, Compression, FIT_OPTION_NAMES, FitOptions, FitValue, Format, Job, OnInvalid,
    Task,
};
pub use stores::register_store;
pub(crate) use stores::store;
