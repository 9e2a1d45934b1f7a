//! Principal components: scikit-learn's values (tests/reference/quality.py), and what must always hold.

mod common;
#[path = "common/json.rs"]
mod json;

use common::swiss_roll;
use json::{features, matrix, numbers, read};
use lakefold_manifold::{Control, ManifoldError, Pca, PcaAccumulator, PcaModel};
use ndarray::{Array2, ArrayView2, Axis, concatenate, s};

fn digits() -> Array2<f64> {
    features(&read("digits"))
}

fn pca(n_components: usize) -> Pca {
    Pca::builder(n_components).build().unwrap()
}

fn fit(features: ArrayView2<'_, f64>, n_components: usize) -> PcaModel {
    pca(n_components).fit(features, &()).unwrap()
}

fn largest_difference<'a>(
    a: impl IntoIterator<Item = &'a f64>,
    b: impl IntoIterator<Item = &'a f64>,
) -> f64 {
    let pairs = a.into_iter().zip(b);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// More rows than dimensions, and fewer.
#[test]
fn axes_and_variances_are_those_of_scikit_learn() {
    let features = digits();
    let reference = read("quality");
    for expected in reference["pca"].as_array().unwrap() {
        let rows = expected["rows"].as_u64().unwrap() as usize;
        let found = fit(features.slice(s![..rows, ..]), 6);
        assert_eq!(found.rows, rows);
        let pairs = [
            (&found.mean, "mean"),
            (&found.explained_variance, "explained_variance"),
            (&found.explained_variance_ratio, "explained_variance_ratio"),
        ];
        for (values, name) in pairs {
            let expected = numbers(&expected[name]);
            assert_eq!(values.len(), expected.len());
            assert!(
                largest_difference(values, &expected) < 1e-9,
                "{name}, {rows} rows"
            );
        }
        // scikit-learn turns axes by the same rule.
        let components = matrix(&expected["components"]);
        assert!(largest_difference(&found.components, &components) < 1e-8);
        let scores = found.transform(features.slice(s![..3, ..]), &()).unwrap();
        assert!(largest_difference(&scores, &matrix(&expected["scores"])) < 1e-7);
    }
}

#[test]
fn scores_are_uncorrelated_with_the_variances_that_the_model_tells() {
    let features = digits();
    let model = fit(features.view(), 10);
    let scores = model.transform(features.view(), &()).unwrap();
    let covariance = scores.t().dot(&scores) / (features.nrows() - 1) as f64;
    for i in 0..10 {
        for j in 0..10 {
            let expected = if i == j {
                model.explained_variance[i]
            } else {
                0.0
            };
            assert!((covariance[(i, j)] - expected).abs() < 1e-9);
        }
    }
    let products = model.components.dot(&model.components.t());
    assert!(largest_difference(&products, &Array2::eye(10)) < 1e-12);
}

#[test]
fn a_stream_gives_the_model_of_the_whole() {
    let features = swiss_roll(5000, 3) + 1e6;
    let whole = fit(features.view(), 2);
    let mut first = None;
    for batch in [1, 7, 1024, 3000] {
        let mut accumulator = PcaAccumulator::new(3).unwrap();
        for rows in features.axis_chunks_iter(Axis(0), batch) {
            accumulator.add(rows, &()).unwrap();
        }
        assert_eq!(accumulator.rows(), 5000);
        let streamed = accumulator.finish(&pca(2)).unwrap();
        assert!(largest_difference(&streamed.mean, &whole.mean) < 1e-8);
        assert!(
            largest_difference(&streamed.components, &whole.components) < 1e-9,
            "{batch}"
        );
        let (a, b) = (&streamed.explained_variance, &whole.explained_variance);
        assert!(largest_difference(a, b) < 1e-9 * b[0], "{batch}");
        // How the rows are cut changes no bit.
        assert_eq!(*first.get_or_insert_with(|| streamed.clone()), streamed);
    }
}

#[test]
fn order_threads_and_float_type_change_no_bit() {
    let features = digits().mapv(|v| f64::from(v as f32));
    let order: Vec<usize> = (0..features.nrows()).map(|i| (i * 7 + 3) % 1797).collect();
    for rows in [1797, 50] {
        let given = features.slice(s![..rows, ..]);
        let expected = fit(given, 5);
        let order: Vec<usize> = order.iter().copied().filter(|&row| row < rows).collect();
        assert_eq!(fit(given.select(Axis(0), &order).view(), 5), expected);
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            assert_eq!(
                pool.install(|| fit(given, 5)),
                expected,
                "{threads} threads"
            );
        }
        let single = pca(5).fit(given.mapv(|v| v as f32).view(), &()).unwrap();
        assert_eq!(single, expected);
    }
}

#[test]
fn the_scores_of_a_row_do_not_depend_on_its_batch() {
    let features = digits();
    let model = fit(features.view(), 4);
    let together = model.transform(features.view(), &()).unwrap();
    for (row, expected) in features.rows().into_iter().zip(together.rows()) {
        let alone = model.transform(row.insert_axis(Axis(0)), &()).unwrap();
        assert_eq!(alone.row(0), expected);
    }
}

/// Rows on a line have one axis with variance; the others are there, orthogonal, and empty.
#[test]
fn axes_beyond_the_rank_are_orthonormal() {
    for dimensions in [4, 30] {
        let line = Array2::from_shape_fn((12, dimensions), |(i, j)| (i * (j + 1)) as f64);
        let repeated = concatenate![Axis(0), line, line];
        for rows in [line, repeated, Array2::ones((12, dimensions))] {
            let model = fit(rows.view(), 4);
            let products = model.components.dot(&model.components.t());
            assert!(largest_difference(&products, &Array2::eye(4)) < 1e-12);
            let rest = &model.explained_variance[1..];
            assert!(
                rest.iter()
                    .all(|v| *v <= 1e-12 * model.explained_variance[0])
            );
            assert!(model.explained_variance_ratio.iter().all(|v| v.is_finite()));
        }
    }
}

#[test]
fn impossible_requests_say_what_to_do() {
    let rows = swiss_roll(10, 0);
    let error = |features: &Array2<f64>, n_components| {
        pca(n_components)
            .fit(features.view(), &())
            .unwrap_err()
            .to_string()
    };
    let mut accumulator = PcaAccumulator::new(2).unwrap();
    let model = fit(rows.view(), 2);
    let messages = [
        Pca::builder(0).build().unwrap_err().to_string(),
        error(&rows, 4),
        error(&rows.slice(s![..2, ..]).to_owned(), 2),
        error(&Array2::zeros((0, 3)), 1),
        error(&(rows.clone() * f64::INFINITY), 1),
        PcaAccumulator::new(0).unwrap_err().to_string(),
        accumulator.add(rows.view(), &()).unwrap_err().to_string(),
        accumulator.finish(&pca(1)).unwrap_err().to_string(),
        model
            .transform(rows.slice(s![.., ..2]), &())
            .unwrap_err()
            .to_string(),
        model
            .transform((rows.clone() * f64::NAN).view(), &())
            .unwrap_err()
            .to_string(),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn a_cancelled_fit_stops() {
    struct Cancelled;
    impl Control for Cancelled {
        fn is_cancelled(&self) -> bool {
            true
        }
    }
    let features = digits();
    for rows in [1797, 50] {
        let stopped = pca(2).fit(features.slice(s![..rows, ..]), &Cancelled);
        assert_eq!(stopped, Err(ManifoldError::Cancelled));
    }
    let model = fit(features.view(), 2);
    assert_eq!(
        model.transform(features.view(), &Cancelled),
        Err(ManifoldError::Cancelled)
    );
}
