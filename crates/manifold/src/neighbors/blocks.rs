//! Neighbours by blocked matrix products.
//!
//! ‖x − y‖² = ‖x‖² + ‖y‖² − 2 x·y, with x·y from products of centred, scaled `f32` blocks. Those values
//! only propose: every point keeps more candidates than it needs, `f64` differences rank them, and a
//! bound on the rounding error ([`ErrorBound`]) certifies that no other point can belong to the answer.
//! Points without a certificate get more candidates; what is still uncertain then (ties by the dozen) is
//! compared with every point in `f64`.

use std::sync::Mutex;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::best::Best;
use crate::control::Meter;
use crate::points::{Feature, Points, squared_distance};
use crate::{Control, ManifoldError, Phase, Result};

/// Points a block: the products of two blocks fit the second-level cache.
const BLOCK: usize = 512;

/// Candidates kept for k neighbours. More of them make a second search rarer.
fn kept(k: usize, points: usize) -> usize {
    (k + (k / 2).max(8)).min(points)
}

pub(super) fn predicted_bytes(points: usize, dimensions: usize, k: usize) -> usize {
    let candidates = 2 * kept(k, points) * size_of::<Candidate>() + 8;
    points * (dimensions * 4 + 12 + candidates) + rayon::current_num_threads() * BLOCK * BLOCK * 4
}

/// Points moved to their middle and scaled by a power of two, in `f32`.
struct Centred {
    values: Vec<f32>,
    /// ‖c‖²/2 of each point.
    half_norms: Vec<f32>,
    /// ‖c‖ of each point.
    norms: Vec<f64>,
    scale: f64,
    dimensions: usize,
}

impl Centred {
    fn new<T: Feature>(points: Points<'_, T>) -> Self {
        let (n, dimensions) = (points.len(), points.dimensions());
        let middle = middle(points);
        let mut largest = vec![0.0f64; dimensions];
        for i in 0..n {
            for (largest, v) in largest.iter_mut().zip(points.row(i)) {
                *largest = largest.max(v.to_f64().abs());
            }
        }
        // The scale keeps squares of the largest value inside f32; a power of two costs no accuracy.
        let widest = (0..dimensions)
            .map(|j| largest[j] + middle[j].abs())
            .fold(0.0, f64::max);
        let scale = if widest > 0.0 {
            (-widest.log2().ceil()).exp2()
        } else {
            1.0
        };
        let mut values = vec![0.0f32; n * dimensions];
        values
            .par_chunks_mut(dimensions)
            .enumerate()
            .for_each(|(i, out)| {
                for ((out, v), middle) in out.iter_mut().zip(points.row(i)).zip(&middle) {
                    *out = ((v.to_f64() - middle) * scale) as f32;
                }
            });
        let squares = values.par_chunks(dimensions).map(|row| {
            row.iter()
                .map(|&v| f64::from(v) * f64::from(v))
                .sum::<f64>()
        });
        let squares: Vec<f64> = squares.collect();
        Self {
            half_norms: squares.iter().map(|s| (s / 2.0) as f32).collect(),
            norms: squares.iter().map(|s| s.sqrt()).collect(),
            values,
            scale,
            dimensions,
        }
    }

    fn rows(&self, start: usize, end: usize) -> MatRef<'_, f32> {
        MatRef::from_row_major_slice(
            &self.values[start * self.dimensions..end * self.dimensions],
            end - start,
            self.dimensions,
        )
    }
}

/// The median of each dimension over a sample. Unlike the mean it stays among the points when one of them
/// is far off.
fn middle<T: Feature>(points: Points<'_, T>) -> Vec<f64> {
    const SAMPLE: usize = 1001;
    let step = points.len().div_ceil(SAMPLE);
    let sample: Vec<&[T]> = (0..points.len())
        .step_by(step)
        .map(|i| points.row(i))
        .collect();
    (0..points.dimensions())
        .into_par_iter()
        .map(|j| {
            let mut values: Vec<f64> = sample.iter().map(|row| row[j].to_f64()).collect();
            let half = values.len() / 2;
            *values.select_nth_unstable_by(half, f64::total_cmp).1
        })
        .collect()
}

