//! Keys, transposed once for all the tiles that read them.
//!
//! A product of queries and keys reads many keys for each of their columns. Left to itself, the matrix
//! kernel would copy the keys into that order for every tile, which took a fifth of the time.

use std::ops::Range;

use ndarray::{ArrayView2, ShapeBuilder};
use rayon::prelude::*;

use crate::real::Real;
use crate::simd::{Kernel, widest};
use crate::tiles::KEYS;

/// Products are this many numbers wide, or a multiple: the widest vectors, so that no tail is left.
pub(crate) const VECTOR: usize = 16;

/// A panel's row has room for a vector beyond its last key. Rows a power of two apart would also share few
/// sets of the first-level cache.
const STRIDE: usize = KEYS + VECTOR;

/// A thread keeps no more for its next call. Heads of 64 numbers of `f64` and 8,192 keys take 4.1 MiB.
const KEPT_BYTES: usize = 5 << 20;

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
        let mut panels =
            T::workspace().with_borrow_mut(|workspace| std::mem::take(&mut workspace.panels));
        panels.resize(count * d_k * STRIDE, T::zero());
        panels
            .par_chunks_mut((d_k * STRIDE).max(1))
            .zip(first..first + count)
            .for_each(|(panel, number)| {
                let own = number * KEYS..((number + 1) * KEYS).min(keys.nrows());
                widest(Transpose { keys, own, panel });
            });
        Self { first, d_k, panels }
    }

    /// Leaves the memory to what this thread packs next, unless it is much.
    pub(crate) fn give_back(self) {
        if self.panels.capacity() * size_of::<T>() <= KEPT_BYTES {
            T::workspace().with_borrow_mut(|workspace| workspace.panels = self.panels);
        }
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

/// Cache lines of [`VECTOR`] keys are read whole and written whole.
struct Transpose<'a, T> {
    keys: ArrayView2<'a, T>,
    own: Range<usize>,
    panel: &'a mut [T],
}

impl<T: Real> Kernel for Transpose<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { keys, own, panel } = self;
        let d_k = keys.ncols();
        for start in own.clone().step_by(VECTOR) {
            let end = (start + VECTOR).min(own.end);
            let column = start - own.start;
            let mut done = 0;
            if end - start == VECTOR && keys.strides()[1] == 1 {
                let rows: [&[[T; VECTOR]]; VECTOR] = std::array::from_fn(|key| {
                    let row = keys.row(start + key).to_slice().unwrap_or_default();
                    row.as_chunks::<VECTOR>().0
                });
                while done + VECTOR <= d_k {
                    let line = done / VECTOR;
                    let lines: [&[T; VECTOR]; VECTOR] = std::array::from_fn(|key| &rows[key][line]);
                    let columns = panel[done * STRIDE..].chunks_mut(STRIDE).take(VECTOR);
                    for (number, out) in columns.enumerate() {
                        let numbers: [T; VECTOR] = std::array::from_fn(|key| lines[key][number]);
                        out[column..column + VECTOR].copy_from_slice(&numbers);
                    }
                    done += VECTOR;
                }
            }
            for dimension in done..d_k {
                let place = dimension * STRIDE + column;
                for (out, key) in panel[place..].iter_mut().zip(start..end) {
                    *out = keys[[key, dimension]];
                }
            }
        }
    }
}
