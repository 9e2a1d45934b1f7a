//! Cosine and distance as scalar products, so that the tiles compute nothing else.

use ndarray::{Array1, Array2, ArrayView2, CowArray, Ix2};
use rayon::prelude::*;

use crate::Similarity;
use crate::real::Real;

/// Vectors whose products, times `scale`, plus the key's bias give the scores.
pub(crate) struct Prepared<'a, T> {
    pub(crate) queries: CowArray<'a, T, Ix2>,
    pub(crate) keys: CowArray<'a, T, Ix2>,
    pub(crate) bias: Option<Vec<T>>,
    pub(crate) scale: f64,
}

impl<'a, T: Real> Prepared<'a, T> {
    /// The cosine is the product of unit vectors. −‖q − k‖² = 2 q·k − ‖k‖² − ‖q‖², whose last term changes
    /// no weight; both are centred first, because the terms' rounding grows with their size.
    pub(crate) fn new(
        similarity: Similarity,
        queries: ArrayView2<'a, T>,
        keys: ArrayView2<'a, T>,
        scale: f64,
    ) -> Self {
        match similarity {
            Similarity::Dot => Self {
                queries: queries.into(),
                keys: keys.into(),
                bias: None,
                scale,
            },
            Similarity::Cosine => Self {
                queries: unit_rows(queries).into(),
                keys: unit_rows(keys).into(),
                bias: None,
                scale,
            },
            Similarity::L2 => {
                let centre = centre(keys);
                let keys = centred(keys, &centre);
                let lengths = keys.rows().into_iter().map(|key| {
                    let squares = key.iter().map(|value| value.to_f64().powi(2));
                    T::from_f64(-scale * squares.sum::<f64>())
                });
                Self {
                    bias: Some(lengths.collect()),
                    queries: centred(queries, &centre).into(),
                    keys: keys.into(),
                    scale: 2.0 * scale,
                }
            }
        }
    }
}

/// Rows of length 1; a row of zeros stays.
fn unit_rows<T: Real>(rows: ArrayView2<'_, T>) -> Array2<T> {
    let mut unit = rows.to_owned();
    unit.outer_iter_mut().into_par_iter().for_each(|mut row| {
        let squares: f64 = row.iter().map(|value| value.to_f64().powi(2)).sum();
        if squares != 0.0 {
            let length = squares.sqrt();
            row.map_inplace(|value| *value = T::from_f64(value.to_f64() / length));
        }
    });
    unit
}

/// The mean of the columns' finite numbers: a key that is not may be one that nobody sees.
fn centre<T: Real>(keys: ArrayView2<'_, T>) -> Array1<f64> {
    let (mut sums, mut counts) = (
        Array1::zeros(keys.ncols()),
        Array1::<f64>::zeros(keys.ncols()),
    );
    for key in keys.rows() {
        for ((sum, count), value) in sums.iter_mut().zip(&mut counts).zip(key) {
            let value = value.to_f64();
            if value.is_finite() {
                *sum += value;
                *count += 1.0;
            }
        }
    }
    counts.map_inplace(|count| *count = count.max(1.0));
    sums / counts
}

fn centred<T: Real>(rows: ArrayView2<'_, T>, centre: &Array1<f64>) -> Array2<T> {
    let mut centred = rows.to_owned();
    centred
        .outer_iter_mut()
        .into_par_iter()
        .for_each(|mut row| {
            row.zip_mut_with(centre, |value, centre| {
                *value = T::from_f64(value.to_f64() - centre);
            });
        });
    centred
}
