//! The landmarks solver, its models, and rows outside the fit.

mod common;

use common::{largest_angle_sine, swiss_roll};
use lakefold_manifold::{
    Control, LandmarkChoice, Lle, LleBuilder, ManifoldError, Model, Phase, Solver,
};
use ndarray::{Array2, Axis, array, s};
use std::sync::Mutex;

fn landmarks() -> LleBuilder {
    Lle::builder(2)
        .solver(Solver::Landmarks)
        .n_landmarks(200)
        .landmark_neighbors(8)
}

#[test]
fn a_swiss_roll_is_unrolled_as_by_the_exact_solver() {
    let features = swiss_roll(3000, 5);
    let few = landmarks()
        .n_landmarks(1200)
        .build()
        .unwrap()
        .fit(features.view(), &())
        .unwrap();
    let exact = Lle::builder(2).solver(Solver::Exact).build().unwrap();
    let exact = exact.fit(features.view(), &()).unwrap();
    assert_eq!(few.diagnostics.landmarks, 1200);
    assert_eq!(few.diagnostics.solver, Solver::Landmarks);
    // Angle along the roll and height: what was rolled up.
    let hidden = Array2::from_shape_fn((3000, 2), |(i, j)| match j {
        0 => features[(i, 0)].hypot(features[(i, 2)]).powi(2),
        _ => features[(i, 1)],
    });
    let sine = largest_angle_sine(&hidden, &few.embedding);
    let by_exact = largest_angle_sine(&hidden, &exact.embedding);
    assert!(sine < by_exact && sine < 0.1, "{sine} {by_exact}");
    // A restriction of the problem cannot have smaller eigenvalues than the problem.
    for (few, exact) in few
        .diagnostics
        .eigenvalues
        .iter()
        .zip(&exact.diagnostics.eigenvalues)
    {
        assert!(few >= exact, "{few} {exact}");
    }
}

#[test]
fn rows_of_the_fit_keep_their_embedding_to_the_bit() {
    let features = swiss_roll(1500, 1);
    let (fit, model) = landmarks()
        .build()
        .unwrap()
        .fit_model(features.view(), &())
        .unwrap();
    assert_eq!(model.len(), 200);
    assert_eq!(
        model.transform(features.view(), &()).unwrap(),
        fit.embedding
    );
    // Whatever the batch.
    let some = model
        .transform(features.slice(s![700..713;-1, ..]), &())
        .unwrap();
    assert_eq!(some, fit.embedding.slice(s![700..713;-1, ..]));
    // A model made of the parts is the same model.
    let parts = Model::new(
        model.landmarks().view(),
        model.embedding().to_owned(),
        model.landmark_neighbors(),
        model.reg(),
    );
    let again = parts.unwrap().transform(features.view(), &()).unwrap();
    assert_eq!(again, fit.embedding);
}

#[test]
fn an_exact_fit_has_a_model_of_all_rows() {
    let features = swiss_roll(800, 3);
    let lle = Lle::builder(2).solver(Solver::Exact).build().unwrap();
    let (fit, model) = lle.fit_model(features.view(), &()).unwrap();
    assert_eq!(model.len(), 800);
    assert_eq!(
        model.transform(features.view(), &()).unwrap(),
        fit.embedding
    );
    // New rows come close to where a fit with them has them.
    let more = swiss_roll(820, 3);
    let placed = model.transform(more.slice(s![800.., ..]), &()).unwrap();
    let (nearest, _) = (0..800)
        .map(|i| (i, (&more.row(800) - &features.row(i)).mapv(|v| v * v).sum()))
        .fold((0, f64::INFINITY), |best, next| {
            if next.1 < best.1 { next } else { best }
        });
    let distance = (&placed.row(0) - &fit.embedding.row(nearest))
        .mapv(|v| v * v)
        .sum();
    assert!(distance.sqrt() < 0.2, "{distance}");
}

