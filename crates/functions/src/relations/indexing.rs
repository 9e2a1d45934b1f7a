//! The index of a search: chosen, built, and measured while it is used.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use datafusion::common::Result;
use datafusion::physical_plan::metrics::{
    Count, ExecutionPlanMetricsSet, MetricBuilder, MetricType, RatioMetrics, Time,
};
use lakefold_manifold::{Control, Nearest, NeighborMethod, Phase};
use ndarray::{ArrayView2, Axis};

use super::look_ahead::LookAhead;
use super::search::Search;
use crate::features::Matrix;
use crate::fit_task::blocking;
use crate::indexed_rows::{HeldRows, IndexKind, SortedRows};
use crate::progress::Announced;

/// One query of so many is also answered by comparing it with all rows.
pub(super) const MEASURED_EVERY: usize = 64;
/// So many queries at most.
const MEASURED: usize = 100;
/// So many at least, of as many as there are.
const LEAST_MEASURED: usize = 4;
/// A graph compares a query with some thousand rows, a measurement with all of them: one more query is measured for
/// as many as look at the rows so many times over, and takes some hundredths of their time.
const LOOKED_AT: usize = 20;

/// The rows that are searched for.
pub(super) enum Queries<'a> {
    /// Those that are searched.
    All,
    /// Those of a stream, which are counted as far as that matters.
    Ahead(&'a mut LookAhead),
}

impl Search {
    /// The way to search `rows`.
    pub(super) async fn method_for(
        &self,
        rows: &SortedRows,
        queries: &mut Queries<'_>,
    ) -> Result<NeighborMethod> {
        let method = self.method_of(rows.len(), rows.dimensions, queries).await?;
        let is_free = self.asked().is_none();
        Ok(if is_free && !self.is_affordable(method, rows) {
            NeighborMethod::Exact
        } else {
            method
        })
    }

    /// The same, of so many rows.
    pub(super) async fn method_of(
        &self,
        rows: usize,
        dimensions: usize,
        queries: &mut Queries<'_>,
    ) -> Result<NeighborMethod> {
        if let Some(method) = self.asked() {
            return Ok(method);
        }
        let queries = match queries {
            Queries::All => return Ok(self.choose(rows, rows, dimensions)),
            Queries::Ahead(queries) => queries,
        };
        let Some(enough) = self.least_queries(rows, dimensions) else {
            return Ok(NeighborMethod::Exact);
        };
        Ok(match queries.has(enough).await? {
            Some(true) => NeighborMethod::Hnsw,
            Some(false) | None => NeighborMethod::Exact,
        })
    }

    /// Whether there is memory for it.
    fn is_affordable(&self, method: NeighborMethod, rows: &SortedRows) -> bool {
        let bytes = rows.index_bytes(&self.index(method));
        rows.budget.sibling().reserve("an index", bytes).is_ok()
    }
}

/// Makes the index, off the async threads, and notes what it is.
pub(super) async fn indexed(
    rows: SortedRows,
    kind: IndexKind,
    building: Building,
    metrics: &SearchMetrics,
) -> Result<HeldRows> {
    let timer = metrics.index_time.timer();
    let held = blocking(move || rows.index(&kind, &building)).await?;
    drop(timer);
    if let Some(audit) = held.audit() {
        let repairs = audit.unreachable_repaired + audit.not_self_found_repaired;
        metrics.repairs.add(repairs);
    }
    Ok(held)
}

/// Of building an index: whoever builds has its memory already.
pub(super) struct Building {
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) announced: Arc<Announced>,
}

impl Control for Building {
    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn progress(&self, phase: Phase, done: u64, total: u64) {
        self.announced.pass(phase, done, total);
    }
}

/// What EXPLAIN ANALYZE shows of a search.
#[derive(Debug, Clone)]
pub(super) struct SearchMetrics {
    /// Queries that were answered by the method that was chosen.
    queries: Count,
    /// Rows that the graph did not find before it was mended.
    pub(super) repairs: Count,
    pub(super) index_time: Time,
    recall: Option<Arc<Recall>>,
}

