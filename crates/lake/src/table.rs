//! The table behind `FROM 'path'`.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{ScalarValue, Statistics, plan_datafusion_err, plan_err};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt};

use crate::listing::{Files, list_version};
use crate::{Location, schema};

/// The files of a [`Location`] as one table.
///
/// A scan has one partition and gives the files in order, because the order of rows is part of
/// what a table of files means to its users; work above the scan is spread as usual. A session
/// with `datafusion.optimizer.repartition_file_scans` on trades that order for parallel reading.
#[derive(Debug)]
pub struct FilesTable {
    location: Location,
    /// Of a Delta Lake table; `None` for the newest, or what is no such table.
    version: Option<u64>,
    reader: Arc<dyn FileFormat>,
    columns: TableSchema,
}

impl FilesTable {
    /// Lists the files and reads their schemas.
    ///
    /// # Errors
    /// See [`list_files`](crate::list_files); and when a file is damaged or the files do not agree.
    pub async fn open(state: &SessionState, location: &Location) -> Result<Self> {
        Self::open_version(state, location, None).await
    }

    /// The same, of a version of a Delta Lake table.
    ///
    /// # Errors
    /// As [`Self::open`]; and when the location is no such table, or has no such version.
    pub(crate) async fn open_version(
        state: &SessionState,
        location: &Location,
        version: Option<u64>,
    ) -> Result<Self> {
        let files = list_version(state, location, version).await?;
        let partitions = files.partitions(location)?;
        let reader = files.kind.reader(state)?;
        let file_schema = schema::infer_schema(state, location, &files, reader.as_ref()).await?;
        let partitions = partitions.not_in(&file_schema);
        let columns = TableSchema::builder(file_schema)
            .with_table_partition_cols(partitions.fields())
            .build();
        Ok(Self {
            location: location.clone(),
            version,
            reader,
            columns,
        })
    }

    /// Where the files are.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The files as the scan wants them, with statistics where the session collects them.
    async fn partitioned_files(
        &self,
        state: &SessionState,
        files: Files,
    ) -> Result<Vec<PartitionedFile>> {
        let partitions = files.partitions(&self.location)?;
        let partitions = partitions.not_in(self.columns.file_schema());
        let collect_statistics = state.config().collect_statistics();
        let concurrent = state
            .config_options()
            .execution
            .meta_fetch_concurrency
            .get();
        let (store, partitions) = (&files.store, &partitions);
        futures::stream::iter(files.files.into_iter().enumerate())
            .map(|(number, meta)| async move {
                let values = partitions.scalars(number)?;
                let has_null = values.iter().any(ScalarValue::is_null);
                let file = PartitionedFile::new_from_meta(meta).with_partition_values(values);
                // Statistics of partition values are taken to be free of NULL.
                if !collect_statistics || has_null {
                    return Ok(file);
                }
                let schema = Arc::clone(self.columns.file_schema());
                let found = self
                    .reader
                    .infer_stats_and_ordering(state, store, schema, &file.object_meta)
                    .await?;
                Ok(file
                    .with_statistics(Arc::new(found.statistics))
                    .with_ordering(found.ordering))
            })
            .boxed()
            .buffered(concurrent)
            .try_collect()
            .await
    }

    fn total_statistics(&self, files: &[PartitionedFile]) -> Result<Statistics> {
        let each: Option<Vec<&Statistics>> = files
            .iter()
            .map(|file| file.statistics.as_deref())
            .collect();
        match each {
            Some(each) => Statistics::try_merge_iter(each, self.columns.table_schema()),
            None => Ok(Statistics::new_unknown(self.columns.table_schema())),
        }
    }
}

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.columns.table_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let state = session
            .as_any()
            .downcast_ref::<SessionState>()
            .ok_or_else(|| plan_datafusion_err!("a table of files needs a SessionState"))?;
        // Listed anew, because a view lives longer than the list of files it was made with.
        let files = list_version(state, &self.location, self.version).await?;
        let files = self.partitioned_files(state, files).await?;
        let statistics = self.total_statistics(&files)?;
        let ordering = files.first().and_then(|file| match files.as_slice() {
            [_] => file.ordering.clone(),
            _ => None,
        });
        let group = FileGroup::new(files).with_statistics(Arc::new(statistics.clone()));
        let source = self.reader.file_source(self.columns.clone());
        let scan = FileScanConfigBuilder::new(self.location.object_store_url(), source)
            .with_file_groups(vec![group])
            .with_statistics(statistics)
            .with_output_ordering(ordering.into_iter().collect())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        self.reader.create_physical_plan(state, scan).await
    }

    async fn insert_into(
        &self,
        _session: &dyn Session,
        _input: Arc<dyn ExecutionPlan>,
        _operation: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let text = self.location.text();
        plan_err!("INSERT INTO '{text}' is not supported: add files with COPY (SELECT …) TO '…/'")
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        // Row groups and partitions are skipped by statistics; the filter itself still runs.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}
