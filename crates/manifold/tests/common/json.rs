//! Readers of tests/reference/*.json.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::path::PathBuf;

use ndarray::Array2;
use serde_json::Value;

pub fn read(name: &str) -> Value {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference");
    let text = std::fs::read_to_string(directory.join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

pub fn numbers(values: &Value) -> Vec<f64> {
    let values = values.as_array().unwrap().iter();
    values.map(|v| v.as_f64().unwrap()).collect()
}

pub fn matrix(rows: &Value) -> Array2<f64> {
    let rows: Vec<Vec<f64>> = rows.as_array().unwrap().iter().map(numbers).collect();
    Array2::from_shape_fn((rows.len(), rows[0].len()), |(i, j)| rows[i][j])
}

pub fn features(json: &Value) -> Array2<f64> {
    matrix(&json["input"]) / json["input_scale"].as_f64().unwrap()
}
