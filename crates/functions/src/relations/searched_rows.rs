//! The rows that `knn` and `knn_join` search: through a stored index of theirs, or one that is made for the call.

use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::BaselineMetrics;
use lakefold_manifold::NeighborMethod;

use super::indexing::{Building, Queries, SearchMetrics, indexed};
use super::search::Search;
use crate::fit_task::blocking;
use crate::float_lists::FloatType;
use crate::held_rows::{Collector, Source};
use crate::index::{IndexHeader, StoredIndex, StoredRows};
use crate::indexed_rows::{HeldRows, IndexKind, SortedRows};
use crate::memory::Budget;

/// Which rows are searched, and how.
#[derive(Debug, Clone)]
pub(super) struct SearchedRows {
    pub(super) source: Source,
    /// Of the features, where their type tells.
    pub(super) dimensions: Option<usize>,
    pub(super) search: Search,
    /// An index of these rows.
    pub(super) stored: Option<Arc<StoredIndex>>,
}

impl SearchedRows {
    /// The same through a stored index, where one fits of what `input` gives, a plan of ids and features.
    pub(super) fn through_index(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        session: &dyn Session,
    ) -> Result<Option<Self>> {
        let Self { source, search, .. } = self;
        // An index has its vectors as `FLOAT`.
        let is_asked_for = search.asked() != Some(NeighborMethod::Exact);
        if !is_asked_for || source.float != FloatType::Float32 {
            return Ok(None);
        }
        let suits = |index: &IndexHeader| {
            index.exact_values
                && search.suits(index)
                && self
                    .dimensions
                    .is_none_or(|known| known == index.dimensions)
        };
        let ef_search = search.ef_search.max(search.k);
        let stored = StoredIndex::find(session, input, (search.metric, ef_search), &suits)?;
        Ok(stored.map(|stored| Self {
            stored: Some(Arc::new(stored)),
            ..self.clone()
        }))
    }

    /// How many there are: as the index says, or as is estimated.
    pub(super) fn count(&self, estimated: Option<usize>) -> Option<usize> {
        let stored = self.stored.as_ref();
        stored.map_or(estimated, |stored| Some(stored.header().rows as usize))
    }

    /// `method=…` for plans. `rows` are searched, for `queries` rows; `None` where nobody knows yet.
    pub(super) fn describe(&self, rows: Option<usize>, queries: Option<usize>) -> String {
        match &self.stored {
            Some(stored) => {
                let header = stored.header();
                let search = self.search.through(header);
                search.describe(rows, queries, Some(header.dimensions))
            }
            None => self.search.describe(rows, queries, self.dimensions),
        }
    }

    /// Reads them: ids and features from `rows`, or the ids alone where an index that is there is the way to search
    /// them for `queries`. `None` where no row has features.
    pub(super) async fn read(
        &self,
        rows: SendableRecordBatchStream,
        queries: Queries<'_>,
        context: &Arc<TaskContext>,
        baseline: &BaselineMetrics,
    ) -> Result<Option<ReadRows>> {
        let budget = Budget::new(context.memory_pool(), self.source.function);
        let source = self.source.clone();
        let open = match &self.stored {
            Some(stored) => stored.open(context).await.map(|index| (stored, index)),
            None => None,
        };
        let Some((stored, index)) = open else {
            let held = Collector::new(source, budget)
                .collect(rows, baseline)
                .await?;
            let Some(held) = held else {
                return Ok(None);
            };
            let method = self.search.method_for(&held, queries).await?;
            return Ok(Some(ReadRows::Features(held, self.search.index(method))));
        };
        let search = self.search.through(&index.header);
        let count = index.header.rows as usize;
        let method = search.method_of(count, index.header.dimensions, queries);
        Ok(match method.await? {
            NeighborMethod::Exact => {
                let held = Collector::new(source, budget)
                    .collect(rows, baseline)
                    .await?;
                held.map(|held| ReadRows::Features(held, search.index(NeighborMethod::Exact)))
            }
            NeighborMethod::Hnsw => {
                let rows = stored.read(index, source, budget, context).await?;
                Some(ReadRows::OfIndex(rows, search.ef_search))
            }
        })
    }
}

/// Rows that were read, and how they are to be searched.
pub(super) enum ReadRows {
    Features(SortedRows, IndexKind),
    /// With the `ef_search` of its searches.
    OfIndex(StoredRows, usize),
}

impl ReadRows {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Features(rows, _) => rows.len(),
            Self::OfIndex(rows, _) => rows.len(),
        }
    }

    pub(super) fn method(&self) -> NeighborMethod {
        match self {
            Self::Features(_, kind) => kind.method,
            Self::OfIndex(..) => NeighborMethod::Hnsw,
        }
    }

    /// Makes them ready to be searched, off the async threads.
    pub(super) async fn indexed(
        self,
        building: Building,
        metrics: &SearchMetrics,
    ) -> Result<HeldRows> {
        match self {
            Self::Features(rows, kind) => indexed(rows, kind, building, metrics).await,
            Self::OfIndex(rows, ef_search) => {
                metrics.repairs.add(rows.repairs());
                let _timer = metrics.index_time.timer();
                blocking(move || rows.in_order(ef_search)).await
            }
        }
    }
}
