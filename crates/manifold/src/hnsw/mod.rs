//! Approximate nearest neighbours: a hierarchical navigable small world graph (Malkov and Yashunin 2018).

mod audit;
mod beam;
mod build;
mod bytes;
mod cost;
mod graph;
mod lanes;
mod options;
mod part;
mod recall;
mod search;
mod select;
mod space;
mod vertices;
mod walk;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::borrow::Cow;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use ndarray::ArrayView2;
use rayon::prelude::*;

pub use cost::{NeighborChoice, NeighborCost, NeighborMethod};
pub use options::HnswOptions;
pub use walk::NearestFirst;

use crate::control::{Budget, Meter, stop_if_cancelled};
use crate::points::{check, dot};
use crate::{Control, ManifoldError, Metric, Nearest, Phase, Result};
use graph::Graph;
use lanes::Rows;
use options::check_range;
use part::Part;
use space::Space;
use vertices::Vertices;

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
    /// Vertices that no path leads to after that: 0 unless lists ran out of room.
    pub unreachable: usize,
    /// Vertices that a search for themselves does not find after that: 0 unless lists ran out of room.
    pub not_self_found: usize,
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
    metric: Metric,
    dimensions: usize,
    vertices: Vertices,
    /// Of the vertices, padded.
    vectors: Part<f32>,
    /// See [`Space::factors`]; empty under [`Metric::L2`].
    factors: Part<f32>,
    /// See [`Space::scale`].
    scale: f64,
    graph: Graph,
}

impl Hnsw {
    /// Bytes that building takes, with the index that it gives; without the caller's rows.
    #[must_use]
    pub fn predicted_bytes(rows: usize, dimensions: usize, options: &HnswOptions) -> usize {
        let vectors = padded(dimensions) * size_of::<f32>();
        let lists = (graph::stride(2 * options.m)
            + graph::stride(options.m) / (options.m - 1).max(1))
            * size_of::<u32>();
        let maps = 3 * size_of::<u32>() + size_of::<f32>();
        // The edges of a batch, three times, with the lists that they change.
        let batch = options.m * 4 * 16 / 50 + 4 * 2 * options.m * size_of::<u32>() / 50;
        let threads = rayon::current_num_threads();
        rows * (vectors + lists + maps + batch + vertices::BYTES_PER_ROW + threads)
            + threads * options.ef_construction * 64
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
        search::check_directions(metric, features)?;
        let budget = Budget::new(control);
        budget.reserve(
            "a neighbour index",
            Self::predicted_bytes(features.nrows(), features.ncols(), options),
        )?;
        stop_if_cancelled(control)?;
        let mut index = Self::without_edges(features, metric, options)?;
        let mut graph = std::mem::replace(&mut index.graph, Graph::empty(options.m));
        let count = index.vertices.len() as u64;
        let meter = Meter::new(control, Phase::Index, count);
        build::insert_all(&mut graph, &index.space(), options.ef_construction, &meter)?;
        let meter = Meter::new(control, Phase::Audit, count);
        let audit = audit::mend(&mut graph, &index.space(), &meter)?;
        index.graph = graph;
        Ok((index, audit))
    }

    fn without_edges(
        features: ArrayView2<'_, f32>,
        metric: Metric,
        options: &HnswOptions,
    ) -> Result<Self> {
        let dimensions = features.ncols();
        let (vertices, counts) = vertices::vertices(features, options.m, options.seed);
        if vertices.len() > LARGEST_COUNT {
            return Err(ManifoldError::InvalidParameter {
                name: "features",
                value: format!("{} distinct rows", vertices.len()),
                requirement: format!("at most {LARGEST_COUNT} distinct rows for an index"),
            });
        }
        let stride = padded(dimensions);
        let mut vectors = Part::zeros(vertices.len() * stride);
        let rows = vectors.as_mut_slice().par_chunks_mut(stride).enumerate();
        rows.for_each(|(vertex, padded)| {
            let row = features.row(vertices.rows(vertex as u32)[0] as usize);
            padded.iter_mut().zip(row).for_each(|(out, v)| *out = *v);
        });
        let (scale, factors) = factors(metric, vectors.as_slice(), stride);
        Ok(Self {
            options: *options,
            metric,
            dimensions,
            vertices,
            vectors,
            factors: factors.as_slice().into(),
            scale,
            graph: Graph::new(options.m, &counts),
        })
    }

    fn space(&self) -> Space<'_> {
        let rows = Rows {
            values: self.vectors.as_slice(),
            stride: padded(self.dimensions),
        };
        let factors = self.factors.as_slice();
        Space::new(self.metric, self.dimensions, rows, factors, self.scale)
    }

    /// Rows in the index (n).
    #[must_use]
    pub fn len(&self) -> usize {
        self.vertices.vertex_of_row.len()
    }

    /// Whether there is nothing to be found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Dimensions of the rows (D).
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// What is searched for.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
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
        let vertex = self.vertices.vertex_of_row.as_slice()[row];
        self.space().vector(vertex)
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
        check_range("queries", queries, 1, u32::MAX as usize)?;
        check_range("k", k, 1, u32::MAX as usize)?;
        for &ef in ef_values {
            check_range("ef_search", ef, 1, HnswOptions::LARGEST_EF)?;
        }
        recall::recall(self, queries, k, ef_values, seed, control)
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

    /// Bytes that [`Hnsw::write_to`] writes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        bytes::length(self)
    }

    /// Writes the index, little-endian, in sections that begin at multiples of 64 bytes: put it at such a
    /// multiple of a file, and [`Hnsw::from_bytes`] uses the mapped file without a copy. Returns the bytes.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<u64> {
        bytes::write(self, out)
    }

    /// The index that was written to this range of bytes. Lengths and edges are checked: no bytes make a
    /// search panic. Values are not; a checksum of the file should see to them.
    ///
    /// # Errors
    /// [`ManifoldError::DamagedIndex`] that says what is wrong.
    pub fn from_bytes(bytes: SharedBytes, range: Range<usize>) -> Result<Self> {
        bytes::read(&bytes, range)
    }
}

/// Vertices that [`beam::Seen`] can tell apart.
const LARGEST_COUNT: usize = i32::MAX as usize;

/// Numbers from one row to the next.
fn padded(dimensions: usize) -> usize {
    dimensions.next_multiple_of(lanes::LANES)
}

/// The scale and the factors of padded rows, see [`Space`].
fn factors(metric: Metric, vectors: &[f32], stride: usize) -> (f64, Vec<f32>) {
    let rows = || vectors.par_chunks(stride);
    let largest = rows().map(space::largest).map(|v| (v, v));
    let (least, most) = largest
        .reduce_with(|a, b| (a.0.min(b.0), a.1.max(b.1)))
        .unwrap_or_default();
    let scale = space::scale(metric, least, most);
    if metric == Metric::L2 {
        return (scale, Vec::new());
    }
    let unit = if scale == 0.0 || metric == Metric::Cosine {
        1.0
    } else {
        scale * scale
    };
    let squares: Vec<f64> = rows().map(|row| dot(row, row) * unit).collect();
    let longest = squares
        .iter()
        .fold(0.0, |longest: f64, &square| longest.max(square));
    let factors = squares
        .iter()
        .map(|&square| space::factor(metric, square, longest));
    (scale, factors.collect())
}

fn one(query: &[f32]) -> Result<ArrayView2<'_, f32>> {
    ArrayView2::from_shape((1, query.len()), query).map_err(|error| ManifoldError::LinearAlgebra {
        operation: "the shape of the query",
        detail: error.to_string(),
    })
}

#[cfg(test)]
mod tests;
