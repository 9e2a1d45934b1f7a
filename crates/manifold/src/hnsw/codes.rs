//! Rows as whole numbers of eight bits on a grid of one step: scalar quantisation, FAISS's `QT_8bit_uniform` (Douze and
//! others, The Faiss library, 2024) with an origin for each dimension.
//!
//! The codes of a row are compared with a query on the same grid, so that a step is a step in every dimension and the
//! sum of squared differences orders as Euclidean distance does. What is coded is therefore what has the metric's order
//! under that distance: rows as they are; under cosine distance rows of length 1; for inner products completed rows
//! (see [`super::space::factor`]), with one more dimension.

use rayon::prelude::*;

use super::code_sums::{CodeRows, STEP};
use super::part::Part;
use super::space::Space;
use crate::points::dot;
use crate::{ManifoldError, Metric, Result};

// The grid is a part of the file format: an index is verified by laying it once more, so that another way to lay it needs
// another version of the format.

/// Rows that the grid is laid by; vertices are numbered by their hashes, so the first ones are a sample.
const SAMPLE: usize = 1 << 13;
/// The share of the sample's values that may lie below the grid, and as many above it: few far values would make every
/// step wide.
const OUTSIDE: f64 = 0.001;
/// The largest code.
const LARGEST: u8 = u8::MAX;

/// The codes of all vertices.
#[derive(Clone)]
pub(super) struct Codes {
    /// What code 0 stands for in each coded dimension.
    origins: Part<f64>,
    /// From one code to the next.
    pub(super) step: f64,
    /// Of the vertices, padded with zeros.
    rows: Part<u8>,
    /// The length of completed rows, which queries for inner products get.
    length: f64,
}

impl Codes {
    /// Dimensions that are coded of rows of so many.
    pub(super) fn dimensions(metric: Metric, dimensions: usize) -> usize {
        dimensions + usize::from(metric == Metric::InnerProduct)
    }

    /// Codes from one row to the next.
    pub(super) fn stride(metric: Metric, dimensions: usize) -> usize {
        Self::dimensions(metric, dimensions).next_multiple_of(STEP)
    }

    /// Bytes of the codes of so many rows.
    pub(super) fn bytes(rows: usize, dimensions: usize, metric: Metric) -> usize {
        let origins = Self::dimensions(metric, dimensions) * size_of::<f64>();
        rows.saturating_mul(Self::stride(metric, dimensions))
            .saturating_add(origins)
    }

    /// Whether rows of so many dimensions have codes.
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] where sums would overflow.
    pub(super) fn check(metric: Metric, dimensions: usize) -> Result<()> {
        let coded = Self::dimensions(metric, dimensions);
        if reach(coded) >= i32::from(LARGEST) {
            return Ok(());
        }
        let most = (i32::MAX as usize / usize::from(LARGEST).pow(2)) - (coded - dimensions);
        Err(ManifoldError::InvalidParameter {
            name: "storage",
            value: format!("'int8' for {dimensions} dimensions"),
            requirement: format!("'f32' or 'auto' for vectors of more than {most} dimensions"),
        })
    }

    /// The codes of a space's rows.
    ///
    /// # Errors
    /// Those of [`Codes::check`].
    pub(super) fn new(space: &Space<'_>) -> Result<Self> {
        Self::check(space.metric, space.dimensions)?;
        let (origins, step) = grid(space);
        let stride = Self::stride(space.metric, space.dimensions);
        let rows = space.rows.values.len() / space.rows.stride;
        let mut codes = Part::<u8>::zeros(rows * stride);
        let padded = codes.as_mut_slice().par_chunks_mut(stride).enumerate();
        padded.for_each(|(vertex, codes)| {
            let row = Coded::of_row(space, vertex as u32);
            let places = places(&row, &origins, step, (0, i32::from(LARGEST)));
            for (code, place) in codes.iter_mut().zip(places) {
                *code = place as u8;
            }
        });
        Ok(Self::from_parts(
            space,
            origins.as_slice().into(),
            step,
            codes,
        ))
    }

    /// Those that [`Codes::new`] made of the same rows.
    pub(super) fn from_parts(
        space: &Space<'_>,
        origins: Part<f64>,
        step: f64,
        rows: Part<u8>,
    ) -> Self {
        let is_completed = space.metric == Metric::InnerProduct && !space.factors.is_empty();
        let length = is_completed.then(|| Coded::of_row(space, 0).length());
        Self {
            origins,
            step,
            rows,
            length: length.unwrap_or(0.0),
        }
    }

    /// Whether the same code stands for the same value in both.
    pub(super) fn share_grid(&self, other: &Self) -> bool {
        self.step.to_bits() == other.step.to_bits() && self.origins.bytes() == other.origins.bytes()
    }

    /// The tables, for a file.
    pub(super) fn parts(&self) -> [&[u8]; 2] {
        [self.origins.bytes(), self.rows.bytes()]
    }

    /// What a code of a dimension stands for.
    #[cfg(test)]
    pub(super) fn value(&self, dimension: usize, code: u8) -> f64 {
        self.origins.as_slice()[dimension] + self.step * f64::from(code)
    }

    pub(super) fn rows(&self) -> CodeRows<'_> {
        CodeRows {
            codes: self.rows.as_slice(),
            stride: self.origins.len().next_multiple_of(STEP),
        }
    }

    /// Puts a query on the grid, padded. It may lie outside of where codes are.
    pub(super) fn place_query(&self, metric: Metric, query: &[f32], out: &mut Vec<i16>) {
        let reach = reach(self.origins.len());
        let query = Coded::of_query(metric, query, self.length);
        let range = (i32::from(LARGEST) - reach, reach);
        let places = places(&query, self.origins.as_slice(), self.step, range);
        out.clear();
        out.extend(places.map(|place| place as i16));
        out.resize(self.rows().stride, 0);
    }
}

