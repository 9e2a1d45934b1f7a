//! Keys, transposed once for all the tiles that read them.
//!
//! A product of queries and keys reads many keys for each of their columns. Left to itself, the matrix
//! kernel would copy the keys into that order for every tile, which took a fifth of the time.

use std::ops::Range;

use ndarray::{ArrayView2, ShapeBuilder};
use rayon::prelude::*;

use crate::real::Real;
use crate::tiles::KEYS;

/// Products are this many numbers wide, or a multiple: the widest vectors, so that no tail is left.
pub(crate) const VECTOR: usize = 16;

/// A panel's row has room for a vector beyond its last key. Rows a power of two apart would also share few
/// sets of the first-level cache.
const STRIDE: usize = KEYS + VECTOR;

/// Panels of [`KEYS`] keys, each d_k × [`STRIDE`].
pub(crate) struct Packed<T> {
    first: usize,
    d_k: usize,
    panels: Vec<T>,
}

impl<T: Real> Packed<T> {
    /// Copies the keys of `range`.
    pub(crate) fn new(keys: ArrayView2<'_, T>, range: &Range<usize>) -> Self {
        let (first, d_k) = (range.start / KEYS, keys.ncols());
        let count = range.end.div_ceil(KEYS).saturating_sub(first);
        let mut panels = vec![T::zero(); count * d_k * STRIDE];
        panels
            .par_chunks_mut((d_k * STRIDE).max(1))
            .zip(first..first + count)
            .for_each(|(panel, number)| {
                let own = number * KEYS..((number + 1) * KEYS).min(keys.nrows());
                transpose(keys, own, panel);
            });
        Self { first, d_k, panels }
    }

    /// Keys of one panel as the columns of a matrix, and as many more columns as make a multiple of
    /// [`VECTOR`]; what those hold means nothing.
    pub(crate) fn block(&self, keys: &Range<usize>) -> ArrayView2<'_, T> {
        let panel = keys.start / KEYS - self.first;
        let start = panel * self.d_k * STRIDE + keys.start % KEYS;
        let shape = (self.d_k, keys.len().next_multiple_of(VECTOR));
        let rows = self.panels.get(start..).unwrap_or_default();
        ArrayView2::from_shape(shape.strides((STRIDE, 1)), rows)
            .unwrap_or_else(|_| unreachable!("a row has room for a vector more than its keys"))
    }
}

/// Reads and writes whole cache lines of a few keys at a time.
fn transpose<T: Real>(keys: ArrayView2<'_, T>, own: Range<usize>, panel: &mut [T]) {
    for start in own.clone().step_by(VECTOR) {
        let end = (start + VECTOR).min(own.end);
        for column in 0..keys.ncols() {
            let place = column * STRIDE + start - own.start;
            let out = &mut panel[place..place + end - start];
            for (out, key) in out.iter_mut().zip(start..end) {
                *out = keys[[key, column]];
            }
        }
    }
}
