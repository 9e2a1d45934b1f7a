//! Nearest neighbours with their distances, for any metric: within a table and across two.

use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2, Axis};

use super::distances::{
    check_count, check_queries, check_range, keys_of_all, nearest, prepare, values,
};
use super::foreign::{self, Base};
use super::{Found, Metric, self_join_found};
use crate::control::Budget;
use crate::points::{Feature, Points, check, scale_up, squared_distance};
use crate::{Control, Result};

/// The nearest rows of each query, shape (queries, k), nearest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Nearest {
    /// Row numbers, from 0. Of rows as near as one another the smaller number comes first.
    pub ids: Array2<u32>,
    /// What [`Metric`] says: ascending, or descending for [`Metric::InnerProduct`].
    pub distances: Array2<f64>,
}

/// Rows to be searched exactly for the nearest ones of other rows.
///
/// `f32` matrix products propose, `f64` sums in a fixed order decide, and rows are compared one by one where
/// rounding leaves a doubt: the answer is that of comparing every pair, to the bit, whatever the threads and
/// the batches. Euclidean neighbours are ordered by their squared distances.
#[derive(Debug, Clone)]
pub struct ExactIndex<T> {
    base: Base<T>,
    /// Steps by which [`enlarge`] scaled the rows.
    enlarged: u32,
}

impl<T: Feature> ExactIndex<T> {
    /// From rows of shape (n, D), which it keeps, together with a copy in `f32`:
    /// [`ExactIndex::predicted_bytes`] in all.
    ///
    /// # Errors
    /// [`crate::ManifoldError::NonFinite`] and [`crate::ManifoldError::TooLarge`] for unusable values,
    /// [`crate::ManifoldError::ZeroVector`] under [`Metric::Cosine`], [`crate::ManifoldError::InvalidParameter`] for rows
    /// without dimensions.
    pub fn new(features: Array2<T>, metric: Metric) -> Result<Self> {
        T::exact_index(features, metric)
    }

    /// The `k` nearest of the index's rows of each of `queries`, shape (m, D).
    ///
    /// # Errors
    /// Those of [`ExactIndex::new`], with row numbers of `queries`; [`crate::ManifoldError::InvalidParameter`] for
    /// queries of other dimensions; [`crate::ManifoldError::ParameterNeedsMoreData`] unless 1 ≤ k ≤ n;
    /// [`crate::ManifoldError::Memory`] and [`crate::ManifoldError::Cancelled`].
    pub fn nearest(
        &self,
        queries: ArrayView2<'_, T>,
        k: usize,
        control: &dyn Control,
    ) -> Result<Nearest> {
        T::index_nearest(self, queries, k, control)
    }

    /// The `k` nearest other rows of some of the index's own: [`nearest_rows`] in parts, for tables whose
    /// answer is better streamed. Slower in all, because each pair is compared twice.
    ///
    /// # Errors
    /// [`crate::ManifoldError::InvalidParameter`] for rows past the end; [`crate::ManifoldError::ParameterNeedsMoreData`]
    /// unless 1 ≤ k < n; [`crate::ManifoldError::Memory`] and [`crate::ManifoldError::Cancelled`].
    pub fn nearest_others(
        &self,
        rows: Range<usize>,
        k: usize,
        control: &dyn Control,
    ) -> Result<Nearest> {
        T::index_nearest_others(self, rows, k, control)
    }

    /// The distances from one query, D numbers, to all rows in their order: what a search or a weighted mean
    /// over few rows is measured by.
    ///
    /// # Errors
    /// Those of [`ExactIndex::nearest`].
    pub fn all_distances(&self, query: ArrayView1<'_, T>) -> Result<Vec<f64>> {
        T::index_all_distances(self, query)
    }

    /// Rows in the index (n).
    #[must_use]
    pub fn len(&self) -> usize {
        self.base.points().len()
    }

    /// Whether there is nothing to be found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Dimensions of the rows (D).
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.base.points().dimensions()
    }

    /// What is searched for.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.base.metric
    }

    /// Bytes of an index of so many rows, to be reserved by whoever keeps it; searches reserve what they
    /// need beyond it.
    #[must_use]
    pub fn predicted_bytes(rows: usize, dimensions: usize, metric: Metric) -> usize {
        foreign::predicted_bytes::<T>(rows, dimensions, metric)
    }

    fn answer(&self, found: Found, query: impl Fn(usize) -> Vec<T>) -> Result<Nearest> {
        let k = found.k;
        let points = self.base.points();
        // Of a query so much larger than the rows that its distances overflowed where theirs did not vanish.
        let far = |i: usize, id: u32| {
            let row = points.row(id as usize).iter();
            let row: Vec<T> = row
                .map(|v| v.scaled_twice(-scale_up(self.enlarged)))
                .collect();
            squared_distance(&query(i / k), &row).sqrt()
        };
        nearest(found, self.base.metric, self.enlarged, far)
    }
}

