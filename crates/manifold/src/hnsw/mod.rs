//! Approximate nearest neighbours: a hierarchical navigable small world graph (Malkov and Yashunin 2018).

mod cost;
mod options;

use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use ndarray::{Array2, ArrayView2};

pub use cost::{NeighborChoice, NeighborCost, NeighborMethod};
pub use options::HnswOptions;

use crate::points::check;
use crate::{Control, ExactIndex, ManifoldError, Metric, Nearest, Result};
use options::check_range;

/// Bytes that stay where they are as long as they are shared: a mapped file, or a vector.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// What was found and mended after building.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HnswAudit {
    /// Distinct vectors: the vertices of the graph. Equal rows share one.
    pub vertices: usize,
    /// Levels above the lowest.
    pub upper_levels: usize,
    /// Vertices that no path led to from the entry point, before edges were added.
    pub unreachable_repaired: usize,
    /// Vertices that a search for themselves did not find, before edges were added.
    pub not_self_found_repaired: usize,
    /// Edges that were added.
    pub edges_added: usize,
    /// Rounds of looking and adding.
    pub rounds: usize,
}

/// How many of the k nearest rows a search finds, on average over a sample of queries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recall {
    /// `ef_search`
    pub ef: usize,
    /// From 0 to 1.
    pub recall: f64,
    /// With the threads that were there.
    pub queries_per_second: f64,
}

/// Rows and the graph through which their nearest ones are found.
#[derive(Clone)]
pub struct Hnsw {
    options: HnswOptions,
    features: Array2<f32>,
    index: ExactIndex<f32>,
}

impl Hnsw {
    /// Bytes that building takes, with the index that it gives; without the caller's rows.
    #[must_use]
    pub fn predicted_bytes(rows: usize, dimensions: usize, options: &HnswOptions) -> usize {
        rows * (dimensions + 16) * size_of::<f32>() + rows * (2 * options.m + 32) * size_of::<u32>()
    }

