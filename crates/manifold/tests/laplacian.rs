//! Laplacian eigenmaps keep the promises of LLE.

mod common;

use common::{largest_angle_sine, swiss_roll};
use lakefold_manifold::{LaplacianEigenmaps, LaplacianFit, Solver};
use ndarray::{ArrayView2, Axis, concatenate};

fn laplacian(features: ArrayView2<'_, f64>, solver: Solver) -> LaplacianFit {
    LaplacianEigenmaps::builder(2)
        .n_neighbors(8)
        .solver(solver)
        .build()
        .unwrap()
        .fit(features, &())
        .unwrap()
}

#[test]
fn laplacian_eigenmaps_keep_the_promises_of_lle() {
    let features = swiss_roll(500, 3);
    let order: Vec<usize> = (0..500).map(|i| (i * 7 + 3) % 500).collect();
    let doubled = concatenate![Axis(0), features, features.slice(ndarray::s![..50, ..])];
    for solver in [Solver::Exact, Solver::Dense] {
        let fit = laplacian(features.view(), solver);
        let permuted = laplacian(features.select(Axis(0), &order).view(), solver);
        assert_eq!(fit.embedding.select(Axis(0), &order), permuted.embedding);
        let doubled = laplacian(doubled.view(), solver);
        assert_eq!(doubled.diagnostics.distinct_rows, 500);
        assert_eq!(doubled.embedding.row(512), fit.embedding.row(12));
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(3)
            .build()
            .unwrap();
        let threads = pool.install(|| laplacian(features.view(), solver));
        assert_eq!(fit.embedding, threads.embedding);
        for column in fit.embedding.columns() {
            assert!(column.sum().abs() < 1e-9 && (column.dot(&column) / 500.0 - 1.0).abs() < 1e-12);
            let largest = column
                .iter()
                .fold(0.0f64, |a, v| if v.abs() > a.abs() { *v } else { a });
            assert!(largest > 0.0);
        }
    }
    let [exact, dense] = [Solver::Exact, Solver::Dense].map(|s| laplacian(features.view(), s));
    assert!(largest_angle_sine(&exact.embedding, &dense.embedding) < 1e-9);
}

#[test]
fn laplacian_eigenmaps_connect_what_falls_apart() {
    let parts = [(120, 1, 0.0), (90, 2, 1e4), (60, 3, -1e4), (40, 4, 1.1e4)];
    let parts = parts.map(|(n, seed, shift)| swiss_roll(n, seed) + shift);
    let [a, b, c, d] = parts;
    let features = concatenate![Axis(0), a, b, c, d];
    for solver in [Solver::Exact, Solver::Dense] {
        let fit = laplacian(features.view(), solver);
        assert_eq!(fit.diagnostics.connected_components, 4);
        assert_eq!(fit.diagnostics.connecting_edges, 3);
        // A graph in parts has one null vector for each.
        assert!(
            fit.diagnostics.eigenvalues[0] > 1e-6,
            "{:?}",
            fit.diagnostics.eigenvalues
        );
        let first = fit.embedding.slice(ndarray::s![..120, 0]).to_vec();
        assert!(first.iter().any(|v| (v - first[0]).abs() > 1e-6));
    }
    let refused = LaplacianEigenmaps::builder(2)
        .n_neighbors(400)
        .build()
        .unwrap();
    let error = refused.fit(features.view(), &()).unwrap_err().to_string();
    assert!(
        error.contains("lower n_neighbors to at most 309"),
        "{error}"
    );
    assert!(LaplacianEigenmaps::builder(0).build().is_err());
}
