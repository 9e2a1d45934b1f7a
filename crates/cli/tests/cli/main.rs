//! End-to-end tests of the binary.

mod common;
mod embed;
mod evaluate;
mod formats;
mod index;
mod jobs;
mod lake;
mod repl;
mod usage;
