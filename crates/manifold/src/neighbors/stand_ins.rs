//! `f32` numbers that stand in for others in a graph: what is near stays near.

use std::ops::RangeInclusive;

use super::Metric;
use crate::points::{Feature, Points, largest_magnitude};

/// Magnitudes whose squares, summed over any number of dimensions, neither overflow nor vanish in `f32`.
const SPARED: RangeInclusive<f32> = 1e-12..=1e12;
/// A query farther off than this is as good as there.
const FAR: f64 = 1e15;

/// How stand-ins are made of prepared rows.
#[derive(Debug, Clone)]
pub(super) struct StandIns {
    /// Subtracted first: distances do not see it, but rounding does.
    middle: Vec<f64>,
    /// Of two, multiplied with.
    exponent: i32,
}

impl StandIns {
    /// Whether rows can be in the graph themselves.
    pub(super) fn spares(values: &[f32], metric: Metric) -> bool {
        // Prepared rows have their largest number in [1, 2).
        metric == Metric::Cosine || {
            let largest = largest_magnitude(values);
            largest == 0.0 || SPARED.contains(&largest)
        }
    }

    /// Around the middle of the rows for distances; directions and products have no other origin than zero.
    pub(super) fn of<T: Feature>(rows: Points<'_, T>, metric: Metric) -> Self {
        let (n, dimensions) = (rows.len(), rows.dimensions());
        let mut middle = vec![0.0; dimensions];
        if metric == Metric::L2 {
            for row in 0..n {
                for (sum, v) in middle.iter_mut().zip(rows.row(row)) {
                    *sum += v.to_f64() / n as f64;
                }
            }
        }
        let spread = rows.values().chunks(dimensions).flat_map(|row| {
            let pairs = row.iter().zip(&middle);
            pairs.map(|(v, m)| (v.to_f64() - m).abs())
        });
        let largest = spread.fold(0.0, f64::max);
        let exponent = match metric {
            Metric::Cosine => 0,
            Metric::L2 | Metric::InnerProduct => to_one(largest),
        };
        Self { middle, exponent }
    }

    /// For queries of rows that stand for themselves.
    pub(super) fn plain(dimensions: usize) -> Self {
        Self {
            middle: vec![0.0; dimensions],
            exponent: 0,
        }
    }

    pub(super) fn of_rows<T: Feature>(&self, rows: &[T]) -> Vec<f32> {
        let rows = rows.chunks(self.middle.len());
        rows.flat_map(|row| self.stand_in(row, self.exponent))
            .collect()
    }

    /// The scale of a product's factor is of no consequence to what is largest.
    pub(super) fn of_queries<T: Feature>(&self, queries: &[T], metric: Metric) -> Vec<f32> {
        let queries = queries.chunks(self.middle.len());
        let largest = |row: &[T]| row.iter().fold(0.0f64, |l, v| l.max(v.to_f64().abs()));
        queries
            .flat_map(|row| {
                let exponent = match metric {
                    Metric::InnerProduct => to_one(largest(row)),
                    Metric::L2 | Metric::Cosine => self.exponent,
                };
                self.stand_in(row, exponent)
            })
            .collect()
    }

    fn stand_in<'a, T: Feature>(
        &'a self,
        row: &'a [T],
        exponent: i32,
    ) -> impl Iterator<Item = f32> + 'a {
        // In two steps, neither of which overflows where the product does not.
        let (first, second) = (exponent / 2, exponent - exponent / 2);
        let scale = move |v: f64| v * f64::from(first).exp2() * f64::from(second).exp2();
        let pairs = row.iter().zip(&self.middle);
        pairs.map(move |(v, m)| scale(v.to_f64() - m).clamp(-FAR, FAR) as f32)
    }
}

/// The power of two that brings a magnitude near 1.
fn to_one(largest: f64) -> i32 {
    if largest > 0.0 {
        -largest.log2().floor() as i32
    } else {
        0
    }
}
