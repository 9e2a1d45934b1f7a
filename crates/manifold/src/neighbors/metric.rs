//! What "nearest" means.

use crate::points::{Feature, dot, squared_distance, squared_distances};
use crate::{ManifoldError, Result};

/// How near two vectors are. The names are those of pgvector and FAISS; the values those of DataFusion's
/// functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Metric {
    /// Euclidean distance, ‖x − y‖, as `array_distance` gives it.
    #[default]
    L2,
    /// 1 − x·y / (‖x‖ ‖y‖), from 0 to 2, as `cosine_distance` gives it. A vector of zeros has no direction
    /// and is an error.
    Cosine,
    /// x·y, as `inner_product` gives it: the larger, the nearer, so neighbours come in descending order.
    InnerProduct,
}

impl Metric {
    /// The names of [`Metric::parse`].
    pub const NAMES: [&str; 4] = ["l2", "cosine", "ip", "inner_product"];

    /// The spelling for people; [`Metric::parse`] reads it.
    pub fn name(self) -> &'static str {
        match self {
            Metric::L2 => "l2",
            Metric::Cosine => "cosine",
            Metric::InnerProduct => "inner_product",
        }
    }

    /// Reads a name, in any case.
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] that lists the names.
    pub fn parse(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "l2" => Ok(Metric::L2),
            "cosine" => Ok(Metric::Cosine),
            "ip" | "inner_product" => Ok(Metric::InnerProduct),
            _ => Err(ManifoldError::InvalidParameter {
                name: "metric",
                value: format!("'{name}'"),
                requirement: format!("one of {}", Self::NAMES.join(", ")),
            }),
        }
    }

    /// What points are ordered by: the smaller, the nearer. Squared distances, cosine distances and negated
    /// products in `f64`, each summed in a fixed order. `squares` are ‖query‖² and ‖point‖², which cosine
    /// distance alone asks for.
    #[inline(always)]
    pub(crate) fn key<T: Feature>(self, query: &[T], point: &[T], squares: [f64; 2]) -> f64 {
        match self {
            Metric::L2 => squared_distance(query, point),
            // One root of the product, not a product of roots: equal rows then are at exactly 0.
            Metric::Cosine => (1.0 - dot(query, point) / (squares[0] * squares[1]).sqrt()).max(0.0),
            Metric::InnerProduct => -dot(query, point),
        }
    }

    /// [`Metric::key`] of several points, to the bit.
    #[inline(always)]
    pub(super) fn keys<T: Feature, const C: usize>(
        self,
        query: &[T],
        points: [&[T]; C],
        square: f64,
        squares: [f64; C],
    ) -> [f64; C] {
        match self {
            Metric::L2 => squared_distances(query, points),
            Metric::Cosine | Metric::InnerProduct => {
                std::array::from_fn(|i| self.key(query, points[i], [square, squares[i]]))
            }
        }
    }
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Scales each row by a power of two, exactly, to a largest value in [1, 2): directions stay, and squares
/// neither overflow nor vanish.
pub(super) fn normalise_exponents<T: Feature>(values: &mut [T], dimensions: usize) -> Result<()> {
    for (row, values) in values.chunks_mut(dimensions).enumerate() {
        let largest = values
            .iter()
            .fold(0.0f64, |largest, v| largest.max(v.to_f64().abs()));
        if largest == 0.0 {
            return Err(ManifoldError::ZeroVector { row });
        }
        let exponent = -exponent(largest);
        for v in values {
            *v = v.scaled_twice(exponent);
        }
    }
    Ok(())
}

/// ⌊log₂ v⌋ for a positive v.
fn exponent(v: f64) -> i32 {
    const MANTISSA: u32 = 52;
    let biased = |v: f64| (v.to_bits() >> MANTISSA) as i32 - 1023;
    if v.is_normal() {
        biased(v)
    } else {
        biased(v * 2f64.powi(MANTISSA as i32)) - MANTISSA as i32
    }
}
