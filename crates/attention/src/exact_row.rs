//! One query in `f64`, key by key: for rows that the tiles could not finish.
//!
//! A product may overflow in `f32`, and 0·NaN is NaN: what a query does not see, but shares a tile with, can
//! spoil its sums. This computes the row from what it sees alone, and finds the culprit if there is one.

use std::ops::Range;

use ndarray::{ArrayView1, ArrayViewMut1};

use crate::heads::Head;
use crate::mask::Mask;
use crate::real::Real;
use crate::tile_softmax::capped;
use crate::{AttentionError, Result};

/// Writes the row of `query` and returns whether any key has a weight.
pub(crate) fn exact_row<T: Real>(
    head: &Head<'_, T>,
    query: usize,
    visible: Range<usize>,
    mut out: ArrayViewMut1<'_, T>,
) -> Result<bool> {
    let invalid = |key, score| AttentionError::InvalidScore {
        head: head.number,
        query: Some(query),
        key,
        score,
    };
    let mut scores = Vec::with_capacity(visible.len());
    let mut allowed = None;
    for key in visible.clone() {
        let score = score(head, query, key);
        if let Some(score) = score {
            if score.is_nan() || score == f64::INFINITY {
                return Err(invalid(key, score));
            }
            allowed = allowed.or(Some(key));
        }
        scores.push(score.unwrap_or(f64::NEG_INFINITY));
    }
    let maximum = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    out.fill(T::zero());
    if maximum == f64::NEG_INFINITY {
        return match allowed {
            Some(key) if head.refuses_minus_infinity => Err(invalid(key, maximum)),
            _ => Ok(false),
        };
    }
    let weights: Vec<f64> = scores.iter().map(|score| (score - maximum).exp()).collect();
    let sum: f64 = weights.iter().sum();
    for (column, out) in out.iter_mut().enumerate() {
        let values = weights.iter().zip(visible.clone());
        let mean: f64 = values
            .filter(|&(&weight, _)| weight > 0.0)
            .map(|(weight, key)| weight / sum * head.values[[key, column]].to_f64())
            .sum();
        if !mean.is_finite() {
            return Err(AttentionError::InvalidValue {
                head: head.number,
                query,
                column,
                value: mean,
            });
        }
        *out = T::from_f64(mean);
    }
    Ok(true)
}

/// `None` where the mask takes the key out.
fn score<T: Real>(head: &Head<'_, T>, query: usize, key: usize) -> Option<f64> {
    let added = match &head.mask {
        Mask::None => 0.0,
        Mask::Additive(mask) => mask[[query, key]].to_f64(),
        Mask::Boolean(mask) if mask[[query, key]] => 0.0,
        Mask::Boolean(_) => return None,
    };
    if added == f64::NEG_INFINITY {
        return None;
    }
    let mut score = dot(head.queries.row(query), head.keys.row(key)) * head.scale;
    score += head.bias.map_or(0.0, |bias| bias[key].to_f64());
    if head.softcap > 0.0 {
        score = capped::<false>(score, head.softcap);
    }
    Some(score + added)
}

fn dot<T: Real>(a: ArrayView1<'_, T>, b: ArrayView1<'_, T>) -> f64 {
    let products = a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64());
    products.sum()
}
