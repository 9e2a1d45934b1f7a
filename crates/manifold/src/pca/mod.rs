//! Principal components: the linear yardstick beside LLE.

mod accumulator;

use faer::Mat;
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use crate::control::{Budget, Meter};
use crate::panel::symmetric_eigen;
use crate::points::{Feature, check, dot};
use crate::sample::compare;
use crate::{Control, ManifoldError, Phase, Result};
use accumulator::{CHUNK, add_in_order, centre};

pub use accumulator::PcaAccumulator;
pub(crate) use accumulator::add;

/// Unchecked parameters of [`Pca`].
#[derive(Debug, Clone, PartialEq)]
pub struct PcaBuilder {
    n_components: usize,
}

impl PcaBuilder {
    /// Checks what can be checked without data.
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] for zero components.
    pub fn build(self) -> Result<Pca> {
        if self.n_components == 0 {
            return Err(ManifoldError::InvalidParameter {
                name: "n_components",
                value: "0".to_owned(),
                requirement: "at least 1".to_owned(),
            });
        }
        Ok(Pca(self))
    }
}

/// Principal component analysis with checked parameters. Made by [`Pca::builder`].
#[derive(Debug, Clone, PartialEq)]
pub struct Pca(PcaBuilder);

/// Principal axes of some rows.
#[derive(Debug, Clone, PartialEq)]
pub struct PcaModel {
    /// Rows of the fit.
    pub rows: usize,
    /// Mean of each dimension, length D.
    pub mean: Vec<f64>,
    /// One unit axis a row, (n_components, D), by variance, largest first; in each the entry of largest
    /// magnitude is positive (of equals, the first).
    pub components: Array2<f64>,
    /// Variance along each axis, with the divisor n − 1.
    pub explained_variance: Vec<f64>,
    /// Its share of the variance of all dimensions; 0 where all rows are equal.
    pub explained_variance_ratio: Vec<f64>,
}

impl Pca {
    /// Starts with the number of components.
    pub fn builder(n_components: usize) -> PcaBuilder {
        PcaBuilder { n_components }
    }

    /// Dimensions of the result.
    pub fn n_components(&self) -> usize {
        self.0.n_components
    }

    /// Finds the principal axes of `features` (n, D), with the same bits for any order of the rows.
    ///
    /// Equal rows count as often as they are given. Works on the D × D covariance or the n × n Gram
    /// matrix, whichever is smaller, in `f64`; finding its eigenvectors takes one thread and O(min(n, D)³)
    /// time. Use [`PcaAccumulator`] for rows that do not fit in memory.
    ///
    /// # Errors
    /// [`ManifoldError::NonFinite`] and [`ManifoldError::TooLarge`] for unusable features;
    /// [`ManifoldError::ParameterNeedsMoreData`] unless `n_components` is at most D and below n;
    /// [`ManifoldError::Memory`] and [`ManifoldError::Cancelled`]; [`ManifoldError::LinearAlgebra`].
    pub fn fit<T: Feature>(
        &self,
        features: ArrayView2<'_, T>,
        control: &dyn Control,
    ) -> Result<PcaModel> {
        T::pca_fit(self, features, control)
    }
}

impl PcaModel {
    /// The scores of `features` (n, D): centred rows along each axis, (n, n_components).
    ///
    /// They keep the features' unit and are not whitened: column j has variance
    /// `explained_variance[j]` over the fitted rows, where LLE's columns have variance 1. Each row's
    /// scores depend on that row alone, to the bit.
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] for another number of dimensions than the fit's;
    /// [`ManifoldError::NonFinite`] and [`ManifoldError::TooLarge`] for unusable features;
    /// [`ManifoldError::Cancelled`].
    pub fn transform<T: Feature>(
        &self,
        features: ArrayView2<'_, T>,
        control: &dyn Control,
    ) -> Result<Array2<f64>> {
        T::pca_transform(self, features, control)
    }
}

pub(crate) fn fit<T: Feature>(
    pca: &Pca,
    features: ArrayView2<'_, T>,
    control: &dyn Control,
) -> Result<PcaModel> {
    let (rows, dimensions) = features.dim();
    check(features)?;
    check_size(pca, rows, dimensions)?;
    let budget = Budget::new(control);
    let side = rows.min(dimensions);
    // The matrix, the eigensolver's copy and its vectors; the rows of a chunk, or all in the Gram road.
    let at_once = if rows < dimensions {
        rows
    } else {
        CHUNK.min(rows)
    };
    let bytes = 4 * side * side + at_once * dimensions + rows;
    budget.reserve("principal components", bytes * size_of::<f64>())?;
    // Sums in the order of the values, so that the order of the rows changes no bit.
    let mut order: Vec<usize> = (0..rows).collect();
    order.par_sort_by(|&a, &b| compare(features.row(a), features.row(b)));
    if rows < dimensions {
        return by_gram_matrix(pca, features, &order, control);
    }
    let mut accumulator = PcaAccumulator::new(dimensions)?;
    add_in_order(&mut accumulator, features, &order, control)?;
    accumulator.finish(pca)
}

