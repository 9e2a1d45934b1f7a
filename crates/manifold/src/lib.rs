//! Locally Linear Embedding on ndarray views.
//!
//! Rows are points, columns are dimensions. See [`Lle::fit`].

mod components;
mod control;
mod error;
mod fit;
mod landmarks;
mod matrix;
mod model;
mod neighbors;
mod panel;
mod params;
mod points;
mod projection;
mod sample;
mod simd;
mod solver;
mod weights;

pub use control::{Control, Phase, ReserveError, bytes};
pub use error::{ManifoldError, Result};
pub use fit::{Diagnostics, Fit};
pub use model::Model;
pub use neighbors::nearest_neighbors;
pub use params::{
    DEFAULT_LANDMARK_NEIGHBORS, DEFAULT_LANDMARKS, DEFAULT_SAMPLE_SIZE, Lle, LleBuilder, Method,
    Solver,
};
pub use points::Feature;
pub use sample::Sample;
pub use solver::{Factor, Ordering};
