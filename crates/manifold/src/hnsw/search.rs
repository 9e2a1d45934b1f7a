//! Queries: the graph proposes, exact keys decide.

use std::sync::{Mutex, PoisonError};

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use super::Hnsw;
use super::beam::Beam;
use super::near::Prepared;
use super::space::{Query, Space};
use crate::control::Meter;
use crate::points::largest_magnitude;
use crate::{Control, ManifoldError, Metric, Nearest, Phase, Result};

/// Queries that one thread takes at a time: few, so that all are done at about the same time.
const CHUNK: usize = 16;
/// Vertices whose vectors are asked for before they are compared.
const AHEAD: usize = 2;
/// A graph search compares this many rows for each that it keeps in view, or more: where that is every row,
/// all are compared.
const COMPARED_PER_KEPT: usize = 8;
/// So many kept in view cost more in bookkeeping than comparing everything.
const LARGEST_VIEW: usize = 1 << 14;

/// Whether a search with so many in view compares every vertex.
pub(super) fn compares_all(view: usize, vertices: usize) -> bool {
    view > LARGEST_VIEW || view.saturating_mul(COMPARED_PER_KEPT) >= vertices
}

/// A row that was found, and what it is ordered by.
pub(super) type Ranked = (f64, u32);

/// One query's search.
pub(super) struct Searcher<'a> {
    pub(super) index: &'a Hnsw,
    pub(super) space: Space<'a>,
    levels: Vec<super::graph::Level<'a>>,
    pub(super) beam: Beam,
    query: Prepared<'a>,
    ranked: Vec<Ranked>,
}

impl<'a> Searcher<'a> {
    pub(super) fn new(index: &'a Hnsw) -> Self {
        let space = index.space();
        Self {
            index,
            space,
            levels: index.graph.levels(),
            beam: Beam::default(),
            query: Prepared::new(index),
            ranked: Vec::new(),
        }
    }

    /// The `k` nearest rows, with `except` left out.
    pub(super) fn nearest(
        &mut self,
        query: &[f32],
        k: usize,
        ef: usize,
        except: Option<u32>,
    ) -> &[Ranked] {
        let wanted = k + usize::from(except.is_some());
        let view = ef.max(wanted);
        if compares_all(view, self.index.vertices.len()) {
            self.scan(query, k, &|row| Some(row) != except);
            return &self.ranked;
        }
        self.find(query, view);
        self.rank(query, wanted, &|row| Some(row) != except);
        self.ranked.truncate(k);
        if self.ranked.len() < k {
            self.scan(query, k, &|row| Some(row) != except);
        }
        &self.ranked
    }

    /// Fills the beam's pool.
    fn find(&mut self, query: &[f32], ef: usize) {
        self.query.set(query);
        let near = self.query.near();
        self.beam.descend(&near, &self.levels, 0);
        self.beam.search(&near, self.levels[0], ef);
    }

    /// Orders the rows of the pool's nearest vertices by their exact keys. A few more vertices than are wanted,
    /// because sums in `f32`, or of codes, may have misjudged the last ones.
    fn rank(&mut self, query: &[f32], wanted: usize, keep: &dyn Fn(u32) -> bool) {
        let most = wanted + wanted / 4 + 8;
        self.ranked.clear();
        let pool = &self.beam.pool[..self.beam.pool.len().min(most)];
        let rows = self.space.rows;
        pool.iter()
            .take(AHEAD)
            .for_each(|seen| rows.prefetch(seen.vertex()));
        for (place, seen) in pool.iter().enumerate() {
            if let Some(ahead) = pool.get(place + AHEAD) {
                rows.prefetch(ahead.vertex());
            }
            push_rows(
                self.index,
                &self.space,
                query,
                seen.vertex(),
                wanted,
                keep,
                &mut self.ranked,
            );
        }
        sort(&mut self.ranked);
    }

    /// Compares every row.
    pub(super) fn scan(&mut self, query: &[f32], k: usize, keep: &dyn Fn(u32) -> bool) {
        self.ranked.clear();
        for vertex in 0..self.index.vertices.len() as u32 {
            push_rows(
                self.index,
                &self.space,
                query,
                vertex,
                k,
                keep,
                &mut self.ranked,
            );
        }
        sort(&mut self.ranked);
        self.ranked.truncate(k);
    }

    pub(super) fn ranked(&self) -> &[Ranked] {
        &self.ranked
    }
}

/// The first `most` rows of a vertex that `keep` lets through.
pub(super) fn push_rows(
    index: &Hnsw,
    space: &Space<'_>,
    query: &[f32],
    vertex: u32,
    most: usize,
    keep: &dyn Fn(u32) -> bool,
    ranked: &mut Vec<Ranked>,
) {
    let rows = index.vertices.rows(vertex).iter().copied();
    let mut rows = rows.filter(|&row| keep(row)).take(most).peekable();
    if rows.peek().is_some() {
        let key = space.key(query, vertex);
        ranked.extend(rows.map(|row| (key, row)));
    }
}

