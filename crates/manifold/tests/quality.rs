//! Measures of embeddings: scikit-learn's values (tests/reference/quality.py), and what must always hold.

mod common;
#[path = "common/json.rs"]
mod json;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::swiss_roll;
use json::{features, matrix, numbers, read};
use lakefold_manifold::{
    Control, LabelOptions, Lle, ManifoldError, QualityOptions, ReserveError, Solver, Split,
    embedding_quality, label_accuracy, reconstruction_error,
};
use ndarray::{Array2, Axis, array, concatenate, s};
use serde_json::Value;

/// Features, and scikit-learn's embedding of a number of components, its columns of variance 1.
fn case(name: &str, n_components: usize) -> (Array2<f64>, Array2<f64>) {
    let json = read(name);
    let features = features(&json);
    let fits = json["fits"].as_array().unwrap().iter();
    let mut fits = fits.filter(|fit| fit["n_components"] == n_components);
    let embedding = matrix(&fits.next().unwrap()["embedding"]);
    let scale = (features.nrows() as f64).sqrt();
    (features, embedding * scale)
}

fn integer(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

#[test]
fn measures_are_those_of_scikit_learn() {
    let reference = read("quality");
    let reg = reference["reg"].as_f64().unwrap();
    let mut measured = 0;
    for (name, cases) in reference["quality"].as_object().unwrap() {
        for expected in cases.as_array().unwrap() {
            let (features, embedding) = case(name, integer(&expected["n_components"]));
            let options = QualityOptions {
                n_neighbors: integer(&expected["n_neighbors"]),
                reg,
                ..QualityOptions::default()
            };
            let found =
                embedding_quality(features.view(), embedding.view(), &options, &()).unwrap();
            assert_eq!(found.measured_rows, features.nrows());
            for (name, value, tolerance) in [
                ("trustworthiness", found.trustworthiness, 1e-9),
                ("continuity", found.continuity, 1e-9),
                (
                    "neighborhood_preservation",
                    found.neighborhood_preservation,
                    1e-9,
                ),
                (
                    "lle_objective",
                    found.lle_objective,
                    1e-6 * found.lle_objective,
                ),
            ] {
                let expected = expected[name].as_f64().unwrap();
                assert!(
                    (value - expected).abs() < tolerance,
                    "{name}, k = {}: {value} is not {expected}",
                    options.n_neighbors
                );
            }
            let errors =
                reconstruction_error(features.view(), options.n_neighbors, reg, &()).unwrap();
            let step = features.nrows() / 50;
            let expected = numbers(&expected["reconstruction_error"]);
            for (error, expected) in errors.iter().step_by(step).zip(&expected) {
                assert!((error - expected).abs() < 1e-9 * (1.0 + expected));
            }
            measured += 1;
        }
    }
    assert_eq!(measured, 8);
}

#[test]
fn votes_are_those_of_scikit_learn() {
    let reference = &read("quality")["labels"];
    let labels = reference["digits"].as_array().unwrap().iter();
    let labels: Vec<i64> = labels.map(|v| v.as_i64().unwrap()).collect();
    for expected in reference["votes"].as_array().unwrap() {
        let (_, embedding) = case("digits", integer(&expected["n_components"]));
        let options = LabelOptions {
            n_neighbors: integer(&expected["n_neighbors"]),
            split: Split::EvenOdd,
            max_test_rows: None,
            ..LabelOptions::default()
        };
        let found = label_accuracy(embedding.view(), &labels, &options, &()).unwrap();
        assert_eq!((found.train_rows, found.test_rows), (899, 898));
        let accuracy = expected["accuracy"].as_f64().unwrap();
        assert!(
            (found.accuracy - accuracy).abs() < 1e-12,
            "{expected}: {found:?}"
        );
    }
}

#[test]
fn the_features_themselves_are_a_perfect_embedding() {
    let features = swiss_roll(400, 3);
    let turned = array![[0.0, -2.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 2.0]];
    let copy = features.dot(&turned) + 5.0;
    let found = embedding_quality(
        features.view(),
        copy.view(),
        &QualityOptions::default(),
        &(),
    );
    let found = found.unwrap();
    assert_eq!(
        (
            found.trustworthiness,
            found.continuity,
            found.neighborhood_preservation
        ),
        (1.0, 1.0, 1.0)
    );
}

/// Half of a sheet folded onto the other: neighbours stay near, strangers become neighbours.
#[test]
fn folding_costs_trust_and_tearing_costs_continuity() {
    let (a, b) = (swiss_roll(600, 1), swiss_roll(600, 2));
    let sheet = concatenate![Axis(1), a.slice(s![.., 1..2]), b.slice(s![.., 1..2])];
    let mut folded = sheet.clone();
    folded.column_mut(0).mapv_inplace(|v| (v - 10.5).abs());
    let measure = |x: &Array2<f64>, y: &Array2<f64>| {
        embedding_quality(x.view(), y.view(), &QualityOptions::default(), &()).unwrap()
    };
    let fold = measure(&sheet, &folded);
    assert!(fold.trustworthiness < 0.9, "{fold:?}");
    assert!(fold.continuity > 0.98, "{fold:?}");
    let tear = measure(&folded, &sheet);
    assert_eq!(tear.continuity, fold.trustworthiness);
    assert_eq!(tear.trustworthiness, fold.continuity);
}

#[test]
fn the_objective_of_a_fit_is_the_sum_of_its_eigenvalues() {
    let features = swiss_roll(900, 1);
    let lle = Lle::builder(2)
        .n_neighbors(10)
        .solver(Solver::Exact)
        .build()
        .unwrap();
    let fit = lle.fit(features.view(), &()).unwrap();
    assert_eq!(fit.diagnostics.bridged_edges, 0);
    let options = QualityOptions {
        n_neighbors: 10,
        ..QualityOptions::default()
    };
    let doubled = concatenate![Axis(0), features, features];
    let twice = concatenate![Axis(0), fit.embedding, fit.embedding];
    let sum: f64 = fit.diagnostics.eigenvalues.iter().sum();
    for (x, y) in [(features, fit.embedding), (doubled, twice)] {
        let found = embedding_quality(x.view(), y.view(), &options, &()).unwrap();
        assert!((found.lle_objective / sum - 1.0).abs() < 1e-6, "{found:?}");
    }
}

/// Rows with ties and duplicates in both spaces, all rows and a sample, any order and number of threads.
#[test]
fn neither_order_nor_threads_change_a_bit() {
    let features = swiss_roll(900, 7).mapv(|v| (v * 0.5).round());
    let embedding = features.slice(s![.., ..2]).mapv(|v| (v / 3.0).round());
    let labels: Vec<i64> = (0..900).map(|i| features[(i, 0)] as i64 % 4).collect();
    let order: Vec<usize> = (0..900).map(|i| (i * 7 + 3) % 900).collect();
    let measure = |order: &[usize], threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let (x, y) = (
            features.select(Axis(0), order),
            embedding.select(Axis(0), order),
        );
        let labels: Vec<i64> = order.iter().map(|&row| labels[row]).collect();
        pool.install(|| {
            let quality = [300, 900].map(|sample| {
                let options = QualityOptions {
                    sample,
                    ..QualityOptions::default()
                };
                embedding_quality(x.view(), y.view(), &options, &()).unwrap()
            });
            let options = LabelOptions {
                max_test_rows: Some(200),
                ..LabelOptions::default()
            };
            let accuracy = label_accuracy(y.view(), &labels, &options, &()).unwrap();
            let mut errors = reconstruction_error(x.view(), 12, 1e-3, &()).unwrap();
            errors.sort_by(f64::total_cmp);
            (quality, accuracy, errors)
        })
    };
    let as_given: Vec<usize> = (0..900).collect();
    let expected = measure(&as_given, 1);
    assert_eq!(expected.0[0].measured_rows, 300);
    assert_ne!(expected.0[0].trustworthiness, expected.0[1].trustworthiness);
    assert_eq!(measure(&as_given, 4), expected);
    assert_eq!(measure(&order, 3), expected);
}