#[test]
fn permuting_the_rows_permutes_the_embedding_to_the_bit() {
    let features = swiss_roll(1200, 8);
    let order: Vec<usize> = (0..1200).map(|i| (i * 7 + 3) % 1200).collect();
    let lle = landmarks().build().unwrap();
    let before = lle.fit(features.view(), &()).unwrap().embedding;
    let permuted = features.select(Axis(0), &order);
    let after = lle.fit(permuted.view(), &()).unwrap().embedding;
    assert_eq!(before.select(Axis(0), &order), after);
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let alone = pool
            .unwrap()
            .install(|| lle.fit(features.view(), &()).unwrap());
        assert_eq!(alone.embedding, before, "{threads} threads");
    }
}

#[test]
fn columns_have_mean_zero_and_variance_one_and_are_uncorrelated() {
    let fit = landmarks()
        .build()
        .unwrap()
        .fit(swiss_roll(900, 2).view(), &())
        .unwrap();
    let n = fit.embedding.nrows() as f64;
    assert!(
        fit.embedding
            .mean_axis(Axis(0))
            .unwrap()
            .iter()
            .all(|m| m.abs() < 1e-8)
    );
    let covariance = fit.embedding.t().dot(&fit.embedding) / n;
    let error = (covariance - Array2::<f64>::eye(2)).mapv(f64::abs);
    assert!(error.iter().all(|e| *e < 1e-8), "{error}");
}

#[test]
fn seeds_choose_other_landmarks() {
    let features = swiss_roll(900, 2);
    let fit = |seed| {
        landmarks()
            .seed(seed)
            .build()
            .unwrap()
            .fit_model(features.view(), &())
            .unwrap()
            .1
    };
    assert_eq!(fit(1).landmarks(), fit(1).landmarks());
    assert_ne!(fit(1).landmarks(), fit(2).landmarks());
}

#[test]
fn tiny_features_are_placed_as_large_ones() {
    let features = swiss_roll(600, 4);
    // Squares underflow; a power of two changes no digit.
    let tiny = features.mapv(|v| v * (-600f64).exp2());
    let lle = landmarks().n_landmarks(100).build().unwrap();
    let (fit, model) = lle.fit_model(tiny.view(), &()).unwrap();
    assert_eq!(fit.diagnostics.distinct_rows, 600);
    assert_eq!(model.transform(tiny.view(), &()).unwrap(), fit.embedding);
    assert!(
        tiny.rows()
            .into_iter()
            .any(|row| row == model.landmarks().row(0))
    );
}

#[test]
fn rows_far_from_all_landmarks_are_placed_finitely() {
    let (_, model) = landmarks()
        .build()
        .unwrap()
        .fit_model(swiss_roll(600, 4).view(), &())
        .unwrap();
    let far = array![[1e30, 0.0, -1e30], [1e100, 1e120, 0.0], [0.0, 0.0, 0.0]];
    let placed = model.transform(far.view(), &()).unwrap();
    assert!(placed.iter().all(|v| v.is_finite()), "{placed}");
}

fn message(lle: LleBuilder, features: &Array2<f64>) -> String {
    lle.build()
        .unwrap()
        .fit(features.view(), &())
        .unwrap_err()
        .to_string()
}

#[test]
fn impossible_parameters_are_named() {
    let features = swiss_roll(150, 1);
    assert_eq!(
        message(landmarks(), &features),
        "n_landmarks must be below the number of distinct rows: lower it, fit more rows, or choose solver \
         'exact', got 200 for 150 distinct rows"
    );
    assert_eq!(
        message(landmarks().n_landmarks(3), &features),
        "n_landmarks must be at least n_components + 2 = 4: raise it, fit more rows, or choose solver \
         'exact', got 3 for 150 distinct rows"
    );
    assert_eq!(
        message(
            landmarks().n_landmarks(20).landmark_neighbors(30),
            &features
        ),
        "landmark_neighbors must be at most the number of landmarks, 20, got 30 for 150 distinct rows"
    );
}

