//! The SQL functions through SQL: one binary, because each one links all of `DataFusion`.

mod cancellation;
mod embeddings;
mod input_errors;
mod models;
mod plan_errors;
mod plans;
mod resources;
mod scalar_tester;
mod softmax;
mod streaming;
mod support;
