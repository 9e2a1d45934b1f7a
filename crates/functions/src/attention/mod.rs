//! Attention in SQL.

pub(crate) mod aggregate;
mod arguments;
mod blocks;
pub(crate) mod exec;
mod frames;
mod groups;
pub(crate) mod rule;
pub(crate) mod self_attention;
mod stream;
mod vectors;
