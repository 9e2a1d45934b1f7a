//! Points as the matrix products see them: moved to their middle, scaled and rounded to `f32`.

use faer::MatRef;
use rayon::prelude::*;

use crate::points::{Feature, Points};

/// Where products are computed: around `middle`, times `scale`.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    middle: Vec<f64>,
    /// Keeps squares of the largest value inside `f32`; a power of two costs no accuracy.
    pub(super) scale: f64,
}

impl Frame {
    /// Fits all of `points`.
    pub(super) fn around<T: Feature>(points: Points<'_, T>) -> Self {
        let middle = middle(points);
        let mut largest = vec![0.0f64; points.dimensions()];
        for i in 0..points.len() {
            for (largest, v) in largest.iter_mut().zip(points.row(i)) {
                *largest = largest.max(v.to_f64().abs());
            }
        }
        let widest = largest
            .iter()
            .zip(&middle)
            .map(|(largest, middle)| largest + middle.abs())
            .fold(0.0, f64::max);
        let scale = if widest > 0.0 {
            (-widest.log2().ceil()).exp2()
        } else {
            1.0
        };
        Self { middle, scale }
    }
}

/// Points in a [`Frame`], in `f32`.
#[derive(Debug, Clone)]
pub(super) struct Centred {
    values: Vec<f32>,
    /// ‖c‖²/2 of each point.
    pub(super) half_norms: Vec<f32>,
    /// ‖c‖ of each point.
    pub(super) norms: Vec<f64>,
    dimensions: usize,
}

impl Centred {
    /// Points far outside the frame may become infinite; their norms then are, too.
    pub(super) fn new<T: Feature>(frame: &Frame, points: Points<'_, T>) -> Self {
        let dimensions = points.dimensions();
        let mut values = vec![0.0f32; points.len() * dimensions];
        values
            .par_chunks_mut(dimensions)
            .enumerate()
            .with_min_len(64)
            .for_each(|(i, out)| {
                for ((out, v), middle) in out.iter_mut().zip(points.row(i)).zip(&frame.middle) {
                    *out = ((v.to_f64() - middle) * frame.scale) as f32;
                }
            });
        let squares = values.par_chunks(dimensions).with_min_len(64).map(|row| {
            row.iter()
                .map(|&v| f64::from(v) * f64::from(v))
                .sum::<f64>()
        });
        let squares: Vec<f64> = squares.collect();
        Self {
            half_norms: squares.iter().map(|s| (s / 2.0) as f32).collect(),
            norms: squares.iter().map(|s| s.sqrt()).collect(),
            values,
            dimensions,
        }
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

/// What rounding can do to the closeness of one query's neighbours.
pub(super) struct ErrorBound {
    /// Of a product of `dimensions` terms, relative to the product of the norms (Higham 2002, 3.1).
    dot: f64,
    unit: f64,
}

impl ErrorBound {
    pub(super) fn new(dimensions: usize) -> Self {
        let unit = f64::from(f32::EPSILON) / 2.0;
        let terms = dimensions as f64 * unit;
        Self {
            dot: terms / (1.0 - terms),
            unit,
        }
    }

    /// The largest proposed squared distance that a point within true squared distance `reach` of a
    /// query of norm `norm` can have.
    pub(super) fn proposed_squared_distance(&self, norm: f64, reach: f64) -> f64 {
        let other = norm + reach.sqrt();
        let rounded_input = reach.sqrt() + 1.01 * self.unit * (norm + other);
        let product = 2.0 * self.dot * norm * other;
        let sums = 2.0 * self.unit * (norm * other + other * other + norm * norm);
        (rounded_input * rounded_input + product + sums) * (1.0 + 1e-6)
            + f64::from(f32::MIN_POSITIVE)
    }
}
