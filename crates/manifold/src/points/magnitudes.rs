//! How large values are: whether their squares can be summed, and scaling where they cannot.

use ndarray::ArrayView2;
use rayon::prelude::*;

use super::Feature;
use crate::simd::widest;
use crate::{ManifoldError, Result};

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

/// The largest magnitude of some finite values.
pub(crate) fn largest_magnitude(values: &[f32]) -> f32 {
    // Magnitudes are in the order of their bits, and whole numbers are compared many at a time.
    widest(
        #[inline(always)]
        || {
            let bits = values.iter().map(|v| v.abs().to_bits() as i32);
            f32::from_bits(bits.fold(0, i32::max) as u32)
        },
    )
}

/// Values that one thread looks at.
const CHUNK: usize = 1 << 16;

/// Whether all values are finite and not too large.
fn usable<T: Feature>(values: &[T]) -> bool {
    widest(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_magnitude_is_that_of_one_value_after_the_other() {
        let tiny = f32::from_bits(1);
        for values in [
            vec![],
            vec![0.0, -0.0],
            vec![-0.0, tiny, -tiny],
            vec![f32::MIN, 1.0, f32::MAX],
            (0..100).map(|i| (i as f32 - 70.5) * 1e-3).collect(),
        ] {
            let one_by_one = values.iter().fold(0.0f32, |l, v| l.max(v.abs()));
            assert_eq!(largest_magnitude(&values), one_by_one, "{values:?}");
        }
    }
}
