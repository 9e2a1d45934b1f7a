//! Attention in SQL.

mod aggregate;
mod arguments;
mod blocks;
mod coercion;
mod constant_query;
mod exec;
mod frames;
mod group_states;
mod groups;
mod linear;
mod linear_file;
mod linear_projection;
mod multi_head;
mod multi_head_mask;
mod multi_head_parameters;
mod multi_head_rows;
mod pairs;
mod rule;
mod self_attention;
mod sequence_output;
mod sequences;
mod stream;
mod vectors;
mod weights;

pub use aggregate::Attention;
pub use exec::{AttentionCall, SelfAttentionExec};
pub use linear::Linear;
pub use linear_file::LinearFiles;
pub use multi_head::MultiHeadAttention;
pub use rule::AttendInBlocks;
pub use self_attention::SelfAttention;
pub use weights::AttentionWeights;

pub(crate) use arguments::Scoring;
pub(crate) use coercion::{
    check_number, element, list_of, nested, sequence_float, vector_float, wider,
};
pub(crate) use pairs::Call;
pub(crate) use self_attention::NAME as SELF_ATTENTION;
pub(crate) use sequence_output::lists;
pub(crate) use sequences::{Arguments, Vectors};
