//! `multi_head_attention` against the ONNX operator Attention, and against the attention of a real model.
//!
//! ONNX's cases are in `tests/reference`, as its README tells; `LAKEFOLD_ONNX_CASES` names another file of the same columns.
//! The model's attention needs `../shared/data` beside the checkout and is skipped without it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, ListArray, RecordBatch,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::{cast, concat};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use lakefold::Session;
use lakefold_tests::{repository, session};
use serde_json::Value;

const CASES: &str = "LAKEFOLD_ONNX_CASES";

fn shared(name: &str) -> Option<PathBuf> {
    let path = repository().join("../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: there is no {}", path.display());
    None
}

#[derive(Debug, Clone)]
struct Tensor {
    dtype: String,
    shape: Vec<usize>,
    data: Vec<f64>,
}

#[derive(Debug, Default)]
struct Case {
    attributes: Value,
    tensors: BTreeMap<String, Tensor>,
}

/// Batch × positions × numbers: heads side by side.
#[derive(Debug, Clone)]
struct Sequences {
    batch: usize,
    length: usize,
    width: usize,
    data: Vec<f64>,
}

impl Tensor {
    /// (batch, heads, length, d) or (batch, length, heads · d).
    fn sequences(&self) -> Sequences {
        match *self.shape.as_slice() {
            [batch, length, width] => Sequences {
                batch,
                length,
                width,
                data: self.data.clone(),
            },
            [batch, heads, length, d] => {
                let mut data = Vec::with_capacity(self.data.len());
                for b in 0..batch {
                    for l in 0..length {
                        for h in 0..heads {
                            let start = ((b * heads + h) * length + l) * d;
                            data.extend_from_slice(&self.data[start..start + d]);
                        }
                    }
                }
                Sequences {
                    batch,
                    length,
                    width: heads * d,
                    data,
                }
            }
            _ => panic!("unexpected shape {:?}", self.shape),
        }
    }

    /// The element of a mask at (batch, head, query, key), by NumPy's rules of broadcasting. Keys beyond a
    /// mask are masked out.
    fn broadcast(&self, place: [usize; 4]) -> Option<f64> {
        let skipped = 4 - self.shape.len();
        let mut index = 0;
        for (axis, &size) in self.shape.iter().enumerate() {
            let at = place[skipped + axis];
            let is_keys = axis + 1 == self.shape.len();
            let at = if size == 1 && !is_keys { 0 } else { at };
            if at >= size {
                return None;
            }
            index = index * size + at;
        }
        Some(self.data[index])
    }
}

impl Sequences {
    fn after(self, past: Option<&Tensor>) -> Self {
        let Some(past) = past.map(Tensor::sequences) else {
            return self;
        };
        let mut data = vec![];
        for b in 0..self.batch {
            for part in [&past, &self] {
                let size = part.length * part.width;
                data.extend_from_slice(&part.data[b * size..(b + 1) * size]);
            }
        }
        Sequences {
            length: past.length + self.length,
            data,
            ..self
        }
    }

    fn column(&self, number: &DataType) -> ArrayRef {
        let numbers: ArrayRef = Arc::new(Float64Array::from(self.data.clone()));
        let rows = lists(cast(&numbers, number).unwrap(), self.width);
        lists(rows, self.length)
    }
}

/// Cuts an array into lists of one length.
fn lists(values: ArrayRef, length: usize) -> ArrayRef {
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_repeated_length(length, values.len() / length);
    Arc::new(ListArray::new(field, offsets, values, None))
}

async fn cases(session: &Session, path: &str) -> BTreeMap<String, Case> {
    let sql = format!(
        "SELECT arrow_cast(\"case\", 'Utf8'), arrow_cast(attributes, 'Utf8'), arrow_cast(tensor, 'Utf8'),
            arrow_cast(dtype, 'Utf8'), shape, data FROM '{path}'"
    );
    let batches = session.sql(&sql).await.unwrap().collect().await.unwrap();
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    for batch in &batches {
        let text = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row);
        for row in 0..batch.num_rows() {
            let shape = batch.column(4).as_list::<i32>().value(row);
            let data = batch.column(5).as_list::<i32>().value(row);
            let case = cases.entry(text(0, row).to_owned()).or_default();
            case.attributes = serde_json::from_str(text(1, row)).unwrap();
            let tensor = Tensor {
                dtype: text(3, row).to_owned(),
                shape: shape
                    .as_primitive::<Int64Type>()
                    .values()
                    .iter()
                    .map(|&size| size as usize)
                    .collect(),
                data: data.as_primitive::<Float64Type>().values().to_vec(),
            };
            case.tensors.insert(text(2, row).to_owned(), tensor);
        }
    }
    cases
}

impl Case {
    fn whole(&self, name: &str) -> Option<usize> {
        Some(self.attributes.get(name)?.as_u64()? as usize)
    }

    fn heads(&self, tensor: &str, attribute: &str) -> usize {
        match *self.tensors[tensor].shape.as_slice() {
            [_, heads, _, _] => heads,
            _ => self
                .whole(attribute)
                .expect("heads of 3 dimensions are an attribute"),
        }
    }

