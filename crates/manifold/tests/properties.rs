//! What must hold for every fit.

mod common;

use common::{largest_angle_sine, swiss_roll};
use lakefold_manifold::{
    Control, Fit, LaplacianEigenmaps, LaplacianFit, Lle, ManifoldError, Method, Phase,
    ReserveError, Solver,
};
use ndarray::{Array2, ArrayView2, Axis, array, concatenate};
use proptest::prelude::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

fn fit(features: ArrayView2<'_, f64>, solver: Solver) -> Fit {
    Lle::builder(2)
        .n_neighbors(10)
        .solver(solver)
        .build()
        .unwrap()
        .fit(features, &())
        .unwrap()
}

const VARIANTS: [Method; 3] = [Method::Modified, Method::Hessian, Method::Ltsa];

fn fit_variant(features: ArrayView2<'_, f64>, method: Method, solver: Solver) -> Fit {
    Lle::builder(2)
        .n_neighbors(10)
        .method(method)
        .solver(solver)
        .build()
        .unwrap()
        .fit(features, &())
        .unwrap()
}

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

#[test]
fn rows_without_dimensions_are_an_error() {
    let lle = Lle::builder(1).n_neighbors(2).build().unwrap();
    for rows in [0, 5] {
        assert!(
            lle.fit(Array2::<f64>::zeros((rows, 0)).view(), &())
                .is_err()
        );
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

fn error(features: &Array2<f64>, lle: &Lle) -> String {
    lle.fit(features.view(), &()).unwrap_err().to_string()
}

fn few_neighbors(method: Method, d: usize, k: usize) -> String {
    let lle = |k| Lle::builder(d).n_neighbors(k).method(method).build();
    lle(k + 1)
        .unwrap()
        .fit(swiss_roll(200, 0).view(), &())
        .unwrap();
    lle(k).unwrap_err().to_string()
}

#[test]
fn impossible_requests_say_what_to_do() {
    let default = Lle::builder(2).build().unwrap();
    let messages = [
        error(&Array2::zeros((0, 3)), &default),
        error(&swiss_roll(1, 0), &default),
        error(&Array2::ones((50, 3)), &default),
        error(&swiss_roll(10, 0), &default),
        error(&swiss_roll(50, 0), &Lle::builder(4).build().unwrap()),
        error(
            &swiss_roll(4, 0),
            &Lle::builder(3).n_neighbors(2).build().unwrap(),
        ),
        error(
            &swiss_roll(7000, 0),
            &Lle::builder(2).solver(Solver::Dense).build().unwrap(),
        ),
        error(&array![[1.0, 2.0], [3.0, f64::NAN]], &default),
        error(&array![[f64::INFINITY, 2.0], [3.0, 4.0]], &default),
        error(&array![[1e200, 2.0], [3.0, 4.0]], &default),
        Lle::builder(0).build().unwrap_err().to_string(),
        Lle::builder(1)
            .n_neighbors(0)
            .build()
            .unwrap_err()
            .to_string(),
        Lle::builder(1)
            .reg(f64::NAN)
            .build()
            .unwrap_err()
            .to_string(),
        Solver::parse("magic").unwrap_err().to_string(),
        Method::parse("magic").unwrap_err().to_string(),
        few_neighbors(Method::Modified, 3, 2),
        few_neighbors(Method::Ltsa, 3, 3),
        few_neighbors(Method::Hessian, 3, 9),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

/// The phases of an exact fit.
const PHASES: [Phase; 7] = [
    Phase::Deduplicate,
    Phase::Neighbors,
    Phase::Components,
    Phase::Weights,
    Phase::Order,
    Phase::Factorize,
    Phase::Eigen,
];

#[test]
fn a_cancelled_fit_stops_in_every_phase() {
    struct StopAt(Phase, Mutex<bool>);
    impl Control for StopAt {
        fn is_cancelled(&self) -> bool {
            *self.1.lock().unwrap()
        }
        fn progress(&self, phase: Phase, _done: u64, _total: u64) {
            *self.1.lock().unwrap() |= phase == self.0;
        }
    }
    let features = swiss_roll(3000, 4);
    let lle = Lle::builder(2).solver(Solver::Exact).build().unwrap();
    for phase in PHASES {
        let stopped = lle.fit(features.view(), &StopAt(phase, Mutex::new(false)));
        assert_eq!(
            stopped.map(|_| ()).unwrap_err(),
            ManifoldError::Cancelled,
            "{phase}"
        );
    }
    // Small enough that LAPACK, which nothing stops, ends soon. It needs no order.
    let features = swiss_roll(300, 4);
    for method in [Method::Standard, Method::Modified, Method::Hessian] {
        let lle = Lle::builder(2).method(method).solver(Solver::Dense);
        let lle = lle.build().unwrap();
        for phase in PHASES.into_iter().filter(|&phase| phase != Phase::Order) {
            let stopped = lle.fit(features.view(), &StopAt(phase, Mutex::new(false)));
            let error = stopped.map(|_| ()).unwrap_err();
            assert_eq!(error, ManifoldError::Cancelled, "{method:?}, {phase}");
        }
    }
    let laplacian = LaplacianEigenmaps::builder(2).solver(Solver::Exact);
    let laplacian = laplacian.build().unwrap();
    for phase in PHASES.into_iter().filter(|&phase| phase != Phase::Weights) {
        let stopped = laplacian.fit(features.view(), &StopAt(phase, Mutex::new(false)));
        let error = stopped.map(|_| ()).unwrap_err();
        assert_eq!(error, ManifoldError::Cancelled, "{phase}");
    }
}

/// Grants up to a limit and checks that everything is given back.
struct Limit {
    limit: usize,
    held: AtomicUsize,
}

impl Control for Limit {
    fn reserve(&self, purpose: &str, bytes: usize) -> Result<(), ReserveError> {
        let held = self.held.load(Ordering::SeqCst);
        if held + bytes > self.limit {
            return Err(ReserveError {
                purpose: purpose.to_owned(),
                requested: bytes,
                reserved: held,
                limit: Some(self.limit),
            });
        }
        self.held.fetch_add(bytes, Ordering::SeqCst);
        Ok(())
    }
    fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::SeqCst);
    }
}

#[test]
fn memory_is_asked_for_before_it_is_used_and_given_back() {
    let features = swiss_roll(600, 4);
    let methods = [Method::Standard, Method::Modified, Method::Hessian];
    for (solver, method) in [Solver::Exact, Solver::Dense]
        .into_iter()
        .flat_map(|s| methods.map(|m| (s, m)))
    {
        let lle = Lle::builder(2)
            .solver(solver)
            .method(method)
            .build()
            .unwrap();
        let peak = lle
            .fit(features.view(), &())
            .unwrap()
            .diagnostics
            .peak_reserved_bytes;
        for limit in [0, 100_000, peak / 2, peak - 1] {
            let control = Limit {
                limit,
                held: 0.into(),
            };
            let refused = lle.fit(features.view(), &control).map(|_| ()).unwrap_err();
            assert!(
                matches!(refused, ManifoldError::Memory(_)),
                "{limit}: {refused}"
            );
            assert_eq!(control.held.into_inner(), 0);
        }
        let control = Limit {
            limit: peak,
            held: 0.into(),
        };
        lle.fit(features.view(), &control).unwrap();
        assert_eq!(control.held.into_inner(), 0);
    }
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
