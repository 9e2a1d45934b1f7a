//! Following an expression of a physical plan down to the Parquet scan that its columns are from.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, ParquetRowSelection};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::{ProjectionExprs, update_expr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;

/// An expression that was followed to the scan that its columns are from.
pub(crate) struct AtScan<'a> {
    /// Over the columns that the scan gives.
    pub(crate) expr: Arc<dyn PhysicalExpr>,
    pub(crate) scan: &'a FileScanConfig,
    /// Those that the scan reads, whole.
    pub(crate) files: Vec<PartitionedFile>,
    /// Whether filters lie between.
    pub(crate) is_filtered: bool,
}

impl AtScan<'_> {
    /// The expression over the columns of the scan's table.
    pub(crate) fn over_table(&self) -> Result<Arc<dyn PhysicalExpr>> {
        match self.scan.file_source().projection() {
            Some(projection) => projection.unproject_expr(&self.expr),
            None => Ok(Arc::clone(&self.expr)),
        }
    }

    /// Whether a column of the table is read from its files, not made of the names of directories.
    pub(crate) fn is_in_files(&self, column: &Column) -> bool {
        self.scan
            .file_schema()
            .field_with_name(column.name())
            .is_ok()
    }
}

/// Follows an expression over a plan's columns, where nothing but projections and filters, and what deals rows out
/// to threads, lie between it and a scan of whole Parquet files.
pub(crate) fn at_scan(
    expr: Arc<dyn PhysicalExpr>,
    plan: &Arc<dyn ExecutionPlan>,
) -> Result<Option<AtScan<'_>>> {
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        return match update_expr(&expr, projection.expr(), true)? {
            Some(expr) => at_scan(expr, projection.input()),
            None => Ok(None),
        };
    }
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        let expr = match filter.projection() {
            Some(kept) => {
                let kept = ProjectionExprs::from_indices(kept, &filter.input().schema());
                kept.unproject_expr(&expr)?
            }
            None => expr,
        };
        let found = at_scan(expr, filter.input())?;
        return Ok(found.map(|found| AtScan {
            is_filtered: true,
            ..found
        }));
    }
    if let Some(dealt) = plan.downcast_ref::<RepartitionExec>() {
        return at_scan(expr, dealt.input());
    }
    if let Some(gathered) = plan.downcast_ref::<CoalescePartitionsExec>() {
        return match gathered.fetch() {
            Some(_) => Ok(None),
            None => at_scan(expr, gathered.input()),
        };
    }
    let Some(source) = plan.downcast_ref::<DataSourceExec>() else {
        return Ok(None);
    };
    let Some((scan, _)) = source.downcast_to_file_source::<ParquetSource>() else {
        return Ok(None);
    };
    Ok(whole_files(scan).map(|files| AtScan {
        expr,
        scan,
        files,
        is_filtered: false,
    }))
}

/// The files of a scan that reads every row of each of them once. One file may come as several ranges of its bytes,
/// dealt out to threads. `None` where anything drops rows while reading: rows are counted, and fetched, by their place
/// in whole files.
fn whole_files(scan: &FileScanConfig) -> Option<Vec<PartitionedFile>> {
    if scan.limit.is_some() || scan.file_source().filter().is_some() {
        return None;
    }
    let (mut files, mut bytes_read) = (Vec::new(), Vec::new());
    let mut places = HashMap::new();
    for file in scan.file_groups.iter().flat_map(FileGroup::iter) {
        let is_cut = file.extension::<ParquetAccessPlan>().is_some()
            || file.extension::<ParquetRowSelection>().is_some();
        if is_cut {
            return None;
        }
        match places.entry(&file.object_meta.location) {
            Entry::Occupied(place) => bytes_read[*place.get()] += file.effective_size(),
            Entry::Vacant(place) => {
                place.insert(files.len());
                bytes_read.push(file.effective_size());
                let mut whole = file.clone();
                whole.range = None;
                files.push(whole);
            }
        }
    }
    let mut are_whole = files.iter().zip(bytes_read);
    let are_whole = are_whole.all(|(file, bytes)| file.object_meta.size == bytes);
    (are_whole && !files.is_empty()).then_some(files)
}
