//! How many dimensions the data has where it lies, from distances to nearest neighbours.
//!
//! Two estimators that assume little: near a point, density is taken as constant, so the volumes of the
//! balls that reach its neighbours grow by independent, exponentially distributed steps. Both see the
//! scale of their neighbour distances and nothing else: near-duplicates or noise give the dimension of
//! the duplicates or of the noise. The evidence tells scales apart: [`IntrinsicDimension::two_nn_by_rows`]
//! thins the rows, [`IntrinsicDimension::levina_bickel_by_k`] widens the neighbourhood.

use ndarray::{ArrayView2, Axis};

use crate::control::Budget;
use crate::neighbors::{self, Neighbors};
use crate::points::{DistinctRows, Feature, Points, check, squared_distance};
use crate::sample::smallest_by;
use crate::{Control, ManifoldError, Result};

/// How [`intrinsic_dimension`] measures. The defaults are those of [`DimensionOptions::default`].
#[derive(Debug, Clone, PartialEq)]
pub struct DimensionOptions {
    /// The smallest neighbourhood of the Levina–Bickel estimator (k₁), at least 2. Default 10.
    pub smallest_k: usize,
    /// The largest (k₂). Default 20.
    pub largest_k: usize,
    /// Share of the rows, those with the largest r₂/r₁, that TwoNN's line leaves out. Default 0.1.
    pub discard: f64,
    /// At most this many distinct rows are measured: those with the smallest seeded hashes. Default
    /// 10,000.
    pub sample: usize,
    /// Seed of the sample. Default 0.
    pub seed: u64,
}

impl Default for DimensionOptions {
    fn default() -> Self {
        Self {
            smallest_k: 10,
            largest_k: 20,
            discard: 0.1,
            sample: 10_000,
            seed: 0,
        }
    }
}

/// TwoNN's line through the points (ln μ, −ln(1 − F(μ))), μ = r₂/r₁ the ratio of a row's distances to its
/// second and first neighbour (Facco, d'Errico, Rodriguez and Laio 2017).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TwoNn {
    /// Distinct rows whose neighbours were sought among each other.
    pub rows: usize,
    /// The slope of the line. Infinite if every row's two nearest are equally far.
    pub dimension: f64,
    /// Root mean square distance of the points from the line, relative to that from zero: 0 is a perfect
    /// fit. NaN-free; 1 where the dimension is infinite.
    pub misfit: f64,
}

/// What [`intrinsic_dimension`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct IntrinsicDimension {
    /// Distinct rows that were measured.
    pub rows: usize,
    /// TwoNN over all measured rows.
    pub two_nn: f64,
    /// TwoNN over all, half, a quarter … of the rows, down to 50: distances between neighbours grow as
    /// rows thin out, and a dimension that holds over several scales is that of the data and not of its
    /// noise.
    pub two_nn_by_rows: Vec<TwoNn>,
    /// The mean of `levina_bickel_by_k`.
    pub levina_bickel: f64,
    /// (k, dimension) from the k nearest neighbours of every row, k = k₁ … k₂ (Levina and Bickel 2004,
    /// equation 8; inverses are averaged over rows, MacKay and Ghahramani 2005).
    pub levina_bickel_by_k: Vec<(usize, f64)>,
}

impl IntrinsicDimension {
    /// A whole number of components for features of `dimensions`: the Levina–Bickel estimate, rounded,
    /// from 1 to `dimensions`. TwoNN, which looks at two neighbours only, is misled by near-duplicates: on
    /// 10,000 of Debian's package vectors it gives 8 where thinner samples agree on 18 to 20.
    pub fn n_components(&self, dimensions: usize) -> usize {
        (self.levina_bickel.round() as usize).clamp(1, dimensions.max(1))
    }
}

/// TwoNN on fewer rows than this says too little.
const FEWEST_ROWS: usize = 50;

