//! Attention in SQL against NumPy: `tests/reference/attention.json`, which `attention.py` writes.

use std::fmt::Write;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray, StringArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{Field, Float64Type};
use datafusion::arrow::record_batch::RecordBatch;
use lakefold::Session;
use lakefold_tests::{repository, session};
use serde_json::Value;

fn reference() -> Value {
    let path = repository().join("tests/reference/attention.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Numbers of nested lists, in order.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        Value::Bool(flag) => vec![f64::from(u8::from(*flag))],
        number => vec![number.as_f64().unwrap()],
    }
}

/// The numbers of one row's result.
fn result(array: &ArrayRef) -> Vec<f64> {
    assert_eq!(array.null_count(), 0);
    match array.as_list_opt::<i32>() {
        Some(list) => result(list.values()),
        None => array.as_primitive::<Float64Type>().values().to_vec(),
    }
}

async fn one_row(session: &Session, sql: &str) -> Vec<f64> {
    let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
    assert_eq!(
        batches.iter().map(RecordBatch::num_rows).sum::<usize>(),
        1,
        "{sql}"
    );
    result(batches[0].column(0))
}

fn assert_close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= 1e-12 * expected.abs().max(1.0),
            "{what}, number {place}: {found} is not {expected}"
        );
    }
}

/// All layers in one file, one row an output feature.
fn layers(layers: &Value) -> RecordBatch {
    let (mut names, mut weights, mut biases) = (vec![], vec![], vec![]);
    let layers = layers.as_object().unwrap();
    for (name, layer) in layers {
        let rows = layer["weight"].as_array().unwrap();
        for (feature, row) in rows.iter().enumerate() {
            names.push(name.clone());
            weights.push(numbers(row));
            biases.push(layer["bias"].get(feature).and_then(Value::as_f64));
        }
    }
    let field = Arc::new(Field::new_list_field(
        datafusion::arrow::datatypes::DataType::Float64,
        true,
    ));
    let offsets = OffsetBuffer::from_lengths(weights.iter().map(Vec::len));
    let weights = Arc::new(Float64Array::from(weights.concat()));
    let columns: [(&str, ArrayRef); 3] = [
        ("name", Arc::new(StringArray::from(names))),
        (
            "weight",
            Arc::new(ListArray::new(field, offsets, weights, None)),
        ),
        ("bias", Arc::new(Float64Array::from(biases))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Projections, heads, mask, softmax, weighted values and recombination.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_query_is_the_whole_class() {
    let reference = reference();
    let class = &reference["class"];
    let session = session().unwrap();
    session
        .register_batch("layers", layers(&class["layers"]))
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("attention.parquet");
    let file = file.display();
    let copy = format!("COPY layers TO '{file}'");
    session.sql(&copy).await.unwrap().collect().await.unwrap();
    let sql = format!(
        "SELECT linear(
             multi_head_attention(
                 linear(x, '{file}', 'q_proj'), linear(x, '{file}', 'k_proj'), linear(x, '{file}', 'v_proj'),
                 num_heads => {}, is_causal => true),
             '{file}', 'out_proj')
         FROM (VALUES ({})) AS sequences (x)",
        class["num_heads"], class["x"]
    );
    let found = one_row(&session, &sql).await;
    assert_close(&found, &numbers(&class["output"]), "class");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grouped_heads_with_every_option() {
    let session = session().unwrap();
    let reference = reference();
    let calls = reference["calls"].as_array().unwrap();
    assert!(calls.len() >= 6);
    for (number, call) in calls.iter().enumerate() {
        let mut options = String::new();
        for (ours, theirs) in [
            ("is_causal", "is_causal"),
            ("scale", "scale"),
            ("softcap", "softcap"),
            ("attn_mask", "mask"),
            ("query_offset", "query_offset"),
        ] {
            if let Some(value) = call.get(theirs) {
                write!(options, ", {ours} => {value}").unwrap();
            }
        }
        let sql = format!(
            "SELECT multi_head_attention({}, {}, {}, {}, {}{options})",
            call["query"], call["key"], call["value"], call["num_heads"], call["kv_num_heads"]
        );
        let found = one_row(&session, &sql).await;
        assert_close(&found, &numbers(&call["output"]), &format!("call {number}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_of_every_similarity() {
    let session = session().unwrap();
    let reference = reference();
    let weights = &reference["weights"];
    let expected = weights["weights"].as_object().unwrap();
    assert_eq!(expected.len(), 3);
    for (similarity, expected) in expected {
        let sql = format!(
            "SELECT attention_weights({}, {}, similarity => '{similarity}')",
            weights["query"], weights["keys"]
        );
        let found = one_row(&session, &sql).await;
        assert_close(&found, &numbers(expected), similarity);
    }
}
