//! Reading rows of Parquet files by their place.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::parquet::arrow::arrow_reader::RowSelection;
use datafusion::physical_plan::{ExecutionPlan, collect};

use super::candidates::Place;
use super::exec::IndexScan;

/// The rows at these places, as the plan of `scan` gives them: those that its filters let through, in the order of
/// the files. Pages without any of them are not read where the file has an index of its pages.
pub(crate) async fn fetch(
    scan: &IndexScan,
    places: &[Place],
    context: &Arc<TaskContext>,
) -> Result<Vec<RecordBatch>> {
    if places.is_empty() {
        return Ok(vec![]);
    }
    let source = DataSourceExec::from_data_source(selected(scan, places)?);
    let source = source as Arc<dyn ExecutionPlan>;
    let plan = Arc::clone(&scan.rows).transform_up(|node| {
        Ok(if node.is::<DataSourceExec>() {
            Transformed::yes(Arc::clone(&source))
        } else {
            Transformed::no(node)
        })
    });
    collect(plan.data()?, Arc::clone(context)).await
}

/// The scan of these rows only.
fn selected(scan: &IndexScan, places: &[Place]) -> Result<FileScanConfig> {
    let mut by_file: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for (file, row) in places {
        by_file.entry(*file).or_default().push(*row);
    }
    let sources = &scan.found.header.sources;
    let mut files = Vec::with_capacity(by_file.len());
    for (place, mut rows) in by_file {
        let (Some(Some(file)), Some(source)) = (scan.files.get(place), sources.get(place)) else {
            return internal_err!("a row was found in a file that is not read");
        };
        rows.sort_unstable();
        let rows = rows.iter().map(|row| *row as usize..*row as usize + 1);
        let selection = RowSelection::from_consecutive_ranges(rows, source.rows as usize);
        let file = file.clone();
        files.push(file.with_extension(ParquetRowSelection::new(selection)));
    }
    Ok(FileScanConfigBuilder::from(scan.scan.clone())
        .with_file_groups(vec![FileGroup::new(files)])
        .with_output_ordering(vec![])
        .with_preserve_order(true)
        .build())
}
