//! The weights themselves, of one query.

use crate::online::invalid_score;
use crate::{AttentionError, Query, Result, Score, softmax_in_place};

/// The softmax of the query's scores: one weight for each of `keys`, which lie one after the other, 0 where
/// `valid(place)` is false. All arithmetic is in `f64`. The weights sum to 1 unless no key has any.
///
/// # Errors
/// [`AttentionError::Shape`] if `keys` is not a whole number of keys as wide as the query;
/// [`AttentionError::InvalidScore`] for a score of NaN or +∞.
///
/// ```
/// use lakefold_attention::{Query, Similarity, attention_weights};
/// let query = Query::new(&[1.0_f32, 0.0], Similarity::Dot, Some(2.0_f64.ln()))?;
/// let weights: Vec<f64> = attention_weights(&query, &[1.0_f32, 0.0, 0.0, 1.0], |_| true)?;
/// assert!((weights[0] - 2.0 / 3.0).abs() < 1e-15);
/// # Ok::<(), lakefold_attention::AttentionError>(())
/// ```
pub fn attention_weights<K: Score, T: Score>(
    query: &Query,
    keys: &[K],
    valid: impl Fn(usize) -> bool,
) -> Result<Vec<T>> {
    let dimensions = query.dimensions();
    let count = keys.len().checked_div(dimensions).unwrap_or(0);
    AttentionError::check_size("keys", "numbers", count * dimensions, keys.len())?;
    let mut scores = vec![0.0; count];
    query.scores(keys, &mut scores);
    for (key, score) in scores.iter_mut().enumerate() {
        if !valid(key) {
            *score = f64::NEG_INFINITY;
        } else if score.is_nan() || *score == f64::INFINITY {
            return Err(invalid_score(key, *score));
        }
    }
    softmax_in_place(&mut scores, 1.0)?;
    Ok(scores.into_iter().map(T::from_f64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Similarity;
    use proptest::prelude::*;

    #[test]
    fn invalid_keys_and_scores() {
        let query = Query::new(&[1.0_f64, 1.0], Similarity::Dot, Some(1.0)).unwrap();
        let weights = |keys: &[f64], valid: fn(usize) -> bool| {
            attention_weights::<f64, f64>(&query, keys, valid)
        };
        let nan = f64::NAN;
        assert_eq!(weights(&[], |_| true), Ok(vec![]));
        assert_eq!(
            weights(&[nan, 1.0, 2.0, 3.0], |key| key == 1),
            Ok(vec![0.0, 1.0])
        );
        assert_eq!(weights(&[0.0, 1.0], |_| false), Ok(vec![0.0]));
        let error = weights(&[1.0, 1.0, nan, 1.0], |_| true)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("the score of key 1 (counted from 0) is NaN"),
            "{error}"
        );
        let error = weights(&[1.0, 1.0, 3.0], |_| true).unwrap_err().to_string();
        assert!(error.contains("keys must be 2 numbers, got 3"), "{error}");
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            query in prop::collection::vec(-2.0..2.0_f32, 1..20),
            keys in prop::collection::vec(-2.0..2.0_f32, 0..400),
        ) {
            let dimensions = query.len();
            let keys = &keys[..keys.len() / dimensions * dimensions];
            let ready = Query::new(&query, Similarity::Dot, None).unwrap();
            let weights: Vec<f64> = attention_weights(&ready, keys, |_| true).unwrap();
            let exponentials: Vec<f64> = keys
                .chunks(dimensions)
                .map(|key| {
                    let products = key.iter().zip(&query).map(|(&k, &q)| f64::from(k) * f64::from(q));
                    (products.sum::<f64>() / (dimensions as f64).sqrt()).exp()
                })
                .collect();
            let sum: f64 = exponentials.iter().sum();
            prop_assert_eq!(weights.len(), exponentials.len());
            for (weight, exponential) in weights.iter().zip(exponentials) {
                prop_assert!((weight - exponential / sum).abs() < 1e-12);
            }
        }
    }
}
