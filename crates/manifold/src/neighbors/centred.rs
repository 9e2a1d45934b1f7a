//! Points as the matrix products see them: moved to their middle, scaled and rounded to `f32`.

use faer::MatRef;
use rayon::prelude::*;

use crate::points::{Feature, Points, dot};

/// Points, each times a factor of its own.
#[derive(Clone, Copy)]
pub(super) struct Scaled<'a, T> {
    pub(super) points: Points<'a, T>,
    /// One a point, or none where all are 1.
    pub(super) factors: &'a [f64],
}

impl<T: Feature> Scaled<'_, T> {
    fn row(&self, i: usize) -> impl Iterator<Item = f64> {
        let factor = self.factors.get(i).copied().unwrap_or(1.0);
        self.points.row(i).iter().map(move |v| v.to_f64() * factor)
    }
}

/// Where products are computed: around `middle`, times `scale`.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    middle: Vec<f64>,
    /// Keeps squares of the largest value inside `f32`; a power of two costs no accuracy.
    pub(super) scale: f64,
}

impl Frame {
    /// Fits all of `rows`, around their middle.
    pub(super) fn around<T: Feature>(rows: Scaled<'_, T>) -> Self {
        Self::with_middle(rows, middle(rows))
    }

    /// Fits all of `rows`, around zero.
    pub(super) fn at_origin<T: Feature>(rows: Scaled<'_, T>) -> Self {
        Self::with_middle(rows, vec![0.0; rows.points.dimensions()])
    }

    fn with_middle<T: Feature>(rows: Scaled<'_, T>, middle: Vec<f64>) -> Self {
        let mut largest = vec![0.0f64; rows.points.dimensions()];
        for i in 0..rows.points.len() {
            for (largest, v) in largest.iter_mut().zip(rows.row(i)) {
                *largest = largest.max(v.abs());
            }
        }
        let widest = largest
            .iter()
            .zip(&middle)
            .map(|(largest, middle)| largest + middle.abs())
            .fold(0.0, f64::max);
        let scale = if widest > 0.0 {
            (-widest.log2().ceil()).min(LARGEST_EXPONENT).exp2()
        } else {
            1.0
        };
        Self { middle, scale }
    }
}

/// Keeps the scale of subnormal numbers finite.
const LARGEST_EXPONENT: f64 = 1000.0;

/// Points in a [`Frame`], in `f32`.
#[derive(Debug, Clone)]
pub(super) struct Centred {
    values: Vec<f32>,
    /// What a point's products fall short by: ‖c‖²/2, so that the nearest point is the closest.
    pub(super) offsets: Vec<f32>,
    /// ‖c‖ of each point.
    pub(super) norms: Vec<f64>,
    dimensions: usize,
}

impl Centred {
    /// Points far outside the frame may become infinite; their norms then are, too.
    pub(super) fn new<T: Feature>(frame: &Frame, rows: Scaled<'_, T>) -> Self {
        let dimensions = rows.points.dimensions();
        let mut values = vec![0.0f32; rows.points.len() * dimensions];
        values
            .par_chunks_mut(dimensions)
            .enumerate()
            .with_min_len(64)
            .for_each(|(i, out)| {
                for ((out, v), middle) in out.iter_mut().zip(rows.row(i)).zip(&frame.middle) {
                    *out = ((v - middle) * frame.scale) as f32;
                }
            });
        let squares = values.par_chunks(dimensions).with_min_len(64);
        let squares: Vec<f64> = squares
            .map(|row| {
                crate::simd::widest(
                    #[inline(always)]
                    || dot(row, row),
                )
            })
            .collect();
        Self {
            offsets: squares.iter().map(|s| (s / 2.0) as f32).collect(),
            norms: squares.iter().map(|s| s.sqrt()).collect(),
            values,
            dimensions,
        }
    }

    /// The same points, to be compared by their products alone.
    pub(super) fn without_offsets(mut self) -> Self {
        self.offsets.fill(0.0);
        self
    }

    pub(super) fn rows(&self, start: usize, end: usize) -> MatRef<'_, f32> {
        MatRef::from_row_major_slice(
            &self.values[start * self.dimensions..end * self.dimensions],
            end - start,
            self.dimensions,
        )
    }
}

/// The median of each dimension over a sample. Unlike the mean it stays among the points when one of them
/// is far off.
fn middle<T: Feature>(rows: Scaled<'_, T>) -> Vec<f64> {
    const SAMPLE: usize = 1001;
    let points = rows.points;
    if points.len() == 0 {
        return vec![0.0; points.dimensions()];
    }
    let step = points.len().div_ceil(SAMPLE);
    let sample: Vec<Vec<f64>> = (0..points.len())
        .step_by(step)
        .map(|i| rows.row(i).collect())
        .collect();
    (0..points.dimensions())
        .into_par_iter()
        .map(|j| {
            let mut values: Vec<f64> = sample.iter().map(|row| row[j]).collect();
            let half = values.len() / 2;
            *values.select_nth_unstable_by(half, f64::total_cmp).1
        })
        .collect()
}
