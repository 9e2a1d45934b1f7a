//! The vectors of a table, in memory.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Int8Array, RecordBatch, StringArray,
    UInt64Array,
};
use datafusion::arrow::compute::{concat, filter};
use datafusion::arrow::datatypes::UInt64Type;
use datafusion::common::{Result, exec_err};
use datafusion::execution::TaskContext;
use futures::StreamExt;
use lakefold_manifold::{Hnsw, Phase, VectorStorage};

use super::build::{IndexDefinition, SUBJECT};
use super::header::SourceFile;
use super::table::IndexedTable;
use crate::features::Matrix;
use crate::float_lists::FloatType;
use crate::held_rows::Source;
use crate::memory::{Budget, array_bytes};
use crate::progress::Announced;

/// What errors call the place of a row in the table, and its file.
const ROW: &str = "row of the table";
const FILE: &str = "file";

/// The rows of a table that have a vector.
pub(crate) struct Gathered {
    pub(crate) dimensions: usize,
    /// Row by row.
    pub(crate) features: Vec<f32>,
    /// Their numbers in the table.
    pub(crate) rows: Vec<u64>,
    pub(crate) ids: Option<ArrayRef>,
}

/// Reads the vectors of a table, whose files are `sources`.
///
/// # Errors
/// For rows that cannot be indexed, too little memory, and a table that is not as its footers say.
pub(crate) async fn gather(
    table: &IndexedTable,
    definition: &IndexDefinition,
    sources: &[SourceFile],
    budget: &Budget,
    context: &Arc<TaskContext>,
) -> Result<Gathered> {
    let table_rows: u64 = sources.iter().map(|file| file.rows).sum();
    let column = definition.column.as_str();
    let ids = definition.id_column.as_deref();
    let columns: Vec<&str> = std::iter::once(column)
        .chain(ids.filter(|id| *id != column))
        .collect();
    let plan = table.rows_of(&columns)?;
    let mut batches = plan.execute(0, Arc::clone(context))?;
    let source = Source {
        function: SUBJECT,
        column: format!("'{column}' of '{}'", table.name),
        float: FloatType::Float32,
        metric: definition.metric,
    };
    let announced = Announced::new(context, Phase::Index, table_rows as usize);
    let mut gathered = Gathered {
        dimensions: 0,
        features: vec![],
        rows: vec![],
        ids: None,
    };
    let (mut dimensions, mut id_parts, mut next) = (None, Vec::new(), 0_u64);
    while let Some(batch) = batches.next().await.transpose()? {
        let read = batch.num_rows() as u64;
        let numbered = numbered(&batch, next, sources)?;
        next += read;
        let Some(found) = source.read(&numbered, &mut dimensions)? else {
            continue;
        };
        if gathered.features.is_empty() {
            gathered.dimensions = dimensions.unwrap_or(0);
            reserve_all(&gathered, &source, definition, table_rows, budget)?;
            let most = usize::try_from(table_rows).unwrap_or(0);
            gathered.features.reserve_exact(most * gathered.dimensions);
            gathered.rows.reserve_exact(most);
        }
        let Matrix::Float32(vectors) = &found.features else {
            return exec_err!("vectors were read as another type");
        };
        gathered.features.extend(vectors.iter().copied());
        let numbers = found.ids.as_primitive::<UInt64Type>().values();
        gathered.rows.extend(numbers.iter().copied());
        if ids.is_some() {
            let present = BooleanArray::new(found.present, None);
            let part = filter(batch.column(columns.len() - 1), &present)?;
            budget
                .reserve("the ids of the rows", 2 * array_bytes(&part))
                .map_err(|error| source.exhausted(&error))?;
            id_parts.push(part);
        }
        announced.add(read as usize);
    }
    if next != table_rows {
        return exec_err!(
            "'{}' has {table_rows} rows by its files' footers, but {next} were read: it changed meanwhile, build the \
             index again",
            table.name
        );
    }
    if gathered.rows.is_empty() {
        return exec_err!(
            "column '{column}' of '{}' has no vectors to index: there are {table_rows} rows, all of them NULL; \
             a search of so few needs no index",
            table.name
        );
    }
    if u32::try_from(gathered.rows.len()).is_err() {
        return exec_err!(
            "an index holds at most {} rows, '{}' has {}: index its files one by one",
            u32::MAX,
            table.name,
            gathered.rows.len()
        );
    }
    if ids.is_some() {
        let parts: Vec<&dyn Array> = id_parts.iter().map(AsRef::as_ref).collect();
        gathered.ids = Some(concat(&parts)?);
    }
    Ok(gathered)
}

/// The numbers of rows in the table, from `first` on, and their vectors; then what errors name a row by, its file and its
/// id.
fn numbered(batch: &RecordBatch, first: u64, sources: &[SourceFile]) -> Result<RecordBatch> {
    let (schema, rows) = (batch.schema(), batch.num_rows());
    let numbers = UInt64Array::from_iter_values(first..first + rows as u64);
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        (ROW, Arc::new(numbers)),
        (schema.field(0).name(), Arc::clone(batch.column(0))),
    ];
    let mut before = 0;
    let file = sources.iter().find(|file| {
        before += file.rows;
        first < before
    });
    // A batch is of one file.
    if let Some(file) = file.filter(|_| sources.len() > 1) {
        let name = Arc::new(StringArray::from_iter_values([&file.path]));
        let of_all = DictionaryArray::new(Int8Array::from_value(0, rows), name);
        columns.push((FILE, Arc::new(of_all)));
    }
    if let Some(id) = batch.columns().get(1) {
        columns.push((schema.field(1).name(), Arc::clone(id)));
    }
    let columns = columns
        .into_iter()
        .map(|(name, column)| (name, column, true));
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

/// Takes the memory of the rows, and asks for that of the graph, so that what cannot be built is refused before
/// everything was read.
fn reserve_all(
    gathered: &Gathered,
    source: &Source,
    definition: &IndexDefinition,
    table_rows: u64,
    budget: &Budget,
) -> Result<()> {
    let rows = usize::try_from(table_rows).unwrap_or(usize::MAX);
    let row = gathered.dimensions * size_of::<f32>() + size_of::<u64>();
    let refused = |error| source.exhausted(&error);
    budget
        .reserve(
            "the features of the rows to index",
            rows.saturating_mul(row),
        )
        .map_err(refused)?;
    let graph = Hnsw::predicted_bytes(rows, gathered.dimensions, &definition.options);
    let codes = match definition.storage {
        VectorStorage::F32 => 0,
        _ => Hnsw::code_bytes(rows, gathered.dimensions, definition.metric),
    };
    let graph = graph.saturating_add(codes);
    budget.reserve("the graph", graph).map_err(refused)?;
    // The kernel takes it again, as it goes.
    budget.release(graph);
    Ok(())
}
