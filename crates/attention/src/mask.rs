//! What is added to scores, or takes keys out, besides the visible range.

use std::ops::Range;

use ndarray::{ArrayView2, ArrayView3, Axis, s};

use crate::real::Real;
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

impl<T: Real> Mask<'_, T> {
    /// Whether the query may attend to any of some keys.
    pub(crate) fn allows_any(&self, query: usize, keys: Range<usize>) -> bool {
        match self {
            Mask::None => !keys.is_empty(),
            Mask::Additive(mask) => mask
                .slice(s![query, keys])
                .iter()
                .any(|&added| added != T::NEG_INFINITY),
            Mask::Boolean(mask) => mask.slice(s![query, keys]).iter().any(|&attends| attends),
        }
    }
}

/// A mask of heads × queries × keys. One head stands for all heads and one query for all queries; the keys that
/// it has fewer than there are, are masked out.
#[derive(Debug, Clone, Copy, Default)]
pub enum HeadMask<'a, T> {
    /// Every visible key takes part.
    #[default]
    None,
    /// Added to the scores; −∞ takes the key out.
    Additive(ArrayView3<'a, T>),
    /// True: the query may attend to the key.
    Boolean(ArrayView3<'a, bool>),
}

impl<T> HeadMask<'_, T> {
    fn dim(&self) -> Option<(usize, usize, usize)> {
        match self {
            HeadMask::None => None,
            HeadMask::Additive(mask) => Some(mask.dim()),
            HeadMask::Boolean(mask) => Some(mask.dim()),
        }
    }

    /// How many keys, of `keys`, it lets anybody see: the first ones.
    pub(crate) fn keys(&self, keys: usize) -> usize {
        self.dim().map_or(keys, |(_, _, own)| own)
    }

    /// The same numbers, read in place by every head and query.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] unless it stands for `heads` × `queries` × `keys`.
    pub(crate) fn broadcast(
        &self,
        heads: usize,
        queries: usize,
        keys: usize,
    ) -> Result<HeadMask<'_, T>> {
        let shape = (heads, queries, self.keys(keys));
        let all = match self {
            HeadMask::None => Some(HeadMask::None),
            HeadMask::Additive(mask) => mask.broadcast(shape).map(HeadMask::Additive),
            HeadMask::Boolean(mask) => mask.broadcast(shape).map(HeadMask::Boolean),
        };
        all.filter(|_| shape.2 <= keys).ok_or_else(|| {
            let found = self.dim().unwrap_or_default();
            AttentionError::Shape {
                name: "attn_mask",
                expected: format!(
                    "{heads} × {queries} × {keys} (heads × queries × keys; 1 head or 1 query stands for all, \
                     missing keys are masked out)"
                ),
                found: format!("{} × {} × {}", found.0, found.1, found.2),
            }
        })
    }

    /// That of one head, of [`Self::broadcast`].
    pub(crate) fn head(&self, head: usize) -> Mask<'_, T> {
        match self {
            HeadMask::None => Mask::None,
            HeadMask::Additive(mask) => Mask::Additive(mask.index_axis(Axis(0), head)),
            HeadMask::Boolean(mask) => Mask::Boolean(mask.index_axis(Axis(0), head)),
        }
    }
}
