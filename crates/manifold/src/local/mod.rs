//! The local problems of every method: what each point's block of A is made of.

mod gram;
mod modified;
mod tangent;

use std::iter::repeat_n;

use rayon::prelude::*;

use crate::control::{Budget, Meter};
use crate::matrix::{Deviation, Layout, by_chunks};
use crate::neighbors::Neighbors;
use crate::points::{Feature, Points};
use crate::weights::barycenter_weights;
use crate::{Control, Lle, ManifoldError, Method, Phase, Result};

use gram::LocalEigen;

/// Points that one thread works on at a time.
const CHUNK: usize = 256;

/// A of the method that `lle` asks for, on a graph whose closed components are bridged. Its memory stays
/// reserved; the scratch of the local problems, one for each thread, is given back.
pub(crate) fn deviation<T: Feature>(
    lle: &Lle,
    points: Points<'_, T>,
    graph: Neighbors,
    budget: &Budget<'_>,
    control: &dyn Control,
) -> Result<Deviation> {
    let (k, d) = (graph.k, lle.n_components());
    let local = LocalEigen::bytes(k + 1, points.dimensions());
    let scratch = rayon::current_num_threads() * local;
    budget.reserve("the local problems", scratch)?;
    budget.reserve("the neighbours", graph.ids.len() * size_of::<u32>())?;
    let deviation = match lle.method() {
        Method::Standard => {
            let layout = Layout::new(k, repeat_n((true, 1), graph.len()));
            budget.reserve("the weights of the neighbours", layout.bytes())?;
            let weights = barycenter_weights(points, &graph, lle.reg(), control)?;
            Deviation::new(graph, layout, weights)
        }
        Method::Modified => modified::deviation(points, graph, d, lle.reg(), budget, control)?,
        Method::Hessian => {
            tangent::deviation(points, graph, d, tangent::Rows::Hessian, budget, control)?
        }
        Method::Ltsa => {
            tangent::deviation(points, graph, d, tangent::Rows::Residual, budget, control)?
        }
    };
    budget.release(scratch);
    Ok(deviation)
}

/// The weights of all blocks of `layout`: `kernel(scratch, point, weights of its block)` fills each.
fn weights<T: Feature>(
    points: Points<'_, T>,
    layout: &Layout,
    meter: &Meter<'_>,
    kernel: impl Fn(&mut LocalEigen, usize, &mut [f64]) -> Result<()> + Sync,
) -> Result<Vec<f64>> {
    let mut weights = vec![0.0; layout.weights()];
    by_chunks(&mut weights, layout.weight_start(), CHUNK)
        .into_par_iter()
        .enumerate()
        .try_for_each_init(
            || LocalEigen::new(layout.k() + 1, points.dimensions()),
            |local, (chunk, mut rest)| {
                meter.check()?;
                let chunk = chunk * CHUNK..((chunk + 1) * CHUNK).min(layout.len());
                let count = chunk.len() as u64;
                for point in chunk {
                    let (block, behind) = rest.split_at_mut(layout.weights_of(point).len());
                    rest = behind;
                    kernel(local, point, block)?;
                }
                meter.add(count);
                Ok::<(), ManifoldError>(())
            },
        )?;
    Ok(weights)
}

fn meter(control: &dyn Control, units: usize) -> Meter<'_> {
    Meter::new(control, Phase::Weights, units as u64)
}