pub(super) fn sort(ranked: &mut [Ranked]) {
    ranked.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
}

/// The query with its padding, and the space in which neither overflows. Where length does not matter,
/// the query gets that of the rows.
pub(super) fn prepare<'s, 'p>(
    space: Space<'s>,
    query: &[f32],
    padded: &'p mut Vec<f32>,
) -> (Space<'s>, Query<'p>) {
    padded.clear();
    padded.resize(space.rows.stride, 0.0);
    let largest = largest_magnitude(query);
    let unit = match space.metric {
        Metric::L2 => 1.0,
        _ if largest == 0.0 => 1.0,
        Metric::InnerProduct if space.scale != 0.0 => (space.scale * f64::from(largest)).recip(),
        Metric::Cosine | Metric::InnerProduct => f64::from(largest).recip(),
    };
    for (padded, &value) in padded.iter_mut().zip(query) {
        *padded = (f64::from(value) * unit) as f32;
    }
    let space = space.reaching(largest);
    let factor = match space.metric {
        Metric::Cosine => space.factor_of(padded),
        Metric::L2 | Metric::InnerProduct => 0.0,
    };
    let values = padded.as_slice();
    (
        space,
        Query {
            values,
            factor,
            is_own: false,
        },
    )
}

/// What a key is to people, see [`Metric`].
pub(super) fn distance(metric: Metric, key: f64) -> f64 {
    match metric {
        Metric::L2 => key.sqrt(),
        Metric::Cosine => key,
        Metric::InnerProduct => 0.0 - key,
    }
}

/// Searches for many queries: `query` gives each, and the row that is left out.
pub(super) fn search_all<'q>(
    index: &Hnsw,
    count: usize,
    query: &(dyn Fn(usize) -> (std::borrow::Cow<'q, [f32]>, Option<u32>) + Sync),
    (k, ef): (usize, usize),
    control: &dyn Control,
) -> Result<Nearest> {
    let metric = index.metric();
    let mut ids = vec![0u32; count * k];
    let mut distances = vec![0.0; count * k];
    let meter = Meter::new(control, Phase::Neighbors, count as u64);
    // Each has a mark for every vertex: one serves many chunks, whichever thread takes them.
    let searchers = Mutex::new(Vec::new());
    let idle = || searchers.lock().unwrap_or_else(PoisonError::into_inner);
    if k > 0 {
        let places = ids.par_chunks_mut(CHUNK * k);
        let places = places.zip(distances.par_chunks_mut(CHUNK * k));
        let searched = places
            .enumerate()
            .with_max_len(1)
            .map(|(chunk, (ids, distances))| {
                meter.check()?;
                let searcher = idle().pop();
                let mut searcher = searcher.unwrap_or_else(|| Searcher::new(index));
                let places = ids.chunks_mut(k).zip(distances.chunks_mut(k));
                for (place, (ids, distances)) in places.enumerate() {
                    let (query, except) = query(chunk * CHUNK + place);
                    let found = searcher.nearest(&query, k, ef, except);
                    for ((&(key, row), id), out) in found.iter().zip(ids).zip(distances) {
                        (*id, *out) = (row, distance(metric, key));
                    }
                }
                idle().push(searcher);
                meter.add(CHUNK as u64);
                Ok(())
            });
        searched.collect::<Result<()>>()?;
    }
    Ok(Nearest {
        ids: table(ids, count, k)?,
        distances: table(distances, count, k)?,
    })
}

fn table<V>(values: Vec<V>, rows: usize, k: usize) -> Result<Array2<V>> {
    Array2::from_shape_vec((rows, k), values).map_err(|error| ManifoldError::LinearAlgebra {
        operation: "the shape of the neighbour table",
        detail: error.to_string(),
    })
}

/// Whether queries can be compared with the rows of an index.
pub(super) fn check_queries(index: &Hnsw, queries: ArrayView2<'_, f32>) -> Result<()> {
    if queries.ncols() != index.dimensions() {
        return Err(ManifoldError::InvalidParameter {
            name: "queries",
            value: format!("{} dimensions", queries.ncols()),
            requirement: format!("of the index's {} dimensions", index.dimensions()),
        });
    }
    crate::points::check(queries)?;
    check_directions(index.metric(), queries)
}

/// Cosine distances need directions.
pub(super) fn check_directions(metric: Metric, rows: ArrayView2<'_, f32>) -> Result<()> {
    if metric == Metric::Cosine {
        let mut rows = rows.rows().into_iter();
        if let Some(row) = rows.position(|row| row.iter().all(|&v| v == 0.0)) {
            return Err(ManifoldError::ZeroVector { row });
        }
    }
    Ok(())
}
