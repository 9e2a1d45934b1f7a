//! Estimates of the intrinsic dimension: plain NumPy's values (tests/reference/quality.py), known
//! dimensions, and what must always hold.

mod common;
#[path = "common/json.rs"]
mod json;

use common::swiss_roll;
use json::{features, read};
use lakefold_manifold::{
    Control, DimensionOptions, IntrinsicDimension, ManifoldError, intrinsic_dimension,
};
use ndarray::{Array2, Axis, concatenate};
use serde_json::Value;

fn estimate(features: &Array2<f64>) -> IntrinsicDimension {
    intrinsic_dimension(features.view(), &DimensionOptions::default(), &()).unwrap()
}

/// Sums of twelve uniform numbers are normal enough.
fn gaussian(n: usize, dimensions: usize, seed: u64) -> Array2<f64> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    Array2::from_shape_fn((n, dimensions), |_| {
        (0..12).map(|_| uniform()).sum::<f64>() - 6.0
    })
}

#[test]
fn estimates_are_those_of_the_formulas() {
    let reference = read("quality");
    let cases = reference["dimension"].as_object().unwrap();
    assert_eq!(cases.len(), 3);
    for (name, expected) in cases {
        let found = estimate(&features(&read(name)));
        let agrees = |value: f64, expected: &Value| {
            let expected = expected.as_f64().unwrap();
            assert!(
                (value / expected - 1.0).abs() < 1e-6,
                "{name}: {value} is not {expected}"
            );
        };
        agrees(found.two_nn, &expected["two_nn"]["dimension"]);
        agrees(
            found.two_nn_by_rows[0].misfit,
            &expected["two_nn"]["misfit"],
        );
        for pair in expected["levina_bickel"].as_array().unwrap() {
            let mut by_k = found.levina_bickel_by_k.iter();
            let (_, value) = by_k.find(|(k, _)| pair[0] == *k).unwrap();
            agrees(*value, &pair[1]);
        }
    }
}

#[test]
fn a_sheet_has_two_dimensions_and_a_gaussian_its_own() {
    let roll = estimate(&swiss_roll(2000, 1));
    assert!((roll.two_nn - 2.0).abs() < 0.2, "{roll:?}");
    assert!((roll.levina_bickel - 2.0).abs() < 0.1, "{roll:?}");

    // Five dimensions, laid into twenty by a linear map.
    let basis = gaussian(5, 20, 3);
    let flat = estimate(&gaussian(4000, 5, 2).dot(&basis));
    assert!((flat.two_nn - 5.0).abs() < 0.4, "{flat:?}");
    assert!((flat.levina_bickel - 5.0).abs() < 0.4, "{flat:?}");
    assert_eq!([20, 4].map(|most| flat.n_components(most)), [5, 4]);
    let rows: Vec<usize> = flat.two_nn_by_rows.iter().map(|fit| fit.rows).collect();
    assert_eq!(rows, [4000, 2000, 1000, 500, 250, 125, 62]);
    assert!(
        flat.two_nn_by_rows[..4].iter().all(|fit| fit.misfit < 0.1),
        "{flat:?}"
    );
}

/// Noise has all dimensions at its own scale; thinned rows are farther apart than that.
#[test]
fn thinner_rows_look_past_the_noise() {
    let sheet = swiss_roll(6000, 4);
    let noisy =
        concatenate![Axis(1), sheet, Array2::zeros((6000, 3))] + gaussian(6000, 6, 5) * 0.15;
    let found = estimate(&noisy);
    let thin = found
        .two_nn_by_rows
        .iter()
        .find(|fit| fit.rows == 375)
        .unwrap();
    assert!(found.two_nn > 3.0 && thin.dimension < 2.5, "{found:?}");
}

#[test]
fn order_duplicates_and_threads_change_no_bit() {
    let rows = swiss_roll(500, 6);
    let expected = estimate(&rows);
    let order: Vec<usize> = (0..500).map(|i| (i * 7 + 3) % 500).collect();
    let shuffled = rows.select(Axis(0), &order);
    assert_eq!(estimate(&concatenate![Axis(0), shuffled, rows]), expected);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(5)
        .build()
        .unwrap();
    assert_eq!(pool.install(|| estimate(&rows)), expected);
    // A power of two scales every distance alike; only the thinned samples are others.
    let tiny = estimate(&(rows * 2f64.powi(-560)));
    assert_eq!(tiny.two_nn, expected.two_nn);
    assert_eq!(tiny.levina_bickel_by_k, expected.levina_bickel_by_k);
}

#[test]
fn a_sample_is_bounded() {
    let options = DimensionOptions {
        sample: 300,
        ..DimensionOptions::default()
    };
    let found = intrinsic_dimension(swiss_roll(3000, 6).view(), &options, &()).unwrap();
    assert_eq!(found.rows, 300);
    assert!((found.levina_bickel - 2.0).abs() < 0.3, "{found:?}");
}

#[test]
fn equally_far_rows_count_as_full() {
    assert_eq!(estimate(&Array2::eye(30)).n_components(30), 30);
}

#[test]
fn impossible_requests_say_what_to_do() {
    let error = |features: &Array2<f64>, options: &DimensionOptions| {
        intrinsic_dimension(features.view(), options, &())
            .unwrap_err()
            .to_string()
    };
    let default = DimensionOptions::default();
    let with = |smallest_k, largest_k, discard| DimensionOptions {
        smallest_k,
        largest_k,
        discard,
        ..DimensionOptions::default()
    };
    let rows = swiss_roll(30, 0);
    let messages = [
        error(&swiss_roll(10, 0), &default),
        error(&Array2::ones((50, 3)), &default),
        error(&Array2::zeros((0, 3)), &default),
        error(&(rows.clone() * f64::NAN), &default),
        error(&rows, &with(1, 5, 0.1)),
        error(&rows, &with(6, 5, 0.1)),
        error(&rows, &with(4, 5, 1.0)),
        error(&rows, &with(4, 5, f64::NAN)),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn a_cancelled_estimate_stops() {
    struct Cancelled;
    impl Control for Cancelled {
        fn is_cancelled(&self) -> bool {
            true
        }
    }
    let features = swiss_roll(200, 0);
    let stopped = intrinsic_dimension(features.view(), &DimensionOptions::default(), &Cancelled);
    assert_eq!(stopped, Err(ManifoldError::Cancelled));
}
