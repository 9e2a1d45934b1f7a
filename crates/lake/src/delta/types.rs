//! Arrow's types as Delta Lake has them.

use datafusion::arrow::datatypes::{DataType as ArrowType, Field, TimeUnit};
use datafusion::common::plan_err;
use datafusion::error::Result;
use deltalake::kernel::{ArrayType, DataType, MapType, PrimitiveType, StructField, StructType};

/// What a column's name must not have in it: Parquet readers of Delta Lake refuse it.
const NOT_IN_NAMES: &[char] = &[' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='];

/// A column of the output as the log has it. Every column may be NULL there, as is usual: the next file
/// may bring NULLs where this one has none.
///
/// # Errors
/// For names and types that Delta Lake does not have.
pub(crate) fn column(field: &Field) -> Result<StructField> {
    let name = field.name();
    if name.is_empty() || name.contains(NOT_IN_NAMES) {
        return plan_err!(
            "'{name}' cannot be the name of a column in a Delta Lake table, which has no spaces or \
             ,;{{}}()= in it: name it in --select, such as … AS weights"
        );
    }
    match delta_type(field.data_type()) {
        Ok(data_type) => Ok(StructField::nullable(name, data_type)),
        Err(found) => plan_err!(
            "column '{name}' is {}, and Delta Lake has no {found}: convert it in --select, such as \
             CAST({name} AS {}) AS {name}",
            field.data_type(),
            instead(&found)
        ),
    }
}

/// What a type that Delta Lake has not can be converted to.
fn instead(found: &ArrowType) -> &'static str {
    match found {
        ArrowType::UInt8 => "SMALLINT",
        ArrowType::UInt16 => "INT",
        ArrowType::UInt64 => "DECIMAL(20, 0)",
        ArrowType::Float16 => "FLOAT",
        ArrowType::Timestamp(_, _) => "TIMESTAMP(6)",
        ArrowType::Date64 => "DATE",
        ArrowType::Decimal256(_, _) => "DECIMAL(38, 10)",
        ArrowType::Time32(_) | ArrowType::Time64(_) => "VARCHAR",
        _ => "BIGINT",
    }
}

/// The type; else the part of it that Delta Lake does not have.
pub(crate) fn delta_type(data_type: &ArrowType) -> std::result::Result<DataType, ArrowType> {
    let unknown = || Err(data_type.clone());
    Ok(match data_type {
        ArrowType::Boolean => DataType::BOOLEAN,
        ArrowType::Int8 => DataType::BYTE,
        ArrowType::Int16 => DataType::SHORT,
        ArrowType::Int32 => DataType::INTEGER,
        ArrowType::Int64 => DataType::LONG,
        ArrowType::Float32 => DataType::FLOAT,
        ArrowType::Float64 => DataType::DOUBLE,
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => DataType::STRING,
        ArrowType::Binary
        | ArrowType::LargeBinary
        | ArrowType::BinaryView
        | ArrowType::FixedSizeBinary(_) => DataType::BINARY,
        ArrowType::Date32 => DataType::DATE,
        // Parquet keeps no seconds, and readers such as Spark refuse nanoseconds.
        ArrowType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, None) => {
            DataType::TIMESTAMP_NTZ
        }
        ArrowType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, Some(_)) => {
            DataType::TIMESTAMP
        }
        ArrowType::Decimal32(precision, scale)
        | ArrowType::Decimal64(precision, scale)
        | ArrowType::Decimal128(precision, scale) => {
            let scale = u8::try_from(*scale).map_err(|_| data_type.clone())?;
            DataType::decimal(*precision, scale).map_err(|_| data_type.clone())?
        }
        // A vector's length is in the files' Arrow schema; Delta Lake has no type for it.
        ArrowType::List(item)
        | ArrowType::LargeList(item)
        | ArrowType::ListView(item)
        | ArrowType::LargeListView(item)
        | ArrowType::FixedSizeList(item, _) => {
            ArrayType::new(delta_type(item.data_type())?, true).into()
        }
        ArrowType::Struct(fields) => {
            let fields: Vec<StructField> = fields
                .iter()
                .map(|field| {
                    let data_type = delta_type(field.data_type())?;
                    Ok(StructField::nullable(field.name(), data_type))
                })
                .collect::<std::result::Result<_, ArrowType>>()?;
            match StructType::try_new(fields) {
                Ok(fields) => fields.into(),
                Err(_) => return unknown(),
            }
        }
        ArrowType::Map(entries, _) => match entries.data_type() {
            ArrowType::Struct(fields) if fields.len() == 2 => {
                let key = delta_type(fields[0].data_type())?;
                MapType::new(key, delta_type(fields[1].data_type())?, true).into()
            }
            _ => return unknown(),
        },
        ArrowType::Dictionary(_, values) => delta_type(values)?,
        _ => return unknown(),
    })
}

