//! Nearest neighbours through a graph, with distances as exact as those of [`ExactIndex`].
//!
//! The graph holds `f32`. Rows of `f64`, and of `f32` so large or so small that squares would leave the range
//! of `f32`, are represented in it by stand-ins; the rows themselves then decide among what the graph
//! proposes.
//!
//! [`ExactIndex`]: super::ExactIndex

use std::borrow::Cow;
use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2, Axis};
use rayon::prelude::*;

use super::best::Best;
use super::distances::{
    check_count, check_queries, check_range, keys_of_all, nearest, prepare, values, view,
};
use super::stand_ins::StandIns;
use super::{Found, Metric, Nearest};
use crate::points::{Feature, Points, check, dot};
use crate::{Control, Hnsw, HnswAudit, HnswOptions, Result};

/// Rows to be searched for the nearest ones of other rows, most of which it finds.
///
/// What it finds has the distances and the order that [`super::ExactIndex`] gives it; how many of the nearest
/// rows it misses is to be measured, see [`hits`](super::hits). The same rows in the same order, the same options and
/// queries give the same answer, whatever the number of threads.
#[derive(Clone)]
pub struct ApproximateIndex<T> {
    graph: Hnsw,
    audit: HnswAudit,
    /// The rows, prepared, where the graph holds stand-ins.
    represented: Option<Represented<T>>,
    metric: Metric,
    ef_search: usize,
    /// Steps by which the rows were enlarged.
    pub(super) enlarged: u32,
}

#[derive(Clone)]
struct Represented<T> {
    rows: Vec<T>,
    stand_ins: StandIns,
}

impl<T: Feature> ApproximateIndex<T> {
    /// Vertices that a search for `k` neighbours keeps in view unless it is told.
    #[must_use]
    pub fn default_ef_search(k: usize) -> usize {
        HnswOptions::DEFAULT_EF_SEARCH.max(k.saturating_mul(2))
    }

    /// From rows of shape (n, D). Searches keep `ef_search` vertices in view, or as many as neighbours are
    /// wanted. Memory of [`ApproximateIndex::predicted_bytes`] is to be reserved by the caller.
    ///
    /// # Errors
    /// [`ManifoldError::NonFinite`] and [`ManifoldError::TooLarge`] for unusable values,
    /// [`ManifoldError::ZeroVector`] under [`Metric::Cosine`], [`ManifoldError::InvalidParameter`] for rows
    /// without dimensions and options out of range, [`ManifoldError::Memory`] and
    /// [`ManifoldError::Cancelled`].
    ///
    /// [`ManifoldError::NonFinite`]: crate::ManifoldError::NonFinite
    /// [`ManifoldError::TooLarge`]: crate::ManifoldError::TooLarge
    /// [`ManifoldError::ZeroVector`]: crate::ManifoldError::ZeroVector
    /// [`ManifoldError::InvalidParameter`]: crate::ManifoldError::InvalidParameter
    /// [`ManifoldError::Memory`]: crate::ManifoldError::Memory
    /// [`ManifoldError::Cancelled`]: crate::ManifoldError::Cancelled
    pub fn new(
        features: Array2<T>,
        metric: Metric,
        options: &HnswOptions,
        ef_search: usize,
        control: &dyn Control,
    ) -> Result<Self> {
        T::approximate_index(features, metric, options, ef_search, control)
    }

    /// As [`super::ExactIndex::nearest`], but for rows that are missed.
    ///
    /// # Errors
    /// The same.
    pub fn nearest(
        &self,
        queries: ArrayView2<'_, T>,
        k: usize,
        control: &dyn Control,
    ) -> Result<Nearest> {
        T::approximate_nearest(self, queries, k, control)
    }

    /// As [`super::ExactIndex::nearest_others`], but for rows that are missed.
    ///
    /// # Errors
    /// The same.
    pub fn nearest_others(
        &self,
        rows: Range<usize>,
        k: usize,
        control: &dyn Control,
    ) -> Result<Nearest> {
        T::approximate_nearest_others(self, rows, k, control)
    }

    /// As [`super::ExactIndex::all_distances`].
    ///
    /// # Errors
    /// The same.
    pub fn all_distances(&self, query: ArrayView1<'_, T>) -> Result<Vec<f64>> {
        T::approximate_all_distances(self, query)
    }

    /// Queries for which [`ApproximateIndex::hits`] reads the rows once.
    pub const MEASURED_TOGETHER: usize = super::measure::QUERIES;

