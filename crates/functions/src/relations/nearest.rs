//! What `knn` and `knn_join` share: the table of pairs that they give.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use lakefold_manifold::Nearest;

use crate::indexed_rows::HeldRows;
use crate::memory::Budget;

/// Of the result: one row a pair.
pub(super) fn schema(id: &DataType, neighbor_id: &DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", id.clone(), true),
        Field::new("neighbor_id", neighbor_id.clone(), true),
        Field::new("rank", DataType::Int64, false),
        Field::new("distance", DataType::Float64, false),
    ]))
}

/// Takes the memory of a part of the result, given back when dropped.
pub(super) fn reserve_part(held: &HeldRows, rows: usize, k: usize) -> Result<Budget> {
    let pair = 2 * held.id_bytes + size_of::<i64>() + size_of::<f64>() + 2 * size_of::<u32>();
    let budget = held.budget.sibling();
    budget
        .reserve(
            "a part of the result",
            rows.saturating_mul(k).saturating_mul(pair),
        )
        .map_err(|error| held.source.exhausted(&error))?;
    Ok(budget)
}

/// The pairs of the rows with these `ids`, each row's nearest first.
pub(super) fn pairs(
    schema: &SchemaRef,
    ids: &ArrayRef,
    nearest: Nearest,
    held: &HeldRows,
) -> Result<RecordBatch> {
    let (rows, k) = nearest.ids.dim();
    let row_of_pair = (0..rows as u32).flat_map(|row| std::iter::repeat_n(row, k));
    let ids = take(ids, &UInt32Array::from_iter_values(row_of_pair), None)?;
    let neighbors = UInt32Array::from_iter_values(nearest.ids);
    let neighbors = take(&held.ids, &neighbors, None)?;
    let ranks = (0..rows).flat_map(|_| 1..=k as i64);
    let columns: Vec<ArrayRef> = vec![
        ids,
        neighbors,
        Arc::new(Int64Array::from_iter_values(ranks)),
        Arc::new(Float64Array::from_iter_values(nearest.distances)),
    ];
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
