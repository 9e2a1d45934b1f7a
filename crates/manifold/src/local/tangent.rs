//! LTSA and Hessian LLE: functions of the tangent coordinates of a neighbourhood.
//!
//! The d largest principal components U of a neighbourhood, as functions on its points, are its tangent
//! coordinates. A block of A is an orthonormal set of functionals that vanish on the constant function and
//! on U, so that v is cheap where it is, near every point, an affine function of the tangent coordinates.

use super::{LocalEigen, meter, weights};
use crate::control::Budget;
use crate::matrix::{Deviation, Layout};
use crate::neighbors::Neighbors;
use crate::points::{Feature, Points, dot};
use crate::{Control, Result};

/// Which functionals.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// All: what tangent coordinates leave of v (Zhang and Zha 2004, equation 3.4).
    Residual,
    /// Those that measure v's second derivatives: the products of tangent coordinates, orthogonal to
    /// constants and U (Donoho and Grimes 2003, section 5).
    Hessian,
}

/// Below this length, what a product of tangent coordinates adds to the others is rounding.
const DEPENDENT: f64 = 1e-8;

/// A neighbourhood is a point's neighbours without the point, as in scikit-learn. The point itself joins
/// where it is nobody's neighbour (A would not know it, and M be singular) and where its neighbours are too
/// few to leave a functional.
pub(super) fn deviation<T: Feature>(
    points: Points<'_, T>,
    graph: Neighbors,
    d: usize,
    rows: Rows,
    budget: &Budget<'_>,
    control: &dyn Control,
) -> Result<Deviation> {
    let k = graph.k;
    let mut known = vec![false; graph.len()];
    graph.ids.iter().for_each(|&id| known[id as usize] = true);
    let block = |known: bool| {
        let own = !known || k == d + 1;
        let residual = k + usize::from(own) - d - 1;
        let count = match rows {
            Rows::Residual => residual,
            Rows::Hessian => d * (d + 1) / 2,
        };
        (own, count)
    };
    let layout = Layout::new(k, known.into_iter().map(block));
    budget.reserve("the weights of the neighbours", layout.bytes())?;
    let meter = meter(control, graph.len());
    let weights = weights(points, &layout, &meter, |local, point, out| {
        let neighbors = graph.row(point);
        // The base of the block comes first.
        if layout.is_own(point) {
            let ids: Vec<u32> = std::iter::once(point as u32)
                .chain(neighbors.iter().copied())
                .collect();
            local.centred(points, &ids)?;
        } else {
            local.centred(points, neighbors)?;
        }
        let count = layout.rows_of(point).len();
        let size = local.values().len();
        // Vector 0 is the constant, the last d are the tangent coordinates.
        if rows == Rows::Residual {
            for row in 0..count {
                write_row(local.vector(1 + row), row, count, out);
            }
        } else {
            let mut functionals = std::mem::take(&mut local.spare);
            hessian(local, d, count, &mut functionals);
            for (row, functional) in functionals.chunks_exact(size).enumerate() {
                write_row(functional, row, count, out);
            }
            local.spare = functionals;
        }
        Ok(())
    })?;
    Ok(Deviation::new(graph, layout, weights))
}

/// The base's weight follows from the others'.
fn write_row(functional: &[f64], row: usize, rows: usize, out: &mut [f64]) {
    let others = out.iter_mut().skip(row).step_by(rows);
    others.zip(&functional[1..]).for_each(|(out, w)| *out = *w);
}

/// Makes `count` functionals of the products of tangent coordinates. Where products depend on one another (too
/// symmetric a neighbourhood) the functionals on which the neighbourhood varies least stand in.
fn hessian(local: &LocalEigen, d: usize, count: usize, functionals: &mut Vec<f64>) {
    let size = local.values().len();
    let tangent = |a: usize| local.vector(size - 1 - a);
    let pairs = (0..d).flat_map(|a| (a..d).map(move |b| (a, b)));
    let candidates = pairs
        .map(Some)
        .chain(std::iter::repeat_n(None, size - 1 - d));
    let mut spares = 1..size - d;
    functionals.clear();
    for candidate in candidates {
        if functionals.len() == count * size {
            return;
        }
        let start = functionals.len();
        if let Some((a, b)) = candidate {
            functionals.extend(tangent(a).iter().zip(tangent(b)).map(|(x, y)| x * y));
        } else if let Some(spare) = spares.next() {
            functionals.extend_from_slice(local.vector(spare));
        }
        let (before, own) = functionals.split_at_mut(start);
        let length = dot(own, own).sqrt();
        // Twice is enough (Giraud, Langou and Rozložník 2005).
        for _ in 0..2 {
            let known = std::iter::once(0)
                .chain(size - d..size)
                .map(|j| local.vector(j));
            for other in known.chain(before.chunks_exact(size)) {
                let overlap = dot(own, other);
                own.iter_mut()
                    .zip(other)
                    .for_each(|(v, o)| *v -= overlap * o);
            }
        }
        let left = dot(own, own).sqrt();
        if left > DEPENDENT * length {
            own.iter_mut().for_each(|v| *v /= left);
        } else {
            functionals.truncate(start);
        }
    }
}
