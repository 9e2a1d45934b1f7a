//! Which solver 'auto' stands for: the cheaper one by operations that are counted before either runs.
//!
//! Both solvers need the neighbours. The exact one then factors M, whose fill depends on the data: for a
//! surface it grows little faster than the rows, for text vectors with their power of 2.5. The factors of two
//! small samples tell which; finding a fill-reducing order needs no number of M.

use std::iter::repeat_n;

use crate::control::Budget;
use crate::landmark_choice::smallest_hashes;
use crate::matrix::{Deviation, Layout};
use crate::neighbors;
use crate::points::{Feature, Points};
use crate::solver;
use crate::{Control, Lle, Result, Solver};

/// Up to this many distinct rows exact takes seconds whatever the data, and is not compared with landmarks.
pub(crate) const EXACT_ROWS: usize = 10_000;
/// Rows of the larger sample whose factor is counted; the smaller one is a quarter of it.
pub(crate) const SAMPLE: usize = 8000;

impl Lle {
    /// What [`Solver::Auto`] stands for here, as far as landmarks are concerned; between dense and exact it
    /// stays open. The same for any order of the rows and any number of threads.
    pub(crate) fn choose_solver<T: Feature>(
        &self,
        points: Points<'_, T>,
        budget: &Budget<'_>,
        control: &dyn Control,
    ) -> Result<Solver> {
        let n = points.len();
        if self.solver() != Solver::Auto || n <= EXACT_ROWS {
            return Ok(self.solver());
        }
        let dimensions = points.dimensions();
        let copy = SAMPLE * dimensions * size_of::<T>();
        budget.reserve("a sample to predict the factorisation on", copy + n * 16)?;
        let sample = points.gather(&smallest_hashes(points, SAMPLE, self.seed()));
        let sample = Points::new(&sample, dimensions);
        let exact = self.exact_pays(sample, n, self.n_neighbors(), budget, control)?;
        budget.release(copy + n * 16);
        Ok(if exact {
            Solver::Exact
        } else {
            Solver::Landmarks
        })
    }

    /// Whether the exact solver with `k` neighbours is predicted to need fewer operations than landmarks, for
    /// `n` rows and for placing as many again, and whether its memory is to be had. `sample` holds the
    /// [`SAMPLE`] rows with the smallest hashes, smallest first.
    pub(crate) fn exact_pays<T: Feature>(
        &self,
        sample: Points<'_, T>,
        n: usize,
        k: usize,
        budget: &Budget<'_>,
        control: &dyn Control,
    ) -> Result<bool> {
        let n_landmarks = self.n_landmarks(n);
        let per_row = self.landmark_neighbors(n_landmarks);
        let dimensions = sample.dimensions();
        let placing = if neighbors::tree_pays(n, dimensions) {
            0.0
        } else {
            products(n, n, dimensions)
        };
        let affordable = landmarks_flops(n, dimensions, n_landmarks, per_row) - placing;
        if affordable <= 0.0 || k >= sample.len() / 4 {
            return Ok(false);
        }
        let small = sample.rows(0..sample.len() / 4);
        let few = Size::count(small, k, budget, control)?;
        // Fill does not grow more slowly than the rows.
        if few.flops * n as f64 / small.len() as f64 > affordable {
            return Ok(false);
        }
        let many = Size::count(sample, k, budget, control)?;
        let predicted = many.extrapolate(few, n as f64 / sample.len() as f64);
        tracing::debug!(?predicted, affordable, "solver");
        let bytes = predicted.entries * size_of::<f64>() as f64 + predicted.order_bytes;
        let bytes = bytes as usize + solver::basis_bytes(n, self.n_components());
        let pays =
            predicted.flops <= affordable && budget.reserve("the factorisation", bytes).is_ok();
        if pays {
            budget.release(bytes);
        }
        Ok(pays)
    }
}

/// What a factorisation costs.
#[derive(Debug, Clone, Copy)]
struct Size {
    flops: f64,
    /// Of the factor.
    entries: f64,
    /// Of M and its fill-reducing order, as the exact solver reserves them.
    order_bytes: f64,
}

impl Size {
    /// Of the M that k neighbours of these points make, without its numbers.
    fn count<T: Feature>(
        points: Points<'_, T>,
        k: usize,
        budget: &Budget<'_>,
        control: &dyn Control,
    ) -> Result<Self> {
        let n = points.len();
        let layout = Layout::new(k, repeat_n((true, 1), n));
        let search = neighbors::predicted_bytes(n, points.dimensions(), k) + layout.bytes();
        budget.reserve("neighbours to predict the factorisation on", search)?;
        let graph = neighbors::self_join(points, k, control)?;
        let weights = vec![1.0; layout.weights()];
        let deviation = Deviation::new(graph, layout, weights);
        let (factor, order_bytes) = solver::predict(&deviation, budget, control)?;
        budget.release(search);
        Ok(Self {
            flops: factor.flops,
            entries: factor.entries as f64,
            order_bytes: order_bytes as f64,
        })
    }