/// A proposed neighbour. `closeness` is x·y − ‖y‖²/2: the larger, the nearer.
#[derive(Clone, Copy)]
struct Candidate {
    closeness: f32,
    id: u32,
}

/// The best `keep` candidates of each point of a block, found so far.
struct Block {
    keep: usize,
    /// No candidate at or below this is kept any more.
    thresholds: Vec<f32>,
    lengths: Vec<u32>,
    candidates: Vec<Candidate>,
}

impl Block {
    fn new(points: usize, keep: usize) -> Self {
        let empty = Candidate {
            closeness: 0.0,
            id: 0,
        };
        Self {
            keep,
            thresholds: vec![f32::NEG_INFINITY; points],
            lengths: vec![0; points],
            candidates: vec![empty; points * 2 * keep],
        }
    }

    /// Room for twice as many as are kept makes an insertion cost O(1) on average.
    #[cold]
    fn insert(&mut self, point: usize, candidate: Candidate) {
        let room = 2 * self.keep;
        let own = &mut self.candidates[point * room..(point + 1) * room];
        let length = self.lengths[point] as usize;
        own[length] = candidate;
        self.lengths[point] += 1;
        if length + 1 == room {
            own.select_nth_unstable_by(self.keep - 1, |a, b| b.closeness.total_cmp(&a.closeness));
            self.thresholds[point] = own[self.keep - 1].closeness;
            self.lengths[point] = self.keep as u32;
        }
    }

    fn candidates(&self, point: usize) -> &[Candidate] {
        let start = point * 2 * self.keep;
        &self.candidates[start..start + self.lengths[point] as usize]
    }
}

/// What rounding can do to the closeness of one query's neighbours.
struct ErrorBound {
    /// Of a product of `dimensions` terms, relative to the product of the norms (Higham 2002, 3.1).
    dot: f64,
    unit: f64,
}

impl ErrorBound {
    fn new(dimensions: usize) -> Self {
        let unit = f64::from(f32::EPSILON) / 2.0;
        let terms = dimensions as f64 * unit;
        Self {
            dot: terms / (1.0 - terms),
            unit,
        }
    }

    /// The largest proposed squared distance that a point within true squared distance `reach` of a
    /// query of norm `norm` can have.
    fn proposed_squared_distance(&self, norm: f64, reach: f64) -> f64 {
        let other = norm + reach.sqrt();
        let rounded_input = reach.sqrt() + 1.01 * self.unit * (norm + other);
        let product = 2.0 * self.dot * norm * other;
        let sums = 2.0 * self.unit * (norm * other + other * other + norm * norm);
        (rounded_input * rounded_input + product + sums) * (1.0 + 1e-6)
            + f64::from(f32::MIN_POSITIVE)
    }
}

/// Everything that [`certify`] needs to know.
struct Problem<'a, T> {
    points: Points<'a, T>,
    centred: Centred,
    bound: ErrorBound,
    k: usize,
}

impl<'a, T: Feature> Problem<'a, T> {
    fn new(points: Points<'a, T>, k: usize) -> Self {
        Self {
            points,
            centred: Centred::new(points),
            bound: ErrorBound::new(points.dimensions()),
            k,
        }
    }

    /// Ranks the candidates of `query` in `f64`. False if some point outside them might be nearer.
    fn certify(
        &self,
        query: usize,
        candidates: &[Candidate],
        threshold: f32,
        best: &mut Best,
    ) -> bool {
        best.clear();
        for candidate in candidates {
            let other = self.points.row(candidate.id as usize);
            best.offer(
                squared_distance(self.points.row(query), other),
                candidate.id,
            );
        }
        if threshold == f32::NEG_INFINITY {
            return best.is_full();
        }
        let norm = self.centred.norms[query];
        let reach = best.worst() * self.centred.scale * self.centred.scale;
        let left_out = norm * norm - 2.0 * f64::from(threshold);
        left_out > self.bound.proposed_squared_distance(norm, reach)
    }

