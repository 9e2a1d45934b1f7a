//! Neighbours by blocked matrix products.
//!
//! ‖x − y‖² = ‖x‖² + ‖y‖² − 2 x·y, with x·y from products of centred, scaled `f32` blocks. Those values
//! only propose: every point keeps more candidates than it needs, `f64` sums rank them, and a bound on the
//! rounding error ([`super::bound::ErrorBound`]) certifies that no other point can belong to the answer.
//! Points without a certificate get more candidates; what is still uncertain then (ties by the dozen) is
//! compared with every point in `f64`. Cosine distances are proposed as distances of unit vectors, inner
//! products as themselves.

use std::cmp::Ordering;
use std::sync::Mutex;

use rayon::prelude::*;

use super::centred::Centred;
use super::problem::{Prepared, Problem, Query, View};
use super::proposals::{BLOCK, Block, Candidate, Side, kept, multiply, propose_both, propose_rows};
use super::{Found, Metric};
use crate::control::Meter;
use crate::points::{Feature, Points};
use crate::{Control, ManifoldError, Phase, Result};

/// What a self-join allocates beside its result.
pub(super) fn predicted_bytes(points: usize, dimensions: usize, k: usize, metric: Metric) -> usize {
    let own = Prepared::predicted_bytes(points, dimensions, metric);
    let threads = rayon::current_num_threads();
    let keep = kept(k, points);
    if proposals_pay(keep, points) {
        own + points * (2 * keep * size_of::<Candidate>() + 8) + threads * BLOCK * BLOCK * 4
    } else {
        own + threads * scan_room(k) * size_of::<(f64, u32)>()
    }
}

/// What a search for so many queries allocates beside its result, the points' own preparation excepted.
pub(super) fn predicted_search_bytes(
    points: usize,
    dimensions: usize,
    queries: usize,
    k: usize,
) -> usize {
    let threads = rayon::current_num_threads().min(queries.div_ceil(BLOCK));
    let keep = kept(k, points);
    if proposals_pay(keep, points) {
        let candidates = 2 * keep * size_of::<Candidate>() + 8;
        threads * BLOCK * (BLOCK * 4 + dimensions * 4 + 36 + candidates)
    } else {
        queries * (dimensions * 4 + 36) + threads * scan_room(k) * size_of::<(f64, u32)>()
    }
}

/// Whether few enough of the points are candidates for products to save anything.
fn proposals_pay(keep: usize, points: usize) -> bool {
    2 * keep < points
}

