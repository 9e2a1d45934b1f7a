//! The landmarks solver: Locally Linear Landmarks (Vladymyrov and Carreira-Perpiñán 2013).
//!
//! Every row is written as an affine combination of its nearest landmarks, Y = Z Y_L. What minimises
//! ‖(I − W) Y‖² under YᵀY = n·I then is the bottom of an L × L pencil (ZᵀMZ, ZᵀZ), whatever the number of
//! rows.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use ndarray::Array2;
use rayon::prelude::*;

use crate::control::{Budget, Clock, Meter};
use crate::matrix::Deviation;
use crate::neighbors::Base;
use crate::points::{Feature, Points};
use crate::projection::{Coordinates, Projection};
use crate::solver::Operator;
use crate::solver::bottom_of_pencil;
use crate::{Control, Lle, ManifoldError, NeighborsAlgorithm, Phase, Result};

/// Rows of (I − W) Z that are dense at a time.
const ROWS: usize = 1024;
/// Columns of a tile of the pencil's matrices; one thread adds to one tile.
const TILE: usize = 256;

/// What the solver is asked for.
pub(crate) struct Request<'a> {
    pub(crate) lle: &'a Lle,
    pub(crate) n_components: usize,
    /// Their points, ascending.
    pub(crate) landmarks: &'a [u32],
    /// Landmarks a row.
    pub(crate) per_row: usize,
    pub(crate) reg: f64,
    pub(crate) seed: u64,
    pub(crate) control: &'a dyn Control,
    pub(crate) budget: &'a Budget<'a>,
    pub(crate) clock: &'a Clock,
}

pub(crate) struct Solved<T> {
    pub(crate) projection: Projection<T>,
    /// Y_L, shape (L, d).
    pub(crate) embedding: Array2<f64>,
    /// Y, shape (n, d).
    pub(crate) rows: Array2<f64>,
    pub(crate) eigenvalues: Vec<f64>,
    pub(crate) residuals: Vec<f64>,
}

/// What landmarks need of the number of distinct rows.
pub(crate) fn check(lle: &Lle, distinct: usize) -> Result<()> {
    let landmarks = lle.n_landmarks(distinct);
    let least = lle.n_components() + 2;
    let invalid = |name, value: usize, requirement: String| {
        let value = format!("{value} for {distinct} distinct rows");
        Err(ManifoldError::InvalidParameter {
            name,
            value,
            requirement,
        })
    };
    if landmarks >= distinct {
        let requirement = "below the number of distinct rows: lower it, fit more rows, or choose \
                           solver 'exact'";
        return invalid("n_landmarks", landmarks, requirement.to_owned());
    }
    if landmarks < least {
        let requirement = format!(
            "at least n_components + 2 = {least}: raise it, fit more rows, or choose solver 'exact'"
        );
        return invalid("n_landmarks", landmarks, requirement);
    }
    let per_row = lle.landmark_neighbors(landmarks);
    if per_row > landmarks {
        let requirement = format!("at most the number of landmarks, {landmarks}");
        return invalid("landmark_neighbors", per_row, requirement);
    }
    Ok(())
}

impl Lle {
    /// Landmarks of which rows have `per_row` each.
    pub(crate) fn landmark_base<T: Feature>(
        &self,
        values: Vec<T>,
        dimensions: usize,
        per_row: usize,
    ) -> Base<T> {
        let count = values.len() / dimensions;
        // Nobody knows how many rows will be placed: as many as there are landmarks are reckoned with. A graph
        // of few landmarks would cost time and find fewer of them, whatever suits the rows.
        let algorithm = match self.neighbors_algorithm() {
            NeighborsAlgorithm::Exact => NeighborsAlgorithm::Exact,
            _ => NeighborsAlgorithm::Auto,
        };
        let method = algorithm.resolve(count, dimensions, per_row, false);
        Base::by(method, values, dimensions, self.seed())
    }
}

pub(crate) fn solve<T: Feature>(
    points: Points<'_, T>,
    deviation: &Deviation,
    request: &Request<'_>,
) -> Result<Solved<T>> {
    let (control, budget) = (request.control, request.budget);
    let (n, count) = (points.len(), request.landmarks.len());
    let projection = Projection {
        landmarks: request.lle.landmark_base(
            points.gather(request.landmarks),
            points.dimensions(),
            request.per_row,
        ),
        per_row: request.per_row,
        reg: request.reg,
    };
    budget.reserve(
        "the rows' coordinates in terms of the landmarks",
        n * request.per_row * (4 + 8),
    )?;
    let mut z = Coordinates::default();
    projection.for_each_batch(points, control, |_, batch| {
        z.ids.extend(batch.ids);
        z.weights.extend(batch.weights);
    })?;
    request.clock.lap(Phase::Projection);

    // The pencil, its two factors and a copy, and the rows that are dense at a time.
    let dense = (5 * count * count + 2 * ROWS * count) * size_of::<f64>();
    budget.reserve("the landmarks' eigenproblem", dense)?;
    let (a, b) = reduce(deviation, &z, request.per_row, count, control)?;
    request.clock.lap(Phase::Factorize);
    let pairs = bottom_of_pencil(&a, &b, request.n_components, request.seed, control)?;
    drop((a, b));
    budget.release(dense);

    let scale = (n as f64).sqrt();
    let mut embedding = Array2::from_shape_fn((count, request.n_components), |(i, j)| {
        pairs.vectors[(i, j)] * scale
    });
    let mut rows = combine(&z, request.per_row, &embedding);
    for (mut column, mut rows) in embedding.columns_mut().into_iter().zip(rows.columns_mut()) {
        let largest = rows.iter().fold(
            0.0f64,
            |largest, v| if v.abs() > largest.abs() { *v } else { largest },
        );
        if largest < 0.0 {
            column.mapv_inplace(|v| -v);
            rows.mapv_inplace(|v| -v);
        }
    }
    request.clock.lap(Phase::Eigen);
    Ok(Solved {
        projection,
        embedding,
        rows,
        eigenvalues: pairs.values,
        residuals: pairs.residuals,
    })
}

