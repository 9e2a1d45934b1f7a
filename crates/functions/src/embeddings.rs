//! From rows of numbers to list arrays.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float32Array, Float64Array};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, exec_err};

use crate::attention::lists;
use crate::float_lists::FloatType;

/// `numbers`, `n_components` for each row that is `present`, as an array of `data_type`: any kind of list of
/// `float`.
pub(crate) fn embedding_array(
    data_type: &DataType,
    float: FloatType,
    numbers: impl Iterator<Item = f64>,
    n_components: usize,
    present: BooleanBuffer,
) -> Result<ArrayRef> {
    let rows = present.len();
    let most = i32::MAX as usize;
    let large = matches!(data_type, DataType::LargeList(_));
    if !large && rows.saturating_mul(n_components) > most {
        return exec_err!(
            "a batch of {rows} rows holds more than {most} numbers of result: lower \
             datafusion.execution.batch_size or the numbers of a row"
        );
    }
    let nulls = Some(NullBuffer::new(present.clone()));
    if let DataType::FixedSizeList(..) = data_type {
        let mut numbers = numbers;
        let mut padded = Vec::with_capacity(rows * n_components);
        for present in &present {
            if present {
                padded.extend(numbers.by_ref().take(n_components));
            } else {
                padded.resize(padded.len() + n_components, 0.0);
            }
        }
        let values = float_array(float, padded.into_iter());
        return lists(data_type, &vec![n_components; rows], values, nulls);
    }
    let lengths = present.iter();
    let lengths: Vec<usize> = lengths
        .map(|present| if present { n_components } else { 0 })
        .collect();
    lists(data_type, &lengths, float_array(float, numbers), nulls)
}

fn float_array(float: FloatType, numbers: impl Iterator<Item = f64>) -> ArrayRef {
    match float {
        FloatType::Float32 => Arc::new(Float32Array::from_iter_values(
            numbers.map(|number| number as f32),
        )),
        FloatType::Float64 => Arc::new(Float64Array::from_iter_values(numbers)),
    }
}

/// The field of an embedding's numbers.
pub(crate) fn element(float: FloatType) -> Arc<Field> {
    Arc::new(Field::new_list_field(float.data_type(), true))
}
