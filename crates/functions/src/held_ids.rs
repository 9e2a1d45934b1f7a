//! Ids that are collected in memory, a batch at a time.

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::compute::concat;
use datafusion::common::Result;
use lakefold_manifold::ReserveError;

use crate::held_rows::Source;
use crate::memory::{Budget, array_bytes};

const PURPOSE: &str = "the ids of the rows to search";

/// Ids of rows, whose memory is taken from a budget.
#[derive(Debug, Default)]
pub(crate) struct HeldIds {
    arrays: Vec<ArrayRef>,
    bytes: usize,
}

impl HeldIds {
    pub(crate) fn len(&self) -> usize {
        self.arrays.iter().map(Array::len).sum()
    }

    /// Bytes that they take, in one array too.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, ids: ArrayRef, budget: &Budget) -> Result<(), ReserveError> {
        let bytes = array_bytes(&ids);
        budget.reserve(PURPOSE, bytes)?;
        self.bytes += bytes;
        self.arrays.push(ids);
        Ok(())
    }

    /// All of them in one array, at least one batch.
    pub(crate) fn concat(self, source: &Source, budget: &Budget) -> Result<ArrayRef> {
        budget
            .reserve(PURPOSE, self.bytes)
            .map_err(|error| source.exhausted(&error))?;
        let parts: Vec<&dyn Array> = self.arrays.iter().map(AsRef::as_ref).collect();
        let ids = concat(&parts)?;
        drop(self.arrays);
        budget.release(self.bytes);
        Ok(ids)
    }
}
