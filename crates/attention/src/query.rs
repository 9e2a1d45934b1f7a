//! One query and the scores of keys.

use crate::simd::{Kernel, widest};
use crate::similarity::{norm_for, write_scores};
use crate::{AttentionError, Result, Score, Similarity};

/// A query, ready to be compared with many keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    values: Vec<f64>,
    norm: f64,
    similarity: Similarity,
    scale: f64,
}

impl Query {
    /// `scale`: [`Similarity::default_scale`] if `None`.
    ///
    /// # Errors
    /// [`crate::AttentionError::InvalidParameter`] if the scale is not finite.
    pub fn new<T: Score>(query: &[T], similarity: Similarity, scale: Option<f64>) -> Result<Self> {
        struct Norm<'a>(Similarity, &'a [f64]);
        impl Kernel for Norm<'_> {
            type Out = f64;
            #[inline(always)]
            fn run<const FUSED: bool>(self) -> f64 {
                norm_for::<f64, FUSED>(self.0, self.1)
            }
        }
        let scale = similarity.scale(scale, query.len())?;
        let values: Vec<f64> = query.iter().map(|value| value.to_f64()).collect();
        Ok(Self {
            norm: widest(Norm(similarity, &values)),
            values,
            similarity,
            scale,
        })
    }

    /// Numbers of the query, and of every key.
    pub fn dimensions(&self) -> usize {
        self.values.len()
    }

    /// Writes the scores of `keys`, [`Query::dimensions`] numbers each, one after the other.
    ///
    /// # Errors
    /// [`crate::AttentionError::Shape`] unless there is one key a score.
    pub fn scores_into<T: Score>(&self, keys: &[T], scores: &mut [f64]) -> Result<()> {
        let numbers = scores.len() * self.dimensions();
        AttentionError::check_size("keys", "numbers", numbers, keys.len())?;
        self.scores(keys, scores);
        Ok(())
    }

    /// The same of as many keys as scores.
    pub(crate) fn scores<T: Score>(&self, keys: &[T], scores: &mut [f64]) {
        widest(Scores {
            query: self,
            keys,
            out: scores,
        });
    }
}

struct Scores<'a, T> {
    query: &'a Query,
    keys: &'a [T],
    out: &'a mut [f64],
}

impl<T: Score> Kernel for Scores<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let (query, keys) = (self.query, self.keys);
        let dimensions = query.values.len();
        write_scores::<f64, T, FUSED>(
            query.similarity,
            query.scale,
            #[inline(always)]
            |place| {
                let key = &keys[place * dimensions..(place + 1) * dimensions];
                (&query.values[..], key)
            },
            #[inline(always)]
            |_| query.norm,
            self.out,
        );
    }
}
