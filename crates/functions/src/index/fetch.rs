//! Reading rows of Parquet files by their place.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, exec_err, internal_err};
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::parquet::arrow::arrow_reader::RowSelection;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::{ExecutionPlan, collect};

use super::candidates::Candidate;
use super::open::OpenIndex;
use super::scan::IndexScan;
use crate::embeddings::embedding_array;
use crate::float_lists::FloatType;

/// The rows of these candidates, as the plan of `scan` gives them: those that its filters let through. Pages of the
/// files without any of them are not read where a file has an index of its pages.
pub(crate) async fn fetch(
    scan: &IndexScan,
    index: &OpenIndex,
    mut candidates: Vec<Candidate>,
    context: &Arc<TaskContext>,
) -> Result<Vec<RecordBatch>> {
    if candidates.is_empty() {
        return Ok(vec![]);
    }
    candidates.sort_unstable_by_key(|candidate| (candidate.file, candidate.row));
    let source = selected(scan, &candidates)?;
    let schema = DataSourceExec::new(Arc::new(source.clone())).schema();
    let read: Vec<usize> = (0..schema.fields().len())
        .filter(|place| !is_indexed(scan, &schema, *place))
        .collect();
    let source: Arc<dyn ExecutionPlan> = if read.len() == schema.fields().len() {
        DataSourceExec::from_data_source(source)
    } else {
        let batch = with_vectors(source, index, &schema, &read, &candidates, context).await?;
        MemorySourceConfig::try_new_exec(&[vec![batch]], Arc::clone(&schema), None)?
    };
    let plan = Arc::clone(&scan.rows).transform_up(|node| {
        Ok(if node.is::<DataSourceExec>() {
            Transformed::yes(Arc::clone(&source))
        } else {
            Transformed::no(node)
        })
    });
    collect(plan.data()?, Arc::clone(context)).await
}

/// The scan of these rows only, in order.
fn selected(scan: &IndexScan, candidates: &[Candidate]) -> Result<FileScanConfig> {
    let sources = &scan.found.header.sources;
    let mut files = Vec::new();
    for of_file in candidates.chunk_by(|a, b| a.file == b.file) {
        let place = of_file[0].file;
        let (Some(Some(file)), Some(source)) = (scan.files.get(place), sources.get(place)) else {
            return internal_err!("a row was found in a file that is not read");
        };
        let rows = of_file.iter().map(|candidate| candidate.row as usize);
        let rows = rows.map(|row| row..row + 1);
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

/// Whether a column of the scan is the one that is indexed, whose numbers the index has as they are in the files:
/// vectors are most of a row, and their pages the dearest to read.
fn is_indexed(scan: &IndexScan, schema: &SchemaRef, place: usize) -> bool {
    let element = match schema.field(place).data_type() {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            field.data_type()
        }
        _ => return false,
    };
    if *element != DataType::Float32 {
        return false;
    }
    let Some(projection) = scan.scan.file_source().projection() else {
        return schema.field(place).name() == &scan.query.column;
    };
    let expr = projection.as_ref().get(place);
    let column = expr.and_then(|expr| expr.expr.downcast_ref::<Column>());
    column.is_some_and(|column| {
        column.name() == scan.query.column
            && column.index() < scan.scan.file_schema().fields().len()
    })
}

/// The rows of a scan, of which only the columns `read` are read from the files.
async fn with_vectors(
    source: FileScanConfig,
    index: &OpenIndex,
    schema: &SchemaRef,
    read: &[usize],
    candidates: &[Candidate],
    context: &Arc<TaskContext>,
) -> Result<RecordBatch> {
    let rows = candidates.len();
    let mut columns: Vec<Option<ArrayRef>> = vec![None; schema.fields().len()];
    if !read.is_empty() {
        let kept = ProjectionExprs::from_indices(read, schema);
        let Some(narrow) = source.file_source().try_pushdown_projection(&kept)? else {
            return internal_err!("a scan of Parquet files takes a projection");
        };
        let narrow = FileScanConfigBuilder::from(source)
            .with_source(narrow)
            .build();
        let plan: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(narrow);
        let narrow = plan.schema();
        let batches = collect(plan, Arc::clone(context)).await?;
        let batch = concat_batches(&narrow, &batches)?;
        if batch.num_rows() != rows {
            return exec_err!(
                "{rows} rows were asked of the files of the index '{}' and {} came: a file has changed meanwhile, run \
                 the query again",
                index.header.name,
                batch.num_rows()
            );
        }
        for (place, column) in read.iter().zip(batch.columns()) {
            columns[*place] = Some(Arc::clone(column));
        }
    }
    let columns = columns.into_iter().enumerate().map(|(place, column)| {
        column.map_or_else(
            || vectors(index, schema.field(place).data_type(), candidates),
            Ok,
        )
    });
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &options,
    )?)
}

/// The column that was indexed.
fn vectors(index: &OpenIndex, data_type: &DataType, candidates: &[Candidate]) -> Result<ArrayRef> {
    let present = candidates
        .iter()
        .map(|candidate| candidate.vertex.is_some());
    let present: BooleanBuffer = present.collect();
    let numbers = candidates
        .iter()
        .filter_map(|candidate| candidate.vertex)
        .flat_map(|vertex| index.graph.vector(vertex as usize))
        .map(|number| f64::from(*number));
    let dimensions = index.header.dimensions;
    embedding_array(data_type, FloatType::Float32, numbers, dimensions, present)
}
