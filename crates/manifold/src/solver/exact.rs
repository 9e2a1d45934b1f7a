//! Shift-invert Lanczos on a supernodal sparse Cholesky factor of M + shift·I.

use faer::Side;
use faer::perm::PermRef;
use faer::sparse::SymbolicSparseColMatRef;
use faer::sparse::linalg::SupernodalThreshold;
use faer::sparse::linalg::cholesky::supernodal::{SupernodalLltRef, SymbolicSupernodalCholesky};
use faer::sparse::linalg::cholesky::{
    CholeskySymbolicParams, SymbolicCholesky, SymbolicCholeskyRaw, SymmetricOrdering,
    factorize_symbolic_cholesky,
};

use super::{Factor, Operator, Request, cholesky, lanczos, order, triangular};
use crate::control::{Budget, Meter, stop_if_cancelled};
use crate::matrix::Lower;
use crate::panel::Panel;
use crate::{Control, ManifoldError, Phase, Result};

/// The order in which rows are eliminated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ordering {
    /// Approximate minimum degree (Amestoy, Davis and Duff 1996), in faer.
    Amd,
    /// Nested dissection (Karypis and Kumar 1998), in METIS.
    NestedDissection,
}

impl Ordering {
    /// A short name for people and for logs.
    pub fn name(self) -> &'static str {
        match self {
            Ordering::Amd => "amd",
            Ordering::NestedDissection => "nested dissection",
        }
    }
}

/// Shifts relative to M's mean diagonal, tried in turn until the factorisation succeeds. The first lies
/// above the factorisation's rounding error and below most eigenvalues of interest.
const SHIFTS: [f64; 4] = [1e-12, 1e-11, 1e-10, 1e-8];
/// What decides whether nested dissection can pay; both are rough, and decide nothing but speed.
const FLOPS_PER_SECOND: f64 = 2e10;
const DISSECTION_SECONDS: f64 = 3e-7;

/// Vectors that span the bottom `n_components` eigenvectors, and the factor's size.
pub(super) fn bottom(operator: &dyn Operator, request: &Request<'_>) -> Result<(Panel, Factor)> {
    let (control, budget) = (request.control, request.budget);
    let n = operator.len();
    control.progress(Phase::Order, 0, 1);
    let matrix_bytes = order_bytes(operator);
    budget.reserve("M and its fill-reducing order", matrix_bytes)?;
    let lower = operator.lower(control)?;
    stop_if_cancelled(control)?;
    let symbolic = analyse(&lower, control)?;
    control.progress(Phase::Order, 1, 1);
    request.clock.lap(Phase::Order);

    let factor_bytes =
        symbolic.size.entries * size_of::<f64>() + basis_bytes(n, request.n_components);
    let purpose = format!("the factorisation ({} entries)", symbolic.size.entries);
    budget.reserve(&purpose, factor_bytes)?;
    let factored = factorize(&symbolic, &lower, operator.null_vector(), control)?;
    request.clock.lap(Phase::Factorize);
    drop(lower);
    budget.release(matrix_bytes);

    let shift = factored.shift;
    let invert = |block: &Panel| factored.solve(block);
    control.progress(Phase::Eigen, 0, 100);
    // The null vector, then what is found.
    let mut known = operator.null_vector();
    while known.columns() <= request.n_components {
        let wanted = request.n_components + 1 - known.columns();
        let found = lanczos::largest(&known, wanted, shift, request.seed, control, invert)?;
        // One more, more accurate inverse iteration damps what rounding left of the upper spectrum.
        let mut refined = factored.solve_refined(operator, &found)?;
        refined.orthonormalize(&known, request.seed);
        known.append(&refined);
        known.orthonormalize(&Panel::zeros(n, 0), request.seed);
    }
    let vectors = known.columns_from(1);
    drop(factored);
    budget.release(factor_bytes);
    Ok((
        vectors,
        Factor {
            shift,
            ..symbolic.size
        },
    ))
}

/// Of M and its fill-reducing order.
fn order_bytes(operator: &dyn Operator) -> usize {
    operator.lower_entries_at_most() * 4 * size_of::<usize>()
}

/// Of the vectors that the eigensolver iterates on.
pub(crate) fn basis_bytes(n: usize, n_components: usize) -> usize {
    let columns = lanczos::basis_size(n - 1, n_components);
    (columns + columns / 2 + 8 * n_components) * n * size_of::<f64>()
}

/// The size of M's factor, and the bytes that M and its order took.
pub(crate) fn predict(
    operator: &dyn Operator,
    budget: &Budget<'_>,
    control: &dyn Control,
) -> Result<(Factor, usize)> {
    let bytes = order_bytes(operator);
    budget.reserve("M and its fill-reducing order", bytes)?;
    let lower = operator.lower(control)?;
    stop_if_cancelled(control)?;
    let symbolic = analyse(&lower, control)?;
    budget.release(bytes);
    Ok((symbolic.size, bytes))
}

struct Symbolic {
    cholesky: SymbolicCholesky<usize>,
    size: Factor,
}

/// Row i of the factor is row `forward[i]` of M; row j of M is row `inverse[j]` of the factor.
struct Place<'a> {
    forward: &'a [usize],
    inverse: &'a [usize],
}

impl Symbolic {
    fn parts(&self) -> (&SymbolicSupernodalCholesky<usize>, Place<'_>) {
        let (SymbolicCholeskyRaw::Supernodal(supernodal), Some(order)) =
            (self.cholesky.raw(), self.cholesky.perm())
        else {
            unreachable!("`analyse` asks for a supernodal factor and gives an order");
        };
        let (forward, inverse) = order.arrays();
        (supernodal, Place { forward, inverse })
    }
}

