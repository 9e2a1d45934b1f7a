//! The session's options: `SET lakefold.hnsw_ef_search = 200`.

use datafusion::common::config::{ConfigExtension, ConfigOptions};
use datafusion::common::extensions_options;
use lakefold_manifold::HnswOptions;

extensions_options! {
    /// Lakefold's own settings of a session.
    pub struct LakefoldOptions {
        /// Whether `ORDER BY array_distance(column, [constant]) LIMIT k` is answered from an HNSW index of that
        /// column, where there is one. Without an index the answer is exact either way.
        pub hnsw_enabled: bool, default = true

        /// Candidates that a search of an HNSW index keeps: more find more of the true neighbours and take
        /// longer. At least k are kept.
        pub hnsw_ef_search: usize, default = HnswOptions::DEFAULT_EF_SEARCH
    }
}

impl ConfigExtension for LakefoldOptions {
    const PREFIX: &'static str = "lakefold";
}

impl LakefoldOptions {
    /// Those of a session; the defaults in one that was set up without them.
    pub fn of(config: &ConfigOptions) -> Self {
        config.extensions.get::<Self>().cloned().unwrap_or_default()
    }
}
