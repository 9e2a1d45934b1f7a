//! How good an embedding is, whoever made it.

mod labels;
mod ranks;
pub(crate) mod reconstruction;

use ndarray::{Array2, ArrayView2};

use self::ranks::Tally;
use crate::control::Budget;
use crate::neighbors::Neighbors;
use crate::points::{Feature, Points, check, enlarge};
use crate::sample::{compare, smallest_by};
use crate::{Control, ManifoldError, Result};

pub use labels::{LabelAccuracy, LabelOptions, Split, label_accuracy};
pub use reconstruction::reconstruction_error;

/// How [`embedding_quality`] measures. The defaults are those of [`QualityOptions::default`].
#[derive(Debug, Clone, PartialEq)]
pub struct QualityOptions {
    /// Neighbours a row (k), at least 1 and less than half of the rows. Default 12.
    pub n_neighbors: usize,
    /// Regularisation of the weights behind [`Quality::lle_objective`]. Default 0.001.
    pub reg: f64,
    /// Up to this many rows everything is measured on all rows, beyond it on a sample of this many
    /// distinct rows. Default 5,000. Time grows with its square.
    pub sample: usize,
    /// Seed of the sample. Default 0.
    pub seed: u64,
}

impl Default for QualityOptions {
    fn default() -> Self {
        Self {
            n_neighbors: 12,
            reg: 1e-3,
            sample: 5000,
            seed: 0,
        }
    }
}

/// What [`embedding_quality`] found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// Rows of the input.
    pub rows: usize,
    /// Rows that were measured: all, or a sample.
    pub measured_rows: usize,
    /// Neighbours a row (k).
    pub n_neighbors: usize,
    /// 1 if the k nearest rows in the embedding are all among the k nearest in the features; each that is
    /// not costs as much as its rank there exceeds k (Venna and Kaski 2001).
    pub trustworthiness: f64,
    /// The same with roles swapped: what the embedding tore apart.
    pub continuity: f64,
    /// Mean share of the k nearest rows in the features that are among the k nearest in the embedding.
    pub neighborhood_preservation: f64,
    /// (1/n) Σ ‖y − Σ w y_j‖² with the weights that reconstruct each row's features from its k nearest
    /// (Roweis and Saul 2000, equation 2), over the distinct measured rows, before any bridging. In the
    /// square of the embedding's unit: for an LLE fit of the same rows and parameters the sum of its
    /// eigenvalues.
    pub lle_objective: f64,
}

/// Measures an embedding (n, d) of `features` (n, D).
///
/// Distances are Euclidean, differences in `f64`. Neighbours and ranks are by (distance, place of the row
/// among the rows sorted by value), so that ties do not depend on the order in which rows are given;
/// without ties trustworthiness and continuity are scikit-learn's, to rounding.
///
/// Where n exceeds `options.sample`, all measures are those of a sample: the distinct rows of `features`
/// with the smallest seeded hashes ([`crate::row_hash`]), neighbours sought among themselves. Up to then
/// all rows count, equal ones too.
///
/// # Errors
/// [`ManifoldError::InvalidParameter`] for options or an embedding that cannot be (another number of rows,
/// NaN or infinity); [`ManifoldError::NonFinite`] and [`ManifoldError::TooLarge`] for unusable features;
/// [`ManifoldError::ParameterNeedsMoreData`] unless 2k is below the number of measured rows and k below
/// that of the distinct ones; [`ManifoldError::Memory`] and [`ManifoldError::Cancelled`].
pub fn embedding_quality<T: Feature>(
    features: ArrayView2<'_, T>,
    embedding: ArrayView2<'_, f64>,
    options: &QualityOptions,
    control: &dyn Control,
) -> Result<Quality> {
    T::quality(features, embedding, options, control)
}