/// Estimates the intrinsic dimension of the distinct rows of `features` (n, D).
///
/// # Errors
/// [`ManifoldError::InvalidParameter`] unless 2 ≤ `smallest_k` ≤ `largest_k` and 0 ≤ `discard` < 1;
/// [`ManifoldError::NonFinite`] and [`ManifoldError::TooLarge`] for unusable features;
/// [`ManifoldError::ParameterNeedsMoreData`] unless there are more distinct rows than `largest_k`;
/// [`ManifoldError::Memory`] and [`ManifoldError::Cancelled`].
pub fn intrinsic_dimension<T: Feature>(
    features: ArrayView2<'_, T>,
    options: &DimensionOptions,
    control: &dyn Control,
) -> Result<IntrinsicDimension> {
    T::intrinsic_dimension(features, options, control)
}

pub(crate) fn estimate<T: Feature>(
    features: ArrayView2<'_, T>,
    options: &DimensionOptions,
    control: &dyn Control,
) -> Result<IntrinsicDimension> {
    check_options(options)?;
    check(features)?;
    let budget = Budget::new(control);
    let (n, dimensions) = features.dim();
    let k = options.largest_k;
    let bytes = n.min(options.sample) * (3 * dimensions * size_of::<T>() + k * size_of::<f64>())
        + n * 2 * size_of::<u64>()
        + neighbors::predicted_bytes(n.min(options.sample), dimensions, k);
    budget.reserve("neighbour distances", bytes)?;
    // Smallest hash first, so that every prefix is a sample of its own.
    let rows = smallest_by(features, options.seed, options.sample, |a, b| a.cmp(&b));
    if rows.len() <= k {
        return Err(ManifoldError::ParameterNeedsMoreData {
            name: "largest_k",
            value: k,
            requirement: format!("at least {} distinct rows to estimate a dimension", k + 1),
            found: rows.len().to_string(),
            remedy: "give the number of dimensions, lower largest_k or measure more rows"
                .to_owned(),
        });
    }
    let neighbors_of = |rows: &[usize], k: usize| {
        let distinct = DistinctRows::new(features.select(Axis(0), rows).view(), control)?;
        let graph = neighbors::self_join(distinct.points(), k, control)?;
        Ok::<_, ManifoldError>(squared_distances(distinct.points(), &graph))
    };
    let squares = neighbors_of(&rows, k)?;
    let levina_bickel_by_k: Vec<(usize, f64)> = (options.smallest_k..=k)
        .map(|nearest| (nearest, levina_bickel(&squares, k, nearest)))
        .collect();
    let mut two_nn_by_rows = vec![two_nn(&squares, k, options.discard)];
    let mut count = rows.len() / 2;
    while count >= FEWEST_ROWS {
        let squares = neighbors_of(&rows[..count], 2)?;
        two_nn_by_rows.push(two_nn(&squares, 2, options.discard));
        count /= 2;
    }
    let sum: f64 = levina_bickel_by_k.iter().map(|&(_, d)| d).sum();
    Ok(IntrinsicDimension {
        rows: rows.len(),
        two_nn: two_nn_by_rows[0].dimension,
        two_nn_by_rows,
        levina_bickel: sum / levina_bickel_by_k.len() as f64,
        levina_bickel_by_k,
    })
}

fn check_options(options: &DimensionOptions) -> Result<()> {
    let invalid = |name, value: String, requirement: &str| {
        Err(ManifoldError::InvalidParameter {
            name,
            value,
            requirement: requirement.to_owned(),
        })
    };
    let (smallest, largest) = (options.smallest_k, options.largest_k);
    if smallest < 2 {
        return invalid("smallest_k", smallest.to_string(), "at least 2");
    }
    if largest < smallest || largest > i32::MAX as usize {
        let requirement = "at least smallest_k, and at most 2147483647";
        return invalid("largest_k", largest.to_string(), requirement);
    }
    if !(0.0..1.0).contains(&options.discard) {
        let requirement = "at least 0 and below 1";
        return invalid("discard", options.discard.to_string(), requirement);
    }
    Ok(())
}

