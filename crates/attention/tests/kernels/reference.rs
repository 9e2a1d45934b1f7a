//! Attention word for word, in `f64`, and numbers to try it with.

use std::ops::Range;

use lakefold_attention::Real;
use ndarray::{Array2, ArrayView2};

/// Numbers between −1 and 1 that look random.
pub(crate) fn numbers<T: Real>(rows: usize, columns: usize, seed: u64) -> Array2<T> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    Array2::from_shape_simple_fn((rows, columns), || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        T::from_f64((state >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
    })
}

/// What is done to the scores of one head.
pub(crate) struct Scores<'a> {
    pub(crate) scale: f64,
    pub(crate) softcap: f64,
    /// −∞: may not attend
    pub(crate) mask: &'a dyn Fn(usize, usize) -> f64,
    pub(crate) visible: &'a dyn Fn(usize) -> Range<usize>,
}

/// Scale, softcap, mask, softmax, values, and whether a query attends to anything.
pub(crate) fn attention<T: Real>(
    queries: ArrayView2<'_, T>,
    keys: ArrayView2<'_, T>,
    values: ArrayView2<'_, T>,
    scores: &Scores<'_>,
) -> (Array2<f64>, Vec<bool>) {
    let mut output = Array2::zeros((queries.nrows(), values.ncols()));
    let mut attended = Vec::new();
    for (i, query) in queries.rows().into_iter().enumerate() {
        let score = |key: usize| {
            let pairs = query.iter().zip(keys.row(key));
            let product: f64 = pairs.map(|(q, k)| q.to_f64() * k.to_f64()).sum();
            let score = product * scores.scale;
            let capped = if scores.softcap > 0.0 {
                scores.softcap * (score / scores.softcap).tanh()
            } else {
                score
            };
            capped + (scores.mask)(i, key)
        };
        let visible: Vec<usize> = (scores.visible)(i)
            .filter(|&key| key < keys.nrows())
            .collect();
        let row: Vec<f64> = visible.iter().map(|&key| score(key)).collect();
        let maximum = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        attended.push(maximum > f64::NEG_INFINITY);
        if maximum == f64::NEG_INFINITY {
            continue;
        }
        let sum: f64 = row.iter().map(|score| (score - maximum).exp()).sum();
        for (score, &key) in row.iter().zip(&visible) {
            let weight = (score - maximum).exp() / sum;
            for (out, value) in output.row_mut(i).iter_mut().zip(values.row(key)) {
                *out += weight * value.to_f64();
            }
        }
    }
    (output, attended)
}

/// Fails unless all numbers agree to `tolerance`.
pub(crate) fn assert_close<T: Real>(
    found: ArrayView2<'_, T>,
    expected: ArrayView2<'_, f64>,
    tolerance: f64,
) {
    assert_eq!(found.dim(), expected.dim());
    for (place, value) in found.indexed_iter() {
        let (value, expected) = (value.to_f64(), expected[place]);
        assert!(
            (value - expected).abs() <= tolerance,
            "{place:?}: {value}, not {expected}"
        );
    }
}
