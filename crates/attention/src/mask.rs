//! What is added to scores, or takes keys out, besides the visible range.

use std::ops::Range;

use ndarray::{ArrayView2, ArrayView3, Axis, s};

use crate::{AttentionError, Result};

/// A mask of queries × keys.
#[derive(Debug, Clone, Copy, Default)]
pub enum Mask<'a, T> {
    /// Every visible key takes part.
    #[default]
    None,
    /// Added to the scores; −∞ takes the key out.
    Additive(ArrayView2<'a, T>),
    /// True: the query may attend to the key.
    Boolean(ArrayView2<'a, bool>),
}

impl<T> Mask<'_, T> {
    /// The same mask, borrowed from this one.
    pub fn view(&self) -> Mask<'_, T> {
        match self {
            Mask::None => Mask::None,
            Mask::Additive(mask) => Mask::Additive(mask.view()),
            Mask::Boolean(mask) => Mask::Boolean(mask.view()),
        }
    }

    /// The rows of some queries.
    pub(crate) fn rows(&self, queries: Range<usize>) -> Mask<'_, T> {
        match self {
            Mask::None => Mask::None,
            Mask::Additive(mask) => Mask::Additive(mask.slice(s![queries, ..])),
            Mask::Boolean(mask) => Mask::Boolean(mask.slice(s![queries, ..])),
        }
    }

    /// [`AttentionError::Shape`] unless it is `queries` × `keys`.
    pub(crate) fn check(&self, queries: usize, keys: usize) -> Result<()> {
        let found = match self {
            Mask::None => return Ok(()),
            Mask::Additive(mask) => mask.dim(),
            Mask::Boolean(mask) => mask.dim(),
        };
        if found == (queries, keys) {
            return Ok(());
        }
        Err(AttentionError::Shape {
            name: "attn_mask",
            expected: format!("{queries} × {keys} (queries × keys)"),
            found: format!("{} × {}", found.0, found.1),
        })
    }
}

/// A mask for all heads, or one for each.
#[derive(Debug, Clone, Copy, Default)]
pub enum HeadMask<'a, T> {
    /// Every visible key takes part.
    #[default]
    None,
    /// queries × keys, added to the scores of every head
    Additive(ArrayView2<'a, T>),
    /// queries × keys, for every head
    Boolean(ArrayView2<'a, bool>),
    /// heads × queries × keys, added to the scores
    AdditivePerHead(ArrayView3<'a, T>),
    /// heads × queries × keys
    BooleanPerHead(ArrayView3<'a, bool>),
}

impl<T> HeadMask<'_, T> {
    /// The mask of one head, whose shape is still to be checked.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] unless there is one for each of `heads`.
    pub(crate) fn head(&self, head: usize, heads: usize) -> Result<Mask<'_, T>> {
        let check = |dim: (usize, usize, usize)| {
            if dim.0 == heads {
                return Ok(());
            }
            Err(AttentionError::Shape {
                name: "attn_mask",
                expected: format!("queries × keys or {heads} × queries × keys (num_heads first)"),
                found: format!("{} × {} × {}", dim.0, dim.1, dim.2),
            })
        };
        Ok(match self {
            HeadMask::None => Mask::None,
            HeadMask::Additive(mask) => Mask::Additive(mask.view()),
            HeadMask::Boolean(mask) => Mask::Boolean(mask.view()),
            HeadMask::AdditivePerHead(mask) => {
                check(mask.dim())?;
                Mask::Additive(mask.index_axis(Axis(0), head))
            }
            HeadMask::BooleanPerHead(mask) => {
                check(mask.dim())?;
                Mask::Boolean(mask.index_axis(Axis(0), head))
            }
        })
    }
}
