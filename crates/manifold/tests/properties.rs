//! What moving, turning, scaling, repeating and reordering the rows does to a fit: nothing.

mod common;

use common::{VARIANTS, fit, fit_variant, largest_angle_sine, swiss_roll};
use lakefold_manifold::{Lle, Solver};
use ndarray::{Array2, Axis, array, concatenate};
use proptest::prelude::*;

fn rotation(angle: f64) -> Array2<f64> {
    let (s, c) = angle.sin_cos();
    array![[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]].dot(&array![
        [1.0, 0.0, 0.0],
        [0.0, c, -s],
        [0.0, s, c]
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn moving_turning_and_scaling_the_input_leave_the_subspace_alone(
        seed in 0u64..1000, angle in 0.0f64..6.0, scale in 0.01f64..100.0, shift in -100.0f64..100.0,
    ) {
        let features = swiss_roll(600, seed);
        let moved = (features.dot(&rotation(angle)) + shift) * scale;
        let (before, after) = (fit(features.view(), Solver::Exact), fit(moved.view(), Solver::Exact));
        let sine = largest_angle_sine(&before.embedding, &after.embedding);
        prop_assert!(sine < 1e-5, "{sine:e}");
    }

    #[test]
    fn permuting_the_rows_permutes_the_embedding_to_the_bit(seed in 0u64..1000, step in prop::sample::select(vec![7usize, 11, 13, 17])) {
        let features = swiss_roll(500, seed);
        let order: Vec<usize> = (0..500).map(|i| (i * step + 3) % 500).collect();
        let permuted = features.select(Axis(0), &order);
        for solver in [Solver::Exact, Solver::Dense] {
            let (before, after) = (fit(features.view(), solver), fit(permuted.view(), solver));
            prop_assert_eq!(before.embedding.select(Axis(0), &order), after.embedding);
        }
        for method in VARIANTS {
            let run = |rows: &Array2<f64>| fit_variant(rows.view(), method, Solver::Exact).embedding;
            prop_assert_eq!(run(&features).select(Axis(0), &order), run(&permuted));
        }
    }

    /// An affine image of a piece of the plane is the plane again, up to an affine map: A maps affine
    /// functions of the tangent coordinates to zero.
    #[test]
    fn a_flat_patch_is_recovered(seed in 0u64..1000, dimensions in 2usize..40) {
        let plane = swiss_roll(400, seed).slice(ndarray::s![.., ..2]).to_owned();
        let map = swiss_roll(dimensions, seed + 1).slice(ndarray::s![.., ..2]).t().to_owned();
        let patch = plane.dot(&map) + 3.0;
        for solver in [Solver::Exact, Solver::Dense] {
            for method in VARIANTS {
                let lle = Lle::builder(2).method(method).solver(solver).reg(1e-9).build().unwrap();
                let fit = lle.fit(patch.view(), &()).unwrap();
                let sine = largest_angle_sine(&fit.embedding, &plane);
                prop_assert!(sine < 1e-5, "{method:?}, {solver:?}: {sine:e}");
                prop_assert!(fit.diagnostics.eigenvalues[1] < 1e-9, "{:?}", fit.diagnostics.eigenvalues);
            }
        }
    }

    #[test]
    fn moving_and_scaling_the_input_leaves_the_variants_alone(
        seed in 0u64..1000, scale in 0.01f64..100.0, shift in -100.0f64..100.0,
    ) {
        let features = swiss_roll(600, seed);
        let moved = (features.dot(&rotation(shift)) + shift) * scale;
        for method in VARIANTS {
            let run = |rows: &Array2<f64>| fit_variant(rows.view(), method, Solver::Exact).embedding;
            let sine = largest_angle_sine(&run(&features), &run(&moved));
            prop_assert!(sine < 1e-5, "{method:?}: {sine:e}");
        }
    }

    #[test]
    fn columns_have_mean_zero_and_variance_one_and_are_uncorrelated(seed in 0u64..1000, d in 1usize..4) {
        let features = swiss_roll(300, seed);
        let fit = Lle::builder(d).build().unwrap().fit(features.view(), &()).unwrap();
        let n = fit.embedding.nrows() as f64;
        let gram = fit.embedding.t().dot(&fit.embedding) / n;
        for i in 0..d {
            prop_assert!(fit.embedding.column(i).sum().abs() / n < 1e-10);
            for j in 0..d {
                prop_assert!((gram[(i, j)] - f64::from(i == j)).abs() < 1e-10);
            }
            let largest = fit.embedding.column(i).iter().fold(0.0f64, |a, v| if v.abs() > a.abs() { *v } else { a });
            prop_assert!(largest > 0.0);
        }
        prop_assert!(fit.diagnostics.eigenvalues.is_sorted());
    }
}

#[test]
fn tiny_features_give_the_embedding_of_their_large_copies() {
    let features = swiss_roll(200, 6);
    let tiny = features.mapv(|v| v * 2f64.powi(-560));
    let (large, small) = (
        fit(features.view(), Solver::Exact),
        fit(tiny.view(), Solver::Exact),
    );
    assert!(largest_angle_sine(&large.embedding, &small.embedding) < 1e-9);
}

#[test]
fn duplicates_are_merged_and_get_the_same_embedding() {
    let features = swiss_roll(300, 2);
    let doubled = concatenate![
        Axis(0),
        features,
        features,
        features.slice(ndarray::s![..50, ..])
    ];
    let (single, double) = (
        fit(features.view(), Solver::Auto),
        fit(doubled.view(), Solver::Auto),
    );
    assert_eq!(
        (double.diagnostics.rows, double.diagnostics.distinct_rows),
        (650, 300)
    );
    for i in 0..650 {
        assert_eq!(double.embedding.row(i), single.embedding.row(i % 300));
    }
}

#[test]
fn single_precision_features_are_used_as_they_are() {
    let features = swiss_roll(400, 9).mapv(|v| v as f32);
    let lle = Lle::builder(2).build().unwrap();
    let single = lle.fit(features.view(), &()).unwrap();
    let double = lle.fit(features.mapv(f64::from).view(), &()).unwrap();
    assert_eq!(single.embedding, double.embedding);
}
