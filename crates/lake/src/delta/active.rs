//! Reading a table: the files of a version, and what the log says of them.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef};
use datafusion::common::{exec_err, plan_datafusion_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use deltalake::kernel::engine::arrow_conversion::TryIntoArrow;
use deltalake::kernel::{LogicalFileView, StructType};
use deltalake::table::state::DeltaTableState;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::place::DeltaPlace;
use super::types::is_stored_as;
use crate::Location;
use crate::natural_order::natural_cmp;
use crate::partitions::Partitions;

/// Files asked about at the same time.
const CONCURRENT: usize = 16;

/// Features of tables that change nothing in how a file's rows are read. Deletion vectors, column
/// mapping and widened types do, where a table makes use of them: they are looked for one by one.
const KNOWN_FEATURES: [&str; 7] = [
    "columnMapping",
    "deletionVectors",
    "timestampNtz",
    "typeWidening",
    "typeWidening-preview",
    "v2Checkpoint",
    "vacuumProtocolCheck",
];

/// What a table's log says of its files.
#[derive(Debug, Clone)]
pub(crate) struct ActiveFiles {
    pub(crate) version: u64,
    /// In the order of the files.
    pub(crate) partitions: Partitions,
    schema: Arc<StructType>,
}

/// The files of a table in natural order, by default of its newest version.
///
/// # Errors
/// When the log or a file cannot be read; when rows of the files are not rows of the table, which
/// only a reader with support for deletion vectors and the like can tell; when there are no files.
pub(crate) async fn active_files(
    location: &Location,
    store: &Arc<dyn ObjectStore>,
    version: Option<u64>,
) -> Result<(Vec<ObjectMeta>, ActiveFiles)> {
    let text = location.text();
    let place = DeltaPlace::new(location, store)?;
    let Some(table) = place.load(version).await? else {
        return plan_err!(
            "'{text}' has a directory _delta_log without a log: it is no whole Delta Lake table; write it \
             again, or name its files with a glob such as '*.parquet' to read all of them"
        );
    };
    check_readable(&table, text)?;
    let mut files = Vec::new();
    for view in table.log_data().iter() {
        files.push((file_path(location, &view)?, view.partition_values_map()));
    }
    if files.is_empty() {
        return plan_err!(
            "the Delta Lake table '{text}' has no files in version {}: there are no rows to read",
            table.version()
        );
    }
    files.sort_by(|(a, _), (b, _)| natural_cmp(a.as_ref(), b.as_ref()));
    let (paths, values): (Vec<Path>, Vec<_>) = files.into_iter().unzip();
    let metas = futures::stream::iter(&paths)
        .map(|path| head(location, store, path))
        .boxed()
        .buffered(CONCURRENT)
        .try_collect()
        .await?;
    let active = ActiveFiles {
        version: table.version(),
        partitions: partitions(&table, values)?,
        schema: table.schema(),
    };
    Ok((metas, active))
}

fn check_readable(table: &DeltaTableState, text: &str) -> Result<()> {
    let metadata = table.metadata();
    let mapping = metadata.configuration().get("delta.columnMapping.mode");
    if mapping.is_some_and(|mode| mode != "none") {
        return plan_err!(
            "the Delta Lake table '{text}' has column mapping, under which its files have other names for \
             its columns: Lakefold does not read it; write it once without, as with CREATE TABLE … AS SELECT"
        );
    }
    let features = table.protocol().reader_features().unwrap_or_default();
    let unknown = features
        .iter()
        .map(ToString::to_string)
        .find(|feature| !KNOWN_FEATURES.contains(&feature.as_str()));
    match unknown {
        Some(feature) => plan_err!(
            "the Delta Lake table '{text}' needs readers with '{feature}', which Lakefold has not: write it \
             once without, as with CREATE TABLE … AS SELECT"
        ),
        None => Ok(()),
    }
}

fn file_path(location: &Location, view: &LogicalFileView) -> Result<Path> {
    let (text, name) = (location.text(), view.path());
    if view.deletion_vector_descriptor().is_some() {
        return plan_err!(
            "'{name}' of the Delta Lake table '{text}' has a deletion vector: some of its rows are deleted, \
             and Lakefold cannot tell which; write them out first, with REORG TABLE … APPLY (PURGE), or turn \
             delta.enableDeletionVectors off and rewrite the table"
        );
    }
    if name.contains("://") || name.starts_with('/') {
        return plan_err!(
            "the Delta Lake table '{text}' has a file elsewhere, '{name}', as a shallow clone has: Lakefold \
             reads tables whose files are in their directory; clone it deeply"
        );
    }
    let below = match location.prefix().as_ref() {
        "" => name.to_string(),
        prefix => format!("{prefix}/{name}"),
    };
    Path::parse(&below).map_err(|error| {
        plan_datafusion_err!("the log of '{text}' names a file '{name}' that cannot be: {error}")
    })
}

async fn head(
    location: &Location,
    store: &Arc<dyn ObjectStore>,
    path: &Path,
) -> Result<ObjectMeta> {
    match store.head(path).await {
        Ok(meta) => Ok(meta),
        Err(object_store::Error::NotFound { .. }) => exec_err!(
            "'{}' is in the log of the Delta Lake table '{}' and is not there: it was removed by hand, or by \
             a VACUUM after the version was read; read a newer version, or repair the table (FSCK REPAIR \
             TABLE)",
            location.name_of(path),
            location.text()
        ),
        Err(error) => {
            let name = location.name_of(path);
            Err(DataFusionError::from(error).context(format!("cannot read '{name}'")))
        }
    }
}

/// Partition columns with the types that the log says.
fn partitions(
    table: &DeltaTableState,
    values: Vec<HashMap<String, Option<String>>>,
) -> Result<Partitions> {
    let columns = table.metadata().partition_columns().to_vec();
    let schema = table.schema();
    let types = columns
        .iter()
        .map(|name| {
            let field = schema.field(name);
            let field = field.ok_or_else(|| {
                plan_datafusion_err!("the log has a partition column '{name}' that is no column")
            })?;
            Ok(field.data_type().try_into_arrow()?)
        })
        .collect::<Result<Vec<ArrowType>>>()?;
    let values = values.into_iter().map(|mut of_file| {
        let values = columns.iter().map(|name| of_file.remove(name).flatten());
        // By the protocol, the empty text is NULL.
        values
            .map(|value| value.filter(|v| !v.is_empty()))
            .collect()
    });
    Ok(Partitions {
        values: values.collect(),
        columns,
        types,
    })
}

impl ActiveFiles {
    /// The table's columns, partitions left out, in the table's order. Where the files agree, columns are
    /// as they have them, since a vector's length is not in the log; where they differ, as writers of
    /// lists, texts and times do, they are as the log has them.
    ///
    /// # Errors
    /// When a column of a file is of another type than the log says.
    pub(crate) fn columns(
        &self,
        location: &Location,
        files: &[ObjectMeta],
        schemas: &[SchemaRef],
    ) -> Result<SchemaRef> {
        let stored = self.schema.fields();
        let stored = stored.filter(|field| !self.partitions.columns.contains(field.name()));
        let fields = stored.map(|field| {
            let name = field.name();
            let mut found: Option<Field> = None;
            let (mut is_nullable, mut agree) = (false, true);
            for (file, schema) in files.iter().zip(schemas) {
                let Ok(of_file) = schema.field_with_name(name) else {
                    // The column is younger than the file.
                    is_nullable = true;
                    continue;
                };
                if !is_stored_as(of_file.data_type(), field.data_type()) {
                    return plan_err!(
                        "column '{name}' of the Delta Lake table '{}' is {} and '{}' has {}: Lakefold does \
                         not convert it; write the table once anew, as with CREATE TABLE … AS SELECT",
                        location.text(),
                        field.data_type(),
                        location.name_of(&file.location),
                        of_file.data_type()
                    );
                }
                is_nullable |= of_file.is_nullable();
                let first = found.get_or_insert_with(|| of_file.clone());
                agree &= first.data_type() == of_file.data_type();
            }
            match found {
                Some(field) if agree => Ok(field.with_nullable(is_nullable)),
                _ => {
                    let data_type: ArrowType = field.data_type().try_into_arrow()?;
                    Ok(Field::new(name, data_type, true))
                }
            }
        });
        Ok(Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?)))
    }
}
