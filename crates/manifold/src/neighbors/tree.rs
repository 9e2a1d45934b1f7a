//! A k-d tree for points of few dimensions.

use rayon::prelude::*;

use super::Found;
use super::best::Best;
use crate::control::Meter;
use crate::points::{Feature, Points, squared_distance};
use crate::{Control, Phase, Result};

const LEAF: usize = 16;
/// Queries between two looks at the control.
const CHUNK: usize = 1024;
/// The bound of a cell and the distance of a point in it are rounded differently; a cell is skipped
/// only if it is farther by more than both roundings.
const SLACK: f64 = 1.0 - 1e-12;

#[derive(Debug, Clone)]
enum Node {
    Leaf {
        start: usize,
        end: usize,
    },
    Split {
        dimension: usize,
        /// Left points are at most this in `dimension`, right points at least.
        at: f64,
        left: usize,
        right: usize,
    },
}

/// Some of the points, which every call is given anew.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    ids: Vec<u32>,
    nodes: Vec<Node>,
}

/// What stays the same during one descent.
struct Search<'a, T, A> {
    points: Points<'a, T>,
    query: &'a [T],
    allowed: A,
}

impl Tree {
    pub(super) fn new<T: Feature>(points: Points<'_, T>, mut ids: Vec<u32>) -> Self {
        let mut nodes = Vec::with_capacity(4 * ids.len() / LEAF + 1);
        let end = ids.len();
        split(points, &mut ids, 0, end, &mut nodes);
        Self { ids, nodes }
    }

    /// Offers every point that `allowed` lets through and that may be among the best.
    fn search<T: Feature>(
        &self,
        points: Points<'_, T>,
        query: &[T],
        best: &mut Best,
        allowed: impl Fn(u32) -> bool,
    ) {
        let mut offsets = vec![0.0; query.len()];
        let search = Search {
            points,
            query,
            allowed,
        };
        self.visit(0, &search, 0.0, &mut offsets, best);
    }

    /// `bound` is the squared distance from the query to the node's cell and `offsets` its parts by
    /// dimension (Arya and Mount 1993).
    fn visit<T: Feature, A: Fn(u32) -> bool>(
        &self,
        node: usize,
        search: &Search<'_, T, A>,
        bound: f64,
        offsets: &mut [f64],
        best: &mut Best,
    ) {
        if bound * SLACK > best.worst() {
            return;
        }
        match self.nodes[node] {
            Node::Leaf { start, end } => {
                for &id in &self.ids[start..end] {
                    if (search.allowed)(id) {
                        let point = search.points.row(id as usize);
                        best.offer(squared_distance(search.query, point), id);
                    }
                }
            }
            Node::Split {
                dimension,
                at,
                left,
                right,
            } => {
                let offset = search.query[dimension].to_f64() - at;
                let (near, far) = if offset <= 0.0 {
                    (left, right)
                } else {
                    (right, left)
                };
                self.visit(near, search, bound, offsets, best);
                let before = offsets[dimension];
                let farther = bound - before * before + offset * offset;
                offsets[dimension] = offset;
                self.visit(far, search, farther, offsets, best);
                offsets[dimension] = before;
            }
        }
    }
}

/// Splits `ids[start..end]` at the median of its widest dimension and returns its node.
fn split<T: Feature>(
    points: Points<'_, T>,
    ids: &mut [u32],
    start: usize,
    end: usize,
    nodes: &mut Vec<Node>,
) -> usize {
    let node = nodes.len();
    nodes.push(Node::Leaf { start, end });
    if end - start <= LEAF {
        return node;
    }
    let value = |id: u32, dimension: usize| points.row(id as usize)[dimension].to_f64();
    let width = |dimension: usize| {
        let (low, high) = ids[start..end]
            .iter()
            .map(|&id| value(id, dimension))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
                (low.min(v), high.max(v))
            });
        high - low
    };
    let (dimension, _) = (0..points.dimensions())
        .map(|dimension| (dimension, width(dimension)))
        .fold(
            (0, -1.0),
            |widest, next| if next.1 > widest.1 { next } else { widest },
        );
    let middle = start + (end - start) / 2;
    ids[start..end].select_nth_unstable_by(middle - start, |&a, &b| {
        value(a, dimension)
            .total_cmp(&value(b, dimension))
            .then(a.cmp(&b))
    });
    let at = value(ids[middle], dimension);
    let left = split(points, ids, start, middle, nodes);
    let right = split(points, ids, middle, end, nodes);
    nodes[node] = Node::Split {
        dimension,
        at,
        left,
        right,
    };
    node
}

