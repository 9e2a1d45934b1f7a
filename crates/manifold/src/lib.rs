//! Locally Linear Embedding on ndarray views.
//!
//! Rows are points, columns are dimensions. See [`Lle::fit`].

mod auto;
mod barycenter;
mod components;
mod control;
mod embed;
mod error;
mod fit;
mod hnsw;
mod intrinsic_dimension;
mod landmark_choice;
mod landmarks;
mod laplacian;
mod local;
mod matrix;
mod measured;
mod model;
mod neighbors;
mod paired_sample;
mod panel;
mod params;
mod pca;
mod points;
mod projection;
mod quality;
mod resolve;
mod row_sample;
mod sample;
mod simd;
mod solver;
mod solver_choice;
mod trials;
mod weights;

pub use auto::{Choice, ChoiceOptions, Trial, choose_parameters};
pub use barycenter::barycenter_weights;
pub use control::{Control, Phase, ReserveError, bytes};
pub use error::{ManifoldError, Result};
pub use fit::{Diagnostics, Fit};
pub use hnsw::{
    CodesRecall, Hnsw, HnswAudit, HnswOptions, NearestFirst, NeighborChoice, NeighborCost,
    NeighborMethod, Recall, RecallSample, SharedBytes, VectorStorage,
};
pub use intrinsic_dimension::{
    DimensionOptions, IntrinsicDimension, TwoNn, eigenvalue_gap, intrinsic_dimension,
};
pub use laplacian::{
    LaplacianDiagnostics, LaplacianEigenmaps, LaplacianEigenmapsBuilder, LaplacianFit,
};
pub use model::Model;
pub use neighbors::{
    ApproximateIndex, ExactIndex, Metric, Nearest, NeighborsAlgorithm, exact_tree_pays, hits,
    nearest_neighbors, nearest_rows,
};
pub use paired_sample::PairedSample;
pub use params::{
    DEFAULT_LANDMARK_NEIGHBORS, DEFAULT_LANDMARKS, DEFAULT_SAMPLE_SIZE, LandmarkChoice, Lle,
    LleBuilder, Method, Solver,
};
pub use pca::{Pca, PcaAccumulator, PcaModel};
pub use points::{Feature, check as check_features};
pub use quality::{
    LabelAccuracy, LabelOptions, Quality, QualityOptions, Split, embedding_quality, label_accuracy,
    reconstruction_error,
};
pub use resolve::Evidence;
pub use row_sample::Sample;
pub use sample::{row_hash, smallest_hashes};
pub use solver::{Factor, Ordering};