/// Squared distances to the k nearest, point by point. Distinct points may still be so near that the
/// square underflows; those count as the smallest positive number.
fn squared_distances<T: Feature>(points: Points<'_, T>, graph: &Neighbors) -> Vec<f64> {
    (0..points.len())
        .flat_map(|point| graph.row(point).iter().map(move |&id| (point, id)))
        .map(|(point, id)| squared_distance(points.row(point), points.row(id as usize)))
        .map(|square| square.max(f64::MIN_POSITIVE))
        .collect()
}

/// The inverse of the mean over rows of 1/(k − 1) Σ ln(T_k/T_j), j < k = `nearest`; `squares` holds `k`
/// numbers a row.
fn levina_bickel(squares: &[f64], k: usize, nearest: usize) -> f64 {
    let inverse = |row: &[f64]| {
        let farthest = row[nearest - 1];
        let logs: f64 = row[..nearest - 1]
            .iter()
            .map(|square| (farthest / square).ln() / 2.0)
            .sum();
        logs / (nearest - 1) as f64
    };
    let sum: f64 = squares.chunks(k).map(inverse).sum();
    (squares.len() / k) as f64 / sum
}

/// `squares` holds `k` ≥ 2 numbers a row.
fn two_nn(squares: &[f64], k: usize, discard: f64) -> TwoNn {
    let mut logs: Vec<f64> = squares
        .chunks(k)
        .map(|row| (row[1] / row[0]).ln() / 2.0)
        .collect();
    logs.sort_unstable_by(f64::total_cmp);
    let rows = logs.len();
    // F reaches 1 at the last row, whose logarithm is infinite.
    let used = ((rows as f64 * (1.0 - discard)) as usize).clamp(1, rows - 1);
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for (i, x) in logs[..used].iter().enumerate() {
        let y = -(-((i + 1) as f64) / rows as f64).ln_1p();
        xx += x * x;
        xy += x * y;
        yy += y * y;
    }
    if xx == 0.0 {
        return TwoNn {
            rows,
            dimension: f64::INFINITY,
            misfit: 1.0,
        };
    }
    // Σ (y − d x)² at d = xy/xx.
    let rest = (yy - xy * xy / xx).max(0.0);
    TwoNn {
        rows,
        dimension: xy / xx,
        misfit: (rest / yy).sqrt(),
    }
}

/// How many of the ascending `eigenvalues` come before their largest gap: that number of dimensions is
/// preserved much better than one more would be.
///
/// Gaps are ratios of neighbouring eigenvalues; values below 1e-12 of the largest are rounding and count
/// as that. Of equal gaps the first wins; without any gap (fewer than two values) all are counted. The
/// list needs one eigenvalue more than the largest answer.
pub fn eigenvalue_gap(eigenvalues: &[f64]) -> usize {
    let largest = eigenvalues.iter().copied().fold(0.0, f64::max);
    let size = |value: f64| value.max(1e-12 * largest).max(f64::MIN_POSITIVE);
    let ratios = eigenvalues
        .windows(2)
        .map(|pair| size(pair[1]) / size(pair[0]));
    let gap = ratios
        .enumerate()
        .reduce(|best, next| if next.1 > best.1 { next } else { best });
    gap.map_or(eigenvalues.len(), |(place, _)| place + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_where_eigenvalues_jump() {
        assert_eq!(eigenvalue_gap(&[]), 0);
        assert_eq!(eigenvalue_gap(&[0.3]), 1);
        assert_eq!(eigenvalue_gap(&[1e-6, 3e-6, 4e-3, 9e-3]), 2);
        assert_eq!(eigenvalue_gap(&[1e-9, 1e-3, 2e-3]), 1);
        // Zeros and what rounding makes of them are alike.
        assert_eq!(eigenvalue_gap(&[-1e-18, 0.0, 1e-17, 1e-2, 0.5]), 3);
        assert_eq!(eigenvalue_gap(&[0.0, 0.0, 0.0]), 1);
    }

    #[test]
    fn equally_far_neighbours_have_no_dimension() {
        let features = ndarray::Array2::<f64>::eye(30);
        let found =
            intrinsic_dimension(features.view(), &DimensionOptions::default(), &()).unwrap();
        assert_eq!(found.two_nn, f64::INFINITY);
        assert_eq!(found.levina_bickel, f64::INFINITY);
    }
}