pub(crate) fn measure<T: Feature>(
    features: ArrayView2<'_, T>,
    embedding: ArrayView2<'_, f64>,
    options: &QualityOptions,
    control: &dyn Control,
) -> Result<Quality> {
    let k = options.n_neighbors;
    check_neighbors_and_reg(k, options.reg)?;
    check_embedding(embedding, features.nrows())?;
    check(features)?;
    let budget = Budget::new(control);
    let order = features.nrows() * (size_of::<u64>() + size_of::<usize>());
    budget.reserve("the choice and order of the measured rows", order)?;
    let rows = measured_rows(features, embedding, options);
    let n = rows.len();
    if n <= 2 * k {
        let needed = format!("more than {} rows", 2 * k);
        return Err(needs_more(k, needed, n));
    }
    let (wide, narrow) = (features.ncols(), embedding.ncols());
    let bytes = n * (wide + 2 * narrow) * size_of::<f64>() + ranks::predicted_bytes(n);
    budget.reserve("distances to all measured rows", bytes)?;
    let mut x: Vec<f64> = (rows.iter())
        .flat_map(|&row| features.row(row).into_iter().map(|v| v.to_f64()))
        .collect();
    let mut y: Vec<f64> = (rows.iter())
        .flat_map(|&row| embedding.row(row).into_iter().copied())
        .collect();
    enlarge(&mut x);
    let x = Points::new(&x, wide);
    // Weights and the objective's unit are those of the embedding as it is.
    let lle_objective = objective_of_distinct(x, Points::new(&y, narrow), options, control)?;
    enlarge(&mut y);
    let tally = ranks::tallies(x, &[Points::new(&y, narrow)], k, control)?[0];
    Ok(quality(features.nrows(), n, k, tally, lle_objective))
}

fn quality(rows: usize, measured_rows: usize, k: usize, tally: Tally, objective: f64) -> Quality {
    let (n, n_neighbors) = (measured_rows as f64, k as f64);
    // The largest sum that ranks can reach for k < n/2.
    let worst = n * n_neighbors * (2.0 * n - 3.0 * n_neighbors - 1.0) / 2.0;
    Quality {
        rows,
        measured_rows,
        n_neighbors: k,
        trustworthiness: 1.0 - tally.intrusions as f64 / worst,
        continuity: 1.0 - tally.extrusions as f64 / worst,
        neighborhood_preservation: tally.shared as f64 / (n * n_neighbors),
        lle_objective: objective,
    }
}

/// What [`embedding_quality`] says about each of several embeddings of the same distinct points, whose
/// neighbours are known: distances and weights in the features are computed once. An embedding that cannot
/// be measured gets its error.
pub(crate) fn measure_each<T: Feature>(
    points: Points<'_, T>,
    graph: Neighbors,
    embeddings: &[Array2<f64>],
    reg: f64,
    control: &dyn Control,
) -> Result<Vec<Result<Quality>>> {
    let (n, k, wide) = (points.len(), graph.k, points.dimensions());
    let budget = Budget::new(control);
    let narrow: usize = embeddings.iter().map(Array2::ncols).sum();
    let bytes = n * (wide + narrow) * size_of::<f64>() + ranks::predicted_bytes(n);
    budget.reserve("distances to all measured rows", bytes)?;
    let x: Vec<f64> = (0..n)
        .flat_map(|i| points.row(i).iter().map(|v| v.to_f64()))
        .collect();
    let x = Points::new(&x, wide);
    let weighed = reconstruction::weigh_graph(x, graph, reg, &budget, control)?;
    let mut sound = Vec::with_capacity(embeddings.len());
    for embedding in embeddings {
        sound.push(check_embedding(embedding.view(), n).map(|()| {
            let mut y: Vec<f64> = embedding.iter().copied().collect();
            // The objective's unit is that of the embedding as it is.
            let objective =
                reconstruction::objective(x, Points::new(&y, embedding.ncols()), &weighed);
            enlarge(&mut y);
            (y, embedding.ncols(), objective)
        }));
    }
    let measured = sound.iter().flatten();
    let ys: Vec<_> = measured
        .map(|(y, narrow, _)| Points::new(y, *narrow))
        .collect();
    let mut tallies = ranks::tallies(x, &ys, k, control)?.into_iter();
    let mut tell = |(_, _, objective): &(Vec<f64>, usize, f64)| {
        let tally = tallies.next().unwrap_or_default();
        quality(n, n, k, tally, *objective)
    };
    Ok(sound
        .iter()
        .map(|sound| sound.as_ref().map(&mut tell).map_err(Clone::clone))
        .collect())
}

