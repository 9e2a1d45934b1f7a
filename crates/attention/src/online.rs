//! Attention of one query over keys that arrive in blocks, in any order and in several places.

use crate::real::Real;
use crate::simd::{Kernel, widest};
use crate::{AttentionError, Query, Result, Score};

/// Keys whose scores are known before the state is rescaled: one rescaling a block instead of one a key.
const BLOCK: usize = 128;

/// The state of one query's attention: the running maximum m of the scores, the sum of exp(sᵢ − m) and the
/// vector Σ exp(sᵢ − m)·vᵢ, in `f64`. Its size is the width of a value, whatever has been absorbed.
///
/// Milakov and Gimelshein, *Online normalizer calculation for softmax* (2018), algorithm 3 and the
/// operator ⊕ of section 3.1; with the values, Dao et al., *FlashAttention* (2022), algorithm 1. Merging is
/// associative and commutative up to rounding.
#[derive(Debug, Clone, PartialEq)]
pub struct OnlineState {
    maximum: f64,
    sum: f64,
    accumulator: Vec<f64>,
}

impl OnlineState {
    /// The state of no keys, for values of `width` numbers.
    pub fn new(width: usize) -> Self {
        Self {
            maximum: f64::NEG_INFINITY,
            sum: 0.0,
            accumulator: vec![0.0; width],
        }
    }

    /// A state from what [`Self::maximum`], [`Self::sum`] and [`Self::accumulator`] returned.
    ///
    /// # Errors
    /// [`AttentionError::InvalidState`] for parts that no keys leave behind.
    pub fn from_parts(maximum: f64, sum: f64, accumulator: Vec<f64>) -> Result<Self> {
        check_parts(maximum, sum)?;
        Ok(Self {
            maximum,
            sum,
            accumulator,
        })
    }

    /// The largest score so far; −∞ if no key has any weight.
    pub fn maximum(&self) -> f64 {
        self.maximum
    }

    /// The sum of exp(score − maximum).
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// The sum of exp(score − maximum) times the value.
    pub fn accumulator(&self) -> &[f64] {
        &self.accumulator
    }

    /// Takes in keys of `query.dimensions()` numbers and values of this state's width, one after the other,
    /// except where `valid(place)` is false (a NULL key or value). A score of −∞ weighs nothing.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] if the slices do not hold the same number of keys and values;
    /// [`AttentionError::InvalidScore`] with the key's place for a score of NaN or +∞. The keys before
    /// that one may have been absorbed then.
    pub fn absorb<T: Real>(
        &mut self,
        query: &Query,
        keys: &[T],
        values: &[T],
        valid: impl Fn(usize) -> bool,
    ) -> Result<()> {
        self.parts().absorb(query, keys, values, valid)
    }

    /// Takes in values of this state's width, one after the other, whose scores are known: a search for the
    /// best keys computes them. A score of −∞ weighs nothing.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] unless there is one value a score; [`AttentionError::InvalidScore`] with its
    /// place for a score of NaN or +∞. Nothing has been absorbed then.
    pub fn absorb_scores<T: Score>(&mut self, scores: &[f64], values: &[T]) -> Result<()> {
        let width = self.accumulator.len();
        AttentionError::check_size("values", "numbers", scores.len() * width, values.len())?;
        check_scores(scores)?;
        let mut block = [0.0; BLOCK];
        for (number, scores) in scores.chunks(BLOCK).enumerate() {
            let block = &mut block[..scores.len()];
            block.copy_from_slice(scores);
            let start = number * BLOCK;
            widest(Absorb {
                state: self.parts(),
                scores: block,
                values: &values[start * width..(start + scores.len()) * width],
            });
        }
        Ok(())
    }

    /// Takes in what `other` has absorbed.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] if the two are for values of different widths.
    pub fn merge(&mut self, other: &OnlineState) -> Result<()> {
        self.parts()
            .merge(other.maximum, other.sum, &other.accumulator)
    }

    fn parts(&mut self) -> Parts<'_> {
        Parts {
            maximum: &mut self.maximum,
            sum: &mut self.sum,
            accumulator: &mut self.accumulator,
        }
    }

    /// Writes the weighted mean of the values to `out`; zeros if no key has any weight, and returns whether
    /// one has.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] unless `out` is as wide as the values.
    pub fn finish_into<T: Score>(&self, out: &mut [T]) -> Result<bool> {
        finish(self.sum, &self.accumulator, out)
    }

    /// The weighted mean of the values, `None` if no key has any weight.
    pub fn finish<T: Score>(&self) -> Option<Vec<T>> {
        let mean = |&sum: &f64| T::from_f64(sum / self.sum);
        (self.sum > 0.0).then(|| self.accumulator.iter().map(mean).collect())
    }
}

/// # Errors
/// [`AttentionError::InvalidScore`] with the place of the first score of NaN or +∞.
pub(crate) fn check_scores(scores: &[f64]) -> Result<()> {
    let invalid = |score: &f64| score.is_nan() || *score == f64::INFINITY;
    match scores.iter().position(invalid) {
        Some(place) => Err(invalid_score(place, scores[place])),
        None => Ok(()),
    }
}

pub(crate) fn invalid_score(key: usize, score: f64) -> AttentionError {
    AttentionError::InvalidScore {
        head: None,
        query: None,
        key,
        score,
    }
}

/// The number of keys, if it is the number of values.
fn count<T>(keys: &[T], dimensions: usize, values: &[T], width: usize) -> Result<usize> {
    let count = match (dimensions, width) {
        (0, 0) => 0,
        (0, _) => values.len() / width,
        _ => keys.len() / dimensions,
    };
    AttentionError::check_size("keys", "numbers", count * dimensions, keys.len())?;
    AttentionError::check_size("values", "numbers", count * width, values.len())?;
    Ok(count)
}

