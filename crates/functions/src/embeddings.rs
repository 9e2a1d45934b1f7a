//! From rows of numbers to list arrays.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, ArrowPrimitiveType, PrimitiveArray};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{ArrowNativeType, DataType, Field, Float32Type, Float64Type};
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
    match float {
        FloatType::Float32 => {
            let numbers = numbers.map(|number| number as f32).collect();
            vectors_array::<Float32Type>(data_type, numbers, n_components, present)
        }
        FloatType::Float64 => {
            vectors_array::<Float64Type>(data_type, numbers.collect(), n_components, present)
        }
    }
}

/// The same of numbers that have the list's own type, which are not copied unless room is missing between them: a
/// `FixedSizeList` has it for rows that are not present.
pub(crate) fn vectors_array<T: ArrowPrimitiveType>(
    data_type: &DataType,
    numbers: Vec<T::Native>,
    width: usize,
    present: BooleanBuffer,
) -> Result<ArrayRef> {
    let rows = present.len();
    let most = i32::MAX as usize;
    let large = matches!(data_type, DataType::LargeList(_));
    if !large && rows.saturating_mul(width) > most {
        return exec_err!(
            "a batch of {rows} rows holds more than {most} numbers of result: lower \
             datafusion.execution.batch_size or the numbers of a row"
        );
    }
    let fixed = matches!(data_type, DataType::FixedSizeList(..));
    let absent = present.count_set_bits() < rows;
    let length = |present: bool| if present || fixed { width } else { 0 };
    let lengths: Vec<usize> = present.iter().map(length).collect();
    let numbers = if fixed && absent {
        spread(&numbers, width, &present)
    } else {
        numbers
    };
    let values = PrimitiveArray::<T>::new(ScalarBuffer::from(numbers), None);
    let nulls = absent.then(|| NullBuffer::new(present));
    lists(data_type, &lengths, Arc::new(values), nulls)
}

/// Zeros where rows are not present.
fn spread<N: ArrowNativeType>(numbers: &[N], width: usize, present: &BooleanBuffer) -> Vec<N> {
    let mut all = vec![N::default(); present.len() * width];
    for (from, row) in present.set_indices().enumerate() {
        all[row * width..][..width].copy_from_slice(&numbers[from * width..][..width]);
    }
    all
}

/// The field of an embedding's numbers.
pub(crate) fn element(float: FloatType) -> Arc<Field> {
    Arc::new(Field::new_list_field(float.data_type(), true))
}