    /// How many of the neighbours that [`ApproximateIndex::nearest`] found for `queries`, shape (m, D), are as near as
    /// the k nearest rows that there are; `found` are their distances, shape (m, k). Recall@k is this, divided by
    /// m · k. Every row is compared with every query, but read once for several of them. 0 where k is more than there
    /// are rows.
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] for queries of other dimensions, or another number of them;
    /// [`ManifoldError::NonFinite`] and [`ManifoldError::TooLarge`] for unusable values, and
    /// [`ManifoldError::Cancelled`].
    ///
    /// [`ManifoldError::InvalidParameter`]: crate::ManifoldError::InvalidParameter
    /// [`ManifoldError::NonFinite`]: crate::ManifoldError::NonFinite
    /// [`ManifoldError::TooLarge`]: crate::ManifoldError::TooLarge
    /// [`ManifoldError::Cancelled`]: crate::ManifoldError::Cancelled
    pub fn hits(
        &self,
        queries: ArrayView2<'_, T>,
        found: ArrayView2<'_, f64>,
        control: &dyn Control,
    ) -> Result<usize> {
        T::approximate_hits(self, queries, found, control)
    }

    /// [`ApproximateIndex::hits`] of what [`ApproximateIndex::nearest_others`] found for some of the index's own
    /// `rows`.
    ///
    /// # Errors
    /// The same; [`ManifoldError::InvalidParameter`](crate::ManifoldError::InvalidParameter) for a row past the end.
    pub fn other_hits(
        &self,
        rows: &[usize],
        found: ArrayView2<'_, f64>,
        control: &dyn Control,
    ) -> Result<usize> {
        T::approximate_other_hits(self, rows, found, control)
    }

    /// Rows in the index (n).
    #[must_use]
    pub fn len(&self) -> usize {
        self.graph.len()
    }

    /// Whether there is nothing to be found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Dimensions of the rows (D).
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.graph.dimensions()
    }

    /// What is searched for.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// What was mended in the graph when it was built; nothing is known of one that was there.
    #[must_use]
    pub fn audit(&self) -> HnswAudit {
        self.audit
    }

    /// Bytes that building takes at most, beside the rows that it is given.
    #[must_use]
    pub fn predicted_bytes(rows: usize, dimensions: usize, options: &HnswOptions) -> usize {
        Hnsw::predicted_bytes(rows, dimensions, options) + stand_in_bytes::<T>(rows, dimensions)
    }

    /// The row that is the `place`-th in memory.
    pub(super) fn stored(&self, place: usize) -> u32 {
        match &self.represented {
            Some(_) => place as u32,
            None => self.graph.stored_rows()[place],
        }
    }

    /// A row by number, prepared.
    pub(super) fn row(&self, row: usize) -> &[T] {
        match &self.represented {
            Some(represented) => {
                let dimensions = self.dimensions();
                &represented.rows[row * dimensions..][..dimensions]
            }
            None => T::of_graph(&self.graph, row),
        }
    }

    fn key(&self, query: &[T], square: f64, id: u32) -> f64 {
        let row = self.row(id as usize);
        let squares = match self.metric {
            Metric::Cosine => [square, dot(row, row)],
            Metric::L2 | Metric::InnerProduct => [1.0; 2],
        };
        self.metric.key(query, row, squares)
    }

    /// The k nearest of what the graph proposed, by the rows themselves. `query` gives a prepared query.
    fn rank<'q>(
        &self,
        proposed: &Array2<u32>,
        k: usize,
        query: impl Fn(usize) -> &'q [T] + Sync,
    ) -> Found {
        let mut found = Found::new(proposed.nrows(), k);
        let places = found.par_chunks_mut(1).enumerate().with_min_len(64);
        places.for_each(|(place, (ids, keys))| {
            let query = query(place);
            let square = dot(query, query);
            let mut best = Best::new(k);
            for &id in proposed.row(place) {
                best.offer(self.key(query, square, id), id);
            }
            best.write(ids, keys);
        });
        found
    }

    pub(super) fn distances(&self, found: Found) -> Result<Nearest> {
        // Squares that would overflow are those of values that were refused.
        nearest(found, self.metric, self.enlarged, |_, _| f64::INFINITY)
    }
}

impl ApproximateIndex<f32> {
    /// Of a graph that is there. Searches keep `ef_search` vertices in view, or as many as neighbours are wanted.
    #[must_use]
    pub fn of_graph(graph: Hnsw, ef_search: usize) -> Self {
        Self {
            metric: graph.metric(),
            graph,
            audit: HnswAudit::default(),
            represented: None,
            ef_search,
            enlarged: 0,
        }
    }
}

fn stand_in_bytes<T>(rows: usize, dimensions: usize) -> usize {
    if size_of::<T>() == size_of::<f32>() {
        0
    } else {
        rows * dimensions * size_of::<f32>()
    }
}

