//! Neighbours by blocked matrix products.
//!
//! ‖x − y‖² = ‖x‖² + ‖y‖² − 2 x·y, with x·y from products of centred, scaled `f32` blocks. Those values
//! only propose: every point keeps more candidates than it needs, `f64` differences rank them, and a
//! bound on the rounding error ([`ErrorBound`]) certifies that no other point can belong to the answer.
//! Points without a certificate get more candidates; what is still uncertain then (ties by the dozen) is
//! compared with every point in `f64`.

use std::sync::Mutex;

use rayon::prelude::*;

use super::best::Best;
use super::centred::{Centred, ErrorBound, Frame};
use super::proposals::{BLOCK, Block, Candidate, Side, kept, multiply, propose_both, propose_rows};
use crate::control::Meter;
use crate::points::{Feature, Points, squared_distance};
use crate::{Control, ManifoldError, Phase, Result};

pub(super) fn predicted_bytes(points: usize, dimensions: usize, k: usize) -> usize {
    let candidates = 2 * kept(k, points) * size_of::<Candidate>() + 8;
    points * (dimensions * 4 + 12 + candidates) + rayon::current_num_threads() * BLOCK * BLOCK * 4
}

/// What of the points to be searched does not depend on the query.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    frame: Frame,
    centred: Centred,
}

impl Prepared {
    pub(super) fn new<T: Feature>(points: Points<'_, T>) -> Self {
        let frame = Frame::around(points);
        let centred = Centred::new(&frame, points);
        Self { frame, centred }
    }
}

/// The points to be searched and how many of them are wanted.
pub(super) struct Problem<'a, T> {
    points: Points<'a, T>,
    prepared: &'a Prepared,
    bound: ErrorBound,
    k: usize,
}

/// A query of a larger norm in the frame could overflow the products.
const LARGEST_NORM: f64 = 1e15;

impl<'a, T: Feature> Problem<'a, T> {
    pub(super) fn new(points: Points<'a, T>, prepared: &'a Prepared, k: usize) -> Self {
        Self {
            points,
            prepared,
            bound: ErrorBound::new(points.dimensions()),
            k,
        }
    }

    /// Ranks the candidates of a query, whose norm in the frame is `norm`, in `f64`. False if some point
    /// outside them might be nearer.
    fn certify(
        &self,
        query: &[T],
        norm: f64,
        candidates: &[Candidate],
        threshold: f32,
        best: &mut Best,
    ) -> bool {
        best.clear();
        if norm.is_nan() || norm > LARGEST_NORM {
            return false;
        }
        for candidate in candidates {
            let other = self.points.row(candidate.id as usize);
            best.offer(squared_distance(query, other), candidate.id);
        }
        if threshold == f32::NEG_INFINITY {
            return best.is_full();
        }
        let scale = self.prepared.frame.scale;
        let reach = best.worst() * scale * scale;
        let left_out = norm * norm - 2.0 * f64::from(threshold);
        left_out > self.bound.proposed_squared_distance(norm, reach)
    }

    /// Writes the neighbours of a block's queries and returns the places of those without a certificate.
    fn settle(
        &self,
        block: &Block,
        queries: Points<'_, T>,
        norms: &[f64],
        out: &mut [u32],
    ) -> Vec<usize> {
        let mut best = Best::new(self.k);
        let mut uncertain = Vec::new();
        for (place, out) in out.chunks_mut(self.k).enumerate() {
            let (candidates, threshold) = (block.candidates(place), block.thresholds[place]);
            let certain = crate::simd::widest(
                #[inline(always)]
                || {
                    let query = queries.row(place);
                    self.certify(query, norms[place], candidates, threshold, &mut best)
                },
            );
            if certain {
                out.iter_mut()
                    .zip(best.ids())
                    .for_each(|(out, id)| *out = id);
            } else {
                uncertain.push(place);
            }
        }
        uncertain
    }
}

