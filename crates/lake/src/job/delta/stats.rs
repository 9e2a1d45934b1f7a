//! Statistics of a file for the log, from its Parquet footer.

use std::cmp::Ordering;

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::compute::sum;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use datafusion::parquet::arrow::parquet_to_arrow_schema;
use datafusion::parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use serde_json::Value;

/// Columns that have statistics in the log: Delta Lake's default. They cost room in every reader.
const COLUMNS: usize = 32;

/// As JSON: number of rows; smallest and largest value and number of NULLs of columns that are neither
/// lists nor structures. Bounds of floats are Parquet's, which leave NaN out.
///
/// # Errors
/// When the footer contradicts itself.
pub(super) fn statistics(footer: &ParquetMetaData) -> Result<String> {
    let file = footer.file_metadata();
    let schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())?;
    let schema: SchemaRef = schema.into();
    let rows: Vec<i64> = footer
        .row_groups()
        .iter()
        .map(RowGroupMetaData::num_rows)
        .collect();
    let (mut least, mut most, mut nulls) = (Vec::new(), Vec::new(), Vec::new());
    for field in schema.fields().iter().take(COLUMNS) {
        if field.data_type().is_nested() {
            continue;
        }
        let name = Value::from(field.name().as_str());
        let column = StatisticsConverter::try_new(field.name(), &schema, file.schema_descr())?;
        let groups = footer.row_groups();
        let count = column.row_group_null_counts(groups)?;
        // A row group without a value has none to be bounded.
        let has_values: Vec<bool> = rows
            .iter()
            .zip(count.iter())
            .map(|(rows, nulls)| nulls.is_none_or(|nulls| nulls.cast_signed() < *rows))
            .collect();
        if count.null_count() == 0 {
            nulls.push(format!("{name}:{}", sum(&count).unwrap_or(0)));
        }
        let mins = values(&column.row_group_mins(groups)?, &has_values)?;
        if let Some(value) = extreme(mins, Ordering::Less).and_then(|value| bound(&value)) {
            least.push(format!("{name}:{value}"));
        }
        let maxes = values(&column.row_group_maxes(groups)?, &has_values)?;
        if let Some(value) = extreme(maxes, Ordering::Greater).and_then(|value| bound(&value)) {
            most.push(format!("{name}:{value}"));
        }
    }
    Ok(format!(
        r#"{{"numRecords":{},"minValues":{{{}}},"maxValues":{{{}}},"nullCount":{{{}}}}}"#,
        file.num_rows(),
        least.join(","),
        most.join(","),
        nulls.join(",")
    ))
}

/// One value for each row group that has values.
fn values(array: &ArrayRef, has_values: &[bool]) -> Result<Vec<ScalarValue>> {
    let rows = (0..array.len()).filter(|row| has_values[*row]);
    rows.map(|row| ScalarValue::try_from_array(array, row))
        .collect()
}

/// The value of all row groups together; `None` as soon as one row group's is not known.
fn extreme(values: Vec<ScalarValue>, wanted: Ordering) -> Option<ScalarValue> {
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

/// A bound as the log has it, in JSON; `None` for types that have none there.
fn bound(value: &ScalarValue) -> Option<String> {
    match value {
        ScalarValue::Dictionary(_, value) => bound(value),
        ScalarValue::Float32(Some(v)) if v.is_finite() => Some(Value::from(*v).to_string()),
        ScalarValue::Float64(Some(v)) if v.is_finite() => Some(Value::from(*v).to_string()),
        ScalarValue::Utf8(Some(v))
        | ScalarValue::LargeUtf8(Some(v))
        | ScalarValue::Utf8View(Some(v)) => Some(Value::from(v.as_str()).to_string()),
        ScalarValue::Int8(_)
        | ScalarValue::Int16(_)
        | ScalarValue::Int32(_)
        | ScalarValue::Int64(_)
        // All its digits, which a float would not have.
        | ScalarValue::Decimal128(..) => text(value),
        ScalarValue::Date32(_) => Some(format!("\"{}\"", text(value)?)),
        ScalarValue::TimestampMillisecond(Some(at), zone) => {
            time(at.checked_mul(1000)?, zone.is_some())
        }
        ScalarValue::TimestampMicrosecond(Some(at), zone) => time(*at, zone.is_some()),
        _ => None,
    }
}

/// Microseconds since 1970, in UTC.
fn time(at: i64, has_zone: bool) -> Option<String> {
    let suffix = if has_zone { "Z" } else { "" };
    let at = text(&ScalarValue::TimestampMicrosecond(Some(at), None))?;
    Some(format!("\"{at}{suffix}\""))
}

fn text(value: &ScalarValue) -> Option<String> {
    Some(value.cast_to(&DataType::Utf8).ok()?.to_string())
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

    use serde_json::json;

    use super::*;

    #[test]
    fn bounds_keep_all_digits() {
        let wide = ScalarValue::Decimal128(Some(10_i128.pow(33) + 1), 38, 3);
        assert_eq!(bound(&wide).unwrap(), "1000000000000000000000000000000.001");
        let small = ScalarValue::Decimal128(Some(-5), 9, 2);
        assert_eq!(bound(&small).unwrap(), "-0.05");
        assert_eq!(bound(&ScalarValue::Float64(Some(f64::NAN))), None);
        assert_eq!(bound(&ScalarValue::from("a\"b")).unwrap(), r#""a\"b""#);
    }

    #[test]
    fn of_all_row_groups_together() {
        let text = StringArray::from(vec![Some("b"), None, Some("c"), Some("a")]);
        let at = TimestampMicrosecondArray::from(vec![1_500_000, 0, 1, 2]).with_timezone("+02:00");
        let price = Decimal128Array::from(vec![150, -25, 3, 4]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(Int64Array::from(vec![5, i64::MIN, 3, 4]))),
            (
                "x",
                Arc::new(Float64Array::from(vec![0.5, 1.0, f64::NAN, 2.0])),
            ),
            ("text", Arc::new(text)),
            ("day", Arc::new(Date32Array::from(vec![20_780, 0, 1, 2]))),
            ("at", Arc::new(at)),
            (
                "price",
                Arc::new(price.with_precision_and_scale(9, 2).unwrap()),
            ),
            // One row group has nothing but NULLs.
            (
                "half",
                Arc::new(Int64Array::from(vec![None, None, Some(1), Some(2)])),
            ),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(2))
            .build();
        let mut writer =
            ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        let file = bytes::Bytes::from(writer.into_inner().unwrap());
        let footer = ParquetMetaDataReader::new()
            .parse_and_finish(&file)
            .unwrap();
        assert_eq!(footer.num_row_groups(), 2);
        let found: Value = serde_json::from_str(&statistics(&footer).unwrap()).unwrap();
        let wanted = json!({
            "numRecords": 4,
            "minValues": {
                "n": i64::MIN, "x": 0.5, "text": "a", "day": "1970-01-01",
                "at": "1970-01-01T00:00:00Z", "price": -0.25, "half": 1
            },
            "maxValues": {
                "n": 5, "x": 2.0, "text": "c", "day": "2026-11-23",
                "at": "1970-01-01T00:00:01.500Z", "price": 1.5, "half": 2
            },
            "nullCount": {"n": 0, "x": 0, "text": 1, "day": 0, "at": 0, "price": 0, "half": 2},
        });
        assert_eq!(found, wanted);
    }
}
