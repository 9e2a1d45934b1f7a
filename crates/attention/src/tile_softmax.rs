//! One step of the online softmax over a tile of scores.

use std::ops::Range;

use crate::mask::Mask;
use crate::real::Real;
use crate::simd::Kernel;

/// Scores of some queries and a block of keys, and the state of each query.
pub(crate) struct TileSoftmax<'a, 'm, T> {
    /// A row a query, a column a key of the block; overwritten by exp(score − maximum), 0 where not visible
    pub(crate) scores: &'a mut [T],
    /// From row to row; what lies beyond the block's columns is left alone
    pub(crate) stride: usize,
    /// The block
    pub(crate) keys: Range<usize>,
    /// What each query sees, in keys of the whole
    pub(crate) visible: &'a [Range<usize>],
    /// For every key of the whole
    pub(crate) bias: Option<&'a [T]>,
    /// 0: none
    pub(crate) softcap: f64,
    /// The rows of these queries, all keys
    pub(crate) mask: Mask<'m, T>,
    pub(crate) maxima: &'a mut [T],
    pub(crate) sums: &'a mut [T],
    /// What the queries' accumulators have to be multiplied by
    pub(crate) corrections: &'a mut [T],
}

impl<T: Real> Kernel for TileSoftmax<'_, '_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let keys = self.keys;
        let rows = self.scores.chunks_exact_mut(self.stride);
        for (query, (row, visible)) in rows.zip(self.visible).enumerate() {
            let start = visible.start.clamp(keys.start, keys.end);
            let end = visible.end.clamp(start, keys.end);
            let row = &mut row[..keys.len()];
            row[..start - keys.start].fill(T::zero());
            row[end - keys.start..].fill(T::zero());
            let scores = &mut row[start - keys.start..end - keys.start];
            if let Some(bias) = self.bias {
                add(scores, bias[start..end].iter());
            }
            if self.softcap > 0.0 {
                for score in scores.iter_mut() {
                    *score = T::from_f64(capped::<FUSED>(score.to_f64(), self.softcap));
                }
            }
            mask_scores(scores, &self.mask, query, start..end);
            let (maximum, sum) = (self.maxima[query], self.sums[query]);
            let (raised, correction, added) = weigh::<T, FUSED>(scores, maximum);
            self.maxima[query] = raised;
            self.sums[query] = sum * correction + added;
            self.corrections[query] = correction;
        }
    }
}

/// softcap · tanh(score / softcap), in `f64`: what cancels near 0 is far below an `f32`'s last place.
#[inline(always)]
pub(crate) fn capped<const FUSED: bool>(score: f64, softcap: f64) -> f64 {
    let x = score / softcap;
    let e = (-2.0 * x.abs()).exp_nonpositive::<FUSED>();
    softcap * ((1.0 - e) / (1.0 + e)).copysign(x)
}

#[inline(always)]
fn mask_scores<T: Real>(scores: &mut [T], mask: &Mask<'_, T>, query: usize, keys: Range<usize>) {
    match mask {
        Mask::None => {}
        Mask::Additive(mask) => {
            let row = mask.row(query);
            match row.to_slice() {
                Some(row) => add(scores, row[keys].iter()),
                None => add(scores, row.iter().skip(keys.start)),
            }
        }
        Mask::Boolean(mask) => {
            let row = mask.row(query);
            match row.to_slice() {
                Some(row) => select(scores, row[keys].iter()),
                None => select(scores, row.iter().skip(keys.start)),
            }
        }
    }
}

#[inline(always)]
fn add<'a, T: Real>(scores: &mut [T], mask: impl Iterator<Item = &'a T>) {
    for (score, &added) in scores.iter_mut().zip(mask) {
        *score += added;
    }
}

#[inline(always)]
fn select<'a, T: Real>(scores: &mut [T], mask: impl Iterator<Item = &'a bool>) {
    for (score, &attends) in scores.iter_mut().zip(mask) {
        *score = if attends { *score } else { T::NEG_INFINITY };
    }
}

/// Replaces scores by exp(score − m) and returns m, the larger of their maximum and `maximum`, what older
/// sums have to be multiplied by, and the sum of the results. It is NaN if a score is NaN or +∞.
#[inline(always)]
fn weigh<T: Real, const FUSED: bool>(scores: &mut [T], maximum: T) -> (T, T, T) {
    let largest = largest(scores);
    let raised = if largest > maximum { largest } else { maximum };
    if raised == T::NEG_INFINITY {
        // The comparisons have skipped NaN.
        let any = scores.iter().any(|score| score.is_nan());
        scores.fill(T::zero());
        return (raised, T::one(), if any { T::NAN } else { T::zero() });
    }
    let correction = if raised == maximum {
        T::one()
    } else {
        (maximum - raised).exp_nonpositive::<FUSED>()
    };
    (raised, correction, exponentials::<T, FUSED>(scores, raised))
}

const LANES: usize = 32;

#[inline(always)]
fn largest<T: Real>(scores: &[T]) -> T {
    let larger = |a: T, b: T| if b > a { b } else { a };
    let mut lanes = [T::NEG_INFINITY; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    let largest = lanes.into_iter().fold(T::NEG_INFINITY, larger);
    rest.iter().copied().fold(largest, larger)
}

/// Replaces scores by exp(score − maximum) and returns their sum: one pass, while they are in registers.
#[inline(always)]
fn exponentials<T: Real, const FUSED: bool>(scores: &mut [T], maximum: T) -> T {
    let mut lanes = [T::zero(); LANES];
    let (chunks, rest) = scores.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let weight = (chunk[lane] - maximum).exp_nonpositive::<FUSED>();
            chunk[lane] = weight;
            lanes[lane] += weight;
        }
    }
    let mut sum = T::zero();
    for score in rest {
        *score = (*score - maximum).exp_nonpositive::<FUSED>();
        sum += *score;
    }
    lanes.into_iter().fold(sum, |sum, lane| sum + lane)
}
