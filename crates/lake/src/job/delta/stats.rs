//! Statistics of a file for the log, from its Parquet footer.

use datafusion::arrow::array::{Array, ArrayRef, UInt64Array};
use datafusion::arrow::compute::sum;
use datafusion::arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use datafusion::parquet::arrow::parquet_to_arrow_schema;
use datafusion::parquet::file::metadata::ParquetMetaData;
use serde_json::{Map, Number, Value, json};

/// Columns that have statistics in the log: Delta Lake's default. They cost room in every reader.
const COLUMNS: usize = 32;
/// Digits that a number in JSON keeps in every reader.
const EXACT_DIGITS: u8 = 15;

/// As JSON: number of rows; smallest and largest value and number of NULLs of columns that are neither
/// lists nor structures.
///
/// # Errors
/// When the footer contradicts itself.
pub(super) fn statistics(footer: &ParquetMetaData) -> Result<String> {
    let file = footer.file_metadata();
    let schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())?;
    let schema: SchemaRef = schema.into();
    let (mut least, mut most, mut nulls) = (Map::new(), Map::new(), Map::new());
    for field in schema.fields().iter().take(COLUMNS) {
        if field.data_type().is_nested() {
            continue;
        }
        let name = field.name();
        let column = StatisticsConverter::try_new(name, &schema, file.schema_descr())?;
        let groups = footer.row_groups();
        let count = column.row_group_null_counts(groups)?;
        if let Some(count) = total(&count) {
            nulls.insert(name.clone(), count.into());
        }
        let mins = values(&column.row_group_mins(groups)?)?;
        if let Some(value) = extreme(mins, std::cmp::Ordering::Less).and_then(|v| bound(&v, false)) {
            least.insert(name.clone(), value);
        }
        let maxes = values(&column.row_group_maxes(groups)?)?;
        if let Some(value) =
            extreme(maxes, std::cmp::Ordering::Greater).and_then(|v| bound(&v, true))
        {
            most.insert(name.clone(), value);
        }
    }
    let statistics = json!({
        "numRecords": file.num_rows(),
        "minValues": least,
        "maxValues": most,
        "nullCount": nulls,
    });
    Ok(statistics.to_string())
}

/// Unknown as soon as one row group's is.
fn total(counts: &UInt64Array) -> Option<u64> {
    match counts.null_count() {
        0 => sum(counts).or(Some(0)),
        _ => None,
    }
}

/// One value for each row group.
fn values(array: &ArrayRef) -> Result<Vec<ScalarValue>> {
    (0..array.len())
        .map(|row| ScalarValue::try_from_array(array, row))
        .collect()
}

/// The value of all row groups together. A row group without one has NULLs alone, or no statistics:
/// footers do not tell which, so that there is none of the whole file.
fn extreme(values: Vec<ScalarValue>, wanted: std::cmp::Ordering) -> Option<ScalarValue> {
    let mut values = values.into_iter();
    let mut found = values.next().filter(|value| !value.is_null())?;
    for value in values {
        if value.is_null() {
            return None;
        }
        if value.partial_cmp(&found)? == wanted {
            found = value;
        }
    }
    Some(found)
}

/// A bound as the log has it; `None` for types that have none there.
fn bound(value: &ScalarValue, is_upper: bool) -> Option<Value> {
    match value {
        ScalarValue::Dictionary(_, value) => bound(value, is_upper),
        ScalarValue::Int8(Some(v)) => Some((*v).into()),
        ScalarValue::Int16(Some(v)) => Some((*v).into()),
        ScalarValue::Int32(Some(v)) => Some((*v).into()),
        ScalarValue::Int64(Some(v)) => Some((*v).into()),
        // Parquet's bounds leave NaN out, which to Delta Lake is larger than any number.
        ScalarValue::Float32(_) | ScalarValue::Float64(_) if is_upper => None,
        ScalarValue::Float32(Some(v)) => Number::from_f64((*v).into()).map(Value::Number),
        ScalarValue::Float64(Some(v)) => Number::from_f64(*v).map(Value::Number),
        ScalarValue::Utf8(Some(v))
        | ScalarValue::LargeUtf8(Some(v))
        | ScalarValue::Utf8View(Some(v)) => Some(v.clone().into()),
        ScalarValue::Decimal128(Some(v), precision, scale) if *precision <= EXACT_DIGITS => {
            // The nearest float to so few digits is written as these digits.
            let value = *v as f64 / 10_f64.powi((*scale).into());
            Number::from_f64(value).map(Value::Number)
        }
        ScalarValue::Date32(Some(_)) => {
            let text = value.cast_to(&DataType::Utf8).ok()?;
            Some(text.to_string().into())
        }
        ScalarValue::TimestampMillisecond(Some(_), zone)
        | ScalarValue::TimestampMicrosecond(Some(_), zone) => {
            let suffix = if zone.is_some() { "Z" } else { "" };
            // In UTC, which the text then leaves to the suffix.
            let utc = value.cast_to(&DataType::Int64).ok()?;
            let unit = match value {
                ScalarValue::TimestampMillisecond(..) => TimeUnit::Millisecond,
                _ => TimeUnit::Microsecond,
            };
            let utc = utc.cast_to(&DataType::Timestamp(unit, None)).ok()?;
            let utc = utc.cast_to(&DataType::Timestamp(TimeUnit::Microsecond, None));
            let text = utc.ok()?.cast_to(&DataType::Utf8).ok()?.to_string();
            Some(format!("{text}{suffix}").into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{
        Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    };
    use datafusion::parquet::arrow::ArrowWriter;
    use datafusion::parquet::file::metadata::ParquetMetaDataReader;
    use datafusion::parquet::file::properties::WriterProperties;

    use super::*;

    #[test]
    fn of_all_row_groups_together() {
        let text = StringArray::from(vec![Some("b"), None, Some("c"), Some("a")]);
        let at = TimestampMicrosecondArray::from(vec![1_500_000, 0, 1, 2]).with_timezone("+02:00");
        let price = Decimal128Array::from(vec![150, -25, 3, 4]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(Int64Array::from(vec![5, i64::MIN, 3, 4]))),
            ("x", Arc::new(Float64Array::from(vec![0.5, 1.0, f64::NAN, 2.0]))),
            ("text", Arc::new(text)),
            ("day", Arc::new(Date32Array::from(vec![20_780, 0, 1, 2]))),
            ("at", Arc::new(at)),
            ("price", Arc::new(price.with_precision_and_scale(9, 2).unwrap())),
            // One row group has nothing but NULLs: nothing is known of the column.
            ("half", Arc::new(Int64Array::from(vec![None, None, Some(1), Some(2)]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(2))
            .build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        let file = bytes::Bytes::from(writer.into_inner().unwrap());
        let footer = ParquetMetaDataReader::new().parse_and_finish(&file).unwrap();
        assert_eq!(footer.num_row_groups(), 2);
        let found: Value = serde_json::from_str(&statistics(&footer).unwrap()).unwrap();
        let wanted = json!({
            "numRecords": 4,
            "minValues": {
                "n": i64::MIN, "x": 0.5, "text": "a", "day": "1970-01-01",
                "at": "1970-01-01T00:00:00Z", "price": -0.25
            },
            "maxValues": {
                "n": 5, "text": "c", "day": "2026-11-23",
                "at": "1970-01-01T00:00:01.500Z", "price": 1.5
            },
            "nullCount": {"n": 0, "x": 0, "text": 1, "day": 0, "at": 0, "price": 0, "half": 2},
        });
        assert_eq!(found, wanted);
    }
}
