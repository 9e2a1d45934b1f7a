//! Attention kernels on slices and `ndarray` views: no Arrow, no `DataFusion`, no tokio.

mod blocked;
mod error;
mod exact_row;
mod grouped;
mod mask;
mod online;
mod product;
mod real;
mod simd;
mod similarity;
mod softmax;
mod tile_softmax;
mod tiles;

pub use blocked::Blocked;
pub use error::{AttentionError, Result};
pub use grouped::GroupedStates;
pub use mask::{HeadMask, Mask};
pub use online::{OnlineState, Query};
pub use real::Real;
pub use similarity::Similarity;
pub use softmax::{Score, softmax_in_place};
