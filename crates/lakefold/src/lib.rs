//! Manifold learning and attention as SQL over Arrow and Parquet.
//!
//! There are two ways in. People with a `DataFusion` session of their own add the functions to it:
//!
//! ```
//! use datafusion::prelude::SessionContext;
//!
//! # #[tokio::main]
//! # async fn main() -> datafusion::error::Result<()> {
//! let ctx = SessionContext::new();
//! lakefold::register_all(&ctx)?;
//! let rows = ctx.sql("SELECT softmax([1.0, 2.0, 3.0]) AS weights").await?.collect().await?;
//! assert_eq!(rows[0].num_rows(), 1);
//!
//! // A spiral band of 60 points; a plain session needs OVER.
//! let embedded = ctx
//!     .sql(
//!         "SELECT lle_embed(make_array(cos(i * 0.1) * i, sin(i * 0.1) * i, i % 7), 2, 8) OVER () AS y
//!          FROM generate_series(1, 60) AS points (i)",
//!     )
//!     .await?;
//! let rows = embedded.filter(datafusion::prelude::col("y").is_not_null())?.count().await?;
//! assert_eq!(rows, 60);
//! # Ok(())
//! # }
//! ```
//!
//! Everybody else takes a [`Session`], in which everything is on: files by path, a memory limit,
//! spilling, row order kept, and `lle_embed(…)` without `OVER ()`:
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> datafusion::error::Result<()> {
//! let session = lakefold::SessionBuilder::new().memory_limit(1 << 30).threads(2).build()?;
//! let plan = session
//!     .sql(
//!         "EXPLAIN SELECT lle_embed(position, 2, n_neighbors => 4)
//!          FROM (VALUES ([0.0, 0.0, 1.0]), ([1.0, 0.5, 0.0])) AS points (position)",
//!     )
//!     .await?;
//! assert!(plan.collect().await.is_ok());
//! # Ok(())
//! # }
//! ```

mod array_agg;
mod copy;
mod errors;
mod from_functions;
mod index_request;
mod index_statements;
mod index_syntax;
mod index_tables;
mod indexes;
mod memory;
mod misplaced;
mod rewrite;
mod session;

pub use datafusion::sql::parser::Statement;
pub use errors::error_message;
pub use indexes::{IndexRequest, IndexTable, is_index_file};
pub use lakefold_functions::manifold::{
    Diagnostics, HnswOptions, Method, Metric, NeighborsAlgorithm, Phase, Solver, VectorStorage,
    bytes as format_bytes,
};
pub use lakefold_functions::{
    BuiltIndex, FitReporter, FitReporterHandle, FoundIndex, IndexCatalog, IndexCheck, IndexHeader,
    IndexPlace, OpenIndex, RecallPoint, SourceFile, WINDOW_FUNCTION_NAMES, function_names,
    register_all, relation_documentation,
};
pub use lakefold_lake::{
    ByteSize, ChunkDescription, ColumnEncoding, Compression, FIT_OPTION_NAMES, FitOptions,
    FitValue, Format, Job, JobControl, JobDescription, JobReporter, JobStop, JobSummary, OnInvalid,
    Seconds, StoresFromEnvironment, Task, Work, enable_paths,
};
pub use memory::{default_memory_limit, physical_memory};
pub use session::{DEFAULT_ROWS_PER_FILE, Session, SessionBuilder};
