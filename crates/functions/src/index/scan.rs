//! A search of an index in place of a scan.

use std::fmt;
use std::sync::Arc;

use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::physical_plan::ExecutionPlan;

use super::catalog::{FoundIndex, IndexCatalog};
use super::distance::NearestQuery;

/// What is searched, and how its rows are read.
#[derive(Debug)]
pub(crate) struct IndexScan {
    pub(crate) catalog: Arc<IndexCatalog>,
    pub(crate) found: FoundIndex,
    /// For each source of the index the file in the scan; `None` for rows that the scan leaves out.
    pub(crate) files: Vec<Option<PartitionedFile>>,
    pub(crate) query: NearestQuery,
    pub(crate) ef_search: usize,
    /// The scan of all files.
    pub(crate) scan: FileScanConfig,
    /// Projections and filters over that scan.
    pub(crate) rows: Arc<dyn ExecutionPlan>,
}

impl fmt::Display for IndexScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = &self.found.header;
        let ef_search = self.ef_search.max(self.query.k);
        write!(
            f,
            "index={}, column={}, metric={}, k={}, ef_search={ef_search}",
            header.name, header.column, header.metric, self.query.k
        )?;
        if let Some(recall) = header.expected_recall(ef_search) {
            write!(f, ", expected_recall={recall:.3}")?;
        }
        if header.has_codes() {
            write!(f, ", storage={}", header.storage)?;
        }
        if self.query.is_filtered {
            f.write_str(", until k rows pass the filter")?;
        }
        Ok(())
    }
}
