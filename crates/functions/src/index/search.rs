//! Searching an index for whole batches of vectors, without its table.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, UInt32Array,
};
use datafusion::arrow::compute::take;
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::execution::TaskContext;
use lakefold_manifold::{HnswOptions, ManifoldError, Metric, Nearest};

use super::open::OpenIndex;
use crate::features::Matrix;
use crate::fit_task::{CancelOnDrop, FitControl, blocking};
use crate::float_lists::FloatType;
use crate::held_rows::{Rows, Source};
use crate::memory::{Budget, resources_exhausted};

const SUBJECT: &str = "the index";

/// The `k` nearest rows of each vector in the second column of `queries`, one row a pair: the query's value in the
/// first column, the neighbour's id (or its `file` and `row` in an index without ids), `rank` from 1, and
/// `distance`. Queries that are NULL have no neighbours.
///
/// # Errors
/// For queries that are no vectors of the index's dimensions, or have values that are not finite, `k` or
/// `ef_search` out of range, and too little memory.
pub async fn search_index(
    index: &Arc<OpenIndex>,
    queries: &RecordBatch,
    k: usize,
    ef_search: usize,
    context: &Arc<TaskContext>,
) -> Result<RecordBatch> {
    let header = &index.header;
    for (name, value, most) in [
        ("k", k, u32::MAX as usize),
        ("ef_search", ef_search, HnswOptions::LARGEST_EF),
    ] {
        if value == 0 || value > most {
            return exec_err!("{name} must be from 1 to {most}, got {value}");
        }
    }
    let source = Source {
        function: "a search of the index",
        column: queries.schema().field(1).name().clone(),
        float: FloatType::Float32,
        metric: Metric::parse(&header.metric)
            .map_err(|error| exec_datafusion_err!("{SUBJECT}: {error}"))?,
    };
    let (name, mut dimensions) = (queries.schema().field(0).name().clone(), None);
    let read = source.read(queries, &mut dimensions)?;
    let read = read.map(Rows::into_owned);
    let none = queries.column(0).slice(0, 0);
    if let Some(found) = dimensions
        && found != header.dimensions
    {
        return exec_err!(
            "the queries have {found} dimensions, the index '{}' has {}: search it with vectors of its own column's \
             kind, '{}'",
            header.name,
            header.dimensions,
            header.column
        );
    }
    let cancelled = CancelOnDrop(Arc::new(AtomicBool::new(false)));
    let budget = Budget::new(context.memory_pool(), SUBJECT);
    let control = FitControl::new(context, &budget, &cancelled);
    let index = Arc::clone(index);
    blocking(move || {
        let (query_ids, nearest) = match read {
            Some(rows) => {
                let Matrix::Float32(vectors) = &rows.features else {
                    return exec_err!("vectors were read as another type");
                };
                let nearest = index
                    .graph
                    .search(vectors.view(), k, ef_search.max(k), &control)
                    .map_err(|error| match error {
                        ManifoldError::Memory(refusal) => resources_exhausted(SUBJECT, &refusal),
                        other => exec_datafusion_err!("{SUBJECT}: {other}"),
                    })?;
                (rows.ids, nearest)
            }
            None => (
                none,
                Nearest {
                    ids: ndarray::Array2::default((0, 0)),
                    distances: ndarray::Array2::default((0, 0)),
                },
            ),
        };
        pairs(&index, &name, &query_ids, nearest)
    })
    .await
}

fn pairs(
    index: &OpenIndex,
    query_name: &str,
    query_ids: &ArrayRef,
    nearest: Nearest,
) -> Result<RecordBatch> {
    let (queries, k) = nearest.ids.dim();
    let of_query = (0..queries as u32).flat_map(|query| std::iter::repeat_n(query, k));
    let query_ids = take(query_ids, &UInt32Array::from_iter_values(of_query), None)?;
    let mut columns: Vec<(String, ArrayRef)> = vec![(query_name.to_owned(), query_ids)];
    if let Some(ids) = index.ids()? {
        let places = UInt32Array::from_iter_values(nearest.ids.iter().copied());
        let name = index.header.id_column.as_deref().unwrap_or("id");
        let name = if name == query_name {
            format!("neighbor_{name}")
        } else {
            name.to_owned()
        };
        columns.push((name, take(&ids, &places, None)?));
    } else {
        let mut files = Vec::with_capacity(nearest.ids.len());
        let mut rows = Vec::with_capacity(nearest.ids.len());
        for row in &nearest.ids {
            let (file, row) = index.place(*row)?;
            let file = index.header.sources.get(file);
            files.push(file.map_or("", |file| file.path.as_str()));
            rows.push(row as i64);
        }
        columns.push(("file".to_owned(), Arc::new(StringArray::from(files))));
        columns.push(("row".to_owned(), Arc::new(Int64Array::from(rows))));
    }
    let ranks = (0..queries).flat_map(|_| 1..=k as i64);
    columns.push((
        "rank".to_owned(),
        Arc::new(Int64Array::from_iter_values(ranks)),
    ));
    columns.push((
        "distance".to_owned(),
        Arc::new(Float64Array::from_iter_values(nearest.distances)),
    ));
    let columns = columns.into_iter();
    Ok(RecordBatch::try_from_iter_with_nullable(
        columns.map(|(name, column)| (name, column, true)),
    )?)
}
