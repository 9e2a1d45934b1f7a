//! Memory that a thread keeps from one tile, and one call, to the next.
//!
//! Short sequences are computed in a fraction of a millisecond. Fresh memory for each took a tenth of that: the
//! system clears every page that it hands out.

/// What a thread needs to compute tiles beside their output.
#[derive(Debug)]
pub struct Workspace<T> {
    /// Of one tile and a panel's keys: at most some 256 × 528.
    pub(crate) scores: Vec<T>,
    /// Of each query of the tile, like all that follow
    pub(crate) maxima: Vec<T>,
    pub(crate) sums: Vec<T>,
    pub(crate) corrections: Vec<T>,
    /// For [`crate::packed::Packed`], which takes them and gives them back
    pub(crate) panels: Vec<T>,
}

impl<T> Workspace<T> {
    pub(crate) const fn new() -> Self {
        Self {
            scores: Vec::new(),
            maxima: Vec::new(),
            sums: Vec::new(),
            corrections: Vec::new(),
            panels: Vec::new(),
        }
    }
}
