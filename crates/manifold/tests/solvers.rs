//! The dense and the sparse solver: they agree, and nothing degenerate stops them.

mod common;

use common::{VARIANTS, fit, fit_variant, largest_angle_sine, swiss_roll};
use lakefold_manifold::{Fit, Lle, Method, Solver};
use ndarray::{Array2, Axis, concatenate};

#[test]
fn the_dense_and_the_sparse_solver_agree() {
    let features = swiss_roll(700, 3);
    let (dense, exact) = (
        fit(features.view(), Solver::Dense),
        fit(features.view(), Solver::Exact),
    );
    assert_same_pairs(&dense, &exact);
    for method in VARIANTS {
        let run = |solver| fit_variant(features.view(), method, solver);
        assert_same_pairs(&run(Solver::Dense), &run(Solver::Exact));
    }
}

fn assert_same_pairs(dense: &Fit, exact: &Fit) {
    let sine = largest_angle_sine(&dense.embedding, &exact.embedding);
    assert!(sine < 1e-7, "{sine:e}");
    for (a, b) in dense
        .diagnostics
        .eigenvalues
        .iter()
        .zip(&exact.diagnostics.eigenvalues)
    {
        assert!((a / b - 1.0).abs() < 1e-8, "{a:e} {b:e}");
    }
}

#[test]
fn the_sparse_solver_works_on_the_smallest_inputs() {
    for (n, method) in (4..40).flat_map(|n| [(n, Method::Standard), (n, Method::Modified)]) {
        let features = swiss_roll(n, 1);
        let lle = |solver| {
            Lle::builder(2)
                .n_neighbors(3)
                .method(method)
                .solver(solver)
                .build()
                .unwrap()
        };
        let exact = lle(Solver::Exact).fit(features.view(), &()).unwrap();
        let dense = lle(Solver::Dense).fit(features.view(), &()).unwrap();
        for (a, b) in dense
            .diagnostics
            .eigenvalues
            .iter()
            .zip(&exact.diagnostics.eigenvalues)
        {
            assert!((a - b).abs() <= 1e-8 * b + 1e-18, "n = {n}: {a:e} {b:e}");
        }
    }
}

#[test]
fn two_far_clusters_are_joined_and_reported() {
    let near = swiss_roll(200, 1);
    let far = swiss_roll(150, 2) + 1e4;
    let both = concatenate![Axis(0), near, far];
    let fit = fit(both.view(), Solver::Exact);
    assert_eq!(fit.diagnostics.closed_components, 2);
    assert!(fit.diagnostics.bridged_edges >= 150);
    assert!(fit.embedding.iter().all(|v| v.is_finite()));
}

/// Inputs whose neighbourhoods have fewer dimensions than the embedding, or many equal distances.
fn degenerate_inputs() -> Vec<(&'static str, Array2<f64>)> {
    let grid = Array2::from_shape_fn((400, 3), |(i, j)| [i / 20, i % 20, 0][j] as f64);
    let line = Array2::from_shape_fn((200, 3), |(i, j)| (i * (j + 1)) as f64);
    let circle = Array2::from_shape_fn((300, 3), |(i, j)| {
        let angle = i as f64 * std::f64::consts::TAU / 300.0;
        [angle.cos(), angle.sin(), 0.0][j]
    });
    let cube = Array2::from_shape_fn((128, 7), |(i, j)| f64::from(i >> j & 1 == 1));
    let clusters = concatenate![Axis(0), swiss_roll(150, 1), swiss_roll(40, 2) * 0.01 + 1e4];
    let small = swiss_roll(14, 7);
    vec![
        ("grid", grid),
        ("line", line),
        ("circle", circle),
        ("cube", cube),
        ("clusters", clusters),
        ("small", small),
    ]
}

#[test]
fn degenerate_inputs_give_finite_embeddings_by_every_method() {
    for (name, features) in degenerate_inputs() {
        for method in VARIANTS {
            for solver in [Solver::Exact, Solver::Dense] {
                let fit = fit_variant(features.view(), method, solver);
                let n = fit.embedding.nrows() as f64;
                for column in fit.embedding.columns() {
                    let variance = column.dot(&column) / n;
                    assert!(
                        (variance - 1.0).abs() < 1e-9,
                        "{name}, {method:?}, {solver:?}"
                    );
                }
                let again = fit_variant(features.view(), method, solver);
                assert_eq!(
                    fit.embedding, again.embedding,
                    "{name}, {method:?}, {solver:?}"
                );
            }
        }
    }
}

/// Null spaces of a few or of a hundred dimensions, and eigenvalues that differ by twelve orders.
#[test]
fn no_null_space_stops_the_sparse_solver() {
    for seed in 0..3 {
        let mut spiral = swiss_roll(500, seed);
        spiral.column_mut(1).fill(0.0);
        let mut outlier = swiss_roll(200, seed);
        outlier.row_mut(3).fill(1e7);
        let near = swiss_roll(60, seed + 99) * 0.01 + 100.0;
        let clusters = concatenate![Axis(0), swiss_roll(200, seed), near];
        let steps = swiss_roll(300, seed).mapv(|v| (v / 4.0).round());
        for features in [spiral, outlier, clusters, steps] {
            for method in VARIANTS {
                for (d, k) in [(1, 3), (2, 6), (3, 12)] {
                    let lle = Lle::builder(d).n_neighbors(k).method(method);
                    let lle = lle.solver(Solver::Exact).build().unwrap();
                    let fit = lle.fit(features.view(), &()).unwrap();
                    let residuals = fit.diagnostics.residuals.iter();
                    for (residual, value) in residuals.zip(&fit.diagnostics.eigenvalues) {
                        assert!(
                            *residual < 1e-6 * value + 1e-12,
                            "{method:?}: {residual:e}, {value:e}"
                        );
                    }
                }
            }
        }
    }
}

/// A null space of more dimensions than the eigensolver's blocks are wide.
#[test]
fn a_flat_patch_of_many_dimensions_is_recovered() {
    let places = swiss_roll(2500, 3)
        .into_shape_with_order((750, 10))
        .unwrap();
    for (method, k) in [(Method::Ltsa, 25), (Method::Hessian, 75)] {
        let lle = Lle::builder(10).n_neighbors(k).method(method);
        let fit = lle.build().unwrap().fit(places.view(), &()).unwrap();
        let sine = largest_angle_sine(&fit.embedding, &places);
        assert!(sine < 1e-5, "{method:?}: {sine:e}");
    }
}
