//! What the footers of Parquet files tell: all that a job is planned from.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{plan_datafusion_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::parquet::arrow::parquet_to_arrow_schema;
use datafusion::parquet::file::metadata::{KeyValue, ParquetMetaData, ParquetMetaDataReader};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::digest::sha256;
use crate::Location;
use crate::listing::list_version;
use crate::partitions::{Partitions, directories, key_values};
use crate::schema::damaged;

/// Magic bytes and the footer's length, at the end of every Parquet file.
const TAIL: u64 = 8;
/// What is read at once from a file's end: most footers, with one request.
const PREFETCH: u64 = 64 << 10;
/// Footers read at the same time.
const CONCURRENT: usize = 16;

/// Which bytes a file had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InputStamp {
    /// Its path below the input's.
    pub(crate) path: String,
    /// Its size.
    pub(crate) bytes: u64,
    /// ETag in an object store, time of modification on a local disk.
    pub(crate) version: String,
    /// SHA-256 of the footer.
    pub(crate) footer: String,
}

/// One row group, in short.
#[derive(Debug, Clone)]
pub(crate) struct RowGroup {
    pub(crate) rows: usize,
    /// Of each leaf column, compressed.
    pub(crate) column_bytes: Vec<usize>,
}

/// One file of the input.
#[derive(Debug, Clone)]
pub(crate) struct InputFile {
    pub(crate) meta: ObjectMeta,
    /// For messages.
    pub(crate) name: String,
    pub(crate) stamp: InputStamp,
    pub(crate) schema: SchemaRef,
    /// The name of the top-level column of each leaf.
    pub(crate) leaves: Arc<[String]>,
    pub(crate) row_groups: Vec<RowGroup>,
    /// What the output's files are named after, with a directory for each partition column.
    pub(crate) output_path: String,
    /// What its writer said about it, for the output to say again.
    pub(crate) key_values: Vec<KeyValue>,
}

impl InputFile {
    pub(crate) fn rows(&self) -> usize {
        self.row_groups.iter().map(|group| group.rows).sum()
    }
}

/// All files of the input, in natural order of their names.
#[derive(Debug, Clone)]
pub(crate) struct InputFiles {
    pub(crate) location: Location,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) files: Vec<InputFile>,
    /// Columns of all files together.
    pub(crate) schema: SchemaRef,
    /// Partition columns that are not in the files.
    pub(crate) partitions: Partitions,
    /// Where the input is a Delta Lake table.
    pub(crate) version: Option<u64>,
}

/// Lists the input, of a Delta Lake table the chosen or newest version, and reads its footers.
///
/// # Errors
/// See [`list_files`](crate::list_files); and for files that are not Parquet, damaged, or do not agree.
pub(crate) async fn read_footers(
    state: &SessionState,
    location: &Location,
    version: Option<u64>,
) -> Result<InputFiles> {
    let found = list_version(state, location, version).await?;
    if found.kind.format != "parquet" {
        return plan_err!(
            "'{}' holds {} files: a job reads Parquet; write it once with COPY (SELECT * FROM '{}') TO \
             'directory/'",
            location.text(),
            found.kind.format,
            location.text()
        );
    }
    let store = &found.store;
    let mut files: Vec<InputFile> = futures::stream::iter(&found.files)
        .map(|meta| read_footer(location, store, meta))
        .buffered(CONCURRENT)
        .try_collect()
        .await?;
    let schemas: Vec<SchemaRef> = files.iter().map(|file| Arc::clone(&file.schema)).collect();
    let schema = found.merged(location, &schemas)?;
    let partitions = found.partitions(location)?;
    if found.delta.is_some() {
        for (file, values) in files.iter_mut().zip(&partitions.values) {
            file.output_path = output_path(&file.stamp.path, &partitions.columns, values);
        }
    }
    Ok(InputFiles {
        location: location.clone(),
        partitions: partitions.not_in(&schema),
        schema,
        version: found.delta.as_ref().map(|active| active.version),
        store: found.store,
        files,
    })
}

/// The path of a file of a table, whose values are in the log: its directories need not say them.
fn output_path(path: &str, columns: &[String], values: &[Option<String>]) -> String {
    let said = key_values(&Path::default(), &Path::from(path));
    let same = said.len() == columns.len()
        && said.iter().zip(columns.iter().zip(values)).all(
            |((said_column, said_value), (column, value))| {
                said_column == column && said_value == value
            },
        );
    if same {
        return path.to_owned();
    }
    let file = path.rsplit('/').next().unwrap_or(path);
    format!("{}{file}", directories(columns, values))
}

