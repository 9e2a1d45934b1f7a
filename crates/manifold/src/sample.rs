//! Samples that depend on what the rows are, never on where they stand.
//!
//! Rows reach a query engine in no fixed order, so a reservoir or a draw of row numbers would give a
//! different sample in every run. The rows with the smallest seeded hashes of their values are a uniform
//! draw of the distinct rows, the same for any order, batching or partitioning, and can be kept in a
//! bounded heap while rows stream by.

use std::cmp::Ordering;

use ndarray::{ArrayView1, ArrayView2};
use rayon::prelude::*;

use crate::Feature;

/// Has the exponent of a NaN, so that no finite value cancels it: a zero factor would forget the values
/// before it.
const VALUE_KEY: u64 = 0xfff6_a09e_667f_3bcd;
const SEED_KEY: u64 = 0xbb67_ae85_84ca_a73b;
const LENGTH_KEY: u64 = 0x3c6e_f372_fe94_f82b;

/// The high and low half of the 128-bit product, folded: the mixing step of wyhash (Wang Yi 2019).
#[inline(always)]
fn multiply_mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// A 64-bit hash of the row's values under a seed. Not cryptographic.
///
/// The bytes that are hashed are those of the values as `f64` with `-0.0` as `0.0`: equal values have
/// equal hashes, whether they come as `f32` or as `f64`, on every machine and in every version of this
/// crate. Values are expected to be finite.
pub fn row_hash<T: Feature>(seed: u64, row: &[T]) -> u64 {
    T::hash_row(seed, row.into())
}

/// [`row_hash`] of a row that need not lie in one piece.
pub(crate) fn hash_values<T: Feature>(seed: u64, row: ArrayView1<'_, T>) -> u64 {
    let length = row.len() as u64;
    let mut words = row.iter().map(|v| (v.to_f64() + 0.0).to_bits());
    let mut state = multiply_mix(seed ^ SEED_KEY, LENGTH_KEY);
    while let Some(first) = words.next() {
        let second = words.next().unwrap_or_default();
        state = multiply_mix(first ^ VALUE_KEY, second ^ state);
    }
    multiply_mix(state ^ SEED_KEY, length ^ LENGTH_KEY)
}

/// Numbers of the `count` distinct rows of `features` (n, D) with the smallest [`row_hash`], smallest
/// first; fewer where there are fewer distinct rows. Different rows of one hash are ordered by value; of
/// equal rows the first is named.
pub fn smallest_hashes<T: Feature>(
    features: ArrayView2<'_, T>,
    seed: u64,
    count: usize,
) -> Vec<usize> {
    T::smallest_hashes(features, seed, count)
}

/// [`smallest_hashes`] with a say in which of several equal rows is named: the least by `order`.
pub(crate) fn smallest_by<T: Feature>(
    features: ArrayView2<'_, T>,
    seed: u64,
    count: usize,
    order: impl Fn(usize, usize) -> Ordering + Sync,
) -> Vec<usize> {
    let hashed = (0..features.nrows()).into_par_iter();
    let mut hashed: Vec<(u64, usize)> = hashed
        .map(|row| (hash_values(seed, features.row(row)), row))
        .collect();
    hashed.par_sort_unstable_by(|&(hash_a, a), &(hash_b, b)| {
        hash_a
            .cmp(&hash_b)
            .then_with(|| compare(features.row(a), features.row(b)))
            .then_with(|| order(a, b))
    });
    hashed.dedup_by(|(hash, row), (before_hash, before)| {
        hash == before_hash && features.row(*row) == features.row(*before)
    });
    hashed.into_iter().take(count).map(|(_, row)| row).collect()
}

/// Lexicographic order of finite values.
pub(crate) fn compare<T: Feature>(a: ArrayView1<'_, T>, b: ArrayView1<'_, T>) -> Ordering {
    a.iter().partial_cmp(b.iter()).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, Axis, array};
    use std::collections::HashSet;

    #[test]
    fn equal_values_have_equal_hashes() {
        assert_eq!(row_hash(3, &[0.0, 1.5]), row_hash(3, &[-0.0, 1.5]));
        assert_eq!(row_hash(3, &[0.25f32, 1.5]), row_hash(3, &[0.25f64, 1.5]));
        let strided = array![[0.25, 9.0], [1.5, 9.0]];
        assert_eq!(hash_values(3, strided.column(0)), row_hash(3, &[0.25, 1.5]));
    }

    /// Samples in files written today must be found again tomorrow.
    #[test]
    fn hashes_never_change() {
        assert_eq!(row_hash(0, &[1.0, 2.0, 3.0]), 3_288_409_988_691_720_439);
        assert_eq!(row_hash(7, &[1.0, 2.0, 3.0]), 10_216_896_936_255_064_988);
    }

    #[test]
    fn seed_length_place_and_every_bit_matter() {
        let row = [1.0f64, 2.0, 3.0, 4.0, 5.0];
        let mut seen = HashSet::from([row_hash(0, &row)]);
        assert!(seen.insert(row_hash(1, &row)));
        assert!(seen.insert(row_hash(0, &[1.0, 2.0, 3.0, 5.0, 4.0])));
        assert!(seen.insert(row_hash(0, &[2.0, 1.0, 3.0, 4.0, 5.0])));
        let zeros = [0.0; 40];
        assert!((0..40).all(|length| seen.insert(row_hash(0, &zeros[..length]))));
        for place in 0..row.len() {
            for bit in 0..52 {
                let mut other = row;
                other[place] = f64::from_bits(row[place].to_bits() ^ (1 << bit));
                assert!(seen.insert(row_hash(0, &other)), "{place} {bit}");
            }
        }
    }

    /// Each output bit should flip for about half of the single-bit changes of the input.
    #[test]
    fn one_bit_of_the_input_flips_half_of_the_output() {
        let mut flips = [0u32; 64];
        let mut trials = 0;
        for value in 0..200 {
            let row = [f64::from(value), 7.0, 0.0];
            for bit in [0, 20, 29, 40, 51] {
                let changed = f64::from_bits(row[0].to_bits() ^ (1 << bit));
                let difference = row_hash(5, &row) ^ row_hash(5, &[changed, 7.0, 0.0]);
                (0..64).for_each(|b| flips[b] += (difference >> b & 1) as u32);
                trials += 1;
            }
        }
        for (bit, &flips) in flips.iter().enumerate() {
            let share = f64::from(flips) / f64::from(trials);
            assert!((share - 0.5).abs() < 0.08, "bit {bit}: {share}");
        }
    }

    #[test]
    fn a_sample_is_of_distinct_rows_whatever_their_order() {
        let rows = Array2::from_shape_fn((900, 2), |(i, j)| ((i % 300) * (j + 1)) as f64);
        let order: Vec<usize> = (0..900).map(|i| (i * 7 + 3) % 900).collect();
        let shuffled = rows.select(Axis(0), &order);
        let sample = |features: &Array2<f64>| {
            let found = smallest_hashes(features.view(), 1, 50);
            features.select(Axis(0), &found)
        };
        assert_eq!(sample(&rows), sample(&shuffled));
        let distinct: HashSet<u64> = sample(&rows)
            .rows()
            .into_iter()
            .map(|row| row[0].to_bits())
            .collect();
        assert_eq!(distinct.len(), 50);
        assert_eq!(smallest_hashes(rows.view(), 1, 5000).len(), 300);
        assert_ne!(
            smallest_hashes(rows.view(), 1, 50),
            smallest_hashes(rows.view(), 2, 50)
        );
    }
}