#[derive(Debug)]
struct Recall {
    ratio: RatioMetrics,
    measured: AtomicUsize,
}

impl SearchMetrics {
    pub(super) fn new(metrics: &ExecutionPlanMetricsSet, method: NeighborMethod) -> Self {
        let summary = || MetricBuilder::new(metrics).with_type(MetricType::Summary);
        let is_hnsw = method == NeighborMethod::Hnsw;
        let queries = format!("{}_queries", method.name());
        Self {
            queries: summary().counter(queries, 0),
            repairs: if is_hnsw {
                summary().counter("index_repairs", 0)
            } else {
                Count::new()
            },
            index_time: MetricBuilder::new(metrics).subset_time("index_time", 0),
            recall: is_hnsw.then(|| {
                Arc::new(Recall {
                    ratio: summary().ratio_metrics("sampled_recall", 0),
                    measured: AtomicUsize::new(0),
                })
            }),
        }
    }

    /// Queries were answered, `first` of them before these; some are compared with all rows by `hits`, which gets
    /// their places and the distances of what they found.
    pub(super) fn answered(
        &self,
        first: usize,
        nearest: &Nearest,
        rows: usize,
        hits: impl FnOnce(&[usize], ArrayView2<'_, f64>) -> Result<usize>,
    ) -> Result<()> {
        let count = nearest.distances.nrows();
        self.queries.add(count);
        let Some(recall) = &self.recall else {
            return Ok(());
        };
        let before = recall.measured.load(Ordering::Relaxed);
        let left = most_measured(first + count, rows).saturating_sub(before);
        let places: Vec<usize> = sampled(first..first + count).take(left).collect();
        if places.is_empty() {
            return Ok(());
        }
        recall.measured.fetch_add(places.len(), Ordering::Relaxed);
        let found = nearest.distances.select(Axis(0), &places);
        recall.ratio.add_part(hits(&places, found.view())?);
        recall.ratio.add_total(found.len());
        Ok(())
    }

    /// The same for rows outside.
    pub(super) fn answered_from(
        &self,
        first: usize,
        nearest: &Nearest,
        queries: &Matrix<'_>,
        held: &HeldRows,
        control: &dyn Control,
    ) -> Result<()> {
        self.answered(first, nearest, held.len(), |places, found| {
            held.hits(queries, places, found, control)
        })
    }
}

/// How many of the queries so far may have been measured.
pub(super) fn most_measured(queries: usize, rows: usize) -> usize {
    let paid = queries.saturating_mul(LOOKED_AT) / rows.max(1);
    LEAST_MEASURED.saturating_add(paid).min(MEASURED)
}

/// Which of these queries are measured, counted from the first of them.
pub(super) fn sampled(queries: Range<usize>) -> impl Iterator<Item = usize> {
    let start = queries.start;
    let first = start.next_multiple_of(MEASURED_EVERY);
    (first..queries.end)
        .step_by(MEASURED_EVERY)
        .map(move |query| query - start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_queries_of_many_rows_are_measured_less() {
        assert_eq!(most_measured(0, 0), 4);
        assert_eq!(most_measured(5_000, 55_000), 5);
        assert_eq!(most_measured(1_000_000, 1_000_000), 24);
        assert_eq!(most_measured(10_000, 1_000), 100);
    }

    #[test]
    fn every_64th_query_is_measured_however_they_are_cut() {
        let whole: Vec<_> = sampled(0..300).collect();
        assert_eq!(whole, [0, 64, 128, 192, 256]);
        let parts = [0..1, 1..64, 64..65, 65..300].into_iter();
        let cut = parts.flat_map(|part| sampled(part.clone()).map(move |place| part.start + place));
        assert!(cut.eq(whole));
    }
}
