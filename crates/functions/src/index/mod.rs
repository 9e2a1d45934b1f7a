//! Indexes of vectors in Parquet files: HNSW graphs in files of their own, beside the Parquet.
//!
//! [`build_index`] writes one, [`IndexCatalog`] finds and opens them, and [`SearchWithHnsw`] answers queries from
//! them.

mod at_scan;
mod build;
mod candidates;
mod catalog;
mod choose;
mod distance;
mod exec;
mod fetch;
mod fit;
mod gather;
mod header;
mod layout;
mod local;
mod open;
mod options;
mod place;
mod positions;
mod reading;
mod remote_lock;
mod rule;
mod scan;
mod search;
mod stored;
mod table;
mod verify;
mod written;

pub use build::{BuiltIndex, IndexDefinition, build_index};
pub use catalog::{FoundIndex, IndexCatalog, IndexEntry};
pub use exec::HnswScanExec;
pub use fit::index_state;
pub use header::{IndexHeader, RecallPoint, SourceFile, StorageRecall};
pub use layout::INDEX_VERSION;
pub use open::OpenIndex;
pub use options::HnswSettings;
pub use place::{INDEX_DIRECTORY, INDEX_EXTENSION, IndexPlace, TableDirectory};
pub use rule::SearchWithHnsw;
pub use search::search_index;
pub use table::IndexedTable;
pub use verify::{IndexCheck, verify_index};

pub(crate) use stored::{StoredIndex, StoredRows};
