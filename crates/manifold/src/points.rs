//! Distinct, finite points in an order that depends on their values alone.

use ndarray::ArrayView2;
use rayon::prelude::*;

use crate::control::stop_if_cancelled;
use crate::{Control, ManifoldError, Result};

pub(crate) mod sealed {
    use ndarray::ArrayView2;

    /// Keeps [`super::Feature`] closed, and the generic code below it compiled in this crate, where it is
    /// optimised in every profile.
    pub trait Sealed: Sized {
        fn fit(
            lle: &crate::Lle,
            features: ArrayView2<'_, Self>,
            control: &dyn crate::Control,
        ) -> crate::Result<crate::Fit>;
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

    pub(crate) fn row(&self, row: usize) -> &'a [T] {
        &self.values[row * self.dimensions..(row + 1) * self.dimensions]
    }
}

/// The distinct rows of a matrix, sorted by their values, and which of them each row is.
#[derive(Debug)]
pub(crate) struct DistinctRows<T> {
    values: Vec<T>,
    dimensions: usize,
    /// For each row of the input the distinct row that equals it.
    row_to_point: Vec<u32>,
}

impl<T: Feature> DistinctRows<T> {
    /// Sorting by value makes every later step independent of the order in which rows arrived.
    pub(crate) fn new(features: ArrayView2<'_, T>, control: &dyn Control) -> Result<Self> {
        let (rows, dimensions) = features.dim();
        stop_if_cancelled(control)?;
        check(features)?;
        stop_if_cancelled(control)?;
        let mut values: Vec<T> = features.iter().map(|v| v.canonical()).collect();
        enlarge(&mut values);
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
        })
    }

    /// Lets go of the values.
    pub(crate) fn into_row_to_point(self) -> Vec<u32> {
        self.row_to_point
    }

    pub(crate) fn points(&self) -> Points<'_, T> {
        Points::new(&self.values, self.dimensions)
    }
}

/// Below this, squared differences of `f64` would underflow.
const SMALL: f64 = 1e-100;

/// Scales tiny values up, exactly: what is nearest, and the weights, do not depend on scale.
pub(crate) fn enlarge<T: Feature>(values: &mut [T]) {
    if size_of::<T>() < size_of::<f64>() {
        return;
    }
    let largest = values
        .iter()
        .fold(0.0f64, |largest, v| largest.max(v.to_f64().abs()));
    if largest > 0.0 && largest < SMALL {
        // In steps that no factor overflows in.
        let steps = if largest < SMALL * SMALL { 2 } else { 1 };
        for _ in 0..steps {
            values.iter_mut().for_each(|v| *v = v.scaled(400));
        }
    }
}

/// Rows that can be told apart by finite squared distances.
pub(crate) fn check<T: Feature>(features: ArrayView2<'_, T>) -> Result<()> {
    let (rows, dimensions) = features.dim();
    let invalid = |value: String, requirement: &str| {
        Err(ManifoldError::InvalidParameter {
            name: "features",
            value,
            requirement: requirement.to_owned(),
        })
    };
    if dimensions == 0 {
        return invalid(
            "rows without dimensions".to_owned(),
            "lists of at least 1 dimension",
        );
    }
    if rows >= u32::MAX as usize {
        return invalid(format!("{rows} rows"), "fewer than 4294967295 rows");
    }
    for ((row, dimension), value) in features.indexed_iter() {
        let value = value.to_f64();
        if !value.is_finite() {
            return Err(ManifoldError::NonFinite {
                row,
                dimension,
                value,
            });
        }
        if value.abs() > T::LARGEST {
            return Err(ManifoldError::TooLarge {
                row,
                dimension,
                value,
            });
        }
    }
    Ok(())
}

const LANES: usize = 8;

/// ‖a − b‖² in `f64`, summed in an order that depends on the length alone. This sum decides which
/// neighbours are nearest; everything faster only proposes.
#[inline(always)]
pub(crate) fn squared_distance<T: Feature>(a: &[T], b: &[T]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            let difference = x[lane].to_f64() - y[lane].to_f64();
            lanes[lane] += difference * difference;
        }
    }
    let mut rest = 0.0;
    for (x, y) in a_rest.iter().zip(b_rest) {
        let difference = x.to_f64() - y.to_f64();
        rest += difference * difference;
    }
    sum_lanes(lanes) + rest
}

/// a·b in `f64`, in the same fixed order.
#[inline(always)]
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sum_lanes(lanes) + rest
}

#[inline(always)]
fn sum_lanes(lanes: [f64; LANES]) -> f64 {
    ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5]))
        + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]))
}
