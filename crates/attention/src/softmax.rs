//! The softmax of a slice of scores.

use crate::{AttentionError, Result};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A score's number type: `f32` or `f64`. All arithmetic is done in `f64`.
pub trait Score: sealed::Sealed + Copy + Send + Sync + 'static {
    /// Widens, exactly.
    fn to_f64(self) -> f64;
    /// Rounds to the nearest value of this type.
    fn from_f64(value: f64) -> Self;
}

impl Score for f32 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn from_f64(value: f64) -> Self {
        value as f32
    }
}

impl Score for f64 {
    fn to_f64(self) -> f64 {
        self
    }
    fn from_f64(value: f64) -> Self {
        value
    }
}

/// Replaces `scores` by exp(sᵢ / `temperature`) / Σⱼ exp(sⱼ / `temperature`).
///
/// The largest score is subtracted first, so that nothing overflows, and the sum is taken in `f64` in
/// the order of the slice: "safe softmax", Milakov and Gimelshein, *Online normalizer calculation for
/// softmax* (2018), algorithm 2.
///
/// Infinite scores get the limit: a score of −∞ weighs 0, scores of +∞ share all the weight evenly,
/// and if every score is −∞ (all masked) every weight is 0. An empty slice stays empty.
///
/// ```
/// let mut scores = [0.0_f64, 2.0_f64.ln()];
/// lakefold_attention::softmax_in_place(&mut scores, 1.0)?;
/// assert!((scores[1] - 2.0 / 3.0).abs() < 1e-15);
/// # Ok::<(), lakefold_attention::AttentionError>(())
/// ```
///
/// # Errors
/// [`AttentionError::NanScore`] and [`AttentionError::InvalidTemperature`]; the slice is then unchanged.
pub fn softmax_in_place<T: Score>(scores: &mut [T], temperature: f64) -> Result<()> {
    if !temperature.is_finite() || temperature <= 0.0 {
        return Err(AttentionError::InvalidTemperature { temperature });
    }
    let mut largest = f64::NEG_INFINITY;
    for (position, score) in scores.iter().enumerate() {
        let score = score.to_f64();
        if score.is_nan() {
            return Err(AttentionError::NanScore { position });
        }
        largest = largest.max(score);
    }
    if largest.is_infinite() {
        share_evenly(scores, largest);
        return Ok(());
    }
    let weight = |score: T| ((score.to_f64() - largest) / temperature).exp();
    let sum: f64 = scores.iter().map(|&score| weight(score)).sum();
    for score in scores {
        *score = T::from_f64(weight(*score) / sum);
    }
    Ok(())
}

/// The limit when the largest score is infinite: +∞ shares the weight, −∞ leaves none.
fn share_evenly<T: Score>(scores: &mut [T], largest: f64) {
    let shares = scores
        .iter()
        .filter(|score| score.to_f64() == f64::INFINITY)
        .count();
    for score in scores {
        let takes_part = largest > 0.0 && score.to_f64() == f64::INFINITY;
        *score = T::from_f64(if takes_part { 1.0 / shares as f64 } else { 0.0 });
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "limits and roundings are exact")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn softmax(scores: &[f64], temperature: f64) -> Vec<f64> {
        let mut weights = scores.to_vec();
        softmax_in_place(&mut weights, temperature).unwrap();
        weights
    }

    /// The definition, word for word: overflows for large scores.
    fn naive(scores: &[f64], temperature: f64) -> Vec<f64> {
        let exponentials: Vec<f64> = scores.iter().map(|s| (s / temperature).exp()).collect();
        let sum: f64 = exponentials.iter().sum();
        exponentials.iter().map(|e| e / sum).collect()
    }

    #[test]
    fn limits_of_infinite_scores() {
        let inf = f64::INFINITY;
        assert_eq!(softmax(&[], 1.0), Vec::<f64>::new());
        assert_eq!(softmax(&[inf, 1.0, inf], 1.0), [0.5, 0.0, 0.5]);
        assert_eq!(softmax(&[inf, -inf], 1.0), [1.0, 0.0]);
        assert_eq!(softmax(&[-inf, 3.0], 1.0), [0.0, 1.0]);
        assert_eq!(softmax(&[-inf, -inf], 1.0), [0.0, 0.0]);
    }

    #[test]
    fn extreme_finite_scores_do_not_overflow() {
        assert_eq!(softmax(&[1e308, -1e308], 1.0), [1.0, 0.0]);
        assert_eq!(
            softmax(&[f64::MAX, f64::MAX], f64::MIN_POSITIVE),
            [0.5, 0.5]
        );
        assert_eq!(softmax(&[1.0, 0.0], f64::MIN_POSITIVE), [1.0, 0.0]);
        assert_eq!(softmax(&[1.0, 0.0], f64::MAX), [0.5, 0.5]);
    }

    #[test]
    fn bad_input_changes_nothing() {
        let mut scores = [1.0, f64::NAN];
        assert_eq!(
            softmax_in_place(&mut scores, 1.0),
            Err(AttentionError::NanScore { position: 1 })
        );
        let mut scores = [1.0, 2.0];
        for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = softmax_in_place(&mut scores, temperature).unwrap_err();
            assert!(error.to_string().contains("temperature must be"), "{error}");
        }
        assert_eq!(scores, [1.0, 2.0]);
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            scores in prop::collection::vec(-30.0..30.0_f64, 0..40),
            temperature in 0.1..10.0_f64,
        ) {
            for (weight, expected) in softmax(&scores, temperature).iter().zip(naive(&scores, temperature)) {
                prop_assert!((weight - expected).abs() <= 1e-12 * expected.max(1e-300), "{weight} {expected}");
            }
        }

        #[test]
        fn single_precision_agrees_with_double(scores in prop::collection::vec(-30.0..30.0_f32, 1..40)) {
            let wide: Vec<f64> = scores.iter().map(|&s| f64::from(s)).collect();
            let mut weights = scores;
            softmax_in_place(&mut weights, 1.0).unwrap();
            for (weight, expected) in weights.iter().zip(softmax(&wide, 1.0)) {
                prop_assert_eq!(*weight, expected as f32);
            }
        }

        #[test]
        fn weights_sum_to_one_and_ignore_a_shift(
            scores in prop::collection::vec(-1e3..1e3_f64, 1..40),
            shift in -1e3..1e3_f64,
        ) {
            let weights = softmax(&scores, 1.0);
            prop_assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let shifted: Vec<f64> = scores.iter().map(|s| s + shift).collect();
            for (weight, other) in weights.iter().zip(softmax(&shifted, 1.0)) {
                prop_assert!((weight - other).abs() < 1e-9);
            }
        }
    }
}