pub(super) fn self_join<T: Feature>(
    points: Points<'_, T>,
    k: usize,
    control: &dyn Control,
) -> Result<Found> {
    let tree = Tree::new(points, (0..points.len() as u32).collect());
    let meter = Meter::new(control, Phase::Neighbors, points.len() as u64);
    // Identity decides what "itself" is: another point may lie at distance zero of rounding.
    let others = |place: usize, id: u32| place != id as usize;
    tree.nearest(points, points, k, &others, &meter)
}

impl Tree {
    /// The k nearest points of each query, nearest first, among those that
    /// `allowed(place of the query, point)` lets through (at least k of them).
    pub(super) fn nearest<T: Feature>(
        &self,
        points: Points<'_, T>,
        queries: Points<'_, T>,
        k: usize,
        allowed: &(impl Fn(usize, u32) -> bool + Sync),
        meter: &Meter<'_>,
    ) -> Result<Found> {
        let mut found = Found::new(queries.len(), k);
        found
            .par_chunks_mut(CHUNK)
            .enumerate()
            .try_for_each(|(chunk, (ids, keys))| {
                meter.check()?;
                let mut best = Best::new(k);
                let outputs = ids.chunks_mut(k).zip(keys.chunks_mut(k));
                for (offset, (ids, keys)) in outputs.enumerate() {
                    let place = chunk * CHUNK + offset;
                    best.clear();
                    let allowed = |id: u32| allowed(place, id);
                    self.search(points, queries.row(place), &mut best, allowed);
                    best.write(ids, keys);
                }
                meter.add((ids.len() / k) as u64);
                Ok::<(), crate::ManifoldError>(())
            })?;
        Ok(found)
    }
}

pub(super) fn nearest_outside<T: Feature>(
    points: Points<'_, T>,
    queries: &[u32],
    group: &[u32],
    control: &dyn Control,
) -> Result<Vec<u32>> {
    let mut answers = vec![0; queries.len()];
    let mut by_group: Vec<u32> = (0..queries.len() as u32).collect();
    by_group.sort_by_key(|&q| (group[queries[q as usize] as usize], q));
    let same_group = |&a: &u32, &b: &u32| {
        group[queries[a as usize] as usize] == group[queries[b as usize] as usize]
    };
    let everything = Tree::new(points, (0..points.len() as u32).collect());
    for members in by_group.chunk_by(same_group) {
        let own = group[queries[members[0] as usize] as usize];
        // A query has to wade through its own group; a large group is worth a tree without it.
        let others = (members.len() > points.len().isqrt()).then(|| {
            let ids = (0..points.len() as u32).filter(|&id| group[id as usize] != own);
            Tree::new(points, ids.collect())
        });
        let tree = others.as_ref().unwrap_or(&everything);
        let found: Result<Vec<(u32, u32)>> = members
            .par_iter()
            .with_min_len(64)
            .map(|&q| {
                if control.is_cancelled() {
                    return Err(crate::ManifoldError::Cancelled);
                }
                let mut best = Best::new(1);
                let query = points.row(queries[q as usize] as usize);
                let allowed = |id: u32| group[id as usize] != own;
                tree.search(points, query, &mut best, allowed);
                Ok((q, best.nearest().unwrap_or_default()))
            })
            .collect();
        for (q, id) in found? {
            answers[q as usize] = id;
        }
    }
    Ok(answers)
}

pub(super) fn predicted_bytes(points: usize) -> usize {
    points * 4 + 4 * points / LEAF * size_of::<Node>()
}
