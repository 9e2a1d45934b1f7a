//! Giving an index codes, where they are wanted or cost nothing.

use rayon::prelude::*;

use super::codes::Codes;
use super::lanes::LANES;
use super::{Hnsw, HnswOptions, RecallSample, VectorStorage, padded, search};
use crate::control::{Budget, stop_if_cancelled};
use crate::{Control, Metric, Result};

/// The recall that [`VectorStorage::Auto`] gives for speed, at most.
const LARGEST_LOSS: f64 = 0.002;
/// Half of a neighbour found on a sample of ten million: differences of recalls are rounded.
const ROUNDING: f64 = 1e-9;

/// What searches of an index find with and without codes: recalls on one sample, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CodesRecall {
    /// `ef_search`
    pub ef: usize,
    /// Through the vectors.
    pub f32: f64,
    /// Through codes.
    pub int8: f64,
}

impl Hnsw {
    /// Bytes that [`Hnsw::stored`] adds to an index with [`VectorStorage::Int8`].
    #[must_use]
    pub fn code_bytes(rows: usize, dimensions: usize, metric: Metric) -> usize {
        Codes::bytes(rows, dimensions, metric)
    }

    /// The index as `storage` wants it: with codes of its vectors, which walks then read in the place of the vectors,
    /// or without. What walks find is brought into order by the vectors, so distances are exact either way. Where
    /// codes were tried, recall on `sample` with and without them is measured, at an `ef_search` of
    /// [`HnswOptions::DEFAULT_EF_SEARCH`].
    ///
    /// [`VectorStorage::Auto`] keeps codes that lose at most 0.002 of recall@k. It does not try where such a search
    /// compares all rows anyway, nor for vectors of up to 16 dimensions, which fill no more than a cache line as they are,
    /// nor of more than codes can have.
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`](crate::ManifoldError::InvalidParameter) for [`VectorStorage::Int8`] and
    /// vectors of more than 33,025 dimensions (33,024 for inner products), and those of [`Hnsw::recall`].
    pub fn stored(
        mut self,
        storage: VectorStorage,
        sample: &RecallSample,
        control: &dyn Control,
    ) -> Result<(Self, Option<CodesRecall>)> {
        self.codes = None;
        let ef = HnswOptions::DEFAULT_EF_SEARCH;
        let (metric, dimensions) = (self.metric, self.dimensions);
        match storage {
            VectorStorage::F32 => return Ok((self, None)),
            VectorStorage::Int8 => Codes::check(metric, dimensions)?,
            VectorStorage::Auto => {
                let is_scanned = search::compares_all(ef, self.vertices.len());
                let is_short = padded(dimensions) <= LANES;
                if is_scanned || is_short || Codes::check(metric, dimensions).is_err() {
                    return Ok((self, None));
                }
            }
        }
        let budget = Budget::new(control);
        let codes = Self::code_bytes(self.vertices.len(), dimensions, metric);
        budget.reserve("a neighbour index with codes", self.byte_len() + codes)?;
        stop_if_cancelled(control)?;
        let f32 = self.recall_of(sample, &[ef], control)?[0].recall;
        self.codes = Some(Codes::new(&self.space())?);
        let int8 = self.recall_of(sample, &[ef], control)?[0].recall;
        if storage == VectorStorage::Auto && f32 - int8 > LARGEST_LOSS + ROUNDING {
            self.codes = None;
        }
        Ok((self, Some(CodesRecall { ef, f32, int8 })))
    }

    /// Rows whose codes are not those that [`Hnsw::stored`] makes of the vectors; `None` where there are no codes.
    ///
    /// # Errors
    /// [`ManifoldError::Memory`](crate::ManifoldError::Memory) and
    /// [`ManifoldError::Cancelled`](crate::ManifoldError::Cancelled).
    pub fn miscoded(&self, control: &dyn Control) -> Result<Option<usize>> {
        let Some(codes) = &self.codes else {
            return Ok(None);
        };
        let budget = Budget::new(control);
        let bytes = Self::code_bytes(self.vertices.len(), self.dimensions, self.metric);
        budget.reserve("the codes as they should be", bytes)?;
        stop_if_cancelled(control)?;
        let expected = Codes::new(&self.space())?;
        if !codes.share_grid(&expected) {
            return Ok(Some(self.len()));
        }
        let (codes, expected) = (codes.rows(), expected.rows());
        let vertices = (0..self.vertices.len() as u32).into_par_iter();
        let miscoded = vertices.filter(|&vertex| codes.steps(vertex) != expected.steps(vertex));
        let rows = miscoded.map(|vertex| self.vertices.rows(vertex).len());
        let rows = rows.sum();
        stop_if_cancelled(control)?;
        Ok(Some(rows))
    }
}