pub(crate) fn index<T: Feature>(
    features: Array2<T>,
    metric: Metric,
    options: &HnswOptions,
    ef_search: usize,
    control: &dyn Control,
) -> Result<ApproximateIndex<T>> {
    check(features.view())?;
    let dimensions = features.ncols();
    let mut rows = if features.is_standard_layout() {
        features.into_raw_vec_and_offset().0
    } else {
        features.iter().copied().collect()
    };
    let enlarged = prepare(&mut rows, dimensions, metric)?;
    build(
        Cow::Owned(rows),
        dimensions,
        enlarged,
        metric,
        (options, ef_search),
        control,
    )
}

/// Of rows that were checked and prepared.
pub(super) fn build<T: Feature>(
    rows: Cow<'_, [T]>,
    dimensions: usize,
    enlarged: u32,
    metric: Metric,
    (options, ef_search): (&HnswOptions, usize),
    control: &dyn Control,
) -> Result<ApproximateIndex<T>> {
    let shape = (rows.len() / dimensions, dimensions);
    if let Some(values) = T::as_f32(&rows).filter(|values| StandIns::spares(values, metric)) {
        let (graph, audit) = Hnsw::build(view(shape, values)?, metric, options, control)?;
        return Ok(ApproximateIndex {
            graph,
            audit,
            represented: None,
            metric,
            ef_search,
            enlarged,
        });
    }
    let stand_ins = StandIns::of(Points::new(&rows, dimensions), metric);
    let values = stand_ins.of_rows(&rows);
    let (graph, audit) = Hnsw::build(view(shape, &values)?, metric, options, control)?;
    Ok(ApproximateIndex {
        graph,
        audit,
        represented: Some(Represented {
            rows: rows.into_owned(),
            stand_ins,
        }),
        metric,
        ef_search,
        enlarged,
    })
}

pub(crate) fn search<T: Feature>(
    index: &ApproximateIndex<T>,
    queries: ArrayView2<'_, T>,
    k: usize,
    control: &dyn Control,
) -> Result<Nearest> {
    let dimensions = index.dimensions();
    check_queries(queries, dimensions)?;
    check_count("k", k, index.len(), index.len())?;
    let (prepared, _) = values(queries, index.metric, Some(index.enlarged))?;
    search_prepared(index, Points::new(&prepared, dimensions), k, control)
}

/// The same of queries that were prepared as the rows were.
pub(super) fn search_prepared<T: Feature>(
    index: &ApproximateIndex<T>,
    queries: Points<'_, T>,
    k: usize,
    control: &dyn Control,
) -> Result<Nearest> {
    let shape = (queries.len(), queries.dimensions());
    let own = match (&index.represented, T::as_f32(queries.values())) {
        (None, Some(values)) => Some(values).filter(|v| StandIns::spares(v, index.metric)),
        _ => None,
    };
    if let Some(values) = own {
        let ef_search = index.ef_search.max(k);
        return index
            .graph
            .search(view(shape, values)?, k, ef_search, control);
    }
    // Where the rows stand for themselves, queries alone may be out of range.
    let plain = StandIns::plain(shape.1);
    let stand_ins = index.represented.as_ref().map_or(&plain, |r| &r.stand_ins);
    let values = stand_ins.of_queries(queries.values(), index.metric);
    let proposed = proposed(k, index.len());
    let ef_search = index.ef_search.max(proposed);
    let found = index
        .graph
        .search(view(shape, &values)?, proposed, ef_search, control)?;
    index.distances(index.rank(&found.ids, k, |place| queries.row(place)))
}

pub(crate) fn search_others<T: Feature>(
    index: &ApproximateIndex<T>,
    rows: Range<usize>,
    k: usize,
    control: &dyn Control,
) -> Result<Nearest> {
    check_range(&rows, index.len())?;
    let others = index.len().saturating_sub(1);
    check_count("k", k, others, index.len())?;
    if index.represented.is_none() {
        let ef_search = index.ef_search.max(k);
        return index.graph.search_rows(rows, k, ef_search, control);
    }
    let proposed = proposed(k, others);
    let ef_search = index.ef_search.max(proposed);
    let found = index
        .graph
        .search_rows(rows.clone(), proposed, ef_search, control)?;
    index.distances(index.rank(&found.ids, k, |place| index.row(rows.start + place)))
}

/// How many rows the graph is asked for where stand-ins stand in.
fn proposed(k: usize, most: usize) -> usize {
    (k + k / 2 + 8).min(most)
}

pub(crate) fn all_distances<T: Feature>(
    index: &ApproximateIndex<T>,
    query: ArrayView1<'_, T>,
) -> Result<Vec<f64>> {
    let query = query.insert_axis(Axis(0));
    check_queries(query, index.dimensions())?;
    let (query, _) = values(query, index.metric, Some(index.enlarged))?;
    let found = keys_of_all(index.len(), |row| index.row(row), &query, index.metric);
    let nearest = index.distances(found)?;
    Ok(nearest.distances.into_raw_vec_and_offset().0)
}
