//! Delta Lake tables: Parquet files, and a log that says which of them are the table.
//!
//! The log is read and written with the deltalake crate, in the object stores that the session has.

mod active;
mod place;
mod types;

pub(crate) use active::{ActiveFiles, active_files};
pub(crate) use place::{DeltaPlace, failed};
pub(crate) use types::{column, differences};

/// The directory of the log, in the table's.
pub(crate) const LOG: &str = "_delta_log";
