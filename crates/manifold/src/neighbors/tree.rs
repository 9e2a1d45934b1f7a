//! A k-d tree for points of few dimensions.

use rayon::prelude::*;

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

struct Tree<'a, T> {
    points: Points<'a, T>,
    ids: Vec<u32>,
    nodes: Vec<Node>,
}

impl<'a, T: Feature> Tree<'a, T> {
    fn new(points: Points<'a, T>, mut ids: Vec<u32>) -> Self {
        let mut nodes = Vec::with_capacity(4 * ids.len() / LEAF + 1);
        let end = ids.len();
        split(points, &mut ids, 0, end, &mut nodes);
        Self { points, ids, nodes }
    }

    /// Offers every point that `allowed` lets through and that may be among the best.
    fn search(&self, query: &[T], best: &mut Best, allowed: &impl Fn(u32) -> bool) {
        let mut offsets = vec![0.0; query.len()];
        self.visit(0, query, 0.0, &mut offsets, best, allowed);
    }

    /// `bound` is the squared distance from the query to the node's cell and `offsets` its parts by
    /// dimension (Arya and Mount 1993).
    fn visit(
        &self,
        node: usize,
        query: &[T],
        bound: f64,
        offsets: &mut [f64],
        best: &mut Best,
        allowed: &impl Fn(u32) -> bool,
    ) {
        if bound * SLACK > best.worst() {
            return;
        }
        match self.nodes[node] {
            Node::Leaf { start, end } => {
                for &id in &self.ids[start..end] {
                    if allowed(id) {
                        best.offer(squared_distance(query, self.points.row(id as usize)), id);
                    }
                }
            }
            Node::Split {
                dimension,
                at,
                left,
                right,
            } => {
                let offset = query[dimension].to_f64() - at;
                let (near, far) = if offset <= 0.0 {
                    (left, right)
                } else {
                    (right, left)
                };
                self.visit(near, query, bound, offsets, best, allowed);
                let before = offsets[dimension];
                let farther = bound - before * before + offset * offset;
                offsets[dimension] = offset;
                self.visit(far, query, farther, offsets, best, allowed);
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
) -> Result<Vec<u32>> {
    let tree = Tree::new(points, (0..points.len() as u32).collect());
    let meter = Meter::new(control, Phase::Neighbors, points.len() as u64);
    let mut ids = vec![0; points.len() * k];
    ids.par_chunks_mut(CHUNK * k)
        .enumerate()
        .try_for_each(|(chunk, out)| {
            meter.check()?;
            let mut best = Best::new(k);
            for (offset, out) in out.chunks_mut(k).enumerate() {
                let point = chunk * CHUNK + offset;
                best.clear();
                // Identity decides what "itself" is: another point may lie at distance zero of rounding.
                tree.search(points.row(point), &mut best, &|id| id as usize != point);
                out.iter_mut()
                    .zip(best.ids())
                    .for_each(|(out, id)| *out = id);
            }
            meter.add((out.len() / k) as u64);
            Ok::<(), crate::ManifoldError>(())
        })?;
    Ok(ids)
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
                tree.search(query, &mut best, &|id| group[id as usize] != own);
                Ok((q, best.ids().next().unwrap_or_default()))
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
