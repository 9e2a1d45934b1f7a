//! The optimizer rule that cuts scans of sequences into batches by bytes.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::CachedParquetMetaData;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::parquet::basic::Type;
use datafusion::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;

/// What a batch of a scan of sequences should hold at most, unless one row is larger.
pub const WIDE_BATCH_BYTES: usize = 64 << 20;

/// Lowers the batch size of Parquet scans whose columns hold sequences (lists of lists) to
/// [`WIDE_BATCH_BYTES`] and at least one row, and that of filters over them, which would gather small
/// batches up again. A batch of 8,192 sequences of 512 × 768 floats takes 13 GB, and more numbers than the
/// offsets of a `List` can count.
///
/// `DataFusion`'s statistics have no sizes of nested columns, but the files' footers have: they were read
/// when the tables were planned and are still in the session's cache, so that nothing is read here. The row
/// group with the largest rows decides. Where the cache has dropped a footer, the file's size and number of
/// rows stand in for it.
///
/// What sends rows to other threads by a hash (joins, grouped aggregates) gathers batches of
/// `datafusion.execution.batch_size` rows of its own; lower that where sequences pass through it.
#[derive(Debug)]
pub struct CutWideScans {
    runtime: Arc<RuntimeEnv>,
}

impl CutWideScans {
    /// What [`PhysicalOptimizerRule::name`] returns.
    pub const NAME: &'static str = "cut_wide_scans";

    /// With the cache of the session's runtime.
    pub fn new(runtime: Arc<RuntimeEnv>) -> Self {
        Self { runtime }
    }

    /// Rows of a batch, where they are fewer than the scan would make.
    fn rows(&self, scan: &FileScanConfig, config: &ConfigOptions) -> Option<usize> {
        let columns = wide_columns(scan)?;
        let files = scan.file_groups.iter().flat_map(FileGroup::iter);
        let bytes = files
            .filter_map(|file| self.bytes_per_row(file, &columns))
            .fold(0.0, f64::max);
        let rows = (WIDE_BATCH_BYTES as f64 / bytes).max(1.0) as usize;
        let current = scan.batch_size.unwrap_or(config.execution.batch_size.get());
        tracing::debug!(rows, current, bytes_per_row = bytes, "a scan of sequences");
        (rows < current).then_some(rows)
    }

    fn bytes_per_row(&self, file: &PartitionedFile, columns: &HashSet<&str>) -> Option<f64> {
        let cache = self.runtime.cache_manager.get_file_metadata_cache();
        let cached = cache.get(&file.object_meta.location);
        let cached = cached.filter(|cached| cached.is_valid_for(&file.object_meta));
        let footer = cached.as_ref().and_then(|cached| {
            let any = cached.file_metadata.as_any();
            any.downcast_ref::<CachedParquetMetaData>()
        });
        if let Some(footer) = footer {
            return Some(largest_rows(footer.parquet_metadata(), columns));
        }
        let rows = *file.statistics.as_ref()?.num_rows.get_value()?;
        (rows > 0).then(|| file.object_meta.size as f64 / rows as f64)
    }
}

impl PhysicalOptimizerRule for CutWideScans {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            if let Some(scan) = node.downcast_ref::<DataSourceExec>() {
                let Some((scan, _)) = scan.downcast_to_file_source::<ParquetSource>() else {
                    return Ok(Transformed::no(node));
                };
                let Some(rows) = self.rows(scan, config) else {
                    return Ok(Transformed::no(node));
                };
                let cut = FileScanConfigBuilder::from(scan.clone()).with_batch_size(Some(rows));
                let cut: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(cut.build());
                return Ok(Transformed::yes(cut));
            }
            if let Some(filter) = node.downcast_ref::<FilterExec>()
                && let Some(rows) = cut_below(filter.input())
                && rows < filter.batch_size()
            {
                return Ok(Transformed::yes(Arc::new(filter.with_batch_size(rows)?)));
            }
            Ok(Transformed::no(node))
        })
        .data()
    }

    fn name(&self) -> &str {
        Self::NAME
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The smallest batch of the scans below that hold sequences.
fn cut_below(plan: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
        let (scan, _) = scan.downcast_to_file_source::<ParquetSource>()?;
        return wide_columns(scan).and(scan.batch_size);
    }
    plan.children().into_iter().filter_map(cut_below).min()
}

/// The columns that a scan reads from its files, if any holds sequences.
fn wide_columns(scan: &FileScanConfig) -> Option<HashSet<&str>> {
    let fields = scan.file_schema().fields();
    let read = scan.file_source().projection();
    let read = read.map(ProjectionExprs::column_indices);
    let read: Vec<_> = match &read {
        Some(places) => places
            .iter()
            .filter_map(|&place| fields.get(place))
            .collect(),
        None => fields.iter().collect(),
    };
    let is_wide = read.iter().any(|field| holds_sequences(field.data_type()));
    is_wide.then(|| {
        read.into_iter()
            .map(|field| field.name().as_str())
            .collect()
    })
}

fn holds_sequences(data_type: &DataType) -> bool {
    let element = |list: &DataType| match list {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            Some(field.data_type().clone())
        }
        _ => None,
    };
    element(data_type).is_some_and(|inner| element(&inner).is_some())
}

/// Bytes of a row in memory, on average over the row group where they are most.
fn largest_rows(footer: &ParquetMetaData, columns: &HashSet<&str>) -> f64 {
    let per_row = |group: &RowGroupMetaData| {
        let read = group.columns().iter().filter(|column| {
            let path = column.column_path().parts();
            path.first()
                .is_some_and(|name| columns.contains(name.as_str()))
        });
        let bytes: i64 = read.map(decoded_bytes).sum();
        bytes as f64 / group.num_rows().max(1) as f64
    };
    footer.row_groups().iter().map(per_row).fold(0.0, f64::max)
}

/// A column's size in memory: dictionaries can make it far smaller in the file.
fn decoded_bytes(column: &ColumnChunkMetaData) -> i64 {
    let width = match column.column_type() {
        Type::BOOLEAN | Type::BYTE_ARRAY => 0,
        Type::INT32 | Type::FLOAT => 4,
        Type::INT64 | Type::DOUBLE => 8,
        Type::INT96 => 12,
        Type::FIXED_LEN_BYTE_ARRAY => i64::from(column.column_descr().type_length()),
    };
    (column.num_values() * width).max(column.uncompressed_size())
}
