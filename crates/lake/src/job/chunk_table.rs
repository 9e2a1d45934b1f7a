//! One chunk as a table.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{internal_err, plan_datafusion_err};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetAccessPlan;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

/// The columns of the input; in a scan, the rows of one chunk of it in their order.
#[derive(Debug, Clone)]
pub(crate) struct ChunkTable {
    columns: TableSchema,
    /// `None` in the plan that all chunks are made from.
    chunk: Option<(ObjectStoreUrl, PartitionedFile)>,
}

impl ChunkTable {
    /// For planning.
    pub(crate) fn columns_only(columns: TableSchema) -> Self {
        Self {
            columns,
            chunk: None,
        }
    }

    /// Some row groups of a file that has `groups` of them.
    pub(crate) fn with_chunk(
        &self,
        store: ObjectStoreUrl,
        file: PartitionedFile,
        groups: usize,
        scanned: impl Iterator<Item = usize>,
    ) -> Self {
        let mut access = ParquetAccessPlan::new_none(groups);
        for group in scanned {
            access.scan(group);
        }
        Self {
            columns: self.columns.clone(),
            chunk: Some((store, file.with_extension(access))),
        }
    }
}

#[async_trait]
impl TableProvider for ChunkTable {
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
        let Some((store, file)) = &self.chunk else {
            return internal_err!("a job's plan was run without a chunk");
        };
        let state = session
            .as_any()
            .downcast_ref::<datafusion::execution::SessionState>()
            .ok_or_else(|| plan_datafusion_err!("a job needs a SessionState"))?;
        let format = crate::format::parquet_reader(state)?;
        let source = format.file_source(self.columns.clone());
        let scan = FileScanConfigBuilder::new(store.clone(), source)
            .with_file_groups(vec![FileGroup::new(vec![file.clone()])])
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        format.create_physical_plan(state, scan).await
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        // Row groups are skipped by statistics; the filter itself still runs.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}
