//! The bottom eigenvectors of M = AᵀA, the known null vector left out.

mod cholesky;
mod dense;
mod exact;
mod lanczos;
mod operator;
mod order;
mod pencil;
mod triangular;

use crate::control::{Budget, Clock, stop_if_cancelled};
use crate::panel::{Panel, symmetric_eigen};
use crate::{Control, ManifoldError, Phase, Result, Solver};

pub use exact::Ordering;
pub(crate) use exact::{basis_bytes, predict};
pub(crate) use operator::Operator;
pub(crate) use pencil::bottom_of_pencil;

/// Eigenpairs of M, ascending.
pub(crate) struct Eigenpairs {
    pub(crate) values: Vec<f64>,
    /// Orthonormal columns, orthogonal to the known null vector.
    pub(crate) vectors: Panel,
    /// ‖M v − λ v‖.
    pub(crate) residuals: Vec<f64>,
    pub(crate) solver: Solver,
    /// Of the sparse solver: the chosen order, and the factor's entries and operations.
    pub(crate) factor: Option<Factor>,
}

/// The predicted size of a sparse factor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factor {
    /// The fill-reducing order that was used.
    pub ordering: Ordering,
    /// What was added to M's diagonal to make it positive definite.
    pub shift: f64,
    /// Stored entries.
    pub entries: usize,
    /// Floating-point operations of the factorisation.
    pub flops: f64,
}

/// How the solver is called.
pub(crate) struct Request<'a> {
    pub(crate) n_components: usize,
    pub(crate) solver: Solver,
    pub(crate) seed: u64,
    pub(crate) control: &'a dyn Control,
    pub(crate) budget: &'a Budget<'a>,
    pub(crate) clock: &'a Clock,
}

/// A residual may be this much of its eigenvalue …
const RELATIVE_RESIDUAL: f64 = 1e-3;
/// … and this much of M's largest diagonal entry on top, which is what rounding leaves: the sparse solver
/// corrects its last step against A itself, LAPACK only knows M.
const EXACT_RESIDUAL: f64 = 1e-14;
const DENSE_RESIDUAL: f64 = 1e-12;

/// Refuses what would keep LAPACK busy for minutes, in which it can be neither stopped nor followed.
pub(crate) fn check_size(solver: Solver, n: usize) -> Result<()> {
    if solver == Solver::Dense && n > dense::MOST_POINTS {
        return Err(ManifoldError::InvalidParameter {
            name: "solver",
            value: format!("'dense' for {n}"),
            requirement: format!(
                "'exact' or 'auto' above {} distinct rows (LAPACK would take about {:.0} minutes and cannot \
                 be stopped)",
                dense::MOST_POINTS,
                dense::seconds(n) / 60.0
            ),
        });
    }
    Ok(())
}

pub(crate) fn bottom(operator: &dyn Operator, request: &Request<'_>) -> Result<Eigenpairs> {
    let n = operator.len();
    let solver = match request.solver {
        Solver::Auto if dense::is_preferred(n, request) => Solver::Dense,
        Solver::Auto => Solver::Exact,
        chosen => chosen,
    };
    let (name, vectors, factor) = if solver == Solver::Dense {
        ("dense", dense::bottom(operator, request)?, None)
    } else {
        let (vectors, factor) = exact::bottom(operator, request)?;
        ("exact", vectors, Some(factor))
    };
    stop_if_cancelled(request.control)?;
    let pairs = rayleigh_ritz(operator, vectors, solver, factor)?;
    tracing::debug!(solver = name, values = ?pairs.values, residuals = ?pairs.residuals, "eigenpairs");
    let rounding = match solver {
        Solver::Dense => DENSE_RESIDUAL * operator.largest_diagonal(),
        _ => EXACT_RESIDUAL * operator.largest_diagonal(),
    };
    let limit = |component: usize| RELATIVE_RESIDUAL * pairs.values[component] + rounding;
    let bad = |component: &usize| {
        let residual = pairs.residuals[*component];
        residual.is_nan() || residual > limit(*component)
    };
    if let Some(worst) = (0..pairs.values.len()).find(bad) {
        return Err(ManifoldError::NoConvergence {
            solver: name,
            detail: format!(
                "component {} has eigenvalue {:.1e} and residual {:.1e}, allowed is {:.1e}",
                worst + 1,
                pairs.values[worst],
                pairs.residuals[worst],
                limit(worst)
            ),
        });
    }
    request.control.progress(Phase::Eigen, 100, 100);
    request.clock.lap(Phase::Eigen);
    Ok(pairs)
}

/// The best eigenpairs within the span of `vectors`. Their values are squared lengths of A v, which
/// keeps digits that the entries of M have lost.
fn rayleigh_ritz(
    operator: &dyn Operator,
    mut vectors: Panel,
    solver: Solver,
    factor: Option<Factor>,
) -> Result<Eigenpairs> {
    let null = operator.null_vector();
    vectors.remove(&null);
    vectors.orthonormalize(&null, 0);
    let mut images = Panel::zeros(operator.rows(), vectors.columns());
    operator.apply(&vectors, &mut images);
    let (values, rotation) = symmetric_eigen(&images.transposed_times(&images))?;
    let vectors = vectors.times(&rotation);
    let images = images.times(&rotation);
    let mut residuals = Panel::zeros(vectors.rows(), vectors.columns());
    operator.apply_transposed(&images, &mut residuals);
    for (j, value) in values.iter().enumerate() {
        for (r, v) in residuals.column_mut(j).iter_mut().zip(vectors.column(j)) {
            *r -= value * v;
        }
    }
    Ok(Eigenpairs {
        values,
        residuals: residuals.norms(),
        vectors,
        solver,
        factor,
    })
}
