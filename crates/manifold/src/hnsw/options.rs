//! What an index is built with.

use crate::{ManifoldError, Result};

/// Parameters of an [`super::Hnsw`] index, with the names of Malkov and Yashunin (2018).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HnswOptions {
    /// Edges of a vertex on the upper levels; twice as many on the lowest (M). From 2 to 256.
    pub m: usize,
    /// Vertices that are kept in view while a vertex's neighbours are sought. At least `m`.
    pub ef_construction: usize,
    /// Of the levels and the order of insertion.
    pub seed: u64,
}

impl HnswOptions {
    /// The default of [`HnswOptions::m`].
    pub const DEFAULT_M: usize = 16;
    /// The default of [`HnswOptions::ef_construction`].
    pub const DEFAULT_EF_CONSTRUCTION: usize = 200;
    /// What searches keep in view unless they are told (`ef_search`).
    pub const DEFAULT_EF_SEARCH: usize = 64;
    /// The most edges that are accepted.
    pub const LARGEST_M: usize = 256;
    /// The largest `ef_construction` and `ef_search` that are accepted.
    pub const LARGEST_EF: usize = 1 << 20;

    /// Whether an index can be built so.
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] that names the first parameter out of range.
    pub fn check(&self) -> Result<()> {
        check_range("m", self.m, 2, Self::LARGEST_M)?;
        check_range(
            "ef_construction",
            self.ef_construction,
            self.m,
            Self::LARGEST_EF,
        )
    }
}

impl Default for HnswOptions {
    fn default() -> Self {
        Self {
            m: Self::DEFAULT_M,
            ef_construction: Self::DEFAULT_EF_CONSTRUCTION,
            seed: 0,
        }
    }
}

pub(super) fn check_range(
    name: &'static str,
    value: usize,
    least: usize,
    most: usize,
) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ManifoldError::InvalidParameter {
        name,
        value: value.to_string(),
        requirement: format!("from {least} to {most}"),
    })
}