#[test]
fn single_precision_is_measured_as_it_is() {
    let features = swiss_roll(300, 5).mapv(|v| v as f32);
    let embedding = swiss_roll(300, 6).slice(s![.., ..2]).to_owned();
    let options = QualityOptions {
        sample: 200,
        ..QualityOptions::default()
    };
    let double = features.mapv(f64::from);
    assert_eq!(
        embedding_quality(features.view(), embedding.view(), &options, &()).unwrap(),
        embedding_quality(double.view(), embedding.view(), &options, &()).unwrap()
    );
    assert_eq!(
        reconstruction_error(features.view(), 8, 1e-3, &()).unwrap(),
        reconstruction_error(double.view(), 8, 1e-3, &()).unwrap()
    );
}

#[test]
fn tiny_values_are_measured_like_their_large_copies() {
    let features = swiss_roll(200, 5);
    let embedding = swiss_roll(200, 6).slice(s![.., ..2]).to_owned();
    let scale = 2f64.powi(-560);
    let options = QualityOptions::default();
    let large = embedding_quality(features.view(), embedding.view(), &options, &()).unwrap();
    let (x, y) = (&features * scale, &embedding * scale);
    let tiny = embedding_quality(x.view(), y.view(), &options, &()).unwrap();
    assert_eq!(
        (large.trustworthiness, large.continuity),
        (tiny.trustworthiness, tiny.continuity)
    );
    let large = reconstruction_error(features.view(), 8, 1e-3, &()).unwrap();
    let tiny = reconstruction_error(x.view(), 8, 1e-3, &()).unwrap();
    assert!(large.iter().zip(&tiny).all(|(a, b)| a * scale == *b));
}

