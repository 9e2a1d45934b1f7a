//! Attention kernels on slices and `ndarray` views: no Arrow, no `DataFusion`, no tokio.

mod blocked;
mod error;
mod exact_row;
mod grouped;
mod heads;
mod linear;
mod mask;
mod multi_head;
mod online;
mod packed;
mod prepared;
mod product;
mod query;
mod real;
mod simd;
mod similarity;
mod softmax;
mod tile;
mod tile_rows;
mod tile_softmax;
mod tiles;
mod weights;
mod workspace;

pub use blocked::Blocked;
pub use error::{AttentionError, Result};
pub use grouped::GroupedStates;
pub use linear::linear;
pub use mask::{HeadMask, Mask};
pub use multi_head::MultiHead;
pub use online::OnlineState;
pub use query::Query;
pub use real::Real;
pub use similarity::Similarity;
pub use softmax::{Score, softmax_in_place};
pub use weights::attention_weights;