    /// Writes the neighbours of a block's queries and returns the places of those without a certificate.
    fn settle(&self, block: &Block, queries: &[u32], out: &mut [u32]) -> Vec<usize> {
        let mut best = Best::new(self.k);
        let mut uncertain = Vec::new();
        for (place, (out, &query)) in out.chunks_mut(self.k).zip(queries).enumerate() {
            let (candidates, threshold) = (block.candidates(place), block.thresholds[place]);
            if self.certify(query as usize, candidates, threshold, &mut best) {
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
    let problem = Problem::new(points, k);
    let keep = kept(k, n);
    let blocks: Vec<Mutex<Block>> = (0..n)
        .step_by(BLOCK)
        .map(|start| Mutex::new(Block::new(BLOCK.min(n - start), keep)))
        .collect();
    propose_pairs(&problem.centred, &blocks, n, control)?;

    let mut ids = vec![0; n * k];
    let uncertain: Vec<Vec<u32>> = ids
        .par_chunks_mut(BLOCK * k)
        .zip(blocks)
        .enumerate()
        .map(|(number, (out, block))| {
            let block = block
                .into_inner()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let first = (number * BLOCK) as u32;
            let queries: Vec<u32> = (first..).take(out.len() / k).collect();
            let uncertain = problem.settle(&block, &queries, out);
            uncertain
                .into_iter()
                .map(|place| first + place as u32)
                .collect()
        })
        .collect();
    let uncertain: Vec<u32> = uncertain.concat();
    tracing::debug!(
        points = n,
        uncertain = uncertain.len(),
        "neighbours proposed"
    );
    if !uncertain.is_empty() {
        let found = search(&problem, &uncertain, 4 * keep, &|q, id| q != id, control)?;
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

/// `products` (row by row) = `rows` · `columns`ᵀ.
fn multiply(products: &mut [f32], rows: MatRef<'_, f32>, columns: MatRef<'_, f32>) {
    let out = MatMut::from_row_major_slice_mut(products, rows.nrows(), columns.nrows());
    matmul(
        out,
        Accum::Replace,
        rows,
        columns.transpose(),
        1.0,
        Par::Seq,
    );
}

/// The points along one side of a block of products.
#[derive(Clone, Copy)]
struct Side<'a> {
    /// Id of the first.
    start: usize,
    half_norms: &'a [f32],
}

/// Comparisons made at once; a group is looked at closely only if one of them succeeds.
const GROUP: usize = 32;

#[inline(always)]
fn propose_rows(
    products: &[f32],
    rows: &mut Block,
    columns: Side<'_>,
    skip: impl Fn(usize, usize) -> bool,
) {
    let width = columns.half_norms.len();
    for (query, products) in products.chunks(width).enumerate() {
        let groups = products.chunks(GROUP).zip(columns.half_norms.chunks(GROUP));
        for (number, (products, half_norms)) in groups.enumerate() {
            let threshold = rows.thresholds[query];
            let mut any = false;
            for (p, h) in products.iter().zip(half_norms) {
                any |= p - h > threshold;
            }
            if !any {
                continue;
            }
            for (offset, (p, h)) in products.iter().zip(half_norms).enumerate() {
                let id = columns.start + number * GROUP + offset;
                let closeness = p - h;
                if closeness > rows.thresholds[query] && !skip(query, id) {
                    rows.insert(
                        query,
                        Candidate {
                            closeness,
                            id: id as u32,
                        },
                    );
                }
            }
        }
    }
}

#[inline(always)]
fn propose_both(
    products: &[f32],
    rows: &mut Block,
    row_side: Side<'_>,
    columns: &mut Block,
    column_side: Side<'_>,
) {
    let width = column_side.half_norms.len();
    for (query, products) in products.chunks(width).enumerate() {
        let own_half_norm = row_side.half_norms[query];
        let groups = products
            .chunks(GROUP)
            .zip(column_side.half_norms.chunks(GROUP));
        for (number, (products, half_norms)) in groups.enumerate() {
            let first = number * GROUP;
            let threshold = rows.thresholds[query];
            let thresholds = &columns.thresholds[first..first + products.len()];
            let mut any = false;
            for ((p, h), t) in products.iter().zip(half_norms).zip(thresholds) {
                any |= (p - h > threshold) | (p - own_half_norm > *t);
            }
            if !any {
                continue;
            }
            for (offset, (p, h)) in products.iter().zip(half_norms).enumerate() {
                let column = first + offset;
                let (to_row, to_column) = (p - h, p - own_half_norm);
                if to_row > rows.thresholds[query] {
                    let id = (column_side.start + column) as u32;
                    rows.insert(
                        query,
                        Candidate {
                            closeness: to_row,
                            id,
                        },
                    );
                }
                if to_column > columns.thresholds[column] {
                    let id = (row_side.start + query) as u32;
                    columns.insert(
                        column,
                        Candidate {
                            closeness: to_column,
                            id,
                        },
                    );
                }
            }
        }
    }
}

/// The k nearest points of each query among those that `allowed(query, point)` lets through (at least
/// k of them).
fn search<T: Feature>(
    problem: &Problem<'_, T>,
    queries: &[u32],
    keep: usize,
    allowed: &(dyn Fn(u32, u32) -> bool + Sync),
    control: &dyn Control,
) -> Result<Vec<u32>> {
    let (n, k) = (problem.points.len(), problem.k);
    let keep = keep.min(n);
    let mut ids = vec![0; queries.len() * k];
    let uncertain: Result<Vec<Vec<u32>>> = ids
        .par_chunks_mut(BLOCK * k)
        .zip(queries.par_chunks(BLOCK))
        .enumerate()
        .map(|(number, (out, queries))| {
            let block = propose_to(problem, queries, keep, allowed, control)?;
            let uncertain = problem.settle(&block, queries, out);
            Ok(uncertain
                .into_iter()
                .map(|place| (number * BLOCK + place) as u32)
                .collect())
        })
        .collect();
    let uncertain = uncertain?.concat();
    let exact: Result<Vec<(u32, Vec<u32>)>> = uncertain
        .into_par_iter()
        .map(|place| {
            if control.is_cancelled() {
                return Err(ManifoldError::Cancelled);
            }
            Ok((place, scan(problem, queries[place as usize], allowed)))
        })
        .collect();
    for (place, found) in exact? {
        ids[place as usize * k..][..k].copy_from_slice(&found);
    }
    Ok(ids)
}

/// The k nearest points of one query, by comparing it with every allowed one in `f64`.
fn scan<T: Feature>(
    problem: &Problem<'_, T>,
    query: u32,
    allowed: &(dyn Fn(u32, u32) -> bool + Sync),
) -> Vec<u32> {
    let mut best = Best::new(problem.k);
    let own = problem.points.row(query as usize);
    crate::simd::widest(
        #[inline(always)]
        || {
            for id in (0..problem.points.len() as u32).filter(|&id| allowed(query, id)) {
                best.offer(squared_distance(own, problem.points.row(id as usize)), id);
            }
        },
    );
    best.ids().collect()
}

/// Proposes every allowed point to at most [`BLOCK`] queries.
fn propose_to<T: Feature>(
    problem: &Problem<'_, T>,
    queries: &[u32],
    keep: usize,
    allowed: &(dyn Fn(u32, u32) -> bool + Sync),
    control: &dyn Control,
) -> Result<Block> {
    let centred = &problem.centred;
    let n = problem.points.len();
    let gathered: Vec<f32> = queries
        .iter()
        .flat_map(|&q| &centred.values[q as usize * centred.dimensions..][..centred.dimensions])
        .copied()
        .collect();
    let rows = MatRef::from_row_major_slice(&gathered, queries.len(), centred.dimensions);
    let mut block = Block::new(queries.len(), keep);
    let mut products = vec![0.0; queries.len() * BLOCK.min(n)];
    for start in (0..n).step_by(BLOCK) {
        if control.is_cancelled() {
            return Err(ManifoldError::Cancelled);
        }
        let end = (start + BLOCK).min(n);
        let products = &mut products[..queries.len() * (end - start)];
        multiply(products, rows, centred.rows(start, end));
        let side = Side {
            start,
            half_norms: &centred.half_norms[start..end],
        };
        let skip = |query: usize, id: usize| !allowed(queries[query], id as u32);
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
    let problem = Problem::new(points, 1);
    let allowed = |query: u32, id: u32| group[query as usize] != group[id as usize];
    search(&problem, queries, kept(1, points.len()), &allowed, control)
}