#[test]
fn a_model_refuses_what_does_not_fit_it() {
    let landmarks = array![[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]];
    let embedding = array![[0.0], [1.0], [2.0]];
    let model = |embedding: &Array2<f64>, per_row| {
        Model::new(landmarks.view(), embedding.clone(), per_row, 0.1)
    };
    let error = |result: Result<Model<f64>, ManifoldError>| result.unwrap_err().to_string();
    assert_eq!(
        error(model(&array![[0.0]], 2)),
        "embedding must be of 3 rows, one a landmark, got 1 rows"
    );
    assert_eq!(
        error(model(&embedding, 4)),
        "landmark_neighbors must be from 1 to the number of landmarks, 3, got 4"
    );
    let model = model(&embedding, 2).unwrap();
    assert_eq!(
        model
            .transform(array![[1.0]].view(), &())
            .unwrap_err()
            .to_string(),
        "features must be of the model's 2 dimensions, got 1 dimensions"
    );
    let nan = model.transform(array![[1.0, f64::NAN]].view(), &());
    assert!(matches!(
        nan,
        Err(ManifoldError::NonFinite {
            row: 0,
            dimension: 1,
            ..
        })
    ));
    assert_eq!(
        model
            .transform(Array2::zeros((0, 2)).view(), &())
            .unwrap()
            .dim(),
        (0, 1)
    );
}

#[test]
fn a_cancelled_fit_stops_in_every_phase() {
    struct StopIn(Phase, Mutex<bool>);
    impl Control for StopIn {
        fn is_cancelled(&self) -> bool {
            *self.1.lock().unwrap()
        }
        fn progress(&self, phase: Phase, _: u64, _: u64) {
            *self.1.lock().unwrap() |= phase == self.0;
        }
    }
    let features = swiss_roll(3000, 1);
    for phase in [
        Phase::Neighbors,
        Phase::Weights,
        Phase::Projection,
        Phase::Factorize,
    ] {
        let stop = StopIn(phase, Mutex::new(false));
        let stopped = landmarks().build().unwrap().fit(features.view(), &stop);
        assert_eq!(stopped.unwrap_err(), ManifoldError::Cancelled, "{phase}");
    }
}

#[test]
fn every_choice_of_landmarks_is_distinct_and_independent_of_row_order() {
    let features = swiss_roll(900, 2);
    let order: Vec<usize> = (0..900).map(|i| (i * 7 + 3) % 900).collect();
    let permuted = features.select(Axis(0), &order);
    let mut seen = vec![];
    for name in LandmarkChoice::NAMES {
        let choice = LandmarkChoice::parse(name).unwrap();
        let lle = landmarks().landmark_choice(choice).build().unwrap();
        let (fit, model) = lle.fit_model(features.view(), &()).unwrap();
        assert_eq!(model.len(), 200, "{name}");
        let chosen = model.landmarks();
        let rows: std::collections::HashSet<Vec<u64>> = chosen
            .rows()
            .into_iter()
            .map(|row| row.iter().map(|v| v.to_bits()).collect())
            .collect();
        assert_eq!(rows.len(), 200, "{name}");
        let again = lle.fit(permuted.view(), &()).unwrap().embedding;
        assert_eq!(fit.embedding.select(Axis(0), &order), again, "{name}");
        seen.push(chosen);
    }
    assert!(seen[0] != seen[1] && seen[1] != seen[2]);
    // Nobody is as far from the farthest points as a uniform draw leaves somebody.
    let widest = |chosen: &Array2<f64>| {
        let nearest = |row: ndarray::ArrayView1<'_, f64>| {
            let distances = chosen.rows().into_iter();
            distances
                .map(|other| (&row - &other).mapv(|v| v * v).sum())
                .fold(f64::INFINITY, f64::min)
        };
        features.rows().into_iter().map(nearest).fold(0.0, f64::max)
    };
    assert!(widest(&seen[2]) < widest(&seen[1]) && widest(&seen[2]) < widest(&seen[0]));
}
