//! What a tile does to its rows of output between and after the products.

use ndarray::{ArrayViewMut1, ArrayViewMut2};

use crate::real::Real;
use crate::simd::Kernel;

/// Multiplies each row by what its maximum's rise asks for.
pub(crate) struct Rescale<'a, 'o, T> {
    pub(crate) output: &'a mut ArrayViewMut2<'o, T>,
    pub(crate) corrections: &'a [T],
}

impl<T: Real> Kernel for Rescale<'_, '_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for (mut row, &correction) in self.output.rows_mut().into_iter().zip(self.corrections) {
            if correction != T::one() {
                multiply(&mut row, correction);
            }
        }
    }
}

/// Divides each row by its sum of weights, if there is one, and tells which rows are finite.
pub(crate) struct Normalize<'a, 'o, T> {
    pub(crate) output: &'a mut ArrayViewMut2<'o, T>,
    pub(crate) sums: &'a [T],
}

impl<T: Real> Kernel for Normalize<'_, '_, T> {
    type Out = Vec<bool>;
    #[inline(always)]
    fn run<const FUSED: bool>(self) -> Vec<bool> {
        let mut finite = Vec::with_capacity(self.sums.len());
        for (mut row, &sum) in self.output.rows_mut().into_iter().zip(self.sums) {
            let factor = if sum > T::zero() {
                T::one() / sum
            } else {
                T::one()
            };
            finite.push(multiply(&mut row, factor));
        }
        finite
    }
}

/// Whether all products are finite.
#[inline(always)]
fn multiply<T: Real>(row: &mut ArrayViewMut1<'_, T>, factor: T) -> bool {
    match row.as_slice_mut() {
        Some(row) => multiply_all(row.iter_mut(), factor),
        None => multiply_all(row.iter_mut(), factor),
    }
}

/// 0·x is 0 for every finite number, NaN for all others.
#[inline(always)]
fn multiply_all<'a, T: Real>(row: impl Iterator<Item = &'a mut T>, factor: T) -> bool {
    row.fold(true, |finite, number| {
        *number *= factor;
        finite & (*number * T::zero() == T::zero())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{plain, widest};
    use ndarray::{Array2, s};

    #[test]
    fn rows_are_divided_and_what_is_not_finite_is_found() {
        let rows = |i: usize, j: usize| match (i, j) {
            (1, 30) => f32::NAN,
            (2, 0) => f32::INFINITY,
            (3, 36) => f32::NEG_INFINITY,
            _ => (i * 37 + j) as f32,
        };
        let sums = [2.0, 4.0, 0.0, 1.0, 0.0];
        for step in [1, 2] {
            let mut wide = Array2::from_shape_fn((5, 37 * step), |(i, j)| rows(i, j / step));
            let mut narrow = wide.clone();
            let mut view = wide.slice_mut(s![.., ..;step]);
            let found = widest(Normalize {
                output: &mut view,
                sums: &sums,
            });
            assert_eq!(found, [true, false, false, false, true]);
            assert_eq!((view[[0, 3]], view[[4, 5]]), (1.5, 153.0));
            let mut view = narrow.slice_mut(s![.., ..;step]);
            assert_eq!(
                plain(Normalize {
                    output: &mut view,
                    sums: &sums
                }),
                found
            );
            let bits = |matrix: &Array2<f32>| matrix.mapv(f32::to_bits);
            assert_eq!(bits(&wide), bits(&narrow));
        }
    }

    #[test]
    fn only_rows_whose_maximum_rose_change() {
        let mut rows = Array2::from_elem((3, 20), 3.0);
        let mut view = rows.view_mut();
        widest(Rescale {
            output: &mut view,
            corrections: &[0.5, 1.0, 0.0],
        });
        assert_eq!(rows.column(7).to_vec(), [1.5, 3.0, 0.0]);
    }
}
