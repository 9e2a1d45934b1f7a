//! Tall, narrow blocks of vectors and the few operations that the eigensolver needs of them.
//!
//! Sums over rows run over chunks of fixed size whose results are added in order, and products use one
//! thread a chunk: no result depends on the number of threads.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par, Spec};
use rayon::prelude::*;

use crate::points::dot;
use crate::{ManifoldError, Result};

const CHUNK: usize = 4096;

/// `columns` vectors of `rows` numbers each, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Panel {
    rows: usize,
    values: Vec<f64>,
}

impl Panel {
    pub(crate) fn zeros(rows: usize, columns: usize) -> Self {
        Self {
            rows,
            values: vec![0.0; rows * columns],
        }
    }

    /// Uniform numbers in [−1, 1) that depend on the seed and their place alone.
    pub(crate) fn random(rows: usize, columns: usize, seed: u64) -> Self {
        let mut panel = Self::zeros(rows, columns);
        for (place, value) in panel.values.iter_mut().enumerate() {
            let bits = split_mix(seed.wrapping_add(split_mix(place as u64)));
            *value = (bits >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        }
        panel
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.values.len() / self.rows
    }

    pub(crate) fn column(&self, j: usize) -> &[f64] {
        &self.values[j * self.rows..(j + 1) * self.rows]
    }

    pub(crate) fn column_mut(&mut self, j: usize) -> &mut [f64] {
        &mut self.values[j * self.rows..(j + 1) * self.rows]
    }

    pub(crate) fn as_mat(&self) -> MatRef<'_, f64> {
        MatRef::from_column_major_slice(&self.values, self.rows, self.columns())
    }