/// The `k` nearest other rows of every row of `features`, shape (n, D). A row is never its own neighbour,
/// but an equal row is one. Faster than [`ExactIndex::nearest`] by computing each pair's product once.
///
/// # Errors
/// [`crate::ManifoldError::NonFinite`] and [`crate::ManifoldError::TooLarge`] for unusable values,
/// [`crate::ManifoldError::ZeroVector`] under [`Metric::Cosine`], [`crate::ManifoldError::ParameterNeedsMoreData`] unless
/// 1 ≤ k < n, [`crate::ManifoldError::Memory`] and [`crate::ManifoldError::Cancelled`].
pub fn nearest_rows<T: Feature>(
    features: ArrayView2<'_, T>,
    k: usize,
    metric: Metric,
    control: &dyn Control,
) -> Result<Nearest> {
    T::nearest_rows(features, k, metric, control)
}

pub(crate) fn rows<T: Feature>(
    features: ArrayView2<'_, T>,
    k: usize,
    metric: Metric,
    control: &dyn Control,
) -> Result<Nearest> {
    let (found, enlarged) = join(features, ("k", k), metric, control)?;
    // Distances within a table do not overflow: its largest value set the scale.
    nearest(found, metric, enlarged, |_, _| f64::INFINITY)
}

/// The self-join, with the parameter's name for errors, and the steps by which the values were enlarged.
pub(super) fn join<T: Feature>(
    features: ArrayView2<'_, T>,
    (name, k): (&'static str, usize),
    metric: Metric,
    control: &dyn Control,
) -> Result<(Found, u32)> {
    check(features)?;
    let (n, dimensions) = features.dim();
    check_count(name, k, n.saturating_sub(1), n)?;
    let budget = Budget::new(control);
    let copy = n * dimensions * size_of::<T>();
    let bytes = super::predicted_join_bytes(n, dimensions, k, metric) + copy;
    budget.reserve("exact neighbours", bytes)?;
    let (values, enlarged) = values(features, metric, None)?;
    let points = Points::new(&values, dimensions);
    Ok((self_join_found(points, k, metric, control)?, enlarged))
}

pub(crate) fn index<T: Feature>(features: Array2<T>, metric: Metric) -> Result<ExactIndex<T>> {
    check(features.view())?;
    let dimensions = features.ncols();
    let mut values = if features.is_standard_layout() {
        features.into_raw_vec_and_offset().0
    } else {
        features.iter().copied().collect()
    };
    let enlarged = prepare(&mut values, dimensions, metric)?;
    Ok(ExactIndex {
        base: Base::with_metric(values, dimensions, metric),
        enlarged,
    })
}

pub(crate) fn search<T: Feature>(
    index: &ExactIndex<T>,
    queries: ArrayView2<'_, T>,
    k: usize,
    control: &dyn Control,
) -> Result<Nearest> {
    let dimensions = index.dimensions();
    check_queries(queries, dimensions)?;
    check_count("k", k, index.len(), index.len())?;
    let budget = Budget::new(control);
    let copy = queries.len() * size_of::<T>();
    let bytes = search_bytes(index, queries.nrows(), k) + copy;
    budget.reserve("exact neighbours", bytes)?;
    let (values, _) = values(queries, index.metric(), Some(index.enlarged))?;
    let points = Points::new(&values, dimensions);
    let base = &index.base;
    let found = base.nearest_allowed(points, k, None, control)?;
    index.answer(found, |row| queries.row(row).to_vec())
}

pub(crate) fn search_others<T: Feature>(
    index: &ExactIndex<T>,
    rows: Range<usize>,
    k: usize,
    control: &dyn Control,
) -> Result<Nearest> {
    let n = index.len();
    check_range(&rows, n)?;
    check_count("k", k, n.saturating_sub(1), n)?;
    let budget = Budget::new(control);
    budget.reserve("exact neighbours", search_bytes(index, rows.len(), k))?;
    let start = rows.start;
    let queries = index.base.points().rows(rows);
    let others = |place: usize, id: u32| start + place != id as usize;
    let found = index
        .base
        .nearest_allowed(queries, k, Some(&others), control)?;
    index.answer(found, |_| Vec::new())
}

pub(crate) fn all_distances<T: Feature>(
    index: &ExactIndex<T>,
    query: ArrayView1<'_, T>,
) -> Result<Vec<f64>> {
    let points = index.base.points();
    check_queries(query.insert_axis(Axis(0)), points.dimensions())?;
    let (values, _) = values(
        query.insert_axis(Axis(0)),
        index.metric(),
        Some(index.enlarged),
    )?;
    let found = keys_of_all(points.len(), |row| points.row(row), &values, index.metric());
    let nearest = index.answer(found, |_| query.to_vec())?;
    Ok(nearest.distances.into_raw_vec_and_offset().0)
}

/// Of one search, its result included.
fn search_bytes<T: Feature>(index: &ExactIndex<T>, queries: usize, k: usize) -> usize {
    index.base.search_bytes(queries, k) + queries * k * (size_of::<u32>() + size_of::<f64>())
}

#[cfg(test)]
mod tests;
