//! Searches without a fixed number of vertices in view: under a filter, and without end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Hnsw;
use super::beam::{Beam, Seen, Visited};
use super::graph::Level;
use super::near::Prepared;
use super::search::{Ranked, Searcher, distance, push_rows, sort};
use super::space::Space;

/// A walk from the entry point that always goes on from the nearest vertex seen.
struct Walk<'a> {
    index: &'a Hnsw,
    space: Space<'a>,
    level: Level<'a>,
    query: Prepared<'a>,
    visited: Visited,
    frontier: BinaryHeap<Reverse<Seen>>,
    fresh: Vec<u32>,
    distances: Vec<f32>,
    compared: usize,
}

impl<'a> Walk<'a> {
    fn new(index: &'a Hnsw, query: &[f32]) -> Self {
        let levels = index.graph.levels();
        let mut prepared = Prepared::new(index);
        prepared.set(query);
        let (mut beam, mut visited) = (Beam::default(), Visited::default());
        let mut frontier = BinaryHeap::new();
        visited.start(levels[0].len());
        if levels[0].len() > 0 {
            beam.descend(&prepared.near(), &levels, 0);
            for &seen in &beam.pool {
                visited.insert(seen.vertex());
                frontier.push(Reverse(seen));
            }
        }
        Self {
            index,
            space: index.space(),
            level: levels[0],
            query: prepared,
            visited,
            frontier,
            fresh: Vec::new(),
            distances: Vec::new(),
            compared: 0,
        }
    }

    /// Takes the nearest vertex off the frontier and puts its neighbours there.
    fn step(&mut self) -> Option<Seen> {
        let Reverse(nearest) = self.frontier.pop()?;
        let near = self.query.near();
        self.fresh.clear();
        for &neighbor in self.level.neighbors(nearest.vertex()) {
            if self.visited.insert(neighbor) {
                near.prefetch(neighbor);
                self.fresh.push(neighbor);
            }
        }
        self.compared += self.fresh.len();
        self.distances.resize(self.fresh.len(), 0.0);
        near.distances(&self.fresh, &mut self.distances);
        let fresh = self.fresh.iter().zip(&self.distances);
        self.frontier
            .extend(fresh.map(|(&vertex, &distance)| Reverse(Seen::new(distance, vertex))));
        Some(nearest)
    }
}

/// A walk that has compared this share of the vertices gives way to comparing those that are let through.
const LARGEST_SHARE: usize = 4;

/// See [`Hnsw::search_filtered`].
pub(super) fn filtered(
    index: &Hnsw,
    query: &[f32],
    k: usize,
    ef: usize,
    keep: &dyn Fn(u32) -> bool,
) -> Vec<(u32, f64)> {
    let mut walk = Walk::new(index, query);
    let ef = ef.max(k);
    let limit = index.vertices.len() / LARGEST_SHARE;
    // The farthest of the `ef` nearest vertices that are let through is on top.
    let mut passed: BinaryHeap<Seen> = BinaryHeap::new();
    let found = loop {
        if walk.compared > limit || ef > limit {
            let mut searcher = Searcher::new(index);
            searcher.scan(query, k, keep);
            break searcher.ranked().to_vec();
        }
        let Some(seen) = walk.step() else {
            let mut searcher = Searcher::new(index);
            searcher.scan(query, k, keep);
            break searcher.ranked().to_vec();
        };
        if passed.len() >= ef && passed.peek().is_some_and(|&worst| seen > worst) {
            let mut ranked: Vec<Ranked> = Vec::new();
            for seen in passed {
                push_rows(
                    index,
                    &walk.space,
                    query,
                    seen.vertex(),
                    k,
                    keep,
                    &mut ranked,
                );
            }
            sort(&mut ranked);
            ranked.truncate(k);
            break ranked;
        }
        if index
            .vertices
            .rows(seen.vertex())
            .iter()
            .any(|&row| keep(row))
        {
            passed.push(seen);
            if passed.len() > ef {
                passed.pop();
            }
        }
    };
    let metric = index.metric();
    let found = found.into_iter();
    found
        .map(|(key, row)| (row, distance(metric, key)))
        .collect()
}

/// See [`Hnsw::nearest_first`]: (row, distance). A vertex is given once `ef_search` more have been looked at;
/// vertices that no path leads to come last.
pub struct NearestFirst<'a> {
    walk: Walk<'a>,
    query: Vec<f32>,
    ef: usize,
    /// Vertices that were looked at and not given, by their exact keys.
    waiting: BinaryHeap<Reverse<Waiting>>,
    /// Rows of the vertex that is being given, the last one first.
    rows: Vec<u32>,
    distance: f64,
    is_exhausted: bool,
}

#[derive(PartialEq)]
struct Waiting(f64, u32);

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

impl<'a> NearestFirst<'a> {
    pub(super) fn new(index: &'a Hnsw, query: &[f32], ef: usize) -> Self {
        Self {
            walk: Walk::new(index, query),
            query: query.to_vec(),
            ef,
            waiting: BinaryHeap::new(),
            rows: Vec::new(),
            distance: 0.0,
            is_exhausted: false,
        }
    }

    fn wait(&mut self, vertex: u32) {
        let key = self.walk.space.key(&self.query, vertex);
        self.waiting.push(Reverse(Waiting(key, vertex)));
    }

    /// Looks ahead, in the end at what no path leads to.
    fn look(&mut self) {
        while !self.is_exhausted && self.waiting.len() < self.ef {
            if let Some(seen) = self.walk.step() {
                self.wait(seen.vertex());
                continue;
            }
            self.is_exhausted = true;
            for vertex in 0..self.walk.index.vertices.len() as u32 {
                if self.walk.visited.insert(vertex) {
                    self.wait(vertex);
                }
            }
        }
    }
}

impl Iterator for NearestFirst<'_> {
    type Item = (u32, f64);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rows.is_empty() {
            self.look();
            let Reverse(Waiting(key, vertex)) = self.waiting.pop()?;
            self.distance = distance(self.walk.index.metric(), key);
            let rows = self.walk.index.vertices.rows(vertex).iter();
            self.rows.extend(rows.rev());
        }
        self.rows.pop().map(|row| (row, self.distance))
    }
}
