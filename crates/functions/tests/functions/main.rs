//! The SQL functions through SQL: one binary, because each one links all of `DataFusion`.

mod attention;
mod attention_errors;
mod attention_topk;
mod cancellation;
mod embedding_quality;
mod embeddings;
mod hnsw;
mod input_errors;
mod knn;
mod laplacian_eigenmaps;
mod linear;
mod models;
mod pca;
mod plan_errors;
mod plans;
mod reconstruction_error;
mod resources;
mod scalar_tester;
mod sequences;
mod shared_expressions;
mod softmax;
mod streaming;
mod support;
mod wide_scans;
