//! The index of a search: chosen, and built.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::common::Result;
use lakefold_manifold::{Control, NeighborMethod, Phase};

use super::look_ahead::LookAhead;
use super::search::Search;
use super::search_metrics::SearchMetrics;
use crate::fit_task::blocking;
use crate::indexed_rows::{HeldRows, IndexKind, SortedRows};
use crate::progress::Announced;

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
