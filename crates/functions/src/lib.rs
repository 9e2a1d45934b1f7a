//! Lakefold's SQL functions for Apache `DataFusion`.
//!
//! [`register_all`] adds them to a session:
//!
//! ```
//! use datafusion::prelude::SessionContext;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> datafusion::error::Result<()> {
//! let ctx = SessionContext::new();
//! lakefold_functions::register_all(&ctx)?;
//! let weights = ctx.sql("SELECT softmax([1.0, 2.0, 3.0]) AS weights").await?;
//! weights.show().await?;
//! let embedded = ctx
//!     .sql(
//!         "SELECT i, lle_embed(make_array(cos(i * 0.1) * i, sin(i * 0.1) * i, i % 7), 2, 8) OVER () AS y
//!          FROM generate_series(1, 60) AS points (i)",
//!     )
//!     .await?;
//! assert_eq!(embedded.count().await?, 60);
//! # Ok(())
//! # }
//! ```
//!
//! Each function is one file: its name, signature, documentation and a thin wrapper around a kernel of
//! [`lakefold_manifold`] or [`lakefold_attention`]. `lle_embed` brings its own physical operator,
//! [`LleExec`], because `DataFusion`'s window operator would run the fit on an async thread with no
//! memory accounting.

mod argument_names;
mod attention;
mod barycenter_weights;
mod clauses;
mod constants;
mod embeddings;
mod evaluator;
mod features;
mod fit;
mod fit_task;
mod fixed_lists;
mod float_lists;
mod group;
mod groups;
mod held_ids;
mod held_rows;
mod index;
mod indexed_rows;
mod lle_embed;
mod lle_exec;
mod lle_metrics;
mod lle_model;
mod lle_options;
mod lle_parameters;
mod lle_reconstruction_error;
mod lle_rule;
mod lle_stream;
mod lle_transform;
mod memory;
mod model_file;
mod model_store;
mod pca_fit;
mod progress;
mod reference;
mod register;
mod relations;
mod row_order;
mod rows;
mod sampling;
mod softmax;
mod wide_scans;
mod window_rule;

pub use lakefold_manifold as manifold;

pub use attention::{
    AttendInBlocks, Attention, AttentionCall, AttentionWeights, Linear, LinearFiles,
    MultiHeadAttention, SelfAttention, SelfAttentionExec,
};
pub use barycenter_weights::BarycenterWeights;
pub use index::{
    BuiltIndex, FoundIndex, HnswScanExec, HnswSettings, INDEX_DIRECTORY, INDEX_EXTENSION,
    INDEX_VERSION, IndexCatalog, IndexCheck, IndexDefinition, IndexEntry, IndexHeader, IndexPlace,
    IndexedTable, OpenIndex, RecallPoint, SearchWithHnsw, SourceFile, StorageRecall,
    TableDirectory, build_index, index_state, search_index, verify_index,
};
pub use lle_embed::LleEmbed;
pub use lle_exec::{LleCall, LleExec};
pub use lle_options::OPTION_NAMES as LLE_OPTION_NAMES;
pub use lle_reconstruction_error::LleReconstructionError;
pub use lle_rule::EmbedWithLleExec;
pub use lle_transform::LleTransform;
pub use memory::array_bytes;
pub use model_file::{MODEL_VERSION, ModelDescription};
pub use model_store::ModelCache;
pub use progress::{FitReporter, FitReporterHandle};
pub use reference::reference_markdown;
pub use register::{
    WINDOW_FUNCTION_NAMES, all_aggregate_udfs, all_scalar_udfs, all_window_udfs, function_names,
    physical_optimizer_rules, register_all,
};
pub use relations::{
    LakefoldRelations, relation_documentation, relation_functions, relation_inputs,
};
pub use softmax::Softmax;
pub use wide_scans::{CutWideScans, WIDE_BATCH_BYTES};