/// The k nearest other points of every point; `k` is below the number of points.
pub(super) fn self_join<T: Feature>(
    points: Points<'_, T>,
    k: usize,
    metric: Metric,
    control: &dyn Control,
) -> Result<Found> {
    let n = points.len();
    let prepared = Prepared::new(points, metric);
    let problem = Problem::new(points, &prepared, k);
    let keep = kept(k, n);
    if !proposals_pay(keep, n) {
        let others = |place: usize, id: u32| place != id as usize;
        return scan_all(&problem, points, &prepared.view, &others, control);
    }
    let blocks: Vec<Mutex<Block>> = (0..n)
        .step_by(BLOCK)
        .map(|start| Mutex::new(Block::new(BLOCK.min(n - start), keep)))
        .collect();
    propose_pairs(&prepared.view.centred, &blocks, n, control)?;

    let mut found = Found::new(n, k);
    let uncertain: Result<Vec<Vec<usize>>> = found
        .par_chunks_mut(BLOCK)
        .zip(blocks)
        .enumerate()
        .map(|(number, (out, block))| {
            if control.is_cancelled() {
                return Err(ManifoldError::Cancelled);
            }
            let mut block = block
                .into_inner()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            Ok(problem.settle(&mut block, points, &prepared.view, number * BLOCK, out))
        })
        .collect();
    let uncertain: Vec<u32> = uncertain?.concat().iter().map(|&i| i as u32).collect();
    tracing::debug!(
        points = n,
        uncertain = uncertain.len(),
        "neighbours proposed"
    );
    if !uncertain.is_empty() {
        let queries = points.gather(&uncertain);
        let queries = Points::new(&queries, points.dimensions());
        let allowed = |place: usize, id: u32| uncertain[place] != id;
        let better = search(&problem, queries, 4 * keep, Some(&allowed), control)?;
        for (place, &query) in uncertain.iter().enumerate() {
            found.copy(query as usize, &better, place);
        }
    }
    Ok(found)
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
                offsets: &centred.offsets[j_start..j_end],
            };
            if i == j {
                let mut rows = rows;
                let skip = |query: usize, id: usize| i_start + query == id;
                crate::simd::widest(
                    #[inline(always)]
                    || propose_rows(products, &mut rows, side, false, skip),
                );
            } else {
                let (mut rows, mut columns) = (rows, lock(&blocks[j]));
                let own = Side {
                    start: i_start,
                    offsets: &centred.offsets[i_start..i_end],
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

/// Whether a point may be the neighbour of a query, by (place of the query, point).
pub(super) type Allowed<'a> = &'a (dyn Fn(usize, u32) -> bool + Sync);

/// The k nearest points of each query, nearest first, among those that `allowed` lets through (at least k of
/// them), or among all.
pub(super) fn search<T: Feature>(
    problem: &Problem<'_, T>,
    queries: Points<'_, T>,
    keep: usize,
    allowed: Option<Allowed<'_>>,
    control: &dyn Control,
) -> Result<Found> {
    let any = |place: usize, id: u32| allowed.is_none_or(|allowed| allowed(place, id));
    if !proposals_pay(keep, problem.points.len()) {
        let view = problem.prepared.view(queries);
        return scan_all(problem, queries, &view, &any, control);
    }
    let mut found = Found::new(queries.len(), problem.k);
    let uncertain: Result<Vec<Vec<usize>>> = found
        .par_chunks_mut(BLOCK)
        .enumerate()
        .map(|(number, out)| {
            let start = number * BLOCK;
            let queries = queries.rows(start..(start + BLOCK).min(queries.len()));
            let view = problem.prepared.view(queries);
            let some = |place: usize, id: u32| any(start + place, id);
            let some = allowed
                .is_some()
                .then_some(&some as &dyn Fn(usize, u32) -> bool);
            let mut block = propose_to(problem, &view.centred, keep, some, control)?;
            let mut uncertain = problem.settle(&mut block, queries, &view, 0, out);
            uncertain.iter_mut().for_each(|place| *place += start);
            Ok(uncertain)
        })
        .collect();
    let uncertain = uncertain?.concat();
    if !uncertain.is_empty() {
        let ids: Vec<u32> = uncertain.iter().map(|&place| place as u32).collect();
        let rows = queries.gather(&ids);
        let rows = Points::new(&rows, queries.dimensions());
        let view = problem.prepared.view(rows);
        let allowed = |place: usize, id: u32| any(uncertain[place], id);
        let exact = scan_all(problem, rows, &view, &allowed, control)?;
        for (place, &query) in uncertain.iter().enumerate() {
            found.copy(query, &exact, place);
        }
    }
    Ok(found)
}

/// The same by comparing every query with every allowed point in `f64`.
fn scan_all<T: Feature>(
    problem: &Problem<'_, T>,
    queries: Points<'_, T>,
    view: &View,
    allowed: &(dyn Fn(usize, u32) -> bool + Sync),
    control: &dyn Control,
) -> Result<Found> {
    let mut found = Found::new(queries.len(), problem.k);
    found.par_chunks_mut(1).enumerate().try_for_each_init(
        Vec::new,
        |nearest, (place, (ids, keys))| {
            if control.is_cancelled() {
                return Err(ManifoldError::Cancelled);
            }
            let query = Query::new(queries, view, place);
            scan(problem, query, &|id| allowed(place, id), nearest);
            for ((key, id), (out_id, out_key)) in nearest.iter().zip(ids.iter_mut().zip(keys)) {
                (*out_id, *out_key) = (*id, *key);
            }
            Ok(())
        },
    )?;
    Ok(found)
}

/// Points that a scan holds at a time: with room for twice as many as are wanted each costs O(1).
fn scan_room(k: usize) -> usize {
    2 * k.max(512)
}

/// The k nearest points of one query, sorted.
fn scan<T: Feature>(
    problem: &Problem<'_, T>,
    query: Query<'_, T>,
    allowed: &dyn Fn(u32) -> bool,
    nearest: &mut Vec<(f64, u32)>,
) {
    let order = |a: &(f64, u32), b: &(f64, u32)| a.partial_cmp(b).unwrap_or(Ordering::Equal);
    let (k, room) = (problem.k, scan_room(problem.k));
    let mut worst = f64::INFINITY;
    nearest.clear();
    crate::simd::widest(
        #[inline(always)]
        || {
            for id in (0..problem.points.len() as u32).filter(|&id| allowed(id)) {
                let key = problem.key(query, id);
                if key <= worst {
                    nearest.push((key, id));
                }
                if nearest.len() == room {
                    nearest.select_nth_unstable_by(k - 1, order);
                    nearest.truncate(k);
                    worst = nearest[k - 1].0;
                }
            }
        },
    );
    nearest.sort_unstable_by(order);
    nearest.truncate(k);
}

/// Proposes every allowed point to at most [`BLOCK`] queries; all of them if `allowed` says nothing.
fn propose_to<T: Feature>(
    problem: &Problem<'_, T>,
    queries: &Centred,
    keep: usize,
    allowed: Option<&dyn Fn(usize, u32) -> bool>,
    control: &dyn Control,
) -> Result<Block> {
    let centred = &problem.prepared.view.centred;
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
            offsets: &centred.offsets[start..end],
        };
        match allowed {
            Some(allowed) => {
                let skip = |query: usize, id: usize| !allowed(query, id as u32);
                crate::simd::widest(
                    #[inline(always)]
                    || propose_rows(products, &mut block, side, false, skip),
                );
            }
            None => crate::simd::widest(
                #[inline(always)]
                || propose_rows(products, &mut block, side, true, |_, _| false),
            ),
        }
    }
    Ok(block)
}

pub(super) fn nearest_outside<T: Feature>(
    points: Points<'_, T>,
    queries: &[u32],
    group: &[u32],
    control: &dyn Control,
) -> Result<Vec<u32>> {
    let prepared = Prepared::new(points, Metric::L2);
    let problem = Problem::new(points, &prepared, 1);
    let rows = points.gather(queries);
    let rows = Points::new(&rows, points.dimensions());
    let allowed = |place: usize, id: u32| group[queries[place] as usize] != group[id as usize];
    let keep = kept(1, points.len());
    Ok(search(&problem, rows, keep, Some(&allowed), control)?.ids)
}
