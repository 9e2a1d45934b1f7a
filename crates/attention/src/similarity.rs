//! How alike a query and a key are.

use std::fmt;
use std::str::FromStr;

use crate::simd::{Kernel, widest};
use crate::{AttentionError, Result, Score};

/// What the softmax is taken of, before the scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Similarity {
    /// q·k
    #[default]
    Dot,
    /// q·k / (‖q‖ ‖k‖); 0 where either vector is 0
    Cosine,
    /// −‖q − k‖²
    L2,
}

impl Similarity {
    /// The scale where none is given, for vectors of `dimensions` numbers: 1/√d for the dot product
    /// (Vaswani et al. 2017, section 3.2.1), 1 for the cosine, and 1/(2√d) for the distance, because
    /// −‖q − k‖²/2 = q·k − (‖q‖² + ‖k‖²)/2: where all keys have the same length, both of them give the
    /// same weights.
    pub fn default_scale(self, dimensions: usize) -> f64 {
        let root = (dimensions.max(1) as f64).sqrt();
        match self {
            Similarity::Dot => 1.0 / root,
            Similarity::Cosine => 1.0,
            Similarity::L2 => 0.5 / root,
        }
    }

    /// The scale that is passed, or the default.
    ///
    /// # Errors
    /// [`AttentionError::InvalidParameter`] unless the scale is finite.
    pub fn scale(self, scale: Option<f64>, dimensions: usize) -> Result<f64> {
        let scale = scale.unwrap_or_else(|| self.default_scale(dimensions));
        if scale.is_finite() {
            return Ok(scale);
        }
        Err(AttentionError::InvalidParameter {
            name: "scale",
            requirement: "a finite number".into(),
            found: scale.to_string(),
        })
    }

    /// The similarity of two vectors of the same length times `scale`, summed in `f64`. What one of them
    /// has more than the other is left out: lengths are for the caller to compare.
    pub fn score<T: Score>(self, query: &[T], key: &[T], scale: f64) -> f64 {
        let (mut out, dimensions) = ([0.0], query.len().min(key.len()));
        widest(Pairs {
            similarity: self,
            queries: &query[..dimensions],
            keys: &key[..dimensions],
            dimensions,
            scale,
            out: &mut out,
        });
        out[0]
    }

    /// Writes [`Similarity::score`] of each pair: the query and the key at place i, `dimensions` numbers each, one
    /// after the other.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] unless there is one query and one key a score.
    pub fn scores_into<T: Score>(
        self,
        (queries, keys): (&[T], &[T]),
        dimensions: usize,
        scale: f64,
        scores: &mut [f64],
    ) -> Result<()> {
        let numbers = scores.len() * dimensions;
        AttentionError::check_size("queries", "numbers", numbers, queries.len())?;
        AttentionError::check_size("keys", "numbers", numbers, keys.len())?;
        widest(Pairs {
            similarity: self,
            queries,
            keys,
            dimensions,
            scale,
            out: scores,
        });
        Ok(())
    }
}

impl fmt::Display for Similarity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Similarity::Dot => "dot",
            Similarity::Cosine => "cosine",
            Similarity::L2 => "l2",
        })
    }
}

impl FromStr for Similarity {
    type Err = AttentionError;

    fn from_str(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "dot" => Ok(Similarity::Dot),
            "cosine" => Ok(Similarity::Cosine),
            "l2" => Ok(Similarity::L2),
            _ => Err(AttentionError::InvalidParameter {
                name: "similarity",
                requirement: "'dot', 'cosine' or 'l2'".into(),
                found: format!("'{name}'"),
            }),
        }
    }
}

struct Pairs<'a, T> {
    similarity: Similarity,
    queries: &'a [T],
    keys: &'a [T],
    dimensions: usize,
    scale: f64,
    out: &'a mut [f64],
}

impl<T: Score> Kernel for Pairs<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let (similarity, queries, keys) = (self.similarity, self.queries, self.keys);
        write_scores::<T, T, FUSED>(
            similarity,
            self.scale,
            #[inline(always)]
            |place| {
                let own = place * self.dimensions..(place + 1) * self.dimensions;
                (&queries[own.clone()], &keys[own])
            },
            #[inline(always)]
            |query| norm_for::<T, FUSED>(similarity, query),
            self.out,
        );
    }
}

/// ‖q‖ where the similarity needs it.
#[inline(always)]
pub(crate) fn norm_for<Q: Score, const FUSED: bool>(similarity: Similarity, query: &[Q]) -> f64 {
    if similarity == Similarity::Cosine {
        total(&lanes::<Q, Q, FUSED>(query, query, |a, _| (a, a))).sqrt()
    } else {
        1.0
    }
}

/// Pairs whose sums are kept in lanes until all of them are there. LLVM computes a sum that is added up at once
/// in registers of two numbers, not eight.
const TOGETHER: usize = 32;

