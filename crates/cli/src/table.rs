//! Results as a table for people: long lists shortened, numbers in lists rounded.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Schema};
use datafusion::config::FormatOptions;
use datafusion::error::Result;
use datafusion_cli::print_format::PrintFormat;
use datafusion_cli::print_options::MaxRows;

use crate::numbers::{grouped, significant};

/// Numbers of a list that are shown if it is longer than [`WHOLE_LIST`].
const SHOWN: usize = 4;
/// The longest list that is shown whole.
const WHOLE_LIST: usize = 8;

/// The table as text. `batches` hold one row more than `max_rows` if there is more.
pub(crate) fn table(
    schema: &Arc<Schema>,
    batches: &[RecordBatch],
    max_rows: MaxRows,
    options: &FormatOptions,
) -> Result<Vec<u8>> {
    let batches: Vec<_> = batches
        .iter()
        .map(|batch| with_texts(batch, list_texts))
        .collect::<Result<_>>()?;
    let mut text = Vec::new();
    let schema = Arc::clone(schema);
    PrintFormat::Table.print_batches(&mut text, schema, &batches, max_rows, true, options)?;
    Ok(text)
}

/// The batch with the columns for which `text` has one replaced by it.
pub(crate) fn with_texts(
    batch: &RecordBatch,
    text: impl Fn(&ArrayRef) -> Result<Option<ArrayRef>>,
) -> Result<RecordBatch> {
    let schema = batch.schema();
    let (fields, columns): (Vec<_>, Vec<ArrayRef>) = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| match text(column)? {
            Some(texts) => Ok((
                Arc::new(Field::new(field.name(), DataType::Utf8, true)),
                texts,
            )),
            None => Ok((Arc::clone(field), Arc::clone(column))),
        })
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .unzip();
    Ok(RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns,
    )?)
}

/// Lists of floats, as text.
fn list_texts(column: &ArrayRef) -> Result<Option<ArrayRef>> {
    let is_list_of_floats = match column.data_type() {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            item.data_type().is_floating()
        }
        _ => false,
    };
    if !is_list_of_floats {
        return Ok(None);
    }
    let lists = cast(column, &DataType::new_list(DataType::Float64, true))?;
    let texts: StringArray = lists
        .as_list::<i32>()
        .iter()
        .map(|list| list.map(|list| list_text(&list)))
        .collect();
    Ok(Some(Arc::new(texts)))
}

fn list_text(list: &ArrayRef) -> String {
    let numbers = list.as_primitive::<Float64Type>();
    let shown = if numbers.len() > WHOLE_LIST {
        SHOWN
    } else {
        numbers.len()
    };
    let mut parts: Vec<String> = numbers
        .iter()
        .take(shown)
        .map(|number| number.map_or_else(|| "NULL".to_owned(), significant))
        .collect();
    if shown < numbers.len() {
        parts.push(format!("… {} numbers", grouped(numbers.len())));
    }
    format!("[{}]", parts.join(", "))
}
