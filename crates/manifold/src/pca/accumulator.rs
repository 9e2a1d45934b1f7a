//! Mean and covariance in one pass.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use ndarray::ArrayView2;
use rayon::prelude::*;

use super::{Pca, PcaModel, check_size, model, wrong_dimensions};
#[cfg(doc)]
use crate::ManifoldError;
use crate::control::Meter;
use crate::panel::symmetric_eigen;
use crate::points::{Feature, check};
use crate::{Control, Phase, Result};

/// Rows taken in at once; fixed, so that sums do not depend on the number of threads.
pub(super) const CHUNK: usize = 1024;
/// Columns of a product that one thread computes.
const COLUMNS: usize = 64;

/// Mean and covariance of rows that stream by, in D × D memory.
///
/// The order of the rows changes the result by rounding only; the number of threads and how the rows are
/// cut into calls do not change it at all. ([`Pca::fit`], which sees all rows at once, sorts them.)
///
/// Sums that no order changes are exact ones. For products of `f64` precision values would be cut into two
/// slices of 21 bits, whose products a chunk of rows adds up exactly: the lower triangles of high · high and
/// low · low and all of high · low, four times the operations of the one triangle here, and a pass over the
/// rows before that finds the scale of the slices. That is more than the last bits are worth.
#[derive(Debug, Clone)]
pub struct PcaAccumulator {
    rows: usize,
    mean: Vec<f64>,
    /// Σ (x − mean)(x − mean)ᵀ; the lower triangle counts.
    scatter: Mat<f64>,
    /// Values of rows that do not fill a chunk yet, fewer than [`CHUNK`] rows.
    pending: Vec<f64>,
}

impl PcaAccumulator {
    /// For rows of `dimensions` numbers: [`PcaAccumulator::bytes`].
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] for zero dimensions.
    pub fn new(dimensions: usize) -> Result<Self> {
        if dimensions == 0 {
            return Err(wrong_dimensions(0, "at least 1"));
        }
        Ok(Self {
            rows: 0,
            mean: vec![0.0; dimensions],
            scatter: Mat::zeros(dimensions, dimensions),
            pending: Vec::new(),
        })
    }

    /// Bytes that it takes for rows of `dimensions` numbers, the eigenproblem of
    /// [`PcaAccumulator::finish`] included.
    #[must_use]
    pub fn bytes(dimensions: usize) -> usize {
        // The scatter, its copy, the covariance, the eigensolver's copy and its vectors; two chunks.
        (5 * dimensions * dimensions + 2 * CHUNK * dimensions) * size_of::<f64>()
    }

    /// Rows added so far.
    pub fn rows(&self) -> usize {
        self.rows + self.pending.len() / self.mean.len()
    }

    /// Takes in the rows of `features` (m, D). Nothing is added if a row is refused.
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] for another number of dimensions;
    /// [`ManifoldError::NonFinite`] and [`ManifoldError::TooLarge`], with rows counted in this call;
    /// [`ManifoldError::Cancelled`], after which the accumulator holds some of the rows.
    pub fn add<T: Feature>(
        &mut self,
        features: ArrayView2<'_, T>,
        control: &dyn Control,
    ) -> Result<()> {
        T::pca_add(self, features, control)
    }

    /// The principal axes of all rows added.
    ///
    /// # Errors
    /// As [`Pca::fit`].
    pub fn finish(&self, pca: &Pca) -> Result<PcaModel> {
        if !self.pending.is_empty() {
            let mut complete = self.clone();
            complete.flush();
            return complete.finish(pca);
        }
        let dimensions = self.mean.len();
        check_size(pca, self.rows, dimensions)?;
        let divisor = (self.rows - 1) as f64;
        let covariance = Mat::from_fn(dimensions, dimensions, |i, j| {
            self.scatter[(i.max(j), i.min(j))] / divisor
        });
        let total = (0..dimensions).map(|j| covariance[(j, j)]).sum();
        let (values, vectors) = symmetric_eigen(&covariance)?;
        let axis = |component: usize| {
            let column = dimensions - 1 - component;
            (0..dimensions).map(|j| vectors[(j, column)]).collect()
        };
        let axes = (0..pca.n_components()).map(axis).collect();
        let top = values.into_iter().rev().take(pca.n_components());
        Ok(model(
            self.rows,
            self.mean.clone(),
            axes,
            top.collect(),
            total,
        ))
    }

    /// Takes in the rows that wait.
    fn flush(&mut self) {
        let mut values = std::mem::take(&mut self.pending);
        let mean = centre_values(&mut values, self.mean.len());
        self.merge(&mean, &values);
        // Keeps the allocation.
        values.clear();
        self.pending = values;
    }

    /// Adds rows that are centred on their own mean, `centred` (m, D) (Chan, Golub and LeVeque 1983).
    fn merge(&mut self, mean: &[f64], centred: &[f64]) {
        let dimensions = self.mean.len();
        let added = centred.len() / dimensions;
        let centred = MatRef::from_row_major_slice(centred, added, dimensions);
        let (before, added) = (self.rows as f64, added as f64);
        let shift: Vec<f64> = mean.iter().zip(&self.mean).map(|(a, b)| a - b).collect();
        let factor = before * added / (before + added);
        self.scatter
            .as_mut()
            .par_col_chunks_mut(COLUMNS)
            .enumerate()
            .for_each(|(chunk, columns)| {
                // Below the first of these columns' diagonal entries; the rest is by symmetry.
                let (start, count) = (chunk * COLUMNS, columns.ncols());
                let mut lower = columns.subrows_mut(start, dimensions - start);
                matmul(
                    lower.as_mut(),
                    Accum::Add,
                    centred.subcols(start, dimensions - start).transpose(),
                    centred.subcols(start, count),
                    1.0,
                    Par::Seq,
                );
                for j in 0..count {
                    let scaled = factor * shift[start + j];
                    for i in 0..dimensions - start {
                        lower[(i, j)] += scaled * shift[start + i];
                    }
                }
            });
        let share = added / (before + added);
        for (mean, shift) in self.mean.iter_mut().zip(&shift) {
            *mean += share * shift;
        }
        self.rows += added as usize;
    }
}

