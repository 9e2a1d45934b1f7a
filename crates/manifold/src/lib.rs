//! Locally Linear Embedding on ndarray views.
//!
//! Rows are points, columns are dimensions. See [`Lle::fit`].

mod components;
mod control;
mod error;
mod fit;
mod laplacian;
mod local;
mod matrix;
mod neighbors;
mod panel;
mod params;
mod points;
mod simd;
mod solver;
mod weights;

pub use control::{Control, Phase, ReserveError, bytes};
pub use error::{ManifoldError, Result};
pub use fit::{Diagnostics, Fit};
pub use laplacian::{
    LaplacianDiagnostics, LaplacianEigenmaps, LaplacianEigenmapsBuilder, LaplacianFit,
};
pub use neighbors::nearest_neighbors;
pub use params::{Lle, LleBuilder, Method, Solver};
pub use points::Feature;
pub use solver::{Factor, Ordering};
