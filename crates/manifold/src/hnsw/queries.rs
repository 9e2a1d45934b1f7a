//! What an index is asked: each question's parameters are checked, then it goes to the module that answers.

use std::borrow::Cow;
use std::ops::Range;

use ndarray::ArrayView2;

use super::options::check_range;
use super::walk::{self, NearestFirst};
use super::{Hnsw, HnswOptions, Recall, RecallSample, audit, recall, search};
use crate::control::Meter;
use crate::{Control, ManifoldError, Nearest, Phase, Result};

impl Hnsw {
    /// The `k` nearest rows of each of `queries`, shape (m, D): nearest first, with the distances of
    /// [`crate::ExactIndex::nearest`]; of rows as near as one another the smaller number comes first. The tables
    /// have `k` columns, or one for each row where there are fewer.
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] for queries of other dimensions and for `k` or `ef_search` of 0;
    /// those of [`Hnsw::build`] for the queries' values.
    pub fn search(
        &self,
        queries: ArrayView2<'_, f32>,
        k: usize,
        ef_search: usize,
        control: &dyn Control,
    ) -> Result<Nearest> {
        check_range("ef_search", ef_search, 1, HnswOptions::LARGEST_EF)?;
        check_range("k", k, 1, u32::MAX as usize)?;
        search::check_queries(self, queries)?;
        let query = |place: usize| -> (Cow<'_, [f32]>, Option<u32>) {
            let row = queries.row(place);
            let row = row
                .to_slice()
                .map_or_else(|| Cow::Owned(row.to_vec()), Cow::Borrowed);
            (row, None)
        };
        let k = k.min(self.len());
        search::search_all(self, queries.nrows(), &query, (k, ef_search), control)
    }

    /// The `k` nearest other rows of some of the index's own; a row is never its own neighbour, but an equal
    /// one is. The tables have `k` columns, or one for each other row where there are fewer.
    ///
    /// # Errors
    /// Those of [`Hnsw::search`]; [`ManifoldError::InvalidParameter`] for rows past the end.
    pub fn search_rows(
        &self,
        rows: Range<usize>,
        k: usize,
        ef_search: usize,
        control: &dyn Control,
    ) -> Result<Nearest> {
        check_range("ef_search", ef_search, 1, HnswOptions::LARGEST_EF)?;
        check_range("k", k, 1, u32::MAX as usize)?;
        let n = self.len();
        if rows.start > rows.end || rows.end > n {
            return Err(ManifoldError::InvalidParameter {
                name: "rows",
                value: format!("{rows:?}"),
                requirement: format!("a range within the index's {n} rows"),
            });
        }
        let query = |place: usize| {
            let row = rows.start + place;
            (Cow::Borrowed(self.vector(row)), Some(row as u32))
        };
        let k = k.min(n.saturating_sub(1));
        search::search_all(self, rows.len(), &query, (k, ef_search), control)
    }

    /// The `k` nearest rows of a query among those that `keep` lets through, nearest first, with their
    /// distances. The search goes on until so many are found; where few are let through, they are compared
    /// one by one. Fewer than `k` come only when no more are let through.
    ///
    /// # Errors
    /// Those of [`Hnsw::search`].
    pub fn search_filtered(
        &self,
        query: &[f32],
        k: usize,
        ef_search: usize,
        keep: &(dyn Fn(u32) -> bool + Sync),
    ) -> Result<Vec<(u32, f64)>> {
        check_range("ef_search", ef_search, 1, HnswOptions::LARGEST_EF)?;
        check_range("k", k, 1, u32::MAX as usize)?;
        search::check_queries(self, one(query)?)?;
        Ok(walk::filtered(self, query, k, ef_search, keep))
    }

    /// The rows in the order of their distance to a query, as far as the graph tells, each exactly once:
    /// for whoever does not know how many are wanted.
    ///
    /// # Errors
    /// Those of [`Hnsw::search`].
    pub fn nearest_first(&self, query: &[f32], ef_search: usize) -> Result<NearestFirst<'_>> {
        check_range("ef_search", ef_search, 1, HnswOptions::LARGEST_EF)?;
        search::check_queries(self, one(query)?)?;
        Ok(NearestFirst::new(self, query, ef_search))
    }

    /// Recall@k against exact search for each of `ef_values`, over `queries` rows of the index that are
    /// drawn by their seeded hashes, each searched among the others.
    ///
    /// # Errors
    /// Those of [`Hnsw::search`].
    pub fn recall(
        &self,
        queries: usize,
        k: usize,
        ef_values: &[usize],
        seed: u64,
        control: &dyn Control,
    ) -> Result<Vec<Recall>> {
        for &ef in ef_values {
            check_range("ef_search", ef, 1, HnswOptions::LARGEST_EF)?;
        }
        let sample = self.recall_sample(queries, k, seed, control)?;
        self.recall_of(&sample, ef_values, control)
    }

    /// `queries` rows of the index that are drawn by their seeded hashes, and how far their `k` nearest other rows are
    /// by exact search: what takes most of the time of [`Hnsw::recall`], for measuring more than once.
    ///
    /// # Errors
    /// Those of [`Hnsw::search`].
    pub fn recall_sample(
        &self,
        queries: usize,
        k: usize,
        seed: u64,
        control: &dyn Control,
    ) -> Result<RecallSample> {
        check_range("queries", queries, 1, u32::MAX as usize)?;
        check_range("k", k, 1, u32::MAX as usize)?;
        recall::draw(self, queries, k, seed, control)
    }

    /// Recall@k for each of `ef_values` on a sample that was drawn of this index.
    ///
    /// # Errors
    /// Those of [`Hnsw::search`]; [`ManifoldError::InvalidParameter`] for rows that are not there.
    pub fn recall_of(
        &self,
        sample: &RecallSample,
        ef_values: &[usize],
        control: &dyn Control,
    ) -> Result<Vec<Recall>> {
        for &ef in ef_values {
            check_range("ef_search", ef, 1, HnswOptions::LARGEST_EF)?;
        }
        recall::recall(self, sample, ef_values, control)
    }

    /// The share of rows whose own search with `ef_search` finds the row itself, or an equal one, first.
    ///
    /// # Errors
    /// Those of [`Hnsw::search`].
    pub fn self_recall(&self, ef_search: usize, control: &dyn Control) -> Result<f64> {
        check_range("ef_search", ef_search, 1, HnswOptions::LARGEST_EF)?;
        let meter = Meter::new(control, Phase::Audit, self.vertices.len() as u64);
        let missed = audit::missed(&self.graph, &self.space(), ef_search, Some(&meter))?;
        let rows = missed
            .iter()
            .map(|(vertex, _)| self.vertices.rows(*vertex).len());
        let missed: usize = rows.sum();
        Ok(1.0 - missed as f64 / self.len().max(1) as f64)
    }

    /// Rows that no path leads to from the entry point.
    #[must_use]
    pub fn unreachable(&self) -> usize {
        let vertices = audit::unreachable(&self.graph);
        let rows = vertices
            .iter()
            .map(|&vertex| self.vertices.rows(vertex).len());
        rows.sum()
    }
}

fn one(query: &[f32]) -> Result<ArrayView2<'_, f32>> {
    ArrayView2::from_shape((1, query.len()), query).map_err(|error| ManifoldError::LinearAlgebra {
        operation: "the shape of the query",
        detail: error.to_string(),
    })
}
