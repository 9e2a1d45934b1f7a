//! Attention kernels on slices: no Arrow, no `DataFusion`, no tokio.

mod error;
mod softmax;

pub use error::{AttentionError, Result};
pub use softmax::{Score, softmax_in_place};
