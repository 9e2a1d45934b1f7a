//! What the graph takes for near: `f32` sums that only propose. [`crate::Metric`]'s exact keys decide.

use rayon::prelude::*;

use super::lanes::{Rows, Sums, widest};
use crate::Metric;
use crate::points::{dot, largest_magnitude, squared_distance};

/// Squares of values between these neither overflow nor vanish in `f32` sums.
const SMALLEST: f32 = 1.0 / LARGEST;
const LARGEST: f32 = (1u64 << 40) as f32;

/// Padded rows and how far they are from a query.
#[derive(Clone, Copy)]
pub(super) struct Space<'a> {
    pub(super) metric: Metric,
    pub(super) dimensions: usize,
    pub(super) rows: Rows<'a>,
    /// Of each row: the inverse of its length for cosine distances; for inner products what completes it to
    /// the length of the longest row, see [`factor`].
    pub(super) factors: &'a [f32],
    /// Values are brought into the range of `f32` sums by this factor, in `f64` sums; 0 where they are in it.
    pub(super) scale: f64,
    /// Of differences squared, and of products.
    sums: [Sums; 2],
}

/// A padded row to be compared with the rows of a [`Space`].
#[derive(Clone, Copy)]
pub(super) struct Query<'a> {
    pub(super) values: &'a [f32],
    pub(super) factor: f32,
    /// Whether it is one of the rows. Inner products then give way to distances between completed rows.
    pub(super) is_own: bool,
}

impl<'a> Space<'a> {
    pub(super) fn new(
        metric: Metric,
        dimensions: usize,
        rows: Rows<'a>,
        factors: &'a [f32],
        scale: f64,
    ) -> Self {
        Self {
            metric,
            dimensions,
            rows,
            factors,
            scale,
            sums: [widest::<false>(), widest::<true>()],
        }
    }

    /// A row without its padding.
    pub(super) fn vector(&self, row: u32) -> &'a [f32] {
        &self.rows.row(row)[..self.dimensions]
    }

    /// One of the rows as a query.
    #[inline(always)]
    pub(super) fn own(&self, row: u32) -> Query<'a> {
        Query {
            values: self.rows.row(row),
            factor: self.factors.get(row as usize).copied().unwrap_or_default(),
            is_own: true,
        }
    }

    /// How far the rows `ids` are from `query`: the smaller, the nearer.
    #[inline(always)]
    pub(super) fn distances(&self, query: Query<'_>, ids: &[u32], out: &mut [f32]) {
        if self.scale != 0.0 {
            return self.careful_distances(query, ids, out);
        }
        let [differences, products] = self.sums;
        match self.metric {
            Metric::L2 => differences(query.values, self.rows, ids, out),
            Metric::Cosine => {
                products(query.values, self.rows, ids, out);
                for (distance, &id) in out.iter_mut().zip(ids) {
                    let product = *distance * (query.factor * self.factors[id as usize]);
                    *distance = (1.0 - product).max(0.0);
                }
            }
            Metric::InnerProduct if query.is_own => {
                differences(query.values, self.rows, ids, out);
                for (distance, &id) in out.iter_mut().zip(ids) {
                    let difference = query.factor - self.factors[id as usize];
                    *distance = difference.mul_add(difference, *distance);
                }
            }
            Metric::InnerProduct => {
                products(query.values, self.rows, ids, out);
                out.iter_mut().for_each(|distance| *distance = -*distance);
            }
        }
    }

    /// Up to here rows are at one place, as far as the sums can tell.
    pub(super) fn least(&self) -> f32 {
        match self.metric {
            Metric::L2 | Metric::InnerProduct => 0.0,
            Metric::Cosine => f32::EPSILON,
        }
    }

    /// For values of any magnitude.
    #[cold]
    fn careful_distances(&self, query: Query<'_>, ids: &[u32], out: &mut [f32]) {
        let square = self.scale * self.scale;
        for (out, &id) in out.iter_mut().zip(ids) {
            let row = self.rows.row(id);
            *out = match self.metric {
                Metric::L2 => squared_distance(query.values, row) * square,
                Metric::Cosine => {
                    let squares = dot(query.values, query.values) * dot(row, row);
                    (1.0 - dot(query.values, row) / squares.sqrt()).max(0.0)
                }
                Metric::InnerProduct if query.is_own => {
                    let difference = f64::from(query.factor - self.factors[id as usize]);
                    squared_distance(query.values, row) * square + difference * difference
                }
                Metric::InnerProduct => -dot(query.values, row) * square,
            } as f32;
        }
    }

    /// The same rows for a query of this magnitude.
    pub(super) fn reaching(mut self, largest: f32) -> Self {
        let far = self.metric == Metric::L2 && largest > LARGEST;
        if far && (self.scale == 0.0 || self.scale > 1.0 / f64::from(largest)) {
            self.scale = 1.0 / f64::from(largest);
        }
        self
    }

    /// [`factor`] of a query under cosine distance.
    pub(super) fn factor_of(&self, query: &[f32]) -> f32 {
        factor(self.metric, dot(query, query), 0.0)
    }

    /// The exact key of a row: what [`crate::ExactIndex`] orders by, to the bit.
    pub(super) fn key(&self, query: &[f32], row: u32) -> f64 {
        let row = self.vector(row);
        let squares = match self.metric {
            Metric::Cosine => [dot(query, query), dot(row, row)],
            Metric::L2 | Metric::InnerProduct => [0.0; 2],
        };
        self.metric.key(query, row, squares)
    }
}

/// What [`Space::scale`] has to be for rows whose largest magnitudes go from `least` to `most`. Only
/// directions make a difference between rows that are short and rows where there are none longer.
pub(super) fn scale(metric: Metric, least: f32, most: f32) -> f64 {
    let least = if metric == Metric::Cosine {
        least
    } else {
        most
    };
    if most == 0.0 || (least >= SMALLEST && most <= LARGEST) {
        0.0
    } else {
        1.0 / f64::from(most)
    }
}

/// The factor of a row whose squared length is `square`, where the longest row's is `longest`, both times
/// the square of the scale.
///
/// Inner products: rows completed to one length by one more coordinate are ordered by Euclidean distance as
/// they are by their products, so the graph is that of a metric (Bachrach and others 2014).
pub(super) fn factor(metric: Metric, square: f64, longest: f64) -> f32 {
    match metric {
        Metric::L2 => 0.0,
        Metric::Cosine => square.sqrt().recip() as f32,
        Metric::InnerProduct => (longest - square).max(0.0).sqrt() as f32,
    }
}

/// The scale and the factors of padded rows, see [`Space`].
pub(super) fn factors(metric: Metric, vectors: &[f32], stride: usize) -> (f64, Vec<f32>) {
    let rows = || vectors.par_chunks(stride);
    let largest = rows().map(largest_magnitude).map(|v| (v, v));
    let (least, most) = largest
        .reduce_with(|a, b| (a.0.min(b.0), a.1.max(b.1)))
        .unwrap_or_default();
    let scale = scale(metric, least, most);
    if metric == Metric::L2 {
        return (scale, Vec::new());
    }
    let unit = if scale == 0.0 || metric == Metric::Cosine {
        1.0
    } else {
        scale * scale
    };
    let squares: Vec<f64> = rows().map(|row| dot(row, row) * unit).collect();
    let longest = squares
        .iter()
        .fold(0.0, |longest: f64, &square| longest.max(square));
    let factors = squares
        .iter()
        .map(|&square| factor(metric, square, longest));
    (scale, factors.collect())
}
