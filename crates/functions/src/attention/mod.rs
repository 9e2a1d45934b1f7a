//! Attention in SQL.

mod coercion;
mod linear;
mod linear_file;
mod linear_projection;
mod multi_head;
mod multi_head_mask;
mod multi_head_parameters;
mod multi_head_rows;
mod sequence_output;
mod sequences;
mod weights;

pub use linear::Linear;
pub use linear_file::LinearFiles;
pub use multi_head::MultiHeadAttention;
pub use weights::AttentionWeights;
