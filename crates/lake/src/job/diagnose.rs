//! Which row stopped a chunk.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::catalog::TableProvider;
use datafusion::common::exec_datafusion_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use super::chunks::Chunk;
use super::plan::JobPlan;
use super::valid_vector::invalid_rows;

/// The error of a chunk in terms of its file: the row, where a vector is at fault, else the row groups.
pub(crate) async fn explain(
    plan: &JobPlan,
    chunk: &Chunk,
    error: DataFusionError,
) -> DataFusionError {
    let file = plan.file_of(chunk);
    match invalid_row(plan, chunk).await {
        Ok(Some((row, column, found, dimensions))) => exec_datafusion_err!(
            "'{}': column '{column}' {found} in row {row} (counted from 0), the model takes {dimensions} \
             finite numbers: correct the row, leave it out with --where, or write NULL for such rows with \
             --on-invalid null",
            file.name
        ),
        // The second look is no better than the first.
        Ok(None) | Err(_) => error.context(format!(
            "'{}', row groups {}..{}",
            file.name, chunk.row_groups.start, chunk.row_groups.end
        )),
    }
}

/// The first row of the chunk with a vector that its model does not take: its place in the file, the
/// column, what is wrong, and the dimensions that were wanted.
async fn invalid_row(
    plan: &JobPlan,
    chunk: &Chunk,
) -> Result<Option<(usize, String, String, usize)>> {
    let table: Arc<dyn TableProvider> = Arc::new(plan.table_of(chunk)?);
    let Some(expressions) = &plan.expressions else {
        return Ok(None);
    };
    let Some((logical, vectors)) = expressions.vectors(&table)? else {
        return Ok(None);
    };
    let physical = plan.state.create_physical_plan(&logical).await?;
    let mut batches = execute_stream(physical, plan.state.task_ctx())?;
    let before = &plan.file_of(chunk).row_groups[..chunk.row_groups.start];
    let mut first: usize = before.iter().map(|group| group.rows).sum();
    while let Some(batch) = batches.next().await.transpose()? {
        let keep = batch.column(0).as_boolean();
        // The earliest row wins over the earliest column.
        let mut found: Option<(usize, String, String, usize)> = None;
        for (index, (column, dimensions)) in vectors.iter().enumerate() {
            let invalid = invalid_rows(batch.column(index + 1), *dimensions)?;
            let row = (0..batch.num_rows())
                .find(|row| invalid[*row].is_some() && keep.value(*row) && keep.is_valid(*row));
            if let Some(row) = row
                && found.as_ref().is_none_or(|(earliest, ..)| row < *earliest)
                && let Some(what) = &invalid[row]
            {
                found = Some((row, column.clone(), what.to_string(), *dimensions));
            }
        }
        if let Some((row, column, what, dimensions)) = found {
            return Ok(Some((first + row, column, what, dimensions)));
        }
        first += batch.num_rows();
    }
    Ok(None)
}