pub(super) fn self_join<T: Feature>(
    points: Points<'_, T>,
    k: usize,
    control: &dyn Control,
) -> Result<Vec<u32>> {
    let n = points.len();
    let prepared = Prepared::new(points);
    let problem = Problem::new(points, &prepared, k);
    let keep = kept(k, n);
    let blocks: Vec<Mutex<Block>> = (0..n)
        .step_by(BLOCK)
        .map(|start| Mutex::new(Block::new(BLOCK.min(n - start), keep)))
        .collect();
    propose_pairs(&prepared.centred, &blocks, n, control)?;

    let mut ids = vec![0; n * k];
    let uncertain: Result<Vec<Vec<u32>>> = ids
        .par_chunks_mut(BLOCK * k)
        .zip(blocks)
        .enumerate()
        .map(|(number, (out, block))| {
            if control.is_cancelled() {
                return Err(ManifoldError::Cancelled);
            }
            let block = block
                .into_inner()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let (start, end) = (number * BLOCK, number * BLOCK + out.len() / k);
            let norms = &prepared.centred.norms[start..end];
            let uncertain = problem.settle(&block, points.rows(start..end), norms, out);
            Ok(uncertain
                .into_iter()
                .map(|place| (start + place) as u32)
                .collect())
        })
        .collect();
    let uncertain: Vec<u32> = uncertain?.concat();
    tracing::debug!(
        points = n,
        uncertain = uncertain.len(),
        "neighbours proposed"
    );
    if !uncertain.is_empty() {
        let queries = points.gather(&uncertain);
        let queries = Points::new(&queries, points.dimensions());
        let allowed = |place: usize, id: u32| uncertain[place] != id;
        let found = search(&problem, queries, 4 * keep, &allowed, control)?;
        for (&query, found) in uncertain.iter().zip(found.chunks(k)) {
            ids[query as usize * k..][..k].copy_from_slice(found);
        }
    }
    Ok(ids)
}

/// Computes each product of two blocks once and proposes its pairs to both.
fn propose_pairs(
    centred: &Centred,
    blocks: &[Mutex<Block>],
    n: usize,
    control: &dyn Control,
) -> Result<()> {
    let pairs: Vec<(usize, usize)> = (0..blocks.len())
        .flat_map(|i| (i..blocks.len()).map(move |j| (i, j)))
        .collect();
    let meter = Meter::new(control, Phase::Neighbors, pairs.len() as u64);
    let range = |block: usize| (block * BLOCK, (block * BLOCK + BLOCK).min(n));
    pairs.par_iter().try_for_each_init(
        || vec![0.0f32; BLOCK * BLOCK],
        |products, &(i, j)| {
            meter.check()?;
            let ((i_start, i_end), (j_start, j_end)) = (range(i), range(j));
            let width = j_end - j_start;
            let products = &mut products[..(i_end - i_start) * width];
            multiply(
                products,
                centred.rows(i_start, i_end),
                centred.rows(j_start, j_end),
            );
            let rows = lock(&blocks[i]);
            let side = Side {
                start: j_start,
                half_norms: &centred.half_norms[j_start..j_end],
            };
            if i == j {
                let mut rows = rows;
                let skip = |query: usize, id: usize| i_start + query == id;
                crate::simd::widest(
                    #[inline(always)]
                    || propose_rows(products, &mut rows, side, skip),
                );
            } else {
                let (mut rows, mut columns) = (rows, lock(&blocks[j]));
                let own = Side {
                    start: i_start,
                    half_norms: &centred.half_norms[i_start..i_end],
                };
                crate::simd::widest(
                    #[inline(always)]
                    || propose_both(products, &mut rows, own, &mut columns, side),
                );
            }
            meter.add(1);
            Ok(())
        },
    )
}