    /// Keys from so many before a query's own position to so many after it; `None` is no bound.
    fn window(&self) -> [Option<i64>; 2] {
        ["left_window_size", "right_window_size"].map(|name| {
            let size = self.attributes.get(name)?.as_i64()?;
            (size >= 0).then_some(size)
        })
    }

    /// The position of the first query among the keys, for each of the batch.
    fn offsets(&self, [batch, queries, _]: [usize; 3]) -> Vec<i64> {
        if let Some(past) = self.tensors.get("past_key") {
            return vec![past.sequences().length as i64; batch];
        }
        let lengths = self.tensors.get("nonpad_kv_seqlen");
        let first = |b: usize| lengths.map_or(0, |lengths| lengths.data[b] as i64 - queries as i64);
        (0..batch).map(first).collect()
    }

    /// Nothing but the number of keys limits what a query sees: they are cut, and need no mask.
    fn is_cut(&self) -> bool {
        let only = !self.tensors.contains_key("attn_mask") && self.window() == [None, None];
        only && self.tensors.contains_key("nonpad_kv_seqlen")
    }

    /// The mask of each of the batch: the operator's as it is, unless lengths or a window go into it. These make
    /// it heads × L × S.
    fn mask(&self, heads: usize, sizes: [usize; 3]) -> Option<ArrayRef> {
        let [batch, queries, keys] = sizes;
        let mask = self.tensors.get("attn_mask");
        let lengths = self.tensors.get("nonpad_kv_seqlen");
        let window = self.window();
        let is_boolean = mask.is_none_or(|mask| mask.dtype == "bool");
        let mut elements = vec![];
        let mut shape = vec![heads, queries, keys];
        if lengths.is_none() && window == [None, None] {
            let mask = mask?;
            let own = &mask.shape[mask.shape.len().saturating_sub(3)..];
            let size: usize = own.iter().product();
            for b in 0..batch {
                let start = if mask.data.len() > size { b * size } else { 0 };
                elements.extend_from_slice(&mask.data[start..start + size]);
            }
            shape = own.to_vec();
        } else if self.is_cut() {
            return None;
        } else {
            let offsets = self.offsets(sizes);
            for (b, offset) in offsets.iter().enumerate().take(batch) {
                let beyond = |k: usize| lengths.is_some_and(|lengths| k as f64 >= lengths.data[b]);
                let outside = |q: usize, k: usize| {
                    let after = k as i64 - (q as i64 + offset);
                    window[0].is_some_and(|left| -after > left)
                        || window[1].is_some_and(|right| after > right)
                };
                for (h, q, k) in (0..heads)
                    .flat_map(|h| (0..queries).flat_map(move |q| (0..keys).map(move |k| (h, q, k))))
                {
                    let masked = if is_boolean { 0.0 } else { f64::NEG_INFINITY };
                    let element = match mask {
                        Some(mask) => mask.broadcast([b, h, q, k]).unwrap_or(masked),
                        None => 1.0,
                    };
                    elements.push(if beyond(k) || outside(q, k) {
                        masked
                    } else {
                        element
                    });
                }
            }
        }
        let elements: ArrayRef = if is_boolean {
            let flags = elements.iter().map(|element| *element != 0.0);
            Arc::new(flags.map(Some).collect::<BooleanArray>())
        } else {
            Arc::new(Float64Array::from(elements))
        };
        Some(shape.into_iter().rev().fold(elements, lists))
    }

    /// The largest error of Y, relative to numbers above 1.
    async fn error(&self, session: &Session) -> f64 {
        let past = |name| self.tensors.get(name);
        let (number, _) = number_type(&self.tensors["Q"].dtype);
        let query = self.tensors["Q"].sequences();
        let key = self.tensors["K"].sequences().after(past("past_key"));
        let value = self.tensors["V"].sequences().after(past("past_value"));
        let heads = self.heads("Q", "q_num_heads");
        let kv_heads = self.heads("K", "kv_num_heads");
        let sizes = [query.batch, query.length, key.length];
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..query.batch as i64));
        let mut columns = vec![
            ("id", ids),
            ("q", query.column(&number)),
            ("k", key.column(&number)),
            ("v", value.column(&number)),
            ("o", Arc::new(Int64Array::from(self.offsets(sizes)))),
        ];
        let (mut k, mut v) = ("k", "v");
        if self.is_cut() {
            let lengths = self.tensors["nonpad_kv_seqlen"].data.iter();
            let lengths = Int64Array::from_iter_values(lengths.map(|&length| length as i64));
            columns.push(("n", Arc::new(lengths)));
            (k, v) = ("array_slice(k, 1, n)", "array_slice(v, 1, n)");
        }
        let mask = self.mask(heads, sizes);
        let mask_name = if mask.is_some() { "mask" } else { "NULL" };
        columns.extend(mask.map(|mask| ("mask", mask)));
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        session.deregister_table("t").unwrap();
        session.register_batch("t", batch).unwrap();
        let attribute = |name| match self.attributes.get(name) {
            Some(value) => value.to_string(),
            None => "NULL".to_owned(),
        };
        let is_causal = attribute("is_causal");
        let (scale, softcap) = (attribute("scale"), attribute("softcap"));
        let sql = format!(
            "SELECT multi_head_attention(q, {k}, {v}, {heads}, {kv_heads}, {is_causal}, {scale}, {softcap},
                attn_mask => {mask_name}, query_offset => o) FROM t ORDER BY id"
        );
        let result = session.sql(&sql).await.unwrap().collect().await.unwrap();
        let result = one_column(&result, 0);
        let expected = self.tensors["Y"].sequences();
        assert_eq!(result.len(), expected.batch);
        largest_error(&numbers(&result), &expected.data)
    }
}

