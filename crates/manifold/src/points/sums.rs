//! Sums over the dimensions of points, in one order for all.

use super::Feature;
use crate::simd::{Eight, Kernel, LANES, eight};

/// ‖a − b‖² in `f64`, summed in an order that depends on the length alone. This sum decides which
/// neighbours are nearest; everything faster only proposes.
#[inline(always)]
pub(crate) fn squared_distance<T: Feature>(a: &[T], b: &[T]) -> f64 {
    let [distance] = squared_distances(a, [b]);
    distance
}

/// ‖a − b‖² for several b, each the very bits of [`squared_distance`]: their sums do not wait for one another.
#[inline(always)]
pub(crate) fn squared_distances<T: Feature, const C: usize>(a: &[T], b: [&[T]; C]) -> [f64; C] {
    eight(SquaredDistances { a, b })
}

/// a·b in `f64`, in the same fixed order.
#[inline(always)]
pub(crate) fn dot<T: Feature>(a: &[T], b: &[T]) -> f64 {
    let [[dot]] = dots([a], [b]);
    dot
}

/// a·b of every pair, each the very bits of [`dot`]. One load serves several sums, and their additions do
/// not wait for one another. All rows have one length.
#[inline(always)]
pub(crate) fn dots<T: Feature, const R: usize, const C: usize>(
    a: [&[T]; R],
    b: [&[T]; C],
) -> [[f64; C]; R] {
    eight(Dots { a, b })
}

#[derive(Clone, Copy)]
pub(crate) struct SquaredDistances<'a, T, const C: usize> {
    pub(crate) a: &'a [T],
    pub(crate) b: [&'a [T]; C],
}

impl<T: Feature, const C: usize> Kernel for SquaredDistances<'_, T, C> {
    type Out = [f64; C];

    #[inline(always)]
    fn run<V: Eight>(self) -> [f64; C] {
        let (a_chunks, a_rest) = self.a.as_chunks();
        let b_chunks = self.b.map(|row| &row.as_chunks().0[..a_chunks.len()]);
        let mut sums = [V::ZERO; C];
        for (chunk, x) in a_chunks.iter().enumerate() {
            let x = T::lanes::<V>(x);
            for (sums, row) in sums.iter_mut().zip(b_chunks) {
                let difference = x.minus(T::lanes(&row[chunk]));
                *sums = sums.plus(difference.times(difference));
            }
        }
        std::array::from_fn(|j| {
            let mut rest = 0.0;
            for (x, y) in a_rest.iter().zip(self.b[j].as_chunks::<LANES>().1) {
                let difference = x.to_f64() - y.to_f64();
                rest += difference * difference;
            }
            sum_lanes(sums[j].lanes()) + rest
        })
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Dots<'a, T, const R: usize, const C: usize> {
    pub(crate) a: [&'a [T]; R],
    pub(crate) b: [&'a [T]; C],
}

impl<T: Feature, const R: usize, const C: usize> Kernel for Dots<'_, T, R, C> {
    type Out = [[f64; C]; R];

    #[inline(always)]
    fn run<V: Eight>(self) -> [[f64; C]; R] {
        let length = self.a[0].len();
        let (chunks, whole) = (length / LANES, length - length % LANES);
        let a_chunks = self.a.map(|row| &row.as_chunks().0[..chunks]);
        let b_chunks = self.b.map(|row| &row.as_chunks().0[..chunks]);
        let mut lanes = [[V::ZERO; C]; R];
        for chunk in 0..chunks {
            let y = b_chunks.map(|row| T::lanes::<V>(&row[chunk]));
            for (lanes, row) in lanes.iter_mut().zip(a_chunks) {
                let x = T::lanes::<V>(&row[chunk]);
                for (sums, y) in lanes.iter_mut().zip(y) {
                    *sums = sums.plus(x.times(y));
                }
            }
        }
        let mut sums = [[0.0; C]; R];
        for i in 0..R {
            for j in 0..C {
                let rest = self.a[i][whole..].iter().zip(&self.b[j][whole..]);
                let rest: f64 = rest.map(|(x, y)| x.to_f64() * y.to_f64()).sum();
                sums[i][j] = sum_lanes(lanes[i][j].lanes()) + rest;
            }
        }
        sums
    }
}

#[inline(always)]
fn sum_lanes(lanes: [f64; LANES]) -> f64 {
    ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5]))
        + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]))
}
