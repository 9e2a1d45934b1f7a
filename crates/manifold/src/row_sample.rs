//! A bounded sample of rows that depends on their values alone.

use ndarray::ArrayView2;

use crate::points::{Feature, Points, check};
use crate::{Result, row_hash};

/// The distinct rows with the smallest seeded hashes among all that were added: a uniform sample that
/// does not depend on the order in which rows came, on duplicates, or on how they were cut into batches.
#[derive(Debug, Clone)]
pub struct Sample<T> {
    limit: usize,
    seed: u64,
    dimensions: usize,
    /// Rows that may belong to the sample, at most [`Sample::room`] of them.
    values: Vec<T>,
    hashes: Vec<u64>,
    /// No row with a larger hash is wanted any more.
    threshold: u64,
    /// Rows added, duplicates included.
    seen: u64,
}

impl<T: Feature> Sample<T> {
    /// Of at most `limit` rows (at least 1) of `dimensions` numbers.
    #[must_use]
    pub fn new(limit: usize, dimensions: usize, seed: u64) -> Self {
        Self {
            limit: limit.max(1),
            seed,
            dimensions,
            values: Vec::new(),
            hashes: Vec::new(),
            threshold: u64::MAX,
            seen: 0,
        }
    }

    /// Adds rows, shape (m, `dimensions`).
    ///
    /// # Errors
    /// [`crate::ManifoldError::NonFinite`] and [`crate::ManifoldError::TooLarge`]; rows are counted
    /// from the first of these.
    ///
    /// # Panics
    /// If the rows have other dimensions than the sample.
    pub fn add(&mut self, rows: ArrayView2<'_, T>) -> Result<()> {
        T::add_to_sample(self, rows)
    }

    /// Rows added so far, duplicates included.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Bytes that a sample of `limit` rows takes at most.
    #[must_use]
    pub fn bytes(limit: usize, dimensions: usize) -> usize {
        room(limit) * (dimensions * size_of::<T>() + size_of::<u64>())
    }

    /// The sample, shape (at most `limit`, `dimensions`), smallest hash first.
    #[must_use]
    pub fn into_rows(mut self) -> ndarray::Array2<T> {
        self.shrink();
        let rows = self.hashes.len();
        let dimensions = self.dimensions;
        ndarray::Array2::from_shape_vec((rows, dimensions), self.values)
            .unwrap_or_else(|_| unreachable!("one hash a row"))
    }

    pub(crate) fn add_rows(&mut self, rows: ArrayView2<'_, T>) -> Result<()> {
        assert_eq!(rows.ncols(), self.dimensions, "dimensions of a sample");
        check(rows)?;
        let mut buffer = Vec::with_capacity(self.dimensions);
        for row in rows.rows() {
            buffer.clear();
            buffer.extend(row.iter().map(|v| v.canonical()));
            let row = buffer.as_slice();
            self.seen += 1;
            let hash = row_hash(self.seed, row);
            if hash > self.threshold {
                continue;
            }
            self.hashes.push(hash);
            self.values.extend_from_slice(row);
            if self.hashes.len() == room(self.limit) {
                self.shrink();
            }
        }
        Ok(())
    }

    /// Sorts by (hash, values), drops duplicates and what is over the limit.
    fn shrink(&mut self) {
        let points = Points::new(&self.values, self.dimensions);
        let mut order: Vec<u32> = (0..self.hashes.len() as u32).collect();
        let key = |i: u32| (self.hashes[i as usize], points.row(i as usize));
        order.sort_unstable_by(|&a, &b| {
            key(a)
                .partial_cmp(&key(b))
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        order.dedup_by(|&mut a, &mut b| key(a) == key(b));
        order.truncate(self.limit);
        let values = points.gather(&order);
        self.hashes = order.iter().map(|&i| self.hashes[i as usize]).collect();
        self.values = values;
        if self.hashes.len() == self.limit {
            self.threshold = self.hashes[self.limit - 1];
        }
    }
}

/// Rows kept before the surplus is thrown away.
pub(crate) fn room(limit: usize) -> usize {
    limit + (limit / 4).max(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, s};

    fn features(n: usize) -> Array2<f64> {
        Array2::from_shape_fn((n, 3), |(i, j)| ((i % (n / 2)) * 3 + j) as f64)
    }

    #[test]
    fn order_batches_and_duplicates_do_not_matter() {
        let features = features(10_000);
        let mut whole = Sample::new(500, 3, 7);
        whole.add(features.view()).unwrap();
        let mut parts = Sample::new(500, 3, 7);
        for start in (0..10_000)
            .step_by(77)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            let end = (start + 77).min(10_000);
            parts.add(features.slice(s![start..end;-1, ..])).unwrap();
        }
        assert_eq!(whole.seen(), 10_000);
        let whole = whole.into_rows();
        assert_eq!(whole.nrows(), 500);
        assert_eq!(whole, parts.into_rows());
    }

    #[test]
    fn a_sample_is_spread_evenly() {
        let features = Array2::from_shape_fn((40_000, 1), |(i, _)| i as f32);
        let mut sample = Sample::new(4000, 1, 0);
        sample.add(features.view()).unwrap();
        let rows = sample.into_rows();
        let mean = rows.iter().map(|&v| f64::from(v)).sum::<f64>() / 4000.0;
        // Three standard deviations of the mean of 4,000 uniform draws.
        assert!(
            (mean - 20_000.0).abs() < 3.0 * 11_547.0 / 4000f64.sqrt(),
            "{mean}"
        );
    }

    #[test]
    fn few_rows_are_all_kept_once() {
        let mut sample = Sample::new(500, 3, 1);
        sample.add(features(100).view()).unwrap();
        assert_eq!(sample.into_rows().nrows(), 50);
    }
}
