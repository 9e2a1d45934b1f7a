//! Multi-head attention of one sequence, as the ONNX operator Attention defines it.

use std::ops::Range;

use ndarray::{ArrayView2, ArrayViewMut2, Axis, s};

use crate::blocked::check_softcap;
use crate::heads::{Head, attend_heads};
use crate::mask::HeadMask;
use crate::real::Real;
use crate::{AttentionError, Result, Similarity};

/// How messages call the heads of keys and values: most often they are wrong because nobody has said them.
const KV_NUM_HEADS: &str = "kv_num_heads (num_heads when omitted)";

/// The parameters of ONNX's operator Attention (opsets 23 and 24), apart from those that describe its
/// layouts. [`MultiHead::new`] lists the defaults.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct MultiHead {
    num_heads: usize,
    kv_num_heads: usize,
    is_causal: bool,
    scale: Option<f64>,
    softcap: f64,
    query_offset: isize,
}

impl MultiHead {
    /// `num_heads` heads, each with its own keys and values; not causal, scale 1/√d_k, no softcap, query
    /// offset 0.
    ///
    /// # Errors
    /// [`AttentionError::InvalidParameter`] for 0 heads.
    pub fn new(num_heads: usize) -> Result<Self> {
        if num_heads == 0 {
            return Err(AttentionError::InvalidParameter {
                name: "num_heads",
                requirement: "at least 1".into(),
                found: "0".into(),
            });
        }
        Ok(Self {
            num_heads,
            kv_num_heads: num_heads,
            is_causal: false,
            scale: None,
            softcap: 0.0,
            query_offset: 0,
        })
    }

    /// Heads of keys and values: head h reads number h / (num_heads / kv_num_heads) (Ainslie et al., *GQA*,
    /// 2023).
    ///
    /// # Errors
    /// [`AttentionError::InvalidParameter`] unless it divides `num_heads`.
    pub fn kv_num_heads(mut self, kv_num_heads: usize) -> Result<Self> {
        if kv_num_heads == 0 || !self.num_heads.is_multiple_of(kv_num_heads) {
            return Err(AttentionError::InvalidParameter {
                name: "kv_num_heads",
                requirement: format!("a divisor of num_heads = {}", self.num_heads),
                found: kv_num_heads.to_string(),
            });
        }
        self.kv_num_heads = kv_num_heads;
        Ok(self)
    }

    /// Query i attends to keys 0 to i + query_offset, to none where that is negative.
    pub fn is_causal(mut self, is_causal: bool) -> Self {
        self.is_causal = is_causal;
        self
    }

    /// Scores are multiplied by it.
    ///
    /// # Errors
    /// [`AttentionError::InvalidParameter`] unless it is finite.
    pub fn scale(mut self, scale: f64) -> Result<Self> {
        self.scale = Some(Similarity::Dot.scale(Some(scale), 1)?);
        Ok(self)
    }

    /// Scores s, scaled, become softcap·tanh(s / softcap), before the mask; 0 means no cap.
    ///
    /// # Errors
    /// [`AttentionError::InvalidParameter`] unless it is finite and not negative.
    pub fn softcap(mut self, softcap: f64) -> Result<Self> {
        self.softcap = check_softcap(softcap)?;
        Ok(self)
    }

    /// The number of keys that came before the first query; negative where the first queries come before every
    /// key. Matters to causal attention only.
    pub fn query_offset(mut self, query_offset: i64) -> Self {
        // Where addresses are narrower, this is beyond any sequence all the same.
        let beyond = if query_offset < 0 {
            isize::MIN
        } else {
            isize::MAX
        };
        self.query_offset = isize::try_from(query_offset).unwrap_or(beyond);
        self
    }

    /// The width of `output` for queries, keys and values of these widths.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] where the widths do not fit the heads or each other.
    pub fn output_width(&self, query: usize, key: usize, value: usize) -> Result<usize> {
        let widths = self.widths(query, key, value)?;
        Ok(self.num_heads * widths.1)
    }