fn lock(block: &Mutex<Block>) -> std::sync::MutexGuard<'_, Block> {
    block
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The k nearest points of each query, nearest first, among those that `allowed(place of the query, point)`
/// lets through (at least k of them).
pub(super) fn search<T: Feature>(
    problem: &Problem<'_, T>,
    queries: Points<'_, T>,
    keep: usize,
    allowed: &(dyn Fn(usize, u32) -> bool + Sync),
    control: &dyn Control,
) -> Result<Vec<u32>> {
    let k = problem.k;
    let keep = keep.min(problem.points.len());
    let mut ids = vec![0; queries.len() * k];
    let uncertain: Result<Vec<Vec<usize>>> = ids
        .par_chunks_mut(BLOCK * k)
        .enumerate()
        .map(|(number, out)| {
            let start = number * BLOCK;
            let queries = queries.rows(start..start + out.len() / k);
            let centred = Centred::new(&problem.prepared.frame, queries);
            let allowed = |place: usize, id: u32| allowed(start + place, id);
            let block = propose_to(problem, &centred, keep, &allowed, control)?;
            let mut uncertain = problem.settle(&block, queries, &centred.norms, out);
            uncertain.iter_mut().for_each(|place| *place += start);
            Ok(uncertain)
        })
        .collect();
    let exact: Result<Vec<(usize, Vec<u32>)>> = uncertain?
        .concat()
        .into_par_iter()
        .map(|place| {
            if control.is_cancelled() {
                return Err(ManifoldError::Cancelled);
            }
            let allowed = |id: u32| allowed(place, id);
            Ok((place, scan(problem, queries.row(place), &allowed)))
        })
        .collect();
    for (place, found) in exact? {
        ids[place * k..][..k].copy_from_slice(&found);
    }
    Ok(ids)
}

/// The k nearest points of one query, by comparing it with every allowed one in `f64`.
fn scan<T: Feature>(
    problem: &Problem<'_, T>,
    query: &[T],
    allowed: &(dyn Fn(u32) -> bool + Sync),
) -> Vec<u32> {
    let mut best = Best::new(problem.k);
    crate::simd::widest(
        #[inline(always)]
        || {
            for id in (0..problem.points.len() as u32).filter(|&id| allowed(id)) {
                let other = problem.points.row(id as usize);
                best.offer(squared_distance(query, other), id);
            }
        },
    );
    best.ids().collect()
}

/// Proposes every allowed point to at most [`BLOCK`] queries.
fn propose_to<T: Feature>(
    problem: &Problem<'_, T>,
    queries: &Centred,
    keep: usize,
    allowed: &dyn Fn(usize, u32) -> bool,
    control: &dyn Control,
) -> Result<Block> {
    let centred = &problem.prepared.centred;
    let (n, count) = (problem.points.len(), queries.norms.len());
    let mut block = Block::new(count, keep);
    let mut products = vec![0.0; count * BLOCK.min(n)];
    for start in (0..n).step_by(BLOCK) {
        if control.is_cancelled() {
            return Err(ManifoldError::Cancelled);
        }
        let end = (start + BLOCK).min(n);
        let products = &mut products[..count * (end - start)];
        multiply(products, queries.rows(0, count), centred.rows(start, end));
        let side = Side {
            start,
            half_norms: &centred.half_norms[start..end],
        };
        let skip = |query: usize, id: usize| !allowed(query, id as u32);
        crate::simd::widest(
            #[inline(always)]
            || propose_rows(products, &mut block, side, skip),
        );
    }
    Ok(block)
}

pub(super) fn nearest_outside<T: Feature>(
    points: Points<'_, T>,
    queries: &[u32],
    group: &[u32],
    control: &dyn Control,
) -> Result<Vec<u32>> {
    let prepared = Prepared::new(points);
    let problem = Problem::new(points, &prepared, 1);
    let rows = points.gather(queries);
    let rows = Points::new(&rows, points.dimensions());
    let allowed = |place: usize, id: u32| group[queries[place] as usize] != group[id as usize];
    search(&problem, rows, kept(1, points.len()), &allowed, control)
}
