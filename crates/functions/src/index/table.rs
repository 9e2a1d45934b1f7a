//! The Parquet files of a table, as an index counts their rows.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::SessionState;
use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::header::SourceFile;
use super::place::TableDirectory;

/// Footers read at the same time.
const CONCURRENT: usize = 16;

/// A table of Parquet files that is to be indexed.
#[derive(Debug, Clone)]
pub struct IndexedTable {
    /// As the user named it, for errors.
    pub name: String,
    /// The directory that its indexes belong to.
    pub directory: TableDirectory,
    /// What of the directory it is: a file's name, a glob, or nothing for all of it.
    pub below: String,
    schema: SchemaRef,
    scan: FileScanConfig,
}

impl IndexedTable {
    /// Lists the files of a table.
    ///
    /// # Errors
    /// For a table that is no listing of Parquet files.
    pub async fn open(
        state: &SessionState,
        provider: &dyn TableProvider,
        name: &str,
        directory: TableDirectory,
        below: String,
    ) -> Result<Self> {
        let plan = provider.scan(state, None, &[], None).await?;
        let parquet = plan
            .downcast_ref::<DataSourceExec>()
            .and_then(DataSourceExec::downcast_to_file_source::<ParquetSource>);
        let Some((scan, _)) = parquet else {
            return plan_err!(
                "an index is built on Parquet files, which '{name}' is not: write it once with COPY (SELECT * \
                 FROM {name}) TO 'directory/', and index that"
            );
        };
        Ok(Self {
            name: name.to_owned(),
            directory,
            below,
            schema: provider.schema(),
            scan: scan.clone(),
        })
    }

    /// In the order in which their rows are counted.
    pub(crate) fn files(&self) -> Vec<PartitionedFile> {
        let groups = self.scan.file_groups.iter();
        groups.flat_map(FileGroup::iter).cloned().collect()
    }

    /// The type of a column that is in the files.
    ///
    /// # Errors
    /// For a column that is not; names those that are.
    pub(crate) fn column(&self, column: &str) -> Result<&DataType> {
        let in_files = self.scan.file_schema().fields();
        if let Some(field) = in_files.iter().find(|field| field.name() == column) {
            return Ok(field.data_type());
        }
        if self.schema.field_with_name(column).is_ok() {
            return plan_err!(
                "'{column}' of '{}' is made of directory names: an index needs a column that is in the files",
                self.name
            );
        }
        let known: Vec<String> = in_files.iter().map(|f| format!("'{}'", f.name())).collect();
        plan_err!(
            "'{}' has no column '{column}', it has {}",
            self.name,
            known.join(", ")
        )
    }

    /// A plan of one partition that reads some columns of all rows, in order.
    pub(crate) fn rows_of(&self, columns: &[&str]) -> Result<Arc<dyn ExecutionPlan>> {
        let indices = columns.iter().map(|name| self.schema.index_of(name));
        let indices = indices.collect::<std::result::Result<Vec<_>, _>>()?;
        let scan = FileScanConfigBuilder::from(self.scan.clone())
            .with_file_groups(vec![FileGroup::new(self.files())])
            .with_output_ordering(vec![])
            .with_limit(None)
            .with_preserve_order(true)
            .with_projection_indices(Some(indices))?
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }

    /// The store that the files are in.
    ///
    /// # Errors
    /// For a store that the session does not know.
    pub(crate) fn store(&self, state: &SessionState) -> Result<Arc<dyn ObjectStore>> {
        state
            .runtime_env()
            .object_store(&self.scan.object_store_url)
    }

    /// Reads how many rows each file has, and notes its version.
    ///
    /// # Errors
    /// For a file that cannot be read, or lies outside the directory.
    pub(crate) async fn sources(&self, store: &Arc<dyn ObjectStore>) -> Result<Vec<SourceFile>> {
        futures::stream::iter(self.files())
            .map(|file| async move {
                let meta = &file.object_meta;
                let rows = rows(store, meta).await.map_err(|error| {
                    error.context(format!(
                        "cannot read '{}'",
                        self.directory.name_of(&meta.location)
                    ))
                })?;
                let Some(path) = self.directory.below(&meta.location) else {
                    return exec_err!(
                        "'{}' is not below '{}', the directory of the index",
                        self.directory.name_of(&meta.location),
                        self.directory.name_of(&self.directory.path)
                    );
                };
                Ok(SourceFile {
                    path,
                    bytes: meta.size,
                    version: self.directory.version(meta),
                    rows,
                })
            })
            .buffered(CONCURRENT)
            .try_collect()
            .await
    }

    /// Whether the files still are those that were listed.
    ///
    /// # Errors
    /// When one was replaced or removed meanwhile, which names it.
    pub(crate) async fn check_unchanged(&self, store: &Arc<dyn ObjectStore>) -> Result<()> {
        for file in self.files() {
            let meta = &file.object_meta;
            let now = store.head(&meta.location).await;
            let same = now.is_ok_and(|now| {
                now.size == meta.size
                    && self.directory.version(&now) == self.directory.version(meta)
            });
            if !same {
                return exec_err!(
                    "'{}' changed while it was indexed: nothing of the index is kept, build it again once the \
                     file stays as it is",
                    self.directory.name_of(&meta.location)
                );
            }
        }
        Ok(())
    }
}

async fn rows(store: &Arc<dyn ObjectStore>, meta: &ObjectMeta) -> Result<u64> {
    let footer = DFParquetMetadata::new(store.as_ref(), meta)
        .fetch_metadata()
        .await?;
    Ok(u64::try_from(footer.file_metadata().num_rows()).unwrap_or(0))
}
