//! x·Wᵀ + b for the columns of vectors and sequences that `linear` takes.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, NullBufferBuilder, PrimitiveArray, make_array,
};
use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_datafusion_err, exec_err, internal_err};
use lakefold_attention::{Real, Score, linear};
use ndarray::ArrayViewMut2;

use super::coercion::{element, nested};
use super::linear::{NAME, PARAMETERS, depth};
use super::linear_file::{InLayer, Layer};
use super::sequence_output::{check_total, lists};
use super::sequences::{place, vectors};
use crate::float_lists::ListRows;

/// Refuses vectors that are not as long as the layer's rows.
pub(crate) fn check_width(layer: &Layer, found: usize, who: &str, source: &str) -> Result<()> {
    let expected = layer.in_features();
    if found != expected {
        return exec_err!(
            "{who} has {found} numbers, the layer of '{source}' takes {expected} (in_features): name the \
             column that it was made for, or another layer"
        );
    }
    Ok(())
}

/// What the lists hold in the end.
pub(crate) fn leaf(list: &DataType) -> &DataType {
    match element(list) {
        Some(field) => leaf(field.data_type()),
        None => list,
    }
}

/// x·Wᵀ + b for every vector of a column, in one product.
pub(crate) fn project<T>(
    x: &ArrayRef,
    layer: &Layer,
    data_type: &DataType,
    source: &str,
) -> Result<ArrayRef>
where
    T: InLayer + ArrowPrimitiveType<Native: Real>,
{
    let x = if leaf(x.data_type()) == &T::DATA_TYPE {
        Arc::clone(x)
    } else {
        cast(
            x,
            &nested(x.data_type(), depth(x.data_type()), T::DATA_TYPE),
        )?
    };
    if depth(data_type) == 1 {
        let row_place = |row| place(NAME, PARAMETERS[0], row);
        return project_vectors::<T>(&x, 0..x.len(), layer, data_type, source, &row_place);
    }
    let rows = ListRows::try_new(&x)?;
    let span = rows.span(0..rows.len());
    let lengths: Vec<usize> = (0..rows.len())
        .map(|row| rows.span(row..row + 1).len())
        .collect();
    let all = without_vectors_of_null(&rows, &lengths, span.clone())?;
    let vector_place = |vector: usize| {
        let row = (0..rows.len()).find(|row| rows.span(*row..row + 1).end > vector + span.start);
        let row = row.unwrap_or_default();
        let position = vector + span.start - rows.span(row..row + 1).start;
        format!("{}: position {position}", place(NAME, PARAMETERS[0], row))
    };
    let Some(vector_type) = element(data_type).map(|field| field.data_type()) else {
        return internal_err!("{NAME} was planned to give {data_type}");
    };
    let vectors = project_vectors::<T>(
        &all,
        0..all.len(),
        layer,
        vector_type,
        source,
        &vector_place,
    )?;
    lists(data_type, &lengths, vectors, x.nulls().cloned())
}

/// The vectors of all sequences, those of NULL sequences NULL: nobody knows what they hold.
fn without_vectors_of_null(
    rows: &ListRows<'_>,
    lengths: &[usize],
    span: Range<usize>,
) -> Result<ArrayRef> {
    let all = rows.values().slice(span.start, span.len());
    if (0..rows.len()).all(|row| rows.range(row).is_some() || lengths[row] == 0) {
        return Ok(all);
    }
    let mut nulls = NullBufferBuilder::new(all.len());
    for (row, &length) in lengths.iter().enumerate() {
        match rows.range(row) {
            None => nulls.append_n_nulls(length),
            Some(own) => match rows.values().nulls() {
                Some(present) => nulls.append_buffer(&present.slice(own.start, own.len())),
                None => nulls.append_n_non_nulls(length),
            },
        }
    }
    let data = all.to_data().into_builder().nulls(nulls.finish());
    Ok(make_array(data.build()?))
}

fn project_vectors<T>(
    lists_of_x: &ArrayRef,
    range: Range<usize>,
    layer: &Layer,
    data_type: &DataType,
    source: &str,
    place: &dyn Fn(usize) -> String,
) -> Result<ArrayRef>
where
    T: InLayer + ArrowPrimitiveType<Native: Real>,
{
    let mut x = vectors::<T>(lists_of_x, range, place)?;
    x.set_width(layer.in_features());
    let valid = |row: usize| x.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
    let first = (0..x.len()).find(|&row| valid(row)).unwrap_or_default();
    check_width(layer, x.view().ncols(), &place(first), source)?;
    let width = layer.out_features();
    let total = check_total(
        NAME,
        data_type,
        std::iter::repeat_n(width, x.len()),
        x.len(),
    )?;
    let mut output = vec![T::default_value(); total];
    let numbers = T::numbers(layer);
    let target = ArrayViewMut2::from_shape((x.len(), width), &mut output)
        .map_err(|error| exec_datafusion_err!("{NAME}: {error}"))?;
    linear(x.view(), numbers.weight(), numbers.bias(), target)
        .map_err(|error| exec_datafusion_err!("{}: {error}", place(first)))?;
    if let Some(bad) = output
        .iter()
        .position(|number| !number.to_f64().is_finite())
        && width > 0
    {
        return exec_err!(
            "{}: the result is {:?} in place {} (counted from 0): remove NaN, infinity and numbers that \
             are too large from the vector, or write NULL for it",
            place(bad / width),
            output[bad],
            bad % width
        );
    }
    let output = PrimitiveArray::<T>::new(ScalarBuffer::from(output), None);
    let lengths = vec![width; x.len()];
    lists(data_type, &lengths, Arc::new(output), x.nulls.clone())
}
