//! Memory that a thread keeps from one tile, and one call, to the next.
//!
//! Short sequences are computed in a fraction of a millisecond. Fresh memory for each took a tenth of that: the
//! system clears every page that it hands out.

/// What a thread keeps. Users take it out and put it back, so that calls may be nested.
#[derive(Debug)]
pub struct Workspace<T> {
    pub(crate) tile: TileMemory<T>,
    /// Of [`crate::packed::Packed`]
    pub(crate) panels: Vec<T>,
}

/// What a tile needs beside its output.
#[derive(Debug)]
pub(crate) struct TileMemory<T> {
    /// At most some 256 × 528
    pub(crate) scores: Vec<T>,
    /// Of each query, like all that follow
    pub(crate) maxima: Vec<T>,
    pub(crate) sums: Vec<T>,
    pub(crate) corrections: Vec<T>,
}

impl<T> Workspace<T> {
    pub(crate) const fn new() -> Self {
        Self {
            tile: TileMemory::new(),
            panels: Vec::new(),
        }
    }
}

impl<T> TileMemory<T> {
    pub(crate) const fn new() -> Self {
        Self {
            scores: Vec::new(),
            maxima: Vec::new(),
            sums: Vec::new(),
            corrections: Vec::new(),
        }
    }
}
