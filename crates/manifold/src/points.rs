//! Distinct, finite points in an order that depends on their values alone.

use ndarray::ArrayView2;
use rayon::prelude::*;

use crate::control::stop_if_cancelled;
use crate::simd::{Eight, Kernel, LANES, eight};
use crate::{Control, ManifoldError, Result};

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

/// Below this, squared differences of `f64` would underflow.
const SMALL: f64 = 1e-100;

/// One step of [`enlarge`].
const STEP: u32 = 400;

/// The exponent of two of `steps` steps of [`enlarge`].
pub(crate) fn scale_up(steps: u32) -> i32 {
    (steps * STEP) as i32
}

/// Scales tiny values up, exactly: what is nearest, and the weights, do not depend on scale. Returns the
/// steps taken, see [`scale_up`].
pub(crate) fn enlarge<T: Feature>(values: &mut [T]) -> u32 {
    if size_of::<T>() < size_of::<f64>() {
        return 0;
    }
    let largest = values
        .iter()
        .fold(0.0f64, |largest, v| largest.max(v.to_f64().abs()));
    if largest == 0.0 || largest >= SMALL {
        return 0;
    }
    // In steps that no factor overflows in.
    let steps = if largest < SMALL * SMALL { 2 } else { 1 };
    for _ in 0..steps {
        values.iter_mut().for_each(|v| *v = v.scaled(scale_up(1)));
    }
    steps
}

/// Values that one thread looks at.
const CHUNK: usize = 1 << 16;

/// Whether all values are finite and not too large.
fn usable<T: Feature>(values: &[T]) -> bool {
    crate::simd::widest(
        #[inline(always)]
        || {
            let sound = |v: &T| u32::from(v.to_f64().abs() <= T::LARGEST);
            values
                .chunks(1024)
                .all(|part| part.iter().map(sound).sum::<u32>() as usize == part.len())
        },
    )
}

/// Whether rows, shape (n, D), can be told apart by finite squared distances. Whatever takes features checks
/// them so; it is public for those who keep rows for later.
///
/// # Errors
/// [`ManifoldError::NonFinite`] and [`ManifoldError::TooLarge`] for the first such value;
/// [`ManifoldError::InvalidParameter`] for zero dimensions or too many rows.
pub fn check<T: Feature>(features: ArrayView2<'_, T>) -> Result<()> {
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
    // Most often nothing is wrong, which many values at a time can tell.
    if let Some(values) = features.to_slice()
        && values.par_chunks(CHUNK).all(usable)
    {
        return Ok(());
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

/// ‖a − b‖² in `f64`, summed in an order that depends on the length alone. This sum decides which
/// neighbours are nearest; everything faster only proposes.
#[inline(always)]
pub(crate) fn squared_distance<T: Feature>(a: &[T], b: &[T]) -> f64 {
    let [distance] = squared_distances(a, [b]);
    distance
}

/// ‖a − b‖² for several b, each the very bits of [`squared_distance`]: their sums do not wait for one another.
#[inline(always)]
pub(crate) fn squared_distances<T: Feature, const C: usize>(a: &[T], b: [&[T]; C]) -> [f64; C] {
    eight(SquaredDistances { a, b })
}

/// a·b in `f64`, in the same fixed order.
#[inline(always)]
pub(crate) fn dot<T: Feature>(a: &[T], b: &[T]) -> f64 {
    let [[dot]] = dots([a], [b]);
    dot
}

/// a·b of every pair, each the very bits of [`dot`]. One load serves several sums, and their additions do
/// not wait for one another. All rows have one length.
#[inline(always)]
pub(crate) fn dots<T: Feature, const R: usize, const C: usize>(
    a: [&[T]; R],
    b: [&[T]; C],
) -> [[f64; C]; R] {
    eight(Dots { a, b })
}

#[derive(Clone, Copy)]
pub(crate) struct SquaredDistances<'a, T, const C: usize> {
    pub(crate) a: &'a [T],
    pub(crate) b: [&'a [T]; C],
}

impl<T: Feature, const C: usize> Kernel for SquaredDistances<'_, T, C> {
    type Out = [f64; C];

    #[inline(always)]
    fn run<V: Eight>(self) -> [f64; C] {
        let (a_chunks, a_rest) = self.a.as_chunks();
        let b_chunks = self.b.map(|row| &row.as_chunks().0[..a_chunks.len()]);
        let mut sums = [V::ZERO; C];
        for (chunk, x) in a_chunks.iter().enumerate() {
            let x = T::lanes::<V>(x);
            for (sums, row) in sums.iter_mut().zip(b_chunks) {
                let difference = x.minus(T::lanes(&row[chunk]));
                *sums = sums.plus(difference.times(difference));
            }
        }
        std::array::from_fn(|j| {
            let mut rest = 0.0;
            for (x, y) in a_rest.iter().zip(self.b[j].as_chunks::<LANES>().1) {
                let difference = x.to_f64() - y.to_f64();
                rest += difference * difference;
            }
            sum_lanes(sums[j].lanes()) + rest
        })
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Dots<'a, T, const R: usize, const C: usize> {
    pub(crate) a: [&'a [T]; R],
    pub(crate) b: [&'a [T]; C],
}

impl<T: Feature, const R: usize, const C: usize> Kernel for Dots<'_, T, R, C> {
    type Out = [[f64; C]; R];

    #[inline(always)]
    fn run<V: Eight>(self) -> [[f64; C]; R] {
        let length = self.a[0].len();
        let (chunks, whole) = (length / LANES, length - length % LANES);
        let a_chunks = self.a.map(|row| &row.as_chunks().0[..chunks]);
        let b_chunks = self.b.map(|row| &row.as_chunks().0[..chunks]);
        let mut lanes = [[V::ZERO; C]; R];
        for chunk in 0..chunks {
            let y = b_chunks.map(|row| T::lanes::<V>(&row[chunk]));
            for (lanes, row) in lanes.iter_mut().zip(a_chunks) {
                let x = T::lanes::<V>(&row[chunk]);
                for (sums, y) in lanes.iter_mut().zip(y) {
                    *sums = sums.plus(x.times(y));
                }
            }
        }
        let mut sums = [[0.0; C]; R];
        for i in 0..R {
            for j in 0..C {
                let rest = self.a[i][whole..].iter().zip(&self.b[j][whole..]);
                let rest: f64 = rest.map(|(x, y)| x.to_f64() * y.to_f64()).sum();
                sums[i][j] = sum_lanes(lanes[i][j].lanes()) + rest;
            }
        }
        sums
    }
}

#[inline(always)]
fn sum_lanes(lanes: [f64; LANES]) -> f64 {
    ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5]))
        + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]))
}
