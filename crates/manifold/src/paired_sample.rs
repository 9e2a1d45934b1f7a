//! A bounded sample of rows, each with something that travels with it.

use std::cmp::Ordering;

use ndarray::{Array2, ArrayView2};

use crate::row_hash;
use crate::row_sample::room;

/// As [`crate::Sample`], but every row has a companion: an embedding, or a label as bytes.
///
/// Up to its limit it keeps every row as it came, duplicates included. Beyond that it keeps those with the
/// smallest seeded hashes: of [`PairedSample::distinct`] rows or of all. Order and batches do not matter.
#[derive(Debug, Clone)]
pub struct PairedSample<E> {
    limit: usize,
    seed: u64,
    merge: bool,
    pairs: Vec<Pair<E>>,
    /// No row with a larger hash is wanted any more.
    threshold: u64,
    /// Rows added.
    seen: u64,
    /// Of the pairs.
    bytes: usize,
}

#[derive(Debug, Clone, PartialEq)]
struct Pair<E> {
    hash: u64,
    row: Box<[f64]>,
    companion: Box<[E]>,
}

impl<E: PartialOrd> Pair<E> {
    fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.row) + size_of_val(&*self.companion)
    }

    /// By hash and value; all values are finite.
    fn compare_rows(&self, other: &Self) -> Ordering {
        let by_row = || self.row.partial_cmp(&other.row).unwrap_or(Ordering::Equal);
        self.hash.cmp(&other.hash).then_with(by_row)
    }

    fn compare(&self, other: &Self) -> Ordering {
        let by_companion = || self.companion.partial_cmp(&other.companion);
        self.compare_rows(other)
            .then_with(|| by_companion().unwrap_or(Ordering::Equal))
    }
}

impl<E: Clone + PartialOrd> PairedSample<E> {
    /// Of at most `limit` rows (at least 1), equal ones included.
    #[must_use]
    pub fn new(limit: usize, seed: u64) -> Self {
        Self {
            limit: limit.max(1),
            seed,
            merge: false,
            pairs: Vec::new(),
            threshold: u64::MAX,
            seen: 0,
            bytes: 0,
        }
    }

    /// Of equal rows only the one with the least companion is kept, once there are more rows than the
    /// limit.
    #[must_use]
    pub fn distinct(mut self) -> Self {
        self.merge = true;
        self
    }

    /// Adds `rows`, shape (m, D), which must be finite and of one D; `companion` gives that of each.
    pub fn add<'e>(&mut self, rows: ArrayView2<'_, f64>, companion: impl Fn(usize) -> &'e [E])
    where
        E: 'e,
    {
        let mut buffer = Vec::with_capacity(rows.ncols());
        for (index, row) in rows.rows().into_iter().enumerate() {
            buffer.clear();
            // -0.0 equals 0.0 and must be the same to whoever compares bytes.
            buffer.extend(row.iter().map(|v| v + 0.0));
            self.seen += 1;
            let hash = row_hash(self.seed, &buffer);
            if hash > self.threshold {
                continue;
            }
            let pair = Pair {
                hash,
                row: buffer.as_slice().into(),
                companion: companion(index).into(),
            };
            self.bytes += pair.bytes();
            self.pairs.push(pair);
            if self.pairs.len() == room(self.limit) {
                self.shrink();
            }
        }
    }

    /// Rows added so far.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Bytes that it takes now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rows, shape (at most `limit`, D), and their companions.
    #[must_use]
    pub fn into_pairs(mut self) -> (Array2<f64>, Vec<Box<[E]>>) {
        if self.seen > self.limit as u64 {
            self.shrink();
        }
        let count = self.pairs.len();
        let mut values = Vec::with_capacity(self.pairs.first().map_or(0, |p| p.row.len()) * count);
        let mut companions = Vec::with_capacity(count);
        for pair in self.pairs {
            values.extend_from_slice(&pair.row);
            companions.push(pair.companion);
        }
        let dimensions = values.len().checked_div(count).unwrap_or(0);
        let rows = Array2::from_shape_vec((count, dimensions), values)
            .unwrap_or_else(|_| unreachable!("rows of one length"));
        (rows, companions)
    }

    fn shrink(&mut self) {
        self.pairs.sort_unstable_by(Pair::compare);
        if self.merge {
            self.pairs
                .dedup_by(|pair, before| pair.compare_rows(before).is_eq());
        }
        self.pairs.truncate(self.limit);
        self.bytes = self.pairs.iter().map(Pair::bytes).sum();
        if self.pairs.len() == self.limit {
            self.threshold = self.pairs[self.limit - 1].hash;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smallest_hashes;
    use ndarray::{Axis, s};

    /// Half as many distinct rows, each twice with other companions.
    fn rows(n: usize) -> (Array2<f64>, Vec<[u8; 2]>) {
        let rows = Array2::from_shape_fn((n, 2), |(i, j)| ((i % (n / 2)) * (j + 1)) as f64);
        let labels = (0..n).map(|i| [(i * 7 % 5) as u8, (i / (n / 2)) as u8]);
        (rows, labels.collect())
    }

    fn sorted(sample: PairedSample<u8>) -> Vec<(Vec<u64>, Box<[u8]>)> {
        let (rows, labels) = sample.into_pairs();
        let bits = rows.rows().into_iter();
        let bits = bits.map(|row| row.iter().map(|v| v.to_bits()).collect());
        let mut pairs: Vec<_> = bits.zip(labels).collect();
        pairs.sort();
        pairs
    }

    #[test]
    fn order_and_batches_do_not_matter() {
        let (rows, labels) = rows(20_000);
        for merge in [false, true] {
            let sample = || {
                if merge {
                    PairedSample::new(500, 3).distinct()
                } else {
                    PairedSample::new(500, 3)
                }
            };
            let mut whole = sample();
            whole.add(rows.view(), |row| &labels[row]);
            let mut parts = sample();
            for start in (0..20_000)
                .step_by(77)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
            {
                let end = (start + 77).min(20_000);
                parts.add(rows.slice(s![start..end, ..]), |row| &labels[start + row]);
            }
            assert_eq!(parts.seen(), 20_000);
            assert!(parts.bytes() < 500 * 4 * 100, "{}", parts.bytes());
            let (whole, parts) = (sorted(whole), sorted(parts));
            assert_eq!((whole.len(), &whole), (500, &parts));
        }
    }

    #[test]
    fn distinct_rows_are_those_of_the_other_samples() {
        let (rows, labels) = rows(20_000);
        let mut sample = PairedSample::new(500, 3).distinct();
        sample.add(rows.view(), |row| &labels[row]);
        let (found, companions) = sample.into_pairs();
        let expected = smallest_hashes(rows.view(), 3, 500);
        assert_eq!(found, rows.select(Axis(0), &expected));
        for (row, companion) in expected.into_iter().zip(companions) {
            let twins = [row % 10_000, row % 10_000 + 10_000].map(|twin| labels[twin]);
            assert_eq!(*companion, *twins.iter().min().unwrap());
        }
    }

    #[test]
    fn few_rows_are_kept_as_they_are() {
        let (rows, labels) = rows(100);
        let mut sample = PairedSample::new(100, 0).distinct();
        sample.add(rows.view(), |row| &labels[row]);
        let (found, companions) = sample.into_pairs();
        assert_eq!(found, rows);
        assert!(companions.iter().zip(&labels).all(|(a, b)| **a == *b));
        let (none, _) = PairedSample::<u8>::new(5, 0).into_pairs();
        assert_eq!(none.dim(), (0, 0));
    }
}