pub(crate) fn add<T: Feature>(
    accumulator: &mut PcaAccumulator,
    features: ArrayView2<'_, T>,
    control: &dyn Control,
) -> Result<()> {
    let dimensions = accumulator.mean.len();
    if features.ncols() != dimensions {
        let requirement = format!("{dimensions}, as before");
        return Err(wrong_dimensions(features.ncols(), &requirement));
    }
    check(features)?;
    let order: Vec<usize> = (0..features.nrows()).collect();
    add_in_order(accumulator, features, &order, control)
}

pub(super) fn add_in_order<T: Feature>(
    accumulator: &mut PcaAccumulator,
    features: ArrayView2<'_, T>,
    order: &[usize],
    control: &dyn Control,
) -> Result<()> {
    let meter = Meter::new(control, Phase::Eigen, order.len() as u64);
    let dimensions = features.ncols();
    let mut rest = order;
    while !rest.is_empty() {
        meter.check()?;
        let room = CHUNK - accumulator.pending.len() / dimensions;
        let (rows, later) = rest.split_at(room.min(rest.len()));
        for &row in rows {
            let values = features.row(row).into_iter().map(|v| v.to_f64());
            accumulator.pending.extend(values);
        }
        if rows.len() == room {
            accumulator.flush();
        }
        meter.add(rows.len() as u64);
        rest = later;
    }
    Ok(())
}

/// The mean of some rows, and the rows less that mean, row by row.
pub(super) fn centre<T: Feature>(
    features: ArrayView2<'_, T>,
    rows: &[usize],
) -> (Vec<f64>, Vec<f64>) {
    let dimensions = features.ncols();
    let mut values = Vec::with_capacity(rows.len() * dimensions);
    for &row in rows {
        values.extend(features.row(row).iter().map(|v| v.to_f64()));
    }
    let mean = centre_values(&mut values, dimensions);
    (mean, values)
}

/// Subtracts their mean from rows of `dimensions` numbers, and gives it.
fn centre_values(values: &mut [f64], dimensions: usize) -> Vec<f64> {
    let mut mean = vec![0.0; dimensions];
    for row in values.chunks(dimensions) {
        mean.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
    }
    let n = (values.len() / dimensions) as f64;
    mean.iter_mut().for_each(|sum| *sum /= n);
    for row in values.chunks_mut(dimensions) {
        row.iter_mut().zip(&mean).for_each(|(v, mean)| *v -= mean);
    }
    mean
}
