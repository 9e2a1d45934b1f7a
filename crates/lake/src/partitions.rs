//! Partition columns: `year=2026/month=01/part.parquet` has the columns `year` and `month`, and a Delta
//! Lake table's log tells the values of each file.

use std::fmt::Write as _;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::datasource::physical_plan::{
    wrap_partition_type_in_dict, wrap_partition_value_in_dict,
};
use datafusion::error::Result;
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::Location;

/// What hive writes for a NULL partition value.
pub(crate) const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// The partition columns of files and each file's values, both in the order of the path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Partitions {
    pub(crate) columns: Vec<String>,
    /// As long as `columns`: text, unless a table's log knows better.
    pub(crate) types: Vec<DataType>,
    /// One list a file, as long as `columns`, as text.
    pub(crate) values: Vec<Vec<Option<String>>>,
}

impl Partitions {
    /// Without the columns that are also written into the files, and are read from there.
    pub(crate) fn not_in(self, files: &SchemaRef) -> Self {
        let kept: Vec<bool> = self
            .columns
            .iter()
            .map(|name| files.field_with_name(name).is_err())
            .collect();
        Self {
            columns: chosen(self.columns, &kept),
            types: chosen(self.types, &kept),
            values: self
                .values
                .into_iter()
                .map(|values| chosen(values, &kept))
                .collect(),
        }
    }

    /// The columns as a scan has them.
    pub(crate) fn fields(&self) -> Vec<FieldRef> {
        let columns = self.columns.iter().zip(&self.types);
        columns
            .map(|(name, data_type)| Arc::new(Field::new(name, scanned_type(data_type), true)))
            .collect()
    }

    /// A file's values as a scan has them.
    ///
    /// # Errors
    /// When a value is not of its column's type, as in a damaged log.
    pub(crate) fn scalars(&self, file: usize) -> Result<Vec<ScalarValue>> {
        let values = self.values[file].iter().zip(&self.types);
        values
            .map(|(value, data_type)| {
                if *data_type == DataType::Utf8 {
                    let text = ScalarValue::Utf8(value.clone());
                    return Ok(wrap_partition_value_in_dict(text));
                }
                match value {
                    Some(text) => ScalarValue::try_from_string(text.clone(), data_type),
                    None => ScalarValue::try_from(data_type),
                }
            })
            .collect()
    }
}

fn scanned_type(data_type: &DataType) -> DataType {
    match data_type {
        // Few different texts, each many times.
        DataType::Utf8 => wrap_partition_type_in_dict(DataType::Utf8),
        other => other.clone(),
    }
}

fn chosen<T>(items: Vec<T>, kept: &[bool]) -> Vec<T> {
    let items = items.into_iter().zip(kept);
    items.filter(|(_, kept)| **kept).map(|(i, _)| i).collect()
}

/// Reads the partitions off the paths below the location.
///
/// # Errors
/// When two files have different partition columns; both are named.
pub(crate) fn read_partitions(location: &Location, files: &[ObjectMeta]) -> Result<Partitions> {
    let mut partitions = Partitions::default();
    for file in files {
        let pairs = key_values(location.prefix(), &file.location);
        let (columns, values): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        if partitions.values.is_empty() {
            partitions.types = vec![DataType::Utf8; columns.len()];
            partitions.columns = columns;
        } else if partitions.columns != columns {
            return plan_err!(
                "the files of '{}' have different partition columns: '{}' has {}, '{}' has {}; \
                 name one kind with a glob",
                location.text(),
                location.name_of(&files[0].location),
                listed(&partitions.columns),
                location.name_of(&file.location),
                listed(&columns)
            );
        }
        partitions.values.push(values);
    }
    Ok(partitions)
}

/// The `key=value` directories between `base` and the file.
pub(crate) fn key_values(base: &Path, file: &Path) -> Vec<(String, Option<String>)> {
    let Some(below) = file.prefix_match(base) else {
        return Vec::new();
    };
    let mut segments: Vec<String> = below.map(|part| part.as_ref().to_owned()).collect();
    segments.pop();
    segments
        .iter()
        .filter_map(|segment| segment.split_once('='))
        .map(|(key, value)| {
            let value = (value != NULL_PARTITION).then(|| decode(value));
            (key.to_owned(), value)
        })
        .collect()
}

/// The directories that say the values, as [`key_values`] reads them.
pub(crate) fn directories(columns: &[String], values: &[Option<String>]) -> String {
    let pairs = columns.iter().zip(values);
    pairs
        .map(|(column, value)| match value {
            Some(value) => format!("{column}={}/", encode(value)),
            None => format!("{column}={NULL_PARTITION}/"),
        })
        .collect()
}

/// Percent-encodes what cannot stand in a directory's name, or would be read as encoded.
fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for character in value.chars() {
        if character.is_control() || "\"#%'*/:=?\\{}[]^".contains(character) {
            let mut buffer = [0; 4];
            for byte in character.encode_utf8(&mut buffer).bytes() {
                // Writing to a String cannot fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
        } else {
            encoded.push(character);
        }
    }
    encoded
}

/// Undoes the percent-encoding that writers of hive partitions use for special characters.
fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let encoded = tail
            .get(..2)
            .filter(|_| first == b'%')
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(encoded.unwrap_or(first));
        rest = if encoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| value.to_owned())
}

fn listed(columns: &[String]) -> String {
    if columns.is_empty() {
        "none".to_owned()
    } else {
        columns.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_below_the_base_give_the_columns() {
        let base = Path::from("lake/table=x");
        let file = Path::from("lake/table=x/year=2026/plain/section=a%2Fb/part.parquet");
        let pairs = key_values(&base, &file);
        assert_eq!(pairs[0], ("year".to_owned(), Some("2026".to_owned())));
        assert_eq!(pairs.len(), 2);
        assert_eq!(pairs[1].0, "section");
    }

    #[test]
    fn directories_are_read_as_they_are_written() {
        let columns = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let values = [Some("x/y = 100%".to_owned()), None, Some("ü\n".to_owned())];
        let written = directories(&columns, &values);
        assert_eq!(
            written,
            "a=x%2Fy %3D 100%25/b=__HIVE_DEFAULT_PARTITION__/c=ü%0A/"
        );
        let file = Path::parse(format!("t/{written}part.parquet")).unwrap();
        let read: Vec<_> = key_values(&Path::from("t"), &file);
        assert_eq!(read.into_iter().map(|(_, v)| v).collect::<Vec<_>>(), values);
    }

    #[test]
    fn values_have_their_columns_types() {
        let partitions = Partitions {
            columns: vec!["day".to_owned(), "n".to_owned()],
            types: vec![DataType::Date32, DataType::Int64],
            values: vec![vec![Some("2026-11-23".to_owned()), None]],
        };
        assert_eq!(
            partitions.scalars(0).unwrap(),
            [ScalarValue::Date32(Some(20_780)), ScalarValue::Int64(None)]
        );
    }

    #[test]
    fn values_are_decoded_where_they_are_encoded() {
        assert_eq!(decode("a%20b"), "a b");
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("50%zz"), "50%zz");
        assert_eq!(decode("%C3%BC"), "ü");
    }
}
