//! Modified LLE (Zhang and Wang 2006): several weight vectors a point, so that a neighbourhood of more
//! points than the manifold has dimensions is not left to regularisation.

use rayon::prelude::*;

use super::{CHUNK, LocalEigen, meter, weights};
use crate::control::Budget;
use crate::matrix::{Deviation, Layout};
use crate::neighbors::Neighbors;
use crate::points::{Feature, Points};
use crate::weights::singular;
use crate::{Control, Result};

/// Below this length the Householder vector is rounding (scikit-learn's `modified_tol`).
const SMALL_REFLECTION: f64 = 1e-12;

pub(super) fn deviation<T: Feature>(
    points: Points<'_, T>,
    graph: Neighbors,
    d: usize,
    reg: f64,
    budget: &Budget<'_>,
    control: &dyn Control,
) -> Result<Deviation> {
    let (n, k) = (graph.len(), graph.k);
    let meter = meter(control, 2 * n);
    let spectra_bytes = (n * k + 2 * n) * size_of::<f64>();
    budget.reserve("the spectra of the neighbourhoods", spectra_bytes)?;
    let mut spectra = vec![0.0; n * k];
    spectra
        .par_chunks_mut(CHUNK * k)
        .enumerate()
        .try_for_each_init(
            || LocalEigen::new(k, points.dimensions()),
            |local, (chunk, spectra)| {
                meter.check()?;
                for (offset, spectrum) in spectra.chunks_exact_mut(k).enumerate() {
                    let point = chunk * CHUNK + offset;
                    local.around(points, point, graph.row(point))?;
                    spectrum.copy_from_slice(local.values());
                    spectrum.reverse();
                }
                meter.add((spectra.len() / k) as u64);
                Ok::<(), crate::ManifoldError>(())
            },
        )?;
    let rank = k.min(points.dimensions());
    let sizes = null_spaces(&spectra, k, rank, d);
    drop(spectra);
    budget.release(spectra_bytes);

    let layout = Layout::new(k, sizes.into_iter().map(|size| (true, size)));
    budget.reserve("the weights of the neighbours", layout.bytes())?;
    let weights = weights(points, &layout, &meter, |local, point, out| {
        local.around(points, point, graph.row(point))?;
        if local.values()[0] + reg <= k as f64 * f64::EPSILON && local.values()[k - 1] > 0.0 {
            return Err(singular(k, points.dimensions(), reg));
        }
        let mut spare = std::mem::take(&mut local.spare);
        several_weights(local, reg, &mut spare, out);
        local.spare = spare;
        Ok(())
    })?;
    Ok(Deviation::new(graph, layout, weights))
}

/// For each point sᵢ, the dimension of the almost null space of its neighbourhood (section 4): the most
/// eigenvalues whose sum stays below η times the sum of the others. η is the median over all points of that
/// ratio for d dimensions. `spectra` has `k` values a point, largest first, of which `rank` can differ from
/// zero. At least 1 where k is as small as d: a point without weights would be anywhere.
fn null_spaces(spectra: &[f64], k: usize, rank: usize, d: usize) -> Vec<usize> {
    // Of the values behind the first `kept`, to those before.
    let ratio = |spectrum: &[f64], kept: usize| {
        let (before, behind) = spectrum.split_at(kept);
        let behind: f64 = behind.iter().sum();
        if behind > 0.0 {
            behind / before.iter().sum::<f64>()
        } else {
            0.0
        }
    };
    let mut ratios: Vec<f64> = spectra
        .chunks_exact(k)
        .map(|spectrum| ratio(spectrum, d))
        .collect();
    let middle = ratios.len() / 2;
    let (below, &mut upper, _) = ratios.select_nth_unstable_by(middle, f64::total_cmp);
    let eta = if spectra.len() / k % 2 == 1 {
        upper
    } else {
        f64::midpoint(below.iter().copied().fold(0.0, f64::max), upper)
    };
    let size = |spectrum: &[f64]| {
        let almost = (1..rank).filter(|&kept| ratio(spectrum, kept) < eta);
        (k - rank + almost.count()).max(1)
    };
    spectra.chunks_exact(k).map(size).collect()
}

/// W = V H + (1 − α) w 1ᵀ (section 3): `local` holds the eigenvectors of a point's neighbourhood, V are the
/// bottom ones, w is the regularised weight vector of standard LLE, and the Householder matrix H makes all
/// column sums of V H equal α. `out` becomes W, its rows together.
fn several_weights(local: &LocalEigen, reg: f64, spare: &mut Vec<f64>, out: &mut [f64]) {
    let k = local.values().len();
    let size = out.len() / k;
    let trace: f64 = local.values().iter().sum();
    let ridge = if trace > 0.0 { reg * trace } else { 1.0 };
    spare.clear();
    spare.resize(k + size, 0.0);
    let (regularized, h) = spare.split_at_mut(k);
    for (j, &value) in local.values().iter().enumerate() {
        let vector = local.vector(j);
        let factor = vector.iter().sum::<f64>() / (value + ridge);
        let entries = regularized.iter_mut().zip(vector);
        entries.for_each(|(w, v)| *w += factor * v);
    }
    let total: f64 = regularized.iter().sum();
    regularized.iter_mut().for_each(|w| *w /= total);

    let sums = h.iter_mut().enumerate();
    sums.for_each(|(j, h)| *h = local.vector(j).iter().sum());
    let alpha = norm(h) / (size as f64).sqrt();
    h.iter_mut().for_each(|h| *h = alpha - *h);
    let length = norm(h);
    let scale = if length < SMALL_REFLECTION {
        0.0
    } else {
        1.0 / length
    };
    h.iter_mut().for_each(|h| *h *= scale);
    for (i, row) in out.chunks_exact_mut(size).enumerate() {
        let reflected: f64 = (0..size).map(|j| local.vector(j)[i] * h[j]).sum();
        for (j, out) in row.iter_mut().enumerate() {
            let rotated = local.vector(j)[i] - 2.0 * reflected * h[j];
            *out = rotated + (1.0 - alpha) * regularized[i];
        }
    }
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}