/// A row of each duplicate on either side would vote for itself.
#[test]
fn the_hashed_split_keeps_equal_rows_on_one_side() {
    let rows = swiss_roll(400, 8);
    let doubled = concatenate![Axis(0), rows, rows];
    // A label that says nothing: only a row's own copy could tell it.
    let labels: Vec<i64> = (0..800)
        .map(|i| i64::from(i % 400 * 7919 % 401 < 200))
        .collect();
    let accuracy = |split| {
        let options = LabelOptions {
            n_neighbors: 1,
            split,
            max_test_rows: None,
            seed: 0,
        };
        label_accuracy(doubled.view(), &labels, &options, &())
            .unwrap()
            .accuracy
    };
    let hashed = accuracy(Split::Hashed);
    assert!((hashed - 0.5).abs() < 0.12, "{hashed}");
    // Row i and its copy i + 400 are both even or both odd; interleaved they are not.
    let order: Vec<usize> = (0..800).map(|i| i / 2 + 400 * (i % 2)).collect();
    let interleaved = doubled.select(Axis(0), &order);
    let labels: Vec<i64> = order.iter().map(|&row| labels[row]).collect();
    let options = LabelOptions {
        n_neighbors: 1,
        split: Split::EvenOdd,
        max_test_rows: None,
        seed: 0,
    };
    let leaked = label_accuracy(interleaved.view(), &labels, &options, &()).unwrap();
    assert_eq!(leaked.accuracy, 1.0);
}

#[test]
fn a_row_off_the_sheet_stands_out() {
    let mut features = swiss_roll(500, 2);
    features.row_mut(123).assign(&array![2.0, 10.0, 1.0]);
    let errors = reconstruction_error(features.view(), 10, 1e-3, &()).unwrap();
    let worst = (0..500).max_by(|&a, &b| errors[a].total_cmp(&errors[b]));
    assert_eq!(worst, Some(123));
}