/// Writes the similarity, times `scale`, of the pair at each place: its query, the query's norm, and its key.
#[inline(always)]
pub(crate) fn write_scores<'a, Q: Score, K: Score, const FUSED: bool>(
    similarity: Similarity,
    scale: f64,
    pair: impl Fn(usize) -> (&'a [Q], &'a [K]),
    norm: impl Fn(&'a [Q]) -> f64,
    scores: &mut [f64],
) {
    let mut sums = [[0.0; LANES]; TOGETHER];
    for (block, scores) in scores.chunks_mut(TOGETHER).enumerate() {
        let (first, sums) = (block * TOGETHER, &mut sums[..scores.len()]);
        for (place, sum) in sums.iter_mut().enumerate() {
            let (query, key) = pair(first + place);
            *sum = match similarity {
                Similarity::Dot | Similarity::Cosine => {
                    lanes::<Q, K, FUSED>(query, key, |q, k| (q, k))
                }
                Similarity::L2 => lanes::<Q, K, FUSED>(query, key, |q, k| (q - k, k - q)),
            };
        }
        for (score, sum) in scores.iter_mut().zip(&*sums) {
            *score = total(sum);
        }
        if similarity == Similarity::Cosine {
            for (place, sum) in sums.iter_mut().enumerate() {
                let (_, key) = pair(first + place);
                *sum = lanes::<K, K, FUSED>(key, key, |k, _| (k, k));
            }
            for (place, (score, square)) in scores.iter_mut().zip(&*sums).enumerate() {
                let (query, _) = pair(first + place);
                let norms = norm(query) * total(square).sqrt();
                // Not a comparison with 0 of the product: NaN has to stay NaN.
                *score = if norms == 0.0 { 0.0 } else { *score / norms };
            }
        }
        for score in scores.iter_mut() {
            *score *= scale;
        }
    }
}

const LANES: usize = 8;

/// The sum of the products that `factors` makes of each pair, in eight lanes.
#[inline(always)]
fn lanes<A: Score, B: Score, const FUSED: bool>(
    a: &[A],
    b: &[B],
    factors: impl Fn(f64, f64) -> (f64, f64),
) -> [f64; LANES] {
    let length = a.len().min(b.len());
    let (a_chunks, a_rest) = a[..length].as_chunks::<LANES>();
    let (b_chunks, b_rest) = b[..length].as_chunks::<LANES>();
    let step = |sum: f64, a: A, b: B| {
        let (x, y) = factors(a.to_f64(), b.to_f64());
        if FUSED {
            x.mul_add(y, sum)
        } else {
            x * y + sum
        }
    };
    let mut lanes = [0.0; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] = step(lanes[lane], a[lane], b[lane]);
        }
    }
    for (lane, (&a, &b)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[lane] = step(lanes[lane], a, b);
    }
    lanes
}

#[inline(always)]
fn total(lanes: &[f64; LANES]) -> f64 {
    let pairs: [f64; 4] = std::array::from_fn(|i| lanes[i] + lanes[i + 4]);
    (pairs[0] + pairs[2]) + (pairs[1] + pairs[3])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        for similarity in [Similarity::Dot, Similarity::Cosine, Similarity::L2] {
            assert_eq!(similarity.to_string().parse(), Ok(similarity));
        }
        assert_eq!("L2".parse(), Ok(Similarity::L2));
        let error = "euclid".parse::<Similarity>().unwrap_err().to_string();
        assert!(
            error.contains("'dot', 'cosine' or 'l2', got 'euclid'"),
            "{error}"
        );
    }

    #[test]
    fn a_vector_of_zeros_has_cosine_0_and_nan_stays() {
        let cosine = |q: &[f64], k: &[f64]| Similarity::Cosine.score(q, k, 1.0);
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 2.0]), 0.0);
        assert_eq!(cosine(&[1.0, 2.0], &[0.0, 0.0]), 0.0);
        assert!(cosine(&[f64::NAN, 2.0], &[1.0, 0.0]).is_nan());
        assert!(cosine(&[1.0, 2.0], &[f64::NAN, 0.0]).is_nan());
    }

    #[test]
    fn scales() {
        assert_eq!(Similarity::Dot.scale(None, 64), Ok(0.125));
        assert_eq!(Similarity::L2.scale(None, 64), Ok(0.0625));
        assert_eq!(Similarity::Cosine.scale(None, 64), Ok(1.0));
        assert_eq!(Similarity::Dot.scale(Some(-2.0), 64), Ok(-2.0));
        assert!(Similarity::Dot.scale(Some(f64::NAN), 64).is_err());
    }

    proptest! {
        #[test]
        fn agrees_with_the_definitions(
            pairs in prop::collection::vec((-2.0..2.0_f32, -2.0..2.0_f32), 1..40),
            scale in -3.0..3.0_f64,
        ) {
            let (query, key): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
            let sum = |term: fn(f64, f64) -> f64| -> f64 {
                pairs.iter().map(|&(q, k)| term(f64::from(q), f64::from(k))).sum()
            };
            let product = sum(|q, k| q * k);
            let norms = (sum(|q, _| q * q) * sum(|_, k| k * k)).sqrt();
            let expected = [
                (Similarity::Dot, product),
                (Similarity::L2, -sum(|q, k| (q - k) * (q - k))),
                (Similarity::Cosine, if norms == 0.0 { 0.0 } else { product / norms }),
            ];
            for (similarity, expected) in expected {
                let score = similarity.score(&query, &key, scale);
                prop_assert!((score - expected * scale).abs() < 1e-12, "{similarity}: {score}");
                let mut scores = [f64::NAN; 2];
                let (queries, keys) = ([&query[..], &query].concat(), [&key[..], &key].concat());
                similarity.scores_into((&queries, &keys), query.len(), scale, &mut scores).unwrap();
                prop_assert_eq!(scores, [score; 2]);
            }
        }
    }
}