pub(crate) fn check_parts(maximum: f64, sum: f64) -> Result<()> {
    let possible = if maximum == f64::NEG_INFINITY {
        sum == 0.0
    } else {
        maximum.is_finite() && sum >= 1.0
    };
    if possible {
        return Ok(());
    }
    Err(AttentionError::InvalidState {
        found: format!("the maximum {maximum} and the sum {sum}"),
    })
}

pub(crate) fn finish<T: Score>(sum: f64, accumulator: &[f64], out: &mut [T]) -> Result<bool> {
    AttentionError::check_size("the result", "numbers wide", accumulator.len(), out.len())?;
    let any = sum > 0.0;
    for (out, total) in out.iter_mut().zip(accumulator) {
        *out = T::from_f64(if any { total / sum } else { 0.0 });
    }
    Ok(any)
}

/// A state by reference, wherever it is kept.
pub(crate) struct Parts<'a> {
    pub(crate) maximum: &'a mut f64,
    pub(crate) sum: &'a mut f64,
    pub(crate) accumulator: &'a mut [f64],
}

impl Parts<'_> {
    /// Raises the maximum and returns it, if any score has a weight.
    #[inline(always)]
    pub(crate) fn raise(&mut self, maximum: f64) -> Option<f64> {
        if maximum > *self.maximum {
            let correction = (*self.maximum - maximum).exp();
            *self.maximum = maximum;
            *self.sum *= correction;
            for total in self.accumulator.iter_mut() {
                *total *= correction;
            }
        }
        (*self.maximum > f64::NEG_INFINITY).then_some(*self.maximum)
    }

    pub(crate) fn absorb<T: Real>(
        &mut self,
        query: &Query,
        keys: &[T],
        values: &[T],
        valid: impl Fn(usize) -> bool,
    ) -> Result<()> {
        let (dimensions, width) = (query.dimensions(), self.accumulator.len());
        let count = count(keys, dimensions, values, width)?;
        let mut scores = [0.0; BLOCK];
        for start in (0..count).step_by(BLOCK) {
            let end = (start + BLOCK).min(count);
            let scores = &mut scores[..end - start];
            query.scores(&keys[start * dimensions..end * dimensions], scores);
            for (place, score) in (start..end).zip(scores.iter_mut()) {
                if !valid(place) {
                    *score = f64::NEG_INFINITY;
                } else if score.is_nan() || *score == f64::INFINITY {
                    return Err(invalid_score(place, *score));
                }
            }
            widest(Absorb {
                state: self.reborrow(),
                scores,
                values: &values[start * width..end * width],
            });
        }
        Ok(())
    }

    fn reborrow(&mut self) -> Parts<'_> {
        Parts {
            maximum: self.maximum,
            sum: self.sum,
            accumulator: self.accumulator,
        }
    }

    pub(crate) fn merge(&mut self, maximum: f64, sum: f64, accumulator: &[f64]) -> Result<()> {
        let width = self.accumulator.len();
        AttentionError::check_size("the state", "numbers wide", width, accumulator.len())?;
        if let Some(raised) = self.raise(maximum) {
            let correction = (maximum - raised).exp();
            *self.sum += correction * sum;
            for (total, other) in self.accumulator.iter_mut().zip(accumulator) {
                *total += correction * other;
            }
        }
        Ok(())
    }
}

/// Scores without NaN and +∞, and their values. The scores are overwritten.
pub(crate) struct Absorb<'a, T> {
    pub(crate) state: Parts<'a>,
    pub(crate) scores: &'a mut [f64],
    pub(crate) values: &'a [T],
}

impl<T: Score> Kernel for Absorb<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FUSED: bool>(mut self) {
        let largest = self
            .scores
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        let Some(maximum) = self.state.raise(largest) else {
            return;
        };
        for score in self.scores.iter_mut() {
            *score = (*score - maximum).exp_nonpositive::<FUSED>();
        }
        *self.state.sum += self.scores.iter().sum::<f64>();
        add_weighted::<T, FUSED>(self.state.accumulator, self.scores, self.values);
    }
}

/// Rows whose values are added in one pass over the accumulator, which is longer than the registers hold.
const AT_ONCE: usize = 4;

/// Adds each of `values`, as wide as the accumulator, times its weight, in the order of the rows whatever is added
/// at once. What weighs nothing is left out, because a value may hold infinity or, where it is NULL, anything.
#[inline(always)]
pub(crate) fn add_weighted<T: Score, const FUSED: bool>(
    accumulator: &mut [f64],
    weights: &[f64],
    values: &[T],
) {
    let width = accumulator.len();
    let step = |total: f64, weight: f64, value: T| {
        let value = value.to_f64();
        if FUSED {
            weight.mul_add(value, total)
        } else {
            weight * value + total
        }
    };
    let value = |row: usize| &values[row * width..(row + 1) * width];
    let mut row = 0;
    while row < weights.len() {
        let at_once = weights[row..].first_chunk::<AT_ONCE>();
        if let Some(&[w0, w1, w2, w3]) = at_once.filter(|weights| !weights.contains(&0.0)) {
            let (first, second) = (value(row).iter().zip(value(row + 1)), value(row + 2));
            let rows = first.zip(second.iter().zip(value(row + 3)));
            for (total, ((&v0, &v1), (&v2, &v3))) in accumulator.iter_mut().zip(rows) {
                let sum = step(step(*total, w0, v0), w1, v1);
                *total = step(step(sum, w2, v2), w3, v3);
            }
            row += AT_ONCE;
        } else {
            if weights[row] != 0.0 {
                for (total, &value) in accumulator.iter_mut().zip(value(row)) {
                    *total = step(*total, weights[row], value);
                }
            }
            row += 1;
        }
    }
}