    /// d_k and d_v.
    fn widths(&self, query: usize, key: usize, value: usize) -> Result<(usize, usize)> {
        let (heads, kv_heads) = (self.num_heads, self.kv_num_heads);
        let multiple = |name, by: &str, heads: usize, found: usize| {
            if found.is_multiple_of(heads) {
                return Ok(found / heads);
            }
            Err(AttentionError::Shape {
                name,
                expected: format!("a multiple of {by} = {heads} numbers wide"),
                found: found.to_string(),
            })
        };
        let d_k = multiple("query", "num_heads", heads, query)?;
        let d_v = multiple("value", KV_NUM_HEADS, kv_heads, value)?;
        if kv_heads * d_k != key {
            return Err(AttentionError::Shape {
                name: "key",
                expected: format!(
                    "{KV_NUM_HEADS} · d_k = {kv_heads} · {d_k} = {} numbers wide",
                    kv_heads * d_k
                ),
                found: key.to_string(),
            });
        }
        Ok((d_k, d_v))
    }

    /// Writes the attention of every query and head to `output`, L × num_heads·d_v, from `query`, L ×
    /// num_heads·d_k, `key`, S × kv_num_heads·d_k, and `value`, S × kv_num_heads·d_v. Heads lie side by side
    /// in a row and are read in place, and so is the mask. A query that no key is visible to gets zeros.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] where sizes do not fit; [`AttentionError::InvalidScore`] and
    /// [`AttentionError::InvalidValue`] for NaN, a score of +∞, scores that are all −∞ although no mask asked for it,
    /// and an infinite value that has a weight, among what a query sees, the first one in the order of the heads,
    /// then the queries. The output is then unspecified.
    pub fn attend<T: Real>(
        &self,
        query: ArrayView2<'_, T>,
        key: ArrayView2<'_, T>,
        value: ArrayView2<'_, T>,
        attn_mask: HeadMask<'_, T>,
        output: ArrayViewMut2<'_, T>,
    ) -> Result<()> {
        let (d_k, d_v) = self.widths(query.ncols(), key.ncols(), value.ncols())?;
        AttentionError::check_size("value", "rows, as key has", key.nrows(), value.nrows())?;
        let expected = (query.nrows(), self.num_heads * d_v);
        if output.dim() != expected {
            return Err(AttentionError::Shape {
                name: "output",
                expected: format!("{} × {}", expected.0, expected.1),
                found: format!("{} × {}", output.nrows(), output.ncols()),
            });
        }
        let scale = self
            .scale
            .unwrap_or_else(|| Similarity::Dot.default_scale(d_k));
        let attn_mask = attn_mask.broadcast(self.num_heads, query.nrows(), key.nrows())?;
        let keys = attn_mask.keys(key.nrows());
        let (key, value) = (key.slice(s![..keys, ..]), value.slice(s![..keys, ..]));
        let shared = self.num_heads / self.kv_num_heads;
        let columns = |head: usize, width: usize| head * width..(head + 1) * width;
        let mut heads = Vec::with_capacity(self.num_heads);
        let mut rest = output;
        for number in 0..self.num_heads {
            let (own, right) = rest.split_at(Axis(1), d_v);
            rest = right;
            let kv_head = number / shared;
            let head = Head {
                queries: query.slice(s![.., columns(number, d_k)]),
                keys: key.slice(s![.., columns(kv_head, d_k)]),
                values: value.slice(s![.., columns(kv_head, d_v)]),
                bias: None,
                mask: attn_mask.head(number),
                scale,
                softcap: self.softcap,
                refuses_minus_infinity: true,
                number: Some(number),
            };
            heads.push((head, kv_head, own));
        }
        let visible = |query: usize| -> Range<usize> {
            let end = (query + 1).saturating_add_signed(self.query_offset);
            0..if self.is_causal { end } else { keys }
        };
        attend_heads(heads, &visible)?;
        Ok(())
    }
}
