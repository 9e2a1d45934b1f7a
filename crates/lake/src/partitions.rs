//! Hive partitions: `year=2026/month=01/part.parquet` has the columns `year` and `month`.

use datafusion::common::plan_err;
use datafusion::error::Result;
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::Location;

/// The partition columns of files and each file's values, both in the order of the path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Partitions {
    pub(crate) columns: Vec<String>,
    /// One list a file, as long as `columns`.
    pub(crate) values: Vec<Vec<String>>,
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
fn key_values(base: &Path, file: &Path) -> Vec<(String, String)> {
    let Some(below) = file.prefix_match(base) else {
        return Vec::new();
    };
    let mut segments: Vec<String> = below.map(|part| part.as_ref().to_owned()).collect();
    segments.pop();
    segments
        .iter()
        .filter_map(|segment| segment.split_once('='))
        .map(|(key, value)| (key.to_owned(), decode(value)))
        .collect()
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
        assert_eq!(pairs[0], ("year".to_owned(), "2026".to_owned()));
        assert_eq!(pairs.len(), 2);
        assert_eq!(pairs[1].0, "section");
    }

    #[test]
    fn values_are_decoded_where_they_are_encoded() {
        assert_eq!(decode("a%20b"), "a b");
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("50%zz"), "50%zz");
        assert_eq!(decode("%C3%BC"), "ü");
    }
}
