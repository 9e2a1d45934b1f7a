//! The number of threads changes no bit of a fit.

mod common;

use common::{VARIANTS, fit, fit_variant, swiss_roll};
use lakefold_manifold::{Lle, Solver};
use ndarray::Array2;

#[test]
fn threads_change_no_bit() {
    let low = swiss_roll(3000, 5);
    let high = low.dot(&Array2::from_shape_fn((3, 20), |(i, j)| {
        ((i + 1) as f64 * j as f64 * 0.3).sin()
    }));
    for features in [low, high] {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| fit(features.view(), Solver::Exact))
        };
        let one = run(1);
        for threads in [2, 3, 8] {
            let other = run(threads);
            assert_eq!(one.embedding, other.embedding, "{threads} threads");
            assert_eq!(one.diagnostics.residuals, other.diagnostics.residuals);
        }
    }
}

#[test]
fn threads_change_no_bit_of_the_variants() {
    let features = swiss_roll(2000, 5);
    for method in VARIANTS {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| fit_variant(features.view(), method, Solver::Exact).embedding)
        };
        assert_eq!(run(1), run(3), "{method:?}");
    }
}

/// Large enough that a threaded eigensolver of the projected matrix would split its sums.
#[test]
fn threads_change_no_bit_of_many_components() {
    let low = swiss_roll(1200, 8);
    let high = low.dot(&Array2::from_shape_fn((3, 200), |(i, j)| {
        ((i + 1) as f64 * j as f64 * 0.3).sin()
    }));
    let features = high.mapv(|v| v + (v * 3.0).sin());
    let lle = Lle::builder(180)
        .n_neighbors(20)
        .solver(Solver::Exact)
        .build()
        .unwrap();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| lle.fit(features.view(), &()).unwrap().embedding)
    };
    assert_eq!(run(1), run(4));
}
