//! Barycentre weights: each point as an affine combination of its neighbours.

use rayon::prelude::*;

use crate::control::Meter;
use crate::neighbors::Neighbors;
use crate::points::{Feature, Points, dot, dots};
use crate::{Control, ManifoldError, Phase, Result};

const CHUNK: usize = 256;
/// Differences on either side of a tile of the Gram matrix: its sums stay in registers.
const TILE: usize = 2;

/// For each point the weights of its neighbours, n × k row by row, that minimise ‖x − Σ w p‖² with
/// Σ w = 1 (Roweis and Saul 2000, equations 1 and 2; Saul and Roweis 2003, section 5).
///
/// The local Gram matrix G, Gᵢⱼ = (pᵢ − x)·(pⱼ − x), is k × k whatever the number of dimensions, and is
/// regularised by `reg` times its trace, or by `reg` where the trace is zero.
pub(crate) fn barycenter_weights<T: Feature>(
    points: Points<'_, T>,
    graph: &Neighbors,
    reg: f64,
    control: &dyn Control,
) -> Result<Vec<f64>> {
    let k = graph.k;
    let meter = Meter::new(control, Phase::Weights, graph.len() as u64);
    let mut weights = vec![0.0; graph.ids.len()];
    weights
        .par_chunks_mut(CHUNK * k)
        .enumerate()
        .try_for_each_init(
            || Barycenter::new(k, points.dimensions(), reg),
            |solver, (chunk, out)| {
                meter.check()?;
                crate::simd::widest(
                    #[inline(always)]
                    || {
                        for (offset, out) in out.chunks_mut(k).enumerate() {
                            let point = chunk * CHUNK + offset;
                            solver.solve(points.row(point), points, graph.row(point), out)?;
                        }
                        Ok::<(), ManifoldError>(())
                    },
                )?;
                meter.add((out.len() / k) as u64);
                Ok::<(), ManifoldError>(())
            },
        )?;
    Ok(weights)
}

/// Solves the local problems of one thread.
pub(crate) struct Barycenter {
    reg: f64,
    dimensions: usize,
    differences: Vec<f64>,
    gram: Vec<f64>,
}

impl Barycenter {
    pub(crate) fn new(k: usize, dimensions: usize, reg: f64) -> Self {
        Self {
            reg,
            dimensions,
            differences: vec![0.0; k * dimensions],
            gram: vec![0.0; k * k],
        }
    }

    /// The weights of `points[neighbors]` that make up `own`, to be called inside
    /// [`crate::simd::widest`].
    #[inline(always)]
    pub(crate) fn solve<T: Feature>(
        &mut self,
        own: &[T],
        points: Points<'_, T>,
        neighbors: &[u32],
        weights: &mut [f64],
    ) -> Result<()> {
        local_gram(
            own,
            points,
            neighbors,
            &mut self.differences,
            &mut self.gram,
        );
        if solve_barycenter(&mut self.gram, self.reg, weights) {
            Ok(())
        } else {
            Err(singular(neighbors.len(), self.dimensions, self.reg))
        }
    }
}

#[cold]
pub(crate) fn singular(k: usize, dimensions: usize, reg: f64) -> ManifoldError {
    ManifoldError::InvalidParameter {
        name: "reg",
        value: reg.to_string(),
        requirement: format!(
            "larger: {k} neighbours in {dimensions} dimensions leave a local Gram matrix singular \
             without regularisation (0.001 is scikit-learn's default)"
        ),
    }
}

/// The lower triangle of the Gram matrix of the differences to the neighbours.
#[inline(always)]
fn local_gram<T: Feature>(
    own: &[T],
    points: Points<'_, T>,
    neighbors: &[u32],
    differences: &mut [f64],
    gram: &mut [f64],
) {
    let (k, dimensions) = (neighbors.len(), points.dimensions());
    for (difference, &neighbor) in differences.chunks_mut(dimensions).zip(neighbors) {
        let other = points.row(neighbor as usize);
        for ((difference, p), x) in difference.iter_mut().zip(other).zip(own) {
            *difference = p.to_f64() - x.to_f64();
        }
    }
    // Past the last row the last one stands in, and its products are dropped.
    let tile = |first: usize| -> [&[f64]; TILE] {
        std::array::from_fn(|offset| {
            let i = (first + offset).min(k - 1);
            &differences[i * dimensions..(i + 1) * dimensions]
        })
    };
    for first in (0..k).step_by(TILE) {
        for other in (0..=first).step_by(TILE) {
            let products = dots(tile(first), tile(other));
            for (i, products) in (first..k).zip(products) {
                for (j, product) in (other..=i).zip(products) {
                    gram[i * k + j] = product;
                }
            }
        }
    }
}

/// Solves (G + reg·tr(G)·I) w = 1 by Cholesky in place and scales w to sum 1. False if G is not
/// positive definite.
#[inline(always)]
fn solve_barycenter(gram: &mut [f64], reg: f64, weights: &mut [f64]) -> bool {
    let k = weights.len();
    let trace: f64 = (0..k).map(|i| gram[i * k + i]).sum();
    // A zero Gram matrix (all neighbours at rounding distance) gets equal weights.
    let ridge = if trace > 0.0 { reg * trace } else { 1.0 };
    // Below this a pivot is rounding error: the exact one is at least the ridge.
    let smallest_pivot = k as f64 * f64::EPSILON * trace;
    for i in 0..k {
        gram[i * k + i] += ridge;
        for j in 0..=i {
            let sum = dot(&gram[i * k..i * k + j], &gram[j * k..j * k + j]);
            let rest = gram[i * k + j] - sum;
            if i != j {
                gram[i * k + j] = rest / gram[j * k + j];
            } else if rest > smallest_pivot {
                gram[i * k + i] = rest.sqrt();
            } else {
                return false;
            }
        }
    }
    for i in 0..k {
        let sum = dot(&gram[i * k..i * k + i], &weights[..i]);
        weights[i] = (1.0 - sum) / gram[i * k + i];
    }
    for i in (0..k).rev() {
        let mut rest = weights[i];
        for j in i + 1..k {
            rest -= gram[j * k + i] * weights[j];
        }
        weights[i] = rest / gram[i * k + i];
    }
    let total: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|w| *w /= total);
    total.is_finite() && total > 0.0
}

#[cfg(test)]
mod tests;
