use ndarray::{Array1, Array2};
use ndarray_linalg::Solve;
use proptest::prelude::*;

use super::*;
use crate::neighbors;
use crate::points::DistinctRows;

fn random(n: usize, dimensions: usize, seed: u64) -> Array2<f64> {
    let panel = crate::panel::Panel::random(n, dimensions, seed);
    Array2::from_shape_fn((n, dimensions), |(i, j)| panel.column(j)[i])
}

/// The textbook: G w = 1 by LU, then w / Σ w.
fn plain(points: Points<'_, f64>, point: usize, neighbors: &[u32], reg: f64) -> Array1<f64> {
    let (k, d) = (neighbors.len(), points.dimensions());
    let z = Array2::from_shape_fn((k, d), |(i, j)| {
        points.row(neighbors[i] as usize)[j] - points.row(point)[j]
    });
    let mut gram = z.dot(&z.t());
    let trace = gram.diag().sum();
    gram.diag_mut().mapv_inplace(|g| g + reg * trace);
    let w = gram.solve_into(Array1::ones(k)).unwrap();
    let total = w.sum();
    w / total
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn weights_equal_the_textbook_and_sum_to_one(
        n in 30usize..80, dimensions in 1usize..40, k in 1usize..20, reg in 1e-4f64..1.0, seed: u64,
    ) {
        let features = random(n, dimensions, seed);
        let rows = DistinctRows::new(features.view(), &()).unwrap();
        let graph = neighbors::self_join(rows.points(), k, &()).unwrap();
        let weights = barycenter_weights(rows.points(), &graph, reg, &()).unwrap();
        for (point, weights) in weights.chunks(k).enumerate() {
            prop_assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-13);
            let expected = plain(rows.points(), point, graph.row(point), reg);
            for (w, e) in weights.iter().zip(&expected) {
                prop_assert!((w - e).abs() < 1e-8 * (1.0 + e.abs()), "{w} is not {e}");
            }
        }
    }

    /// On an affine patch of p dimensions, k = p + 1 neighbours in general position reconstruct a point
    /// without remainder.
    #[test]
    fn an_affine_patch_is_reconstructed_exactly(dimensions in 3usize..30, seed: u64) {
        let p = 2;
        let (basis, place) = (random(p, dimensions, seed), random(60, p, !seed));
        let features = place.dot(&basis) + random(1, dimensions, seed ^ 1);
        let rows = DistinctRows::new(features.view(), &()).unwrap();
        let graph = neighbors::self_join(rows.points(), p + 1, &()).unwrap();
        let reg = 1e-13;
        let weights = barycenter_weights(rows.points(), &graph, reg, &()).unwrap();
        for (point, weights) in weights.chunks(p + 1).enumerate() {
            // Three neighbours on a line say nothing about a point beside it.
            let size = weights.iter().fold(0.0f64, |a, w| a.max(w.abs()));
            if size > 100.0 {
                continue;
            }
            for j in 0..dimensions {
                let sum: f64 = graph.row(point).iter().zip(weights)
                    .map(|(&q, w)| w * rows.points().row(q as usize)[j]).sum();
                prop_assert!((sum - rows.points().row(point)[j]).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn without_regularisation_more_neighbours_than_dimensions_are_an_error() {
    let features = random(40, 2, 5);
    let rows = DistinctRows::new(features.view(), &()).unwrap();
    let graph = neighbors::self_join(rows.points(), 8, &()).unwrap();
    let error = barycenter_weights(rows.points(), &graph, 0.0, &()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("reg must be larger: 8 neighbours in 2 dimensions"),
        "{error}"
    );
}