/// The largest difference between a query and a code: the sum of the squares of so many fits 31 bits, and each 16.
pub(super) fn reach(dimensions: usize) -> i32 {
    let most = i32::MAX as usize / dimensions.max(1);
    (most.isqrt() as i32).min(i32::from(i16::MAX))
}

/// What is coded of a row, before it is put on a grid.
struct Coded<'a> {
    values: &'a [f32],
    /// What they are multiplied by.
    unit: f64,
    /// One more value.
    completion: Option<f64>,
}

impl<'a> Coded<'a> {
    fn of_row(space: &Space<'a>, vertex: u32) -> Self {
        let values = space.vector(vertex);
        let completed = space.metric == Metric::InnerProduct;
        Self {
            values,
            unit: match space.metric {
                Metric::Cosine => dot(values, values).sqrt().recip(),
                Metric::InnerProduct if space.scale != 0.0 => space.scale,
                Metric::L2 | Metric::InnerProduct => 1.0,
            },
            completion: completed.then(|| f64::from(space.factors[vertex as usize])),
        }
    }

    fn of_query(metric: Metric, values: &'a [f32], length: f64) -> Self {
        let own = || dot(values, values).sqrt();
        Self {
            values,
            unit: match metric {
                Metric::L2 => 1.0,
                Metric::Cosine => own().recip(),
                // Its length makes no difference to the order; one of zeros has any.
                Metric::InnerProduct => Some(length / own())
                    .filter(|unit| unit.is_finite())
                    .unwrap_or(0.0),
            },
            completion: (metric == Metric::InnerProduct).then_some(0.0),
        }
    }

    fn iter(&self) -> impl Iterator<Item = f64> {
        let values = self.values.iter();
        let values = values.map(|&value| f64::from(value) * self.unit);
        values.chain(self.completion)
    }

    fn get(&self, dimension: usize) -> f64 {
        match (self.values.get(dimension), self.completion) {
            (Some(&value), _) => f64::from(value) * self.unit,
            (None, completion) => completion.unwrap_or(0.0),
        }
    }

    fn length(&self) -> f64 {
        self.iter().map(|value| value * value).sum::<f64>().sqrt()
    }
}

/// Makes every place positive.
const SHIFT: f64 = 32768.0;

/// The nearest places of the grid, within a range.
fn places(
    row: &Coded<'_>,
    origins: &[f64],
    step: f64,
    (least, most): (i32, i32),
) -> impl Iterator<Item = i32> {
    let (inverse, low, high) = (step.recip(), f64::from(least), f64::from(most));
    row.iter().zip(origins).map(move |(value, origin)| {
        let place = ((value - origin) * inverse).clamp(low, high);
        // Rounded to the nearest by cutting off, of numbers that are not negative.
        (place + SHIFT + 0.5) as i32 - SHIFT as i32
    })
}

/// Where the codes of each dimension begin, and their step: as wide as the dimension that is spread most needs it. The
/// others have it around the middle of their values.
fn grid(space: &Space<'_>) -> (Vec<f64>, f64) {
    let dimensions = Codes::dimensions(space.metric, space.dimensions);
    if space.metric == Metric::L2 && are_codes(space.rows.values) {
        return (vec![0.0; dimensions], 1.0);
    }
    let rows = space.rows.values.len() / space.rows.stride;
    let sample: Vec<Coded<'_>> = (0..rows.min(SAMPLE) as u32)
        .map(|vertex| Coded::of_row(space, vertex))
        .collect();
    let Some(last) = sample.len().checked_sub(1) else {
        return (vec![0.0; dimensions], 1.0);
    };
    let outside = (last as f64 * OUTSIDE) as usize;
    let ends: Vec<(f64, f64)> = (0..dimensions)
        .into_par_iter()
        .map_init(Vec::new, |values, dimension| {
            values.clear();
            values.extend(sample.iter().map(|row| row.get(dimension)));
            let mut nth = |place: usize| *values.select_nth_unstable_by(place, f64::total_cmp).1;
            (nth(outside), nth(last - outside))
        })
        .collect();
    let widest = ends.iter().map(|(low, high)| high - low);
    let step = widest.fold(0.0, f64::max) / f64::from(LARGEST);
    let step = if step.is_normal() { step } else { 1.0 };
    let half = step * f64::from(LARGEST) / 2.0;
    let origins = ends
        .iter()
        .map(|(low, high)| f64::midpoint(*low, *high) - half);
    (origins.collect(), step)
}

/// Whether all values are whole numbers from 0 to 255: pixels and counts, which are their own codes.
fn are_codes(values: &[f32]) -> bool {
    let is_code = |&value: &f32| f32::from(value as u8) == value;
    values
        .par_chunks(SAMPLE)
        .all(|values| values.iter().all(is_code))
}
