//! Attention of many queries of one head.

use std::ops::Range;

use ndarray::{ArrayView2, ArrayViewMut2};

use crate::heads::{Head, attend_heads};
use crate::mask::Mask;
use crate::prepared::Prepared;
use crate::real::Real;
use crate::{AttentionError, Result, Similarity};

/// Queries, keys and values of one head, and how scores are made of them.
///
/// Views may have any strides: heads that lie side by side in a row are read in place.
#[derive(Debug, Clone)]
pub struct Blocked<'a, T> {
    queries: ArrayView2<'a, T>,
    keys: ArrayView2<'a, T>,
    values: ArrayView2<'a, T>,
    similarity: Similarity,
    scale: Option<f64>,
    softcap: f64,
    mask: Mask<'a, T>,
}

impl<'a, T: Real> Blocked<'a, T> {
    /// `queries` L × d_k, `keys` S × d_k, `values` S × d_v; scores are products with the
    /// default scale, there is no softcap and no mask.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] where the sizes do not fit each other.
    pub fn new(
        queries: ArrayView2<'a, T>,
        keys: ArrayView2<'a, T>,
        values: ArrayView2<'a, T>,
    ) -> Result<Self> {
        AttentionError::check_size("key", "numbers wide", queries.ncols(), keys.ncols())?;
        AttentionError::check_size("value", "rows", keys.nrows(), values.nrows())?;
        Ok(Self {
            similarity: Similarity::Dot,
            scale: None,
            queries,
            keys,
            values,
            softcap: 0.0,
            mask: Mask::None,
        })
    }

    /// What scores are made of; its default scale applies unless one is set. Cosine and distance copy the
    /// queries and keys.
    #[must_use]
    pub fn similarity(mut self, similarity: Similarity) -> Self {
        self.similarity = similarity;
        self
    }

    /// Scores are multiplied by it.
    ///
    /// # Errors
    /// [`AttentionError::InvalidParameter`] unless it is finite.
    pub fn scale(mut self, scale: f64) -> Result<Self> {
        self.scale = Some(Similarity::Dot.scale(Some(scale), self.queries.ncols())?);
        Ok(self)
    }

    /// Scores s, scaled, become softcap·tanh(s / softcap); 0 means no cap.
    ///
    /// # Errors
    /// [`AttentionError::InvalidParameter`] unless it is finite and not negative.
    pub fn softcap(mut self, softcap: f64) -> Result<Self> {
        self.softcap = check_softcap(softcap)?;
        Ok(self)
    }

    /// Applied to the scores after scale and softcap.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] unless it is queries × keys.
    pub fn mask(mut self, mask: Mask<'a, T>) -> Result<Self> {
        mask.check(self.queries.nrows(), self.keys.nrows())?;
        self.mask = mask;
        Ok(self)
    }

    /// Writes to `output`, L × d_v, the softmax-weighted mean of the values of the keys that `visible` gives
    /// for each query (clipped to the keys that there are), and returns for each query whether any key has
    /// a weight: where none has, the row is zeros. A score of −∞ weighs nothing.
    ///
    /// The time is in proportion to the sum of the ranges' widths (and to L), not to S. Ranges may come in
    /// any order; neighbouring queries are computed together where their ranges overlap.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] for an output of another shape; [`AttentionError::InvalidScore`] and
    /// [`AttentionError::InvalidValue`] for NaN, a score of +∞ and an infinite value that has a weight, among what
    /// a query sees, the first one in the order of the queries; [`AttentionError::InvalidParameter`] for a softcap
    /// of distances, which are known up to a constant of the query only. The output is then unspecified.
    pub fn attend(
        self,
        visible: impl Fn(usize) -> Range<usize> + Sync,
        output: ArrayViewMut2<'_, T>,
    ) -> Result<Vec<bool>> {
        let expected = (self.queries.nrows(), self.values.ncols());
        if output.dim() != expected {
            return Err(AttentionError::Shape {
                name: "output",
                expected: format!("{} × {}", expected.0, expected.1),
                found: format!("{} × {}", output.nrows(), output.ncols()),
            });
        }
        if self.similarity == Similarity::L2 && self.softcap > 0.0 {
            return Err(AttentionError::InvalidParameter {
                name: "softcap",
                requirement: "0 where similarity is 'l2'".into(),
                found: self.softcap.to_string(),
            });
        }
        let scale = self.similarity.scale(self.scale, self.queries.ncols())?;
        let prepared = Prepared::new(self.similarity, self.queries, self.keys, scale);
        let head = Head {
            queries: prepared.queries.view(),
            keys: prepared.keys.view(),
            values: self.values.view(),
            bias: prepared.bias.as_deref(),
            mask: self.mask.view(),
            scale: prepared.scale,
            softcap: self.softcap,
            refuses_minus_infinity: false,
            number: None,
        };
        let mut attended = attend_heads(vec![(head, 0, output)], &visible)?;
        Ok(attended.pop().unwrap_or_default())
    }
}

/// [`AttentionError::InvalidParameter`] for what no softcap can be.
pub(crate) fn check_softcap(softcap: f64) -> Result<f64> {
    if softcap.is_finite() && softcap >= 0.0 {
        return Ok(softcap);
    }
    Err(AttentionError::InvalidParameter {
        name: "softcap",
        requirement: "a finite number, at least 0 (0: no cap)".into(),
        found: softcap.to_string(),
    })
}
