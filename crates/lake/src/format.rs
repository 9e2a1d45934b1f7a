//! Which reader a file needs, by its name.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::{not_impl_datafusion_err, plan_err};
use datafusion::datasource::file_format::FileFormat;
use datafusion::error::Result;
use datafusion::execution::SessionState;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::Location;

/// The extensions that are read, for messages.
const READABLE: &str = ".parquet, .csv, .tsv, .json, .ndjson, .jsonl, .arrow or .avro";

/// A file format and how its text is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// The name under which `DataFusion` knows the format.
    pub(crate) format: &'static str,
    delimiter: Option<&'static str>,
    compression: Option<&'static str>,
}

impl Kind {
    pub(crate) const fn plain(format: &'static str) -> Self {
        Self {
            format,
            delimiter: None,
            compression: None,
        }
    }

    /// By extension, in any case; `None` for a file that is no data to us.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let name = path.filename()?.to_ascii_lowercase();
        let (name, compression) = [
            ("gz", "gzip"),
            ("zst", "zstd"),
            ("bz2", "bzip2"),
            ("xz", "xz"),
        ]
        .into_iter()
        .find_map(|(suffix, compression)| {
            let stem = name.strip_suffix(suffix)?.strip_suffix('.')?;
            Some((stem, Some(compression)))
        })
        .unwrap_or((&name, None));
        let (format, delimiter) = match name.rsplit_once('.')?.1 {
            "parquet" | "parq" | "pq" => ("parquet", None),
            "csv" => ("csv", None),
            "tsv" => ("csv", Some("\t")),
            "json" | "ndjson" | "jsonl" => ("json", None),
            "arrow" | "feather" | "ipc" => ("arrow", None),
            "avro" => ("avro", None),
            _ => return None,
        };
        // The binary formats compress inside; a `.parquet.gz` is no Parquet file.
        let is_text = matches!(format, "csv" | "json");
        (is_text || compression.is_none()).then_some(Self {
            format,
            delimiter,
            compression,
        })
    }

    /// Formats whose files say what their columns are, so that each file can be checked.
    pub(crate) fn has_schema(self) -> bool {
        matches!(self.format, "parquet" | "arrow" | "avro")
    }

    /// The reader.
    ///
    /// # Errors
    /// When this `DataFusion` was built without the format.
    pub(crate) fn reader(self, state: &SessionState) -> Result<Arc<dyn FileFormat>> {
        let factory = state.get_file_format_factory(self.format).ok_or_else(|| {
            not_impl_datafusion_err!("this build cannot read {} files", self.format)
        })?;
        let mut options = HashMap::new();
        if let Some(delimiter) = self.delimiter {
            options.insert("format.delimiter".to_owned(), delimiter.to_owned());
        }
        if let Some(compression) = self.compression {
            options.insert("format.compression".to_owned(), compression.to_owned());
        }
        factory.create(state, &options)
    }
}

/// The reader of Parquet.
///
/// # Errors
/// When this `DataFusion` was built without it.
pub(crate) fn parquet_reader(state: &SessionState) -> Result<Arc<dyn FileFormat>> {
    Kind::plain("parquet").reader(state)
}

/// Keeps the data files and finds their one format.
///
/// # Errors
/// When there is no data file, or files of several formats.
pub(crate) fn one_kind(
    location: &Location,
    files: Vec<ObjectMeta>,
) -> Result<(Kind, Vec<ObjectMeta>)> {
    let total = files.len();
    let mut data: Vec<(Kind, ObjectMeta)> = files
        .into_iter()
        .filter_map(|file| Some((Kind::of(&file.location)?, file)))
        .collect();
    let text = location.text();
    let Some(&(kind, ref first)) = data.first() else {
        return plan_err!(
            "no data files in '{text}': none of its {total} files ends in {READABLE}"
        );
    };
    if let Some((_, other)) = data.iter().find(|(other, _)| *other != kind) {
        return plan_err!(
            "'{text}' has files of several formats, such as '{}' and '{}': name those of one \
             format with a glob, for example '*.parquet'",
            location.name_of(&first.location),
            location.name_of(&other.location)
        );
    }
    if data.len() < total {
        tracing::debug!(
            location = text,
            skipped = total - data.len(),
            "skipped files that are no data"
        );
    }
    Ok((kind, data.drain(..).map(|(_, file)| file).collect()))
}

/// The format of a single file: by its name, else by its first bytes.
///
/// # Errors
/// When neither tells.
pub(crate) async fn kind_of_file(
    location: &Location,
    store: &dyn ObjectStore,
    file: &ObjectMeta,
) -> Result<Kind> {
    if let Some(kind) = Kind::of(&file.location) {
        return Ok(kind);
    }
    let head = store.get_range(&file.location, 0..file.size.min(6)).await?;
    for (magic, format) in [
        (&b"PAR1"[..], "parquet"),
        (b"ARROW1", "arrow"),
        (b"Obj\x01", "avro"),
    ] {
        if head.starts_with(magic) {
            return Ok(Kind::plain(format));
        }
    }
    plan_err!(
        "cannot tell the format of '{}' from its name or its first bytes: name it {READABLE}, or \
         declare it with CREATE EXTERNAL TABLE … STORED AS … LOCATION '{}'",
        location.text(),
        location.text()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> Option<(&'static str, Option<&'static str>)> {
        Kind::of(&Path::from(name)).map(|kind| (kind.format, kind.compression))
    }

    #[test]
    fn extensions_tell_the_format() {
        assert_eq!(kind("a/b.parquet"), Some(("parquet", None)));
        assert_eq!(kind("b.PARQUET"), Some(("parquet", None)));
        assert_eq!(kind("b.zstd.parquet"), Some(("parquet", None)));
        assert_eq!(kind("b.csv.gz"), Some(("csv", Some("gzip"))));
        assert_eq!(kind("b.jsonl"), Some(("json", None)));
        for unknown in ["b", "b.parquet.gz", "b.parquet.tmp", "README.md", "b.gz"] {
            assert_eq!(kind(unknown), None, "{unknown}");
        }
    }
}