/// All rows or a sample, sorted by value: what follows does not depend on the order of the input.
fn measured_rows<T: Feature>(
    features: ArrayView2<'_, T>,
    embedding: ArrayView2<'_, f64>,
    options: &QualityOptions,
) -> Vec<usize> {
    let by_embedding = |a: usize, b: usize| compare(embedding.row(a), embedding.row(b));
    let mut rows = if features.nrows() <= options.sample {
        (0..features.nrows()).collect()
    } else {
        smallest_by(features, options.seed, options.sample, by_embedding)
    };
    rows.sort_by(|&a, &b| {
        compare(features.row(a), features.row(b)).then_with(|| by_embedding(a, b))
    });
    rows
}

/// The LLE objective over the first of each run of equal rows of x.
fn objective_of_distinct(
    x: Points<'_, f64>,
    y: Points<'_, f64>,
    options: &QualityOptions,
    control: &dyn Control,
) -> Result<f64> {
    let budget = Budget::new(control);
    let bytes = x.len() * (x.dimensions() + y.dimensions()) * size_of::<f64>();
    budget.reserve("the distinct measured rows", bytes)?;
    let first: Vec<usize> = (0..x.len())
        .filter(|&i| i == 0 || x.row(i) != x.row(i - 1))
        .collect();
    let gather = |points: Points<'_, f64>| -> Vec<f64> {
        first.iter().flat_map(|&i| points.row(i)).copied().collect()
    };
    let (distinct_x, distinct_y) = (gather(x), gather(y));
    let distinct_x = Points::new(&distinct_x, x.dimensions());
    let distinct_y = Points::new(&distinct_y, y.dimensions());
    let (k, reg) = (options.n_neighbors, options.reg);
    let weighed = reconstruction::weigh(distinct_x, k, reg, &budget, control)?;
    Ok(reconstruction::objective(distinct_x, distinct_y, &weighed))
}

fn invalid(name: &'static str, value: String, requirement: impl Into<String>) -> ManifoldError {
    ManifoldError::InvalidParameter {
        name,
        value,
        requirement: requirement.into(),
    }
}

pub(crate) fn check_neighbors_and_reg(n_neighbors: usize, reg: f64) -> Result<()> {
    if n_neighbors == 0 || n_neighbors > i32::MAX as usize {
        let requirement = "between 1 and 2147483647";
        return Err(invalid("n_neighbors", n_neighbors.to_string(), requirement));
    }
    if !reg.is_finite() || reg < 0.0 {
        let requirement = "a finite number of at least 0";
        return Err(invalid("reg", reg.to_string(), requirement));
    }
    Ok(())
}

/// One finite row for each of `rows`.
fn check_embedding(embedding: ArrayView2<'_, f64>, rows: usize) -> Result<()> {
    if embedding.nrows() != rows {
        return Err(invalid(
            "embedding",
            format!("{} rows", embedding.nrows()),
            format!("one row for each of the {rows} rows of the features"),
        ));
    }
    check(embedding).map_err(|error| match error {
        ManifoldError::NonFinite {
            row,
            dimension,
            value,
        }
        | ManifoldError::TooLarge {
            row,
            dimension,
            value,
        } => invalid(
            "embedding",
            format!("{value:e} in row {row}, dimension {dimension} (counted from 0)"),
            "finite numbers whose squares are finite: filter the row out",
        ),
        ManifoldError::InvalidParameter {
            value, requirement, ..
        } => invalid("embedding", value, requirement),
        other => other,
    })
}

fn needs_more(n_neighbors: usize, requirement: String, found: impl ToString) -> ManifoldError {
    ManifoldError::ParameterNeedsMoreData {
        name: "n_neighbors",
        value: n_neighbors,
        requirement,
        found: found.to_string(),
        remedy: "lower n_neighbors or measure more rows".to_owned(),
    }
}
