//! HNSW indexes that are compared with one another, behind one trait.

mod hnsw_rs;
mod lakefold;
mod squared;

use anyhow::{Result, ensure};
use ndarray::{Array2, ArrayView2};

pub use hnsw_rs::{DistanceOf, HnswRsOptions, build as build_hnsw_rs};
pub use lakefold::Lakefold;

/// What every engine is built with.
#[derive(Debug, Clone, Copy)]
pub struct EngineOptions {
    /// Edges of a vertex, twice as many on the lowest level.
    pub m: usize,
    /// Vertices in view while one is inserted.
    pub ef_construction: usize,
    /// For engines that take one.
    pub seed: u64,
}

/// An index that was built.
pub trait Engine {
    /// Row numbers of the `k` nearest rows of each query, nearest first: (m, k).
    ///
    /// # Errors
    /// For queries of other dimensions or with values that are not finite, for `k` or `ef` of 0, and when
    /// fewer than `k` rows are found.
    fn search(&self, queries: ArrayView2<'_, f32>, k: usize, ef: usize) -> Result<Array2<i64>>;

    /// Rows that no path leads to.
    fn unreachable(&self) -> usize;

    /// What the engine tells about its building.
    fn account(&self) -> String;
}

/// # Errors
/// Names the first value that is not finite.
fn check_finite(name: &str, rows: ArrayView2<'_, f32>) -> Result<()> {
    for ((row, dimension), value) in rows.indexed_iter() {
        ensure!(
            value.is_finite(),
            "{name}: row {row}, dimension {dimension} is {value}; leave such rows out"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
