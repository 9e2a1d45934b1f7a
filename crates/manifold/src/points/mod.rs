//! Distinct, finite points in an order that depends on their values alone.

mod magnitudes;
mod sums;

use ndarray::ArrayView2;
use rayon::prelude::*;

use crate::control::stop_if_cancelled;
use crate::{Control, Result};

pub use magnitudes::check;
pub(crate) use magnitudes::{enlarge, largest_magnitude, scale_up};
#[cfg(test)]
pub(crate) use sums::{Dots, SquaredDistances};
pub(crate) use sums::{dot, dots, squared_distance, squared_distances};

pub(crate) mod sealed {
    use ndarray::ArrayView2;

    /// Keeps [`super::Feature`] closed, and the generic code below it compiled in this crate, where it is
    /// optimised in every profile.
    pub trait Sealed: Sized + crate::measured::Measured + crate::simd::Wide {
        fn fit(
            lle: &crate::Lle,
            features: ArrayView2<'_, Self>,
            control: &dyn crate::Control,
        ) -> crate::Result<crate::Fit>;
        fn fit_model(
            lle: &crate::Lle,
            features: ArrayView2<'_, Self>,
            control: &dyn crate::Control,
        ) -> crate::Result<(crate::Fit, crate::Model<Self>)>;
        fn laplacian_eigenmaps(
            model: &crate::LaplacianEigenmaps,
            features: ArrayView2<'_, Self>,
            control: &dyn crate::Control,
        ) -> crate::Result<crate::LaplacianFit>;
        fn nearest_neighbors(
            features: ArrayView2<'_, Self>,
            n_neighbors: usize,
            control: &dyn crate::Control,
        ) -> crate::Result<ndarray::Array2<u32>>;
        fn transform(
            model: &crate::Model<Self>,
            rows: ArrayView2<'_, Self>,
            control: &dyn crate::Control,
        ) -> crate::Result<ndarray::Array2<f64>>;
        fn add_to_sample(
            sample: &mut crate::Sample<Self>,
            rows: ArrayView2<'_, Self>,
        ) -> crate::Result<()>;
    }
}

/// A feature's number type: `f32` or `f64`.
pub trait Feature: sealed::Sealed + Copy + Send + Sync + PartialOrd + 'static {
    /// Exact for both types.
    fn to_f64(self) -> f64;
    /// `-0.0` becomes `0.0`, so that equal values have equal bytes.
    #[must_use]
    fn canonical(self) -> Self;
    /// Times a power of two.
    #[must_use]
    fn scaled(self, exponent: i32) -> Self;
    /// Times two to the power of `exponent`, in two steps, neither of which overflows where the product
    /// does not.
    #[must_use]
    fn scaled_twice(self, exponent: i32) -> Self {
        self.scaled(exponent / 2).scaled(exponent - exponent / 2)
    }
    /// Largest magnitude whose squared differences, summed over any number of dimensions that fits in
    /// memory, stay finite in `f64`.
    const LARGEST: f64 = 1e140;
}

impl Feature for f32 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn scaled(self, exponent: i32) -> Self {
        self * (exponent as f32).exp2()
    }
    fn canonical(self) -> Self {
        self + 0.0
    }
}

impl Feature for f64 {
    fn to_f64(self) -> f64 {
        self
    }
    fn scaled(self, exponent: i32) -> Self {
        self * f64::from(exponent).exp2()
    }
    fn canonical(self) -> Self {
        self + 0.0
    }
}

/// n points of d dimensions, row by row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Points<'a, T> {
    values: &'a [T],
    dimensions: usize,
}

impl<'a, T: Feature> Points<'a, T> {
    pub(crate) fn new(values: &'a [T], dimensions: usize) -> Self {
        Self { values, dimensions }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len() / self.dimensions
    }

    pub(crate) fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Row by row.
    pub(crate) fn values(&self) -> &'a [T] {
        self.values
    }

    pub(crate) fn row(&self, row: usize) -> &'a [T] {
        &self.values[row * self.dimensions..(row + 1) * self.dimensions]
    }

    /// A part of the points.
    pub(crate) fn rows(&self, range: std::ops::Range<usize>) -> Points<'a, T> {
        let values = &self.values[range.start * self.dimensions..range.end * self.dimensions];
        Points::new(values, self.dimensions)
    }

    /// A copy of the values of some of the points.
    pub(crate) fn gather(&self, ids: &[u32]) -> Vec<T> {
        let rows = ids.iter().flat_map(|&id| self.row(id as usize));
        rows.copied().collect()
    }
}

/// The distinct rows of a matrix, sorted by their values, and which of them each row is.
#[derive(Debug)]
pub(crate) struct DistinctRows<T> {
    values: Vec<T>,
    dimensions: usize,
    /// For each row of the input the distinct row that equals it.
    row_to_point: Vec<u32>,
    /// Steps by which [`enlarge`] scaled the values.
    enlarged: u32,
}

impl<T: Feature> DistinctRows<T> {
    /// Sorting by value makes every later step independent of the order in which rows arrived.
    pub(crate) fn new(features: ArrayView2<'_, T>, control: &dyn Control) -> Result<Self> {
        let (rows, dimensions) = features.dim();
        stop_if_cancelled(control)?;
        check(features)?;
        stop_if_cancelled(control)?;
        let mut values: Vec<T> = features.iter().map(|v| v.canonical()).collect();
        let enlarged = enlarge(&mut values);
        stop_if_cancelled(control)?;
        let row = |i: u32| &values[i as usize * dimensions..(i as usize + 1) * dimensions];
        let mut order: Vec<u32> = (0..rows as u32).collect();
        // All values are finite, so the partial order is total.
        order.par_sort_by(|&a, &b| {
            row(a)
                .partial_cmp(row(b))
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        stop_if_cancelled(control)?;
        let mut row_to_point = vec![0; rows];
        let mut distinct: Vec<T> = Vec::with_capacity(values.len());
        let mut count = 0u32;
        for &i in &order {
            let last = distinct.len().checked_sub(dimensions);
            if last.is_none_or(|start| distinct[start..] != *row(i)) {
                distinct.extend_from_slice(row(i));
                count += 1;
            }
            row_to_point[i as usize] = count - 1;
        }
        Ok(Self {
            values: distinct,
            dimensions,
            row_to_point,
            enlarged,
        })
    }

    /// Steps by which the values were scaled up, see [`scale_up`].
    pub(crate) fn enlarged(&self) -> u32 {
        self.enlarged
    }

    pub(crate) fn row_to_point(&self) -> &[u32] {
        &self.row_to_point
    }

    pub(crate) fn values(&self) -> &[T] {
        &self.values
    }

    pub(crate) fn points(&self) -> Points<'_, T> {
        Points::new(&self.values, self.dimensions)
    }
}