/// Whether values are the same; which of them may be NULL is another question.
pub(crate) fn same_values(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        (DataType::Array(a), DataType::Array(b)) => same_values(a.element_type(), b.element_type()),
        (DataType::Map(a), DataType::Map(b)) => {
            same_values(a.key_type(), b.key_type()) && same_values(a.value_type(), b.value_type())
        }
        (DataType::Struct(a), DataType::Struct(b)) => {
            a.fields().count() == b.fields().count()
                && a.fields()
                    .zip(b.fields())
                    .all(|(a, b)| a.name() == b.name() && same_values(a.data_type(), b.data_type()))
        }
        (a, b) => a == b,
    }
}

/// Whether files with these values can be read as a column of the log. Times are stored in several
/// units, and some writers leave the zone out.
pub(crate) fn is_stored_as(file: &ArrowType, log: &DataType) -> bool {
    let is_time = matches!(
        log,
        DataType::Primitive(PrimitiveType::Timestamp | PrimitiveType::TimestampNtz)
    );
    match file {
        ArrowType::Timestamp(_, _) if is_time => true,
        ArrowType::List(item) | ArrowType::LargeList(item) | ArrowType::FixedSizeList(item, _) => {
            match log {
                DataType::Array(array) => is_stored_as(item.data_type(), array.element_type()),
                _ => false,
            }
        }
        ArrowType::Struct(fields) => match log {
            // A field that the log does not name was dropped, or is to be read under another name.
            DataType::Struct(known) => fields.iter().all(|field| {
                known
                    .field(field.name())
                    .is_some_and(|known| is_stored_as(field.data_type(), known.data_type()))
            }),
            _ => false,
        },
        other => delta_type(other).is_ok_and(|found| same_values(&found, log)),
    }
}

/// What differs between a table's columns and those of the output, for people.
pub(crate) fn differences(table: &StructType, output: &StructType) -> Vec<String> {
    let of_output = output.fields().filter_map(|field| {
        let name = field.name();
        match table.field(name) {
            None => Some(format!("'{name}' is not in the table")),
            Some(known) if !same_values(known.data_type(), field.data_type()) => Some(format!(
                "'{name}' is {} in the table and {} in the output",
                known.data_type(),
                field.data_type()
            )),
            Some(_) => None,
        }
    });
    let only_table = table
        .fields()
        .filter(|field| output.field(field.name()).is_none())
        .map(|field| format!("'{}' is not in the output", field.name()));
    of_output.chain(only_table).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn struct_of(columns: &[(&str, ArrowType)]) -> StructType {
        let fields = columns
            .iter()
            .map(|(name, data_type)| column(&Field::new(*name, data_type.clone(), false)).unwrap());
        StructType::try_new(fields).unwrap()
    }

    #[test]
    fn vectors_are_arrays() {
        let item = Arc::new(Field::new_list_field(ArrowType::Float32, false));
        let vector = ArrowType::FixedSizeList(item, 3);
        let found = column(&Field::new("v", vector.clone(), false)).unwrap();
        assert_eq!(found.data_type().to_string(), "array<float>");
        assert!(found.is_nullable());
        assert!(is_stored_as(&vector, found.data_type()));
    }

    #[test]
    fn what_delta_lake_has_not_is_refused_with_a_way_out() {
        for (data_type, remedy) in [
            (ArrowType::UInt32, "CAST(x AS BIGINT) AS x"),
            (ArrowType::Float16, "CAST(x AS FLOAT) AS x"),
            (
                ArrowType::Timestamp(TimeUnit::Nanosecond, None),
                "CAST(x AS TIMESTAMP(6)) AS x",
            ),
        ] {
            let list = ArrowType::List(Arc::new(Field::new_list_field(data_type.clone(), true)));
            for tried in [data_type, list] {
                let error = column(&Field::new("x", tried, true)).unwrap_err();
                assert!(error.to_string().contains(remedy), "{error}");
            }
        }
        let error = column(&Field::new("softmax(s)", ArrowType::Int32, true)).unwrap_err();
        assert!(error.to_string().contains("name it in --select"), "{error}");
    }

    #[test]
    fn differences_are_named() {
        let table = struct_of(&[("a", ArrowType::Int64), ("b", ArrowType::Utf8)]);
        let dictionary =
            ArrowType::Dictionary(Box::new(ArrowType::Int32), Box::new(ArrowType::Utf8));
        let same = struct_of(&[("b", dictionary), ("a", ArrowType::Int64)]);
        assert_eq!(differences(&table, &same), Vec::<String>::new());
        let other = struct_of(&[("a", ArrowType::Float64), ("c", ArrowType::Utf8)]);
        assert_eq!(
            differences(&table, &other),
            [
                "'a' is long in the table and double in the output",
                "'c' is not in the table",
                "'b' is not in the output"
            ]
        );
    }
}