/// What a tensor's numbers are passed as, and how far its results may be off.
fn number_type(dtype: &str) -> (DataType, f64) {
    match dtype {
        "float16" => (DataType::Float16, 2e-3),
        // Arrow has no such type; its numbers are Float32's, to three digits.
        "bfloat16" => (DataType::Float32, 1e-2),
        "float32" => (DataType::Float32, 1e-5),
        _ => (DataType::Float64, 1e-9),
    }
}

fn one_column(batches: &[RecordBatch], column: usize) -> ArrayRef {
    let parts: Vec<&dyn Array> = batches
        .iter()
        .map(|batch| batch.column(column).as_ref())
        .collect();
    concat(&parts).unwrap()
}

/// All numbers of lists of lists, none of which may be NULL.
fn numbers(lists: &ArrayRef) -> Vec<f64> {
    assert_eq!(lists.null_count(), 0);
    if let Some(list) = lists.as_list_opt::<i32>() {
        let offsets = list.value_offsets();
        let (start, end) = (offsets[0] as usize, offsets[list.len()] as usize);
        return numbers(&list.values().slice(start, end - start));
    }
    if let Some(list) = lists.as_fixed_size_list_opt() {
        return numbers(list.values());
    }
    let numbers = cast(lists, &DataType::Float64).unwrap();
    numbers.as_primitive::<Float64Type>().values().to_vec()
}

fn largest_error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let errors = found
        .iter()
        .zip(expected)
        .map(|(found, expected)| (found - expected).abs() / expected.abs().max(1.0));
    // max would drop NaN.
    errors.fold(
        0.0,
        |largest, error| if error <= largest { largest } else { error },
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_of_the_onnx_operator() {
    let given = std::env::var_os(CASES).map(PathBuf::from);
    let own = || repository().join("tests/reference/onnx_attention_cases.parquet");
    let path = given.clone().unwrap_or_else(own);
    let session = session().unwrap();
    let cases = cases(&session, path.to_str().unwrap()).await;
    let mut table = String::new();
    let mut passed = 0;
    for (name, case) in &cases {
        let (_, tolerance) = number_type(&case.tensors["Y"].dtype);
        let error = case.error(&session).await;
        let verdict = if error <= tolerance { "pass" } else { "FAIL" };
        passed += usize::from(error <= tolerance);
        println!("{name}: largest error {error:.1e}");
        let extra: Vec<&str> = ["present_key", "present_value", "qk_matmul_output"]
            .into_iter()
            .filter(|output| case.tensors.contains_key(*output))
            .collect();
        let note = match extra.as_slice() {
            [] => String::new(),
            extra => format!(" Y; not returned: {}", extra.join(", ")),
        };
        writeln!(table, "{name:58} {verdict}{note}").unwrap();
    }
    println!("{table}");
    assert_eq!(passed, cases.len(), "{table}");
    if given.is_none() {
        insta::assert_snapshot!(table);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_attention_of_a_sentence_transformer() {
    let Some(path) = shared("minilm_attention.parquet") else {
        return;
    };
    let session = session().unwrap();
    let sql = format!(
        "SELECT sentence_id, multi_head_attention(q, k, v, 12) AS attended, y
         FROM (
             SELECT sentence_id, array_agg(q ORDER BY position) AS q, array_agg(k ORDER BY position) AS k,
                 array_agg(v ORDER BY position) AS v, array_agg(y ORDER BY position) AS y
             FROM (
                 SELECT sentence_id, position, flatten(array_agg(query ORDER BY head)) AS q,
                     flatten(array_agg(key ORDER BY head)) AS k, flatten(array_agg(value ORDER BY head)) AS v,
                     flatten(array_agg(expected ORDER BY head)) AS y
                 FROM '{}'
                 GROUP BY sentence_id, position
             )
             GROUP BY sentence_id
         )",
        path.display()
    );
    let result = session.sql(&sql).await.unwrap().collect().await.unwrap();
    let [attended, expected] = [1, 2].map(|column| one_column(&result, column));
    assert_eq!(attended.len(), 40);
    let attended = numbers(&attended);
    assert_eq!(attended.len(), 5688 * 32);
    let error = largest_error(&attended, &numbers(&expected));
    println!("largest error {error:.1e}");
    assert!(error <= 1e-5, "{error}");
}