async fn read_footer(
    location: &Location,
    store: &Arc<dyn ObjectStore>,
    meta: &ObjectMeta,
) -> Result<InputFile> {
    let broken = |error: DataFusionError| damaged(location, "Parquet", meta, error);
    let footer = footer_bytes(store.as_ref(), meta).await.map_err(broken)?;
    let parsed =
        ParquetMetaDataReader::decode_metadata(&footer).map_err(|error| broken(error.into()))?;
    let schema = arrow_schema(&parsed).map_err(broken)?;
    let descriptor = parsed.file_metadata().schema_descr();
    let leaves = (0..descriptor.num_columns())
        .map(|leaf| descriptor.get_column_root(leaf).name().to_owned())
        .collect();
    let row_groups = parsed.row_groups().iter().map(|group| RowGroup {
        rows: usize::try_from(group.num_rows()).unwrap_or(0),
        column_bytes: group
            .columns()
            .iter()
            .map(|column| usize::try_from(column.compressed_size()).unwrap_or(0))
            .collect(),
    });
    let key_values = parsed.file_metadata().key_value_metadata();
    let path = relative_path(location, meta);
    Ok(InputFile {
        meta: meta.clone(),
        name: location.name_of(&meta.location),
        stamp: InputStamp {
            path: path.clone(),
            bytes: meta.size,
            version: version(location, meta),
            footer: sha256(&footer),
        },
        schema,
        leaves,
        row_groups: row_groups.collect(),
        output_path: path,
        key_values: key_values.cloned().unwrap_or_default(),
    })
}

fn arrow_schema(parsed: &ParquetMetaData) -> Result<SchemaRef> {
    let file = parsed.file_metadata();
    let schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())?;
    Ok(Arc::new(schema))
}

/// The serialised footer, without the eight bytes behind it.
pub(crate) async fn footer_bytes(
    store: &dyn ObjectStore,
    meta: &ObjectMeta,
) -> Result<bytes::Bytes> {
    let cut_off = || plan_datafusion_err!("it has no footer");
    let size = meta.size;
    let start = size.saturating_sub(PREFETCH);
    let end = store.get_range(&meta.location, start..size).await?;
    let tail = end
        .len()
        .checked_sub(TAIL as usize)
        .and_then(|at| end.get(at..))
        .ok_or_else(cut_off)?;
    if &tail[4..] != b"PAR1" {
        return plan_err!("it does not end as a Parquet file does");
    }
    let length = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    let from = size.checked_sub(length + TAIL).ok_or_else(cut_off)?;
    if from >= start {
        let at = (from - start) as usize;
        return Ok(end.slice(at..at + length as usize));
    }
    Ok(store.get_range(&meta.location, from..size - TAIL).await?)
}

/// What changes when the file does. A local file's ETag has its inode in it, which a restored copy does
/// not keep.
fn version(location: &Location, meta: &ObjectMeta) -> String {
    match &meta.e_tag {
        Some(tag) if !location.is_local() => tag.clone(),
        _ => meta.last_modified.to_rfc3339(),
    }
}

/// Below the location; a single file's is its name.
fn relative_path(location: &Location, meta: &ObjectMeta) -> String {
    let parts: Vec<String> = meta
        .location
        .prefix_match(location.prefix())
        .into_iter()
        .flatten()
        .map(|part| part.as_ref().to_owned())
        .collect();
    if parts.is_empty() {
        meta.location.filename().unwrap_or("input").to_owned()
    } else {
        parts.join("/")
    }
}

/// Whether a file is still the one that was planned with.
///
/// # Errors
/// When it was replaced, cut off or removed meanwhile, which names it, or cannot be asked about.
pub(crate) async fn check_unchanged(store: &dyn ObjectStore, file: &InputFile) -> Result<()> {
    let name = &file.name;
    match store.head(&file.meta.location).await {
        Ok(now)
            if now.size == file.meta.size
                && now.e_tag == file.meta.e_tag
                && now.last_modified == file.meta.last_modified =>
        {
            Ok(())
        }
        Ok(now) => datafusion::common::exec_err!(
            "'{name}' changed while the job read it: it had {} bytes and now has {}; nothing that was \
             computed from the mixture is kept; run the job again once the file stays as it is",
            file.meta.size,
            now.size
        ),
        Err(object_store::Error::NotFound { .. }) => datafusion::common::exec_err!(
            "'{name}' was removed while the job read it: put it back or leave it out, then run the job \
             again"
        ),
        Err(error) => Err(DataFusionError::from(error).context(format!("cannot read '{name}'"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_of_a_table_lie_where_their_values_are() {
        let columns = ["year".to_owned(), "name".to_owned()];
        let values = [Some("2026".to_owned()), Some("a/b".to_owned())];
        for (path, wanted) in [
            (
                "year=2026/name=a%2Fb/x.parquet",
                "year=2026/name=a%2Fb/x.parquet",
            ),
            ("qz/x.parquet", "year=2026/name=a%2Fb/x.parquet"),
            ("year=2026/x.parquet", "year=2026/name=a%2Fb/x.parquet"),
        ] {
            assert_eq!(output_path(path, &columns, &values), wanted);
        }
        assert_eq!(output_path("x.parquet", &[], &[]), "x.parquet");
    }
}
