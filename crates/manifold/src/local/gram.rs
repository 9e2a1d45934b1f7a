//! Eigenvectors of the Gram matrix of a few points: the left singular vectors of their coordinates, at a
//! cost that grows with the number of dimensions only in the products.

use faer::diag::DiagMut;
use faer::dyn_stack::{MemBuffer, MemStack, StackReq};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{MatMut, MatRef, Par, Spec};

use crate::points::{Feature, Points, dot};
use crate::{ManifoldError, Result};

/// One thread's room for the Gram matrix of up to `capacity` points and its eigenvectors.
pub(super) struct LocalEigen {
    differences: Vec<f64>,
    gram: Vec<f64>,
    values: Vec<f64>,
    vectors: Vec<f64>,
    memory: MemBuffer,
    /// The points of the current problem.
    size: usize,
    /// Room for what is made of the vectors.
    pub(super) spare: Vec<f64>,
}

fn evd_scratch(size: usize) -> StackReq {
    self_adjoint_evd_scratch::<f64>(size, ComputeEigenvectors::Yes, Par::Seq, Spec::default())
}

impl LocalEigen {
    pub(super) fn new(capacity: usize, dimensions: usize) -> Self {
        Self {
            differences: vec![0.0; capacity * dimensions],
            gram: vec![0.0; capacity * capacity],
            values: vec![0.0; capacity],
            vectors: vec![0.0; capacity * capacity],
            memory: MemBuffer::new(evd_scratch(capacity)),
            size: 0,
            spare: Vec::with_capacity(capacity * capacity),
        }
    }

    pub(super) fn bytes(capacity: usize, dimensions: usize) -> usize {
        let numbers = capacity * (dimensions + 3 * capacity + 1);
        numbers * size_of::<f64>() + evd_scratch(capacity).unaligned_bytes_required()
    }

    /// Of the points `ids` less their mean. The constant vector, which this Gram matrix maps to zero, is
    /// set apart from whatever else it maps to zero: it comes first, with a value of −1, and the other
    /// vectors are orthogonal to it. The other values are at least zero and their sum is 1 (or 0).
    pub(super) fn centred<T: Feature>(&mut self, points: Points<'_, T>, ids: &[u32]) -> Result<()> {
        self.size = ids.len();
        let dimensions = points.dimensions();
        let origin = points.row(ids[0] as usize);
        let (differences, gram) = self.parts(dimensions);
        crate::simd::widest(
            #[inline(always)]
            || {
                subtract(points, origin, ids, differences);
                remove_mean(differences, dimensions);
                products(differences, dimensions, gram);
            },
        );
        let size = ids.len() as f64;
        normalize(gram, ids.len());
        gram.iter_mut().for_each(|g| *g -= 1.0 / size);
        self.decompose()
    }

    /// Of the points `ids` less the point `origin`. The values are at least zero and their sum is 1 (or 0).
    pub(super) fn around<T: Feature>(
        &mut self,
        points: Points<'_, T>,
        origin: usize,
        ids: &[u32],
    ) -> Result<()> {
        self.size = ids.len();
        let dimensions = points.dimensions();
        let origin = points.row(origin);
        let (differences, gram) = self.parts(dimensions);
        crate::simd::widest(
            #[inline(always)]
            || {
                subtract(points, origin, ids, differences);
                products(differences, dimensions, gram);
            },
        );
        normalize(gram, ids.len());
        self.decompose()?;
        // More points than dimensions: what is left of their eigenvalues is rounding.
        let null = ids.len().saturating_sub(dimensions);
        self.values[..null].fill(0.0);
        let values = &mut self.values[null..ids.len()];
        values.iter_mut().for_each(|value| *value = value.max(0.0));
        Ok(())
    }

    fn parts(&mut self, dimensions: usize) -> (&mut [f64], &mut [f64]) {
        (
            &mut self.differences[..self.size * dimensions],
            &mut self.gram[..self.size * self.size],
        )
    }

    fn decompose(&mut self) -> Result<()> {
        let size = self.size;
        self_adjoint_evd(
            MatRef::from_row_major_slice(&self.gram[..size * size], size, size),
            DiagMut::from_slice_mut(&mut self.values[..size]),
            Some(MatMut::from_column_major_slice_mut(
                &mut self.vectors[..size * size],
                size,
                size,
            )),
            Par::Seq,
            MemStack::new(&mut self.memory),
            Spec::default(),
        )
        .map_err(|error| ManifoldError::LinearAlgebra {
            operation: "the eigenvectors of a local Gram matrix",
            detail: format!("{error:?}"),
        })
    }

    /// Ascending.
    pub(super) fn values(&self) -> &[f64] {
        &self.values[..self.size]
    }

    /// The eigenvector of value `j`.
    pub(super) fn vector(&self, j: usize) -> &[f64] {
        &self.vectors[j * self.size..(j + 1) * self.size]
    }
}

/// p − origin for the points `ids`, row by row.
#[inline(always)]
fn subtract<T: Feature>(points: Points<'_, T>, origin: &[T], ids: &[u32], differences: &mut [f64]) {
    let rows = differences.chunks_exact_mut(points.dimensions()).zip(ids);
    for (difference, &id) in rows {
        let others = points.row(id as usize).iter().zip(origin);
        for (difference, (p, x)) in difference.iter_mut().zip(others) {
            *difference = p.to_f64() - x.to_f64();
        }
    }
}

#[inline(always)]
fn remove_mean(differences: &mut [f64], dimensions: usize) {
    let (first, others) = differences.split_at_mut(dimensions);
    let count = 1.0 + (others.len() / dimensions) as f64;
    // The first point is the origin: its zeros make room for the mean.
    for row in others.chunks_exact(dimensions) {
        first
            .iter_mut()
            .zip(row)
            .for_each(|(mean, v)| *mean += v / count);
    }
    for row in others.chunks_exact_mut(dimensions) {
        row.iter_mut().zip(&*first).for_each(|(v, mean)| *v -= mean);
    }
    first.iter_mut().for_each(|mean| *mean = -*mean);
}

/// The lower triangle of the Gram matrix of the rows.
#[inline(always)]
fn products(rows: &[f64], dimensions: usize, gram: &mut [f64]) {
    let size = rows.len() / dimensions;
    for (i, row) in rows.chunks_exact(dimensions).enumerate() {
        for (j, other) in rows.chunks_exact(dimensions).take(i + 1).enumerate() {
            gram[i * size + j] = dot(row, other);
        }
    }
}

/// Trace 1, unless it is 0: points at rounding distance.
fn normalize(gram: &mut [f64], size: usize) {
    let trace: f64 = (0..size).map(|i| gram[i * size + i]).sum();
    if trace > 0.0 {
        gram.iter_mut().for_each(|g| *g /= trace);
    } else {
        gram.fill(0.0);
    }
}