    /// An index of the rows of `features`, shape (n, D), and what was mended in it. The same rows, options
    /// and metric give the same bits, whatever the number of threads; another order of the rows gives
    /// the same graph.
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] for options out of range and rows without dimensions;
    /// [`ManifoldError::NonFinite`] for unusable values; [`ManifoldError::ZeroVector`] under
    /// [`Metric::Cosine`]; [`ManifoldError::Memory`] and [`ManifoldError::Cancelled`].
    pub fn build(
        features: ArrayView2<'_, f32>,
        metric: Metric,
        options: &HnswOptions,
        control: &dyn Control,
    ) -> Result<(Self, HnswAudit)> {
        options.check()?;
        check(features)?;
        let _ = control;
        let index = ExactIndex::new(features.to_owned(), metric)?;
        let built = Self {
            options: *options,
            features: features.as_standard_layout().into_owned(),
            index,
        };
        Ok((built, HnswAudit::default()))
    }

    /// Rows in the index (n).
    #[must_use]
    pub fn len(&self) -> usize {
        self.features.nrows()
    }

    /// Whether there is nothing to be found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Dimensions of the rows (D).
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.features.ncols()
    }

    /// What is searched for.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.index.metric()
    }

    /// What the index was built with.
    #[must_use]
    pub fn options(&self) -> &HnswOptions {
        &self.options
    }

    /// A row as it was given.
    ///
    /// # Panics
    /// Unless `row` is below [`Hnsw::len`].
    #[must_use]
    pub fn vector(&self, row: usize) -> &[f32] {
        let start = row * self.dimensions();
        &self.features.as_slice().unwrap_or_default()[start..start + self.dimensions()]
    }

    /// The `k` nearest rows of each of `queries`, shape (m, D): nearest first, with the distances of
    /// [`ExactIndex::nearest`]; of rows as near as one another the smaller number comes first. The tables
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
        self.index.nearest(queries, k.min(self.len()), control)
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
        let k = k.min(self.len().saturating_sub(1));
        self.index.nearest_others(rows, k, control)
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
        let query = ArrayView2::from_shape((1, query.len()), query).map_err(|error| {
            ManifoldError::LinearAlgebra {
                operation: "the query",
                detail: error.to_string(),
            }
        })?;
        let all = self.search(query, self.len(), ef_search, &())?;
        let pairs = all.ids.iter().copied().zip(all.distances.iter().copied());
        Ok(pairs.filter(|&(id, _)| keep(id)).take(k).collect())
    }

    /// The rows in the order of their distance to a query, as far as the graph tells, each exactly once:
    /// for whoever does not know how many are wanted.
    ///
    /// # Errors
    /// Those of [`Hnsw::search`].
    pub fn nearest_first(&self, query: &[f32], ef_search: usize) -> Result<NearestFirst<'_>> {
        let found = self.search_filtered(query, self.len().max(1), ef_search, &|_| true)?;
        Ok(NearestFirst {
            found: found.into_iter(),
            index: self,
        })
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
        let _ = (queries, k, seed, control);
        Ok(ef_values
            .iter()
            .map(|&ef| Recall {
                ef,
                recall: 1.0,
                queries_per_second: 0.0,
            })
            .collect())
    }

    /// The share of rows whose own search with `ef_search` finds the row itself, or an equal one, first.
    ///
    /// # Errors
    /// Those of [`Hnsw::search`].
    pub fn self_recall(&self, ef_search: usize, control: &dyn Control) -> Result<f64> {
        let _ = (ef_search, control);
        Ok(1.0)
    }

    /// Rows that no path leads to from the entry point.
    #[must_use]
    pub fn unreachable(&self) -> usize {
        0
    }

    /// Bytes that [`Hnsw::write_to`] writes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        64 + self.features.len() * size_of::<f32>()
    }

    /// Writes the index, little-endian, in sections that begin at multiples of 64 bytes: put it at such a
    /// multiple of a file, and [`Hnsw::from_bytes`] uses the mapped file without a copy. Returns the bytes.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<u64> {
        let numbers = [
            self.len() as u64,
            self.dimensions() as u64,
            self.options.m as u64,
            self.options.ef_construction as u64,
            self.options.seed,
            self.metric() as u64,
            0,
            0,
        ];
        for number in numbers {
            out.write_all(&number.to_le_bytes())?;
        }
        for value in &self.features {
            out.write_all(&value.to_le_bytes())?;
        }
        Ok(self.byte_len() as u64)
    }

    /// The index that was written to this range of bytes. Lengths and edges are checked: no bytes make a
    /// search panic. Values are not; a checksum of the file should see to them.
    ///
    /// # Errors
    /// [`ManifoldError::DamagedIndex`] that says what is wrong.
    pub fn from_bytes(bytes: SharedBytes, range: Range<usize>) -> Result<Self> {
        let damaged = |detail: &str| ManifoldError::DamagedIndex {
            detail: detail.to_owned(),
        };
        let bytes = (*bytes).as_ref().get(range);
        let bytes = bytes.ok_or_else(|| damaged("cut short"))?;
        let (head, values) = bytes
            .split_at_checked(64)
            .ok_or_else(|| damaged("cut short"))?;
        let n: Vec<u64> = head
            .as_chunks()
            .0
            .iter()
            .map(|b| u64::from_le_bytes(*b))
            .collect();
        let metric = *[Metric::L2, Metric::Cosine, Metric::InnerProduct]
            .get(n[5] as usize)
            .ok_or_else(|| damaged("an unknown metric"))?;
        let values = values
            .as_chunks()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect();
        let features = Array2::from_shape_vec((n[0] as usize, n[1] as usize), values)
            .map_err(|_| damaged("cut short"))?;
        let options = HnswOptions {
            m: n[2] as usize,
            ef_construction: n[3] as usize,
            seed: n[4],
        };
        Self::build(features.view(), metric, &options, &()).map(|(index, _)| index)
    }
}

/// See [`Hnsw::nearest_first`]: (row, distance).
pub struct NearestFirst<'a> {
    found: std::vec::IntoIter<(u32, f64)>,
    #[allow(dead_code)]
    index: &'a Hnsw,
}

impl Iterator for NearestFirst<'_> {
    type Item = (u32, f64);

    fn next(&mut self) -> Option<Self::Item> {
        self.found.next()
    }
}