#[test]
fn impossible_requests_say_what_to_do() {
    let features = swiss_roll(24, 0);
    let embedding = features.slice(s![.., ..2]).to_owned();
    let default = QualityOptions::default();
    let quality = |x: &Array2<f64>, y: &Array2<f64>, options: &QualityOptions| {
        embedding_quality(x.view(), y.view(), options, &())
            .unwrap_err()
            .to_string()
    };
    let with = |n_neighbors, reg| QualityOptions {
        n_neighbors,
        reg,
        ..QualityOptions::default()
    };
    let mut broken = embedding.clone();
    broken[(3, 1)] = f64::NAN;
    let votes = |labels: &[i64], options: &LabelOptions| {
        label_accuracy(embedding.view(), labels, options, &())
            .unwrap_err()
            .to_string()
    };
    let labels = vec![1; 24];
    let few = LabelOptions {
        n_neighbors: 20,
        ..LabelOptions::default()
    };
    let none = LabelOptions {
        max_test_rows: Some(0),
        ..LabelOptions::default()
    };
    let messages = [
        quality(&features, &embedding, &default),
        quality(&features, &embedding, &with(0, 1e-3)),
        quality(&features, &embedding, &with(5, -1.0)),
        quality(&features, &embedding, &with(5, 0.0)),
        quality(&features, &broken, &with(5, 1e-3)),
        quality(
            &features,
            &embedding.slice(s![..9, ..]).to_owned(),
            &default,
        ),
        quality(&features, &Array2::zeros((24, 0)), &default),
        quality(&Array2::ones((24, 3)), &embedding, &with(5, 1e-3)),
        quality(&Array2::zeros((0, 3)), &Array2::zeros((0, 2)), &default),
        quality(&(features.clone() * f64::NAN), &embedding, &default),
        votes(&labels[..5], &LabelOptions::default()),
        votes(&labels, &few),
        votes(&labels, &none),
        reconstruction_error(features.view(), 24, 1e-3, &())
            .unwrap_err()
            .to_string(),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn a_cancelled_measurement_stops() {
    struct Cancelled;
    impl Control for Cancelled {
        fn is_cancelled(&self) -> bool {
            true
        }
    }
    let features = swiss_roll(200, 0);
    let stopped = embedding_quality(
        features.view(),
        features.view(),
        &QualityOptions::default(),
        &Cancelled,
    );
    assert_eq!(stopped, Err(ManifoldError::Cancelled));
    let labels = vec![0; 200];
    let stopped = label_accuracy(
        features.view(),
        &labels,
        &LabelOptions::default(),
        &Cancelled,
    );
    assert_eq!(stopped, Err(ManifoldError::Cancelled));
    let stopped = reconstruction_error(features.view(), 5, 1e-3, &Cancelled);
    assert_eq!(stopped, Err(ManifoldError::Cancelled));
}

/// Grants everything up to a limit, and counts.
struct Limit {
    most: usize,
    held: AtomicUsize,
    peak: AtomicUsize,
}

impl Control for Limit {
    fn reserve(&self, purpose: &str, bytes: usize) -> Result<(), ReserveError> {
        let held = self.held.fetch_add(bytes, Ordering::SeqCst) + bytes;
        if held > self.most {
            self.held.fetch_sub(bytes, Ordering::SeqCst);
            return Err(ReserveError {
                purpose: purpose.to_owned(),
                requested: bytes,
                reserved: held - bytes,
                limit: Some(self.most),
            });
        }
        self.peak.fetch_max(held, Ordering::SeqCst);
        Ok(())
    }
    fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::SeqCst);
    }
}

type Run<'a> = Box<dyn Fn(&dyn Control) -> Result<(), ManifoldError> + 'a>;

#[test]
fn memory_is_asked_for_before_it_is_used_and_given_back() {
    let features = swiss_roll(400, 4);
    let labels = vec![0; 400];
    let runs: [Run<'_>; 3] = [
        Box::new(|control| {
            let options = QualityOptions::default();
            embedding_quality(features.view(), features.view(), &options, control).map(|_| ())
        }),
        Box::new(|control| {
            label_accuracy(features.view(), &labels, &LabelOptions::default(), control).map(|_| ())
        }),
        Box::new(|control| reconstruction_error(features.view(), 8, 1e-3, control).map(|_| ())),
    ];
    for run in runs {
        let with = |limit: usize| Limit {
            most: limit,
            held: 0.into(),
            peak: 0.into(),
        };
        let all = with(usize::MAX);
        run(&all).unwrap();
        assert_eq!(all.held.into_inner(), 0);
        let peak = all.peak.into_inner();
        assert!(peak > 400 * 3 * 8);
        for limit in [0, peak / 2, peak - 1] {
            let control = with(limit);
            let refused = run(&control);
            assert!(
                matches!(refused, Err(ManifoldError::Memory(_))),
                "{limit}: {refused:?}"
            );
            assert_eq!(control.held.into_inner(), 0);
        }
    }
}