    pub(crate) fn as_mat_mut(&mut self) -> MatMut<'_, f64> {
        let columns = self.columns();
        MatMut::from_column_major_slice_mut(&mut self.values, self.rows, columns)
    }

    pub(crate) fn append(&mut self, other: &Panel) {
        self.values.extend_from_slice(&other.values);
    }

    /// The constant vector of length 1.
    pub(crate) fn constant(rows: usize) -> Self {
        Self {
            rows,
            values: vec![1.0 / (rows as f64).sqrt(); rows],
        }
    }

    /// Makes every column orthogonal to the one of `unit`, which has length 1.
    pub(crate) fn remove(&mut self, unit: &Panel) {
        let unit = unit.column(0);
        self.values.par_chunks_mut(unit.len()).for_each(|column| {
            let overlap = dot(column, unit);
            let entries = column.iter_mut().zip(unit);
            entries.for_each(|(v, u)| *v -= overlap * u);
        });
    }

    /// Mean 0 and length 1 for every column.
    pub(crate) fn standardize(&mut self) {
        self.values.par_chunks_mut(self.rows).for_each(|column| {
            let mean = column.iter().sum::<f64>() / column.len() as f64;
            column.iter_mut().for_each(|v| *v -= mean);
            let length = norm(column);
            column.iter_mut().for_each(|v| *v /= length);
        });
    }

    /// The columns from `first` on.
    pub(crate) fn columns_from(mut self, first: usize) -> Self {
        self.values.drain(..first * self.rows);
        self
    }

    /// self = block − self − shift · solution.
    pub(crate) fn set_residual(&mut self, block: &Panel, solution: &Panel, shift: f64) {
        let others = block.values.par_iter().zip(&solution.values);
        self.values
            .par_iter_mut()
            .zip(others)
            .with_min_len(CHUNK)
            .for_each(|(v, (b, x))| *v = b - *v - shift * x);
    }

    /// self += other.
    pub(crate) fn add(&mut self, other: &Panel) {
        self.values
            .par_iter_mut()
            .zip(&other.values)
            .with_min_len(CHUNK)
            .for_each(|(v, o)| *v += o);
    }

    pub(crate) fn norms(&self) -> Vec<f64> {
        self.values
            .par_chunks(self.rows)
            .map(|column| column.iter().map(|v| v * v).sum::<f64>().sqrt())
            .collect()
    }

    /// selfᵀ · other.
    pub(crate) fn transposed_times(&self, other: &Panel) -> Mat<f64> {
        let (m, b) = (self.columns(), other.columns());
        let parts: Vec<Mat<f64>> = (0..self.rows.div_ceil(CHUNK))
            .into_par_iter()
            .map(|chunk| {
                let (start, end) = chunk_range(chunk, self.rows);
                let left = self.as_mat().subrows(start, end - start);
                let right = other.as_mat().subrows(start, end - start);
                let mut part = Mat::zeros(m, b);
                matmul(
                    part.as_mut(),
                    Accum::Replace,
                    left.transpose(),
                    right,
                    1.0,
                    Par::Seq,
                );
                part
            })
            .collect();
        parts
            .into_iter()
            .fold(Mat::zeros(m, b), |sum, part| sum + part)
    }

    /// self += factor · basis · coefficients.
    pub(crate) fn add_product(&mut self, basis: &Panel, coefficients: &Mat<f64>, factor: f64) {
        let rows = self.rows;
        self.as_mat_mut()
            .par_row_chunks_mut(CHUNK)
            .enumerate()
            .for_each(|(chunk, out)| {
                let (start, end) = chunk_range(chunk, rows);
                let basis = basis.as_mat().subrows(start, end - start);
                matmul(
                    out,
                    Accum::Add,
                    basis,
                    coefficients.as_ref(),
                    factor,
                    Par::Seq,
                );
            });
    }

    /// self · coefficients.
    pub(crate) fn times(&self, coefficients: &Mat<f64>) -> Panel {
        let mut out = Panel::zeros(self.rows, coefficients.ncols());
        out.add_product(self, coefficients, 1.0);
        out
    }

    /// Makes the columns orthonormal and returns R with old = new · R. Directions that the columns do not
    /// span are filled at random, orthogonal to `against`; their rows of R are zero.
    pub(crate) fn orthonormalize(&mut self, against: &Panel, seed: u64) -> Mat<f64> {
        let b = self.columns();
        let mut r = Mat::<f64>::zeros(b, b);
        let largest = self.norms().into_iter().fold(0.0, f64::max);
        for j in 0..b {
            let before = norm(self.column(j));
            // Twice is enough (Giraud, Langou and Rozložník 2005).
            for _ in 0..2 {
                for i in 0..j {
                    let overlap = dot(self.column(i), self.column(j));
                    r[(i, j)] += overlap;
                    self.subtract(j, i, overlap);
                }
            }
            let after = norm(self.column(j));
            if after > 1e-12 * before && after > 1e-14 * largest {
                r[(j, j)] = after;
                self.column_mut(j).iter_mut().for_each(|v| *v /= after);
            } else {
                self.replace(j, against, seed.wrapping_add(j as u64 + 1));
            }
        }
        r
    }

    fn subtract(&mut self, j: usize, i: usize, factor: f64) {
        let (head, tail) = self.values.split_at_mut(j * self.rows);
        let basis = &head[i * self.rows..(i + 1) * self.rows];
        tail[..basis.len()]
            .iter_mut()
            .zip(basis)
            .for_each(|(v, q)| *v -= factor * q);
    }

    /// Puts a random unit vector, orthogonal to the columns before it and to `against`, into column j.
    fn replace(&mut self, j: usize, against: &Panel, seed: u64) {
        let mut fresh = Panel::random(self.rows, 1, seed);
        let mut before = Panel {
            rows: self.rows,
            values: self.values[..j * self.rows].to_vec(),
        };
        before.append(against);
        for _ in 0..3 {
            let overlaps = before.transposed_times(&fresh);
            fresh.add_product(&before, &overlaps, -1.0);
        }
        let length = norm(fresh.column(0));
        let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
        for (v, fresh) in self.column_mut(j).iter_mut().zip(fresh.column(0)) {
            *v = fresh * scale;
        }
    }
}

fn chunk_range(chunk: usize, rows: usize) -> (usize, usize) {
    (chunk * CHUNK, ((chunk + 1) * CHUNK).min(rows))
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// Steele, Lea and Flood 2014.
fn split_mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Eigenvalues, ascending, and eigenvectors (columns) of a small symmetric matrix.
pub(crate) fn symmetric_eigen(matrix: &Mat<f64>) -> Result<(Vec<f64>, Mat<f64>)> {
    let n = matrix.nrows();
    // faer's high-level call would split sums by the number of threads.
    let parallel = Par::Seq;
    let scratch =
        self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, parallel, Spec::default());
    let mut values = Diag::zeros(n);
    let mut vectors = Mat::zeros(n, n);
    self_adjoint_evd(
        matrix.as_ref(),
        values.as_mut(),
        Some(vectors.as_mut()),
        parallel,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Spec::default(),
    )
    .map_err(|error| ManifoldError::LinearAlgebra {
        operation: "the eigenvalues of a small symmetric matrix",
        detail: format!("{error:?}"),
    })?;
    Ok((values.column_vector().iter().copied().collect(), vectors))
}