/// CᵀC and CCᵀ have the same eigenvalues; an eigenvector u of the latter gives the axis Cᵀu.
fn by_gram_matrix<T: Feature>(
    pca: &Pca,
    features: ArrayView2<'_, T>,
    order: &[usize],
    control: &dyn Control,
) -> Result<PcaModel> {
    let (rows, dimensions) = features.dim();
    let (mean, centred) = centre(features, order);
    let divisor = (rows - 1) as f64;
    let row = |i: usize| &centred[i * dimensions..(i + 1) * dimensions];
    let meter = Meter::new(control, Phase::Eigen, rows as u64);
    let lower: Vec<Vec<f64>> = (0..rows)
        .into_par_iter()
        .map(|i| {
            meter.check()?;
            let products = crate::simd::widest(
                #[inline(always)]
                || (0..=i).map(|j| dot(row(i), row(j)) / divisor).collect(),
            );
            meter.add(1);
            Ok(products)
        })
        .collect::<Result<_>>()?;
    let gram = Mat::from_fn(rows, rows, |i, j| lower[i.max(j)][i.min(j)]);
    let total = (0..rows).map(|i| gram[(i, i)]).sum();
    let (values, vectors) = symmetric_eigen(&gram)?;
    let values: Vec<f64> = values.into_iter().rev().take(pca.n_components()).collect();
    let noise = rows as f64 * f64::EPSILON * values[0];
    let mut axes: Vec<Vec<f64>> = Vec::with_capacity(values.len());
    for (component, &value) in values.iter().enumerate() {
        let mut axis = vec![0.0; dimensions];
        if value > noise {
            for i in 0..rows {
                let share = vectors[(i, rows - 1 - component)];
                axis.iter_mut()
                    .zip(row(i))
                    .for_each(|(a, v)| *a += share * v);
            }
        }
        axes.push(unit_beside(&axes, axis));
    }
    Ok(model(rows, mean, axes, values, total))
}

/// `axis` made orthogonal to `axes` and of length 1; where nothing of it is left, as beyond the rank of
/// the rows, the coordinate axis that is least like `axes` takes its place.
fn unit_beside(axes: &[Vec<f64>], mut axis: Vec<f64>) -> Vec<f64> {
    if axis.iter().all(|v| *v == 0.0) {
        let likeness = |j: usize| axes.iter().map(|other| other[j] * other[j]).sum::<f64>();
        let least = (0..axis.len())
            .map(|j| (likeness(j), j))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        axis[least.map_or(0, |(_, j)| j)] = 1.0;
    }
    for _ in 0..2 {
        for other in axes {
            let overlap = dot(other, &axis);
            axis.iter_mut()
                .zip(other)
                .for_each(|(a, o)| *a -= overlap * o);
        }
        let length = dot(&axis, &axis).sqrt();
        axis.iter_mut().for_each(|a| *a /= length);
    }
    axis
}

fn model(
    rows: usize,
    mean: Vec<f64>,
    mut axes: Vec<Vec<f64>>,
    values: Vec<f64>,
    total: f64,
) -> PcaModel {
    for axis in &mut axes {
        let largest = axis.iter().fold(
            0.0f64,
            |most, v| if v.abs() > most.abs() { *v } else { most },
        );
        if largest < 0.0 {
            axis.iter_mut().for_each(|v| *v = -*v);
        }
    }
    // A zero eigenvalue may come out a little below zero.
    let values: Vec<f64> = values.into_iter().map(|v| v.max(0.0)).collect();
    let share = |value: &f64| if total > 0.0 { value / total } else { 0.0 };
    PcaModel {
        rows,
        components: Array2::from_shape_fn((axes.len(), mean.len()), |(c, j)| axes[c][j]),
        explained_variance_ratio: values.iter().map(share).collect(),
        explained_variance: values,
        mean,
    }
}

pub(crate) fn transform<T: Feature>(
    model: &PcaModel,
    features: ArrayView2<'_, T>,
    control: &dyn Control,
) -> Result<Array2<f64>> {
    let (dimensions, d) = (model.mean.len(), model.components.nrows());
    if features.ncols() != dimensions {
        let requirement = format!("{dimensions}, as in the fit");
        return Err(wrong_dimensions(features.ncols(), &requirement));
    }
    check(features)?;
    let axes: Vec<f64> = model.components.iter().copied().collect();
    let mut scores = vec![0.0; features.nrows() * d];
    scores
        .par_chunks_mut(256 * d)
        .enumerate()
        .try_for_each(|(chunk, scores)| {
            if control.is_cancelled() {
                return Err(ManifoldError::Cancelled);
            }
            let mut centred = vec![0.0; dimensions];
            for (offset, scores) in scores.chunks_mut(d).enumerate() {
                let row = features.row(chunk * 256 + offset);
                let values = row.iter().zip(&model.mean);
                for (centred, (v, mean)) in centred.iter_mut().zip(values) {
                    *centred = v.to_f64() - mean;
                }
                crate::simd::widest(
                    #[inline(always)]
                    || {
                        for (score, axis) in scores.iter_mut().zip(axes.chunks(dimensions)) {
                            *score = dot(&centred, axis);
                        }
                    },
                );
            }
            Ok(())
        })?;
    Array2::from_shape_vec((features.nrows(), d), scores).map_err(|error| {
        ManifoldError::LinearAlgebra {
            operation: "the shape of the scores",
            detail: error.to_string(),
        }
    })
}

fn check_size(pca: &Pca, rows: usize, dimensions: usize) -> Result<()> {
    let value = pca.n_components();
    let (requirement, found) = if value > dimensions {
        (format!("at least {value} dimensions"), dimensions)
    } else if value >= rows {
        (format!("at least {} rows", value + 1), rows)
    } else {
        return Ok(());
    };
    Err(ManifoldError::ParameterNeedsMoreData {
        name: "n_components",
        value,
        requirement,
        found: found.to_string(),
        remedy: "lower n_components or fit more rows".to_owned(),
    })
}

fn wrong_dimensions(found: usize, requirement: &str) -> ManifoldError {
    ManifoldError::InvalidParameter {
        name: "the number of dimensions",
        value: found.to_string(),
        requirement: requirement.to_owned(),
    }
}
