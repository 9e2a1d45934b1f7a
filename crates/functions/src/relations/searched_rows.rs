//! The rows that a function searches: through a stored index of theirs, or one that is made for the call.

use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use lakefold_manifold::NeighborMethod;

use super::indexing::{Queries, indexed};
use super::parts::Running;
use super::search::Search;
use super::search_metrics::SearchMetrics;
use crate::fit_task::blocking;
use crate::float_lists::FloatType;
use crate::held_rows::{Collector, Prepare, Source};
use crate::index::{IndexHeader, StoredIndex, StoredRows};
use crate::indexed_rows::{HeldRows, IndexKind, SortedRows};
use crate::memory::Budget;
use crate::row_order::By;

/// Which rows are searched, and how.
#[derive(Debug, Clone)]
pub(super) struct SearchedRows {
    pub(super) source: Source,
    /// Of the features, where their type tells.
    pub(super) dimensions: Option<usize>,
    pub(super) search: Search,
    /// The order in which they are held.
    pub(super) by: By,
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
    /// them for `queries`. Batches go through `prepare` first. `None` where no row has features.
    pub(super) async fn read(
        &self,
        rows: SendableRecordBatchStream,
        mut queries: Queries<'_>,
        prepare: &mut Prepare<'_>,
        context: &Arc<TaskContext>,
        baseline: &BaselineMetrics,
    ) -> Result<Option<ReadRows>> {
        let (source, by) = (&self.source, self.by);
        let budget = Budget::new(context.memory_pool(), source.function);
        let index = match &self.stored {
            Some(stored) => stored.open(context).await.map(|index| (stored, index)),
            None => None,
        };
        let mut is_exact = false;
        if let Some((stored, index)) = index {
            let search = self.search.through(&index.header);
            let (rows, dimensions) = (index.header.rows as usize, index.header.dimensions);
            let method = search.method_of(rows, dimensions, &mut queries).await?;
            is_exact = method == NeighborMethod::Exact;
            if !is_exact {
                let how = (source.clone(), by, budget.sibling());
                let rows = stored.read(index, how, prepare, context).await?;
                if let Some(rows) = rows {
                    return Ok(Some(ReadRows::OfIndex(rows, search.ef_search)));
                }
            }
        }
        let rows = Collector::new(source.clone(), by, budget).collect(rows, prepare, baseline);
        let Some(rows) = rows.await? else {
            return Ok(None);
        };
        let method = if is_exact {
            NeighborMethod::Exact
        } else {
            self.search.method_for(&rows, &mut queries).await?
        };
        Ok(Some(ReadRows::Features(rows, self.search.index(method))))
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

    pub(super) fn dimensions(&self) -> usize {
        match self {
            Self::Features(rows, _) => rows.dimensions,
            Self::OfIndex(rows, _) => rows.dimensions(),
        }
    }

    pub(super) fn method(&self) -> NeighborMethod {
        match self {
            Self::Features(_, kind) => kind.method,
            Self::OfIndex(..) => NeighborMethod::Hnsw,
        }
    }

    /// Makes them ready to be searched, off the async threads, and notes it in `metrics`.
    pub(super) async fn indexed(
        self,
        running: &Running,
        metrics: &ExecutionPlanMetricsSet,
        baseline: &BaselineMetrics,
    ) -> Result<(HeldRows, SearchMetrics)> {
        let search = SearchMetrics::new(metrics, self.method());
        let _timer = baseline.elapsed_compute().timer();
        let held = match self {
            Self::Features(rows, kind) => indexed(rows, kind, running.building(), &search).await?,
            Self::OfIndex(rows, ef_search) => {
                search.repairs.add(rows.repairs());
                let _timer = search.index_time.timer();
                blocking(move || rows.in_order(ef_search)).await?
            }
        };
        Ok((held, search))
    }
}