    /// For `times` as many rows, along the power that leads here from a quarter of these.
    fn extrapolate(self, quarter: Self, times: f64) -> Self {
        let grow = |few: f64, many: f64| many * times.powf((many / few).log(4.0).max(1.0));
        Self {
            flops: grow(quarter.flops, self.flops),
            entries: grow(quarter.entries, self.entries),
            order_bytes: self.order_bytes * times,
        }
    }
}

/// Operations of all products of rows with others.
fn products(rows: usize, others: usize, dimensions: usize) -> f64 {
    2.0 * rows as f64 * others as f64 * dimensions as f64
}

/// Operations of the landmarks solver, and of placing as many rows again: the two Gram matrices of the
/// pencil, and for each row the products with all landmarks and the Gram matrix of its own.
fn landmarks_flops(n: usize, dimensions: usize, n_landmarks: usize, per_row: usize) -> f64 {
    let pencil = 2.0 * n as f64 * (n_landmarks as f64).powi(2);
    let own = n as f64 * (per_row as f64).powi(2) * dimensions as f64;
    pencil + 2.0 * (products(n, n_landmarks, dimensions) + own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::Panel;
    use crate::points::DistinctRows;
    use ndarray::{Array2, Axis};

    /// A sheet rolled up in three dimensions, or a ball of six.
    fn rows(n: usize, surface: bool) -> Array2<f64> {
        let random = Panel::random(n, 6, 1);
        Array2::from_shape_fn((n, if surface { 3 } else { 6 }), |(i, j)| {
            let (angle, height) = (8.0 + 3.0 * random.column(0)[i], random.column(1)[i]);
            match j {
                0 if surface => angle * angle.cos(),
                1 if surface => angle * angle.sin(),
                2 if surface => 20.0 * height,
                _ => random.column(j)[i],
            }
        })
    }

    fn chosen(features: &Array2<f64>, lle: &Lle) -> Solver {
        let distinct = DistinctRows::new(features.view(), &()).unwrap();
        let budget = Budget::new(&());
        lle.choose_solver(distinct.points(), &budget, &()).unwrap()
    }

    #[test]
    fn surfaces_are_solved_exactly_and_clouds_by_landmarks() {
        let lle = Lle::builder(2).build().unwrap();
        for (n, surface, expected) in [
            (9000, false, Solver::Auto),
            (12_000, false, Solver::Landmarks),
            (12_000, true, Solver::Exact),
        ] {
            let features = rows(n, surface);
            assert_eq!(chosen(&features, &lle), expected, "{n} {surface}");
            let order: Vec<usize> = (0..n).map(|i| (i * 7 + 3) % n).collect();
            let features = features.select(Axis(0), &order);
            assert_eq!(chosen(&features, &lle), expected, "{n} {surface}");
        }
        let asked = Lle::builder(2).solver(Solver::Landmarks).build().unwrap();
        assert_eq!(chosen(&rows(12_000, true), &asked), Solver::Landmarks);
    }

    #[test]
    fn the_predicted_size_is_that_of_the_factor_to_a_factor_of_two() {
        for (surface, k) in [(true, 12), (true, 30), (false, 12)] {
            let features = rows(16_000, surface);
            let values = features.as_slice().unwrap();
            let points = Points::new(values, features.ncols());
            let count =
                |n: usize| Size::count(points.rows(0..n), k, &Budget::new(&()), &()).unwrap();
            let predicted = count(4000).extrapolate(count(1000), 4.0);
            let found = count(16_000);
            for (predicted, found) in [
                (predicted.flops, found.flops),
                (predicted.entries, found.entries),
                (predicted.order_bytes, found.order_bytes),
            ] {
                let ratio = predicted / found;
                assert!((0.5..2.0).contains(&ratio), "{surface} {k}: {ratio}");
            }
        }
    }

    /// Exact would need more memory than there is.
    #[test]
    fn without_memory_for_the_factor_landmarks_are_chosen() {
        struct Little;
        impl Control for Little {
            fn reserve(&self, purpose: &str, bytes: usize) -> Result<(), crate::ReserveError> {
                if purpose != "the factorisation" {
                    return Ok(());
                }
                Err(crate::ReserveError {
                    purpose: purpose.to_owned(),
                    requested: bytes,
                    reserved: 0,
                    limit: Some(0),
                })
            }
        }
        let distinct = DistinctRows::new(rows(12_000, true).view(), &()).unwrap();
        let lle = Lle::builder(2).build().unwrap();
        let solver = lle.choose_solver(distinct.points(), &Budget::new(&Little), &Little);
        assert_eq!(solver, Ok(Solver::Landmarks));
    }
}