fn pattern(lower: &Lower) -> SymbolicSparseColMatRef<'_, usize> {
    let n = lower.len();
    SymbolicSparseColMatRef::new_checked(n, n, &lower.column_start, None, &lower.rows)
}

/// Minimum degree is quick to find. Nested dissection costs more and saves half of the operations on real
/// vectors; it is tried where that can pay, and the order that needs fewer operations is kept.
fn analyse(lower: &Lower, control: &dyn Control) -> Result<Symbolic> {
    let n = lower.len();
    let analyse = |ordering, order: SymmetricOrdering<'_, usize>| {
        let parameters = CholeskySymbolicParams {
            supernodal_flop_ratio_threshold: SupernodalThreshold::FORCE_SUPERNODAL,
            ..CholeskySymbolicParams::default()
        };
        let cholesky = factorize_symbolic_cholesky(pattern(lower), Side::Lower, order, parameters)
            .map_err(|error| ManifoldError::LinearAlgebra {
                operation: "symbolic Cholesky factorisation",
                detail: format!("{error:?}"),
            })?;
        let size = Factor {
            ordering,
            shift: 0.0,
            entries: cholesky.len_val(),
            flops: flops(&cholesky),
        };
        tracing::debug!(?size, "symbolic factorisation");
        Ok::<_, ManifoldError>(Symbolic { cholesky, size })
    };
    let amd = analyse(Ordering::Amd, SymmetricOrdering::Amd)?;
    let dissection_seconds = DISSECTION_SECONDS * lower.rows.len() as f64;
    let countable = lower.rows.len() < i32::MAX as usize / 2;
    if amd.size.flops / FLOPS_PER_SECOND < dissection_seconds || !countable {
        return Ok(amd);
    }
    stop_if_cancelled(control)?;
    let (forward, inverse) = order::nested_dissection(lower)?;
    stop_if_cancelled(control)?;
    let dissection = analyse(
        Ordering::NestedDissection,
        SymmetricOrdering::Custom(PermRef::new_checked(&forward, &inverse, n)),
    )?;
    Ok(if amd.size.flops < dissection.size.flops {
        amd
    } else {
        dissection
    })
}

/// Σ over columns of the squared number of entries below and on the diagonal.
fn flops(cholesky: &SymbolicCholesky<usize>) -> f64 {
    let SymbolicCholeskyRaw::Supernodal(supernodal) = cholesky.raw() else {
        return 0.0;
    };
    (0..supernodal.n_supernodes())
        .map(|s| {
            let columns = supernodal.supernode_end()[s] - supernodal.supernode_begin()[s];
            let below = supernodal.supernode(s).pattern().len();
            (1..=columns)
                .map(|c| ((below + c) as f64).powi(2))
                .sum::<f64>()
        })
        .sum()
}

/// A factor of M + shift·I.
struct Factored<'a> {
    symbolic: &'a Symbolic,
    values: Vec<f64>,
    shift: f64,
    null: Panel,
}

fn factorize<'a>(
    symbolic: &'a Symbolic,
    lower: &Lower,
    null: Panel,
    control: &dyn Control,
) -> Result<Factored<'a>> {
    let n = lower.len();
    let diagonal = (0..n).map(|j| lower.values[lower.column_start[j]]);
    let mean = diagonal.sum::<f64>() / n as f64;
    let (supernodal, place) = symbolic.parts();
    let mut values = vec![0.0; symbolic.size.entries];
    for relative in SHIFTS {
        let shift = relative * mean;
        let meter = Meter::new(control, Phase::Factorize, symbolic.size.flops as u64);
        if cholesky::factorize(supernodal, lower, shift, place.inverse, &mut values, &meter)? {
            return Ok(Factored {
                symbolic,
                values,
                shift,
                null,
            });
        }
        tracing::debug!(shift, "not positive definite, raising the shift");
    }
    Err(ManifoldError::LinearAlgebra {
        operation: "sparse Cholesky factorisation",
        detail: format!(
            "M + {:.1e}·I is not numerically positive definite; raise reg",
            SHIFTS[SHIFTS.len() - 1] * mean
        ),
    })
}

impl Factored<'_> {
    /// (M + shift·I)⁻¹ `block` within the vectors orthogonal to the null vector.
    fn solve(&self, block: &Panel) -> Result<Panel> {
        let mut solution = block.clone();
        self.solve_in_place(&mut solution);
        if solution.norms().iter().any(|length| !length.is_finite()) {
            return Err(ManifoldError::NoConvergence {
                solver: "exact",
                detail: "a solve with the sparse factor overflowed".to_owned(),
            });
        }
        Ok(solution)
    }

    /// The same, corrected once by the residual that A itself gives: the factor only knows M's
    /// rounded entries.
    fn solve_refined(&self, operator: &dyn Operator, block: &Panel) -> Result<Panel> {
        let mut solution = self.solve(block)?;
        let mut images = Panel::zeros(operator.rows(), block.columns());
        let mut correction = Panel::zeros(block.rows(), block.columns());
        operator.apply(&solution, &mut images);
        operator.apply_transposed(&images, &mut correction);
        correction.set_residual(block, &solution, self.shift);
        solution.add(&self.solve(&correction)?);
        Ok(solution)
    }

    fn solve_in_place(&self, block: &mut Panel) {
        let (supernodal, place) = self.symbolic.parts();
        let factor = SupernodalLltRef::new(supernodal, &self.values);
        triangular::solve_in_place(factor, place.forward, block);
        block.remove(&self.null);
    }
}
