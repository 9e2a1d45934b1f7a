//! The answers of scikit-learn, SciPy and NumPy (tests/reference/neighbors.py).

#[path = "common/json.rs"]
mod json;

use json::{features, numbers, read};
use lakefold_manifold::{ExactIndex, Metric, Nearest, nearest_rows};
use ndarray::{Axis, s};
use serde_json::Value;

fn assert_close(found: &Nearest, expected: &Value, rows: impl Iterator<Item = usize>, what: &str) {
    let ids = expected["ids"].as_array().unwrap();
    let distances = expected["distances"].as_array().unwrap();
    for ((row, ids), distances) in rows.zip(ids).zip(distances) {
        let own: Vec<f64> = found.ids.row(row).iter().map(|&id| f64::from(id)).collect();
        assert_eq!(own, numbers(ids), "{what}, row {row}");
        for (found, expected) in found.distances.row(row).iter().zip(numbers(distances)) {
            assert!(
                (found - expected).abs() <= 1e-13 * expected.abs().max(1.0),
                "{what}, row {row}: {found} {expected}"
            );
        }
    }
}

fn places(rows: &Value) -> Vec<usize> {
    numbers(rows).into_iter().map(|row| row as usize).collect()
}

#[test]
fn digits_by_every_metric() {
    let expected = read("neighbors");
    let digits = features(&read("digits"));
    let k = expected["n_neighbors"].as_u64().unwrap() as usize;
    let base = expected["base"].as_u64().unwrap() as usize;
    for metric in [Metric::L2, Metric::Cosine, Metric::InnerProduct] {
        let own = &expected[metric.name()];
        let found = nearest_rows(digits.view(), k, metric, &()).unwrap();
        let rows = places(&expected["within_rows"]).into_iter();
        assert_close(&found, &own["within"], rows, metric.name());

        let index = ExactIndex::new(digits.slice(s![..base, ..]).to_owned(), metric).unwrap();
        let queries = digits.select(Axis(0), &places(&expected["across_rows"]));
        let found = index.nearest(queries.view(), k, &()).unwrap();
        assert_close(&found, &own["across"], 0..queries.nrows(), metric.name());
    }
}