/// Z · `embedding`, row by row: shape (rows, d).
pub(crate) fn combine(z: &Coordinates, per_row: usize, embedding: &Array2<f64>) -> Array2<f64> {
    let dimensions = embedding.ncols();
    let mut rows = Array2::zeros((z.ids.len() / per_row, dimensions));
    let out = rows.as_slice_mut().unwrap_or_default();
    let values = embedding.as_slice().unwrap_or_default();
    out.par_chunks_mut(dimensions)
        .zip(z.ids.par_chunks(per_row))
        .zip(z.weights.par_chunks(per_row))
        .with_min_len(256)
        .for_each(|((out, ids), weights)| {
            for (&id, &weight) in ids.iter().zip(weights) {
                // Most weights of a row that equals a landmark.
                if weight == 0.0 {
                    continue;
                }
                let landmark = &values[id as usize * dimensions..][..dimensions];
                for (out, value) in out.iter_mut().zip(landmark) {
                    *out += weight * value;
                }
            }
        });
    rows
}

/// The lower triangles of ZᵀMZ and ZᵀZ, accumulated over blocks of rows in a fixed order.
fn reduce(
    deviation: &Deviation,
    z: &Coordinates,
    per_row: usize,
    count: usize,
    control: &dyn Control,
) -> Result<(Mat<f64>, Mat<f64>)> {
    let n = deviation.len();
    let meter = Meter::new(control, Phase::Factorize, 2 * n as u64);
    let (mut a, mut b) = (Mat::zeros(count, count), Mat::zeros(count, count));
    let mut block = Vec::new();
    let entries = |row: usize| {
        let range = row * per_row..(row + 1) * per_row;
        z.ids[range.clone()].iter().zip(&z.weights[range])
    };
    for start in (0..n).step_by(ROWS) {
        meter.check()?;
        let rows = ROWS.min(n - start);
        block.clear();
        block.resize(rows * count, 0.0);
        block
            .par_chunks_mut(count)
            .enumerate()
            .for_each(|(offset, out)| {
                for (&id, weight) in entries(start + offset) {
                    out[id as usize] += weight;
                }
            });
        add_gram(&mut b, &block, rows);
        meter.add(rows as u64);
    }
    let mut start = 0;
    while start < n {
        meter.check()?;
        // As many points as have few enough rows, but at least one.
        let first = deviation.rows_of(start).start;
        let fits = |&point: &usize| deviation.rows_of(point).end - first <= ROWS;
        let end = (start + 1..n).take_while(fits).last().unwrap_or(start) + 1;
        let rows = deviation.rows_of(end - 1).end - first;
        block.clear();
        block.resize(rows * count, 0.0);
        let lengths = (start..end).map(|point| deviation.rows_of(point).len() * count);
        split(&mut block, lengths)
            .into_par_iter()
            .enumerate()
            .for_each(|(offset, out)| {
                for (point, weights) in deviation.entries(start + offset) {
                    for (out, w) in out.chunks_mut(count).zip(weights) {
                        for (&id, weight) in entries(point) {
                            out[id as usize] += w * weight;
                        }
                    }
                }
            });
        add_gram(&mut a, &block, rows);
        meter.add((end - start) as u64);
        start = end;
    }
    Ok((a, b))
}

/// Consecutive parts of these lengths.
fn split(mut values: &mut [f64], lengths: impl Iterator<Item = usize>) -> Vec<&mut [f64]> {
    lengths
        .map(|length| values.split_off_mut(..length).unwrap_or_default())
        .collect()
}

/// The lower triangle of `sum` += blockᵀ · block, for a block of `rows` rows, row by row.
fn add_gram(sum: &mut Mat<f64>, block: &[f64], rows: usize) {
    let count = sum.ncols();
    let block = MatRef::from_row_major_slice(block, rows, count);
    sum.as_mut()
        .par_col_chunks_mut(TILE)
        .enumerate()
        .for_each(|(j, columns)| {
            let tiles = columns.par_row_chunks_mut(TILE).enumerate().skip(j);
            tiles.for_each(|(i, tile)| {
                let left = block.subcols(i * TILE, tile.nrows());
                let right = block.subcols(j * TILE, tile.ncols());
                matmul(tile, Accum::Add, left.transpose(), right, 1.0, Par::Seq);
            });
        });
}
