//! Building an index of a column of vectors.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::common::{DataFusionError, Result, exec_datafusion_err, plan_err};
use datafusion::execution::SessionState;
use lakefold_manifold::{
    Control, Hnsw, HnswAudit, HnswOptions, ManifoldError, Metric, VectorStorage,
};
use ndarray::ArrayView2;

use super::gather::{Gathered, gather};
use super::header::{IndexHeader, RecallPoint, StorageRecall};
use super::local::{BuildLock, publish};
use super::place::IndexPlace;
use super::remote_lock::RemoteLock;
use super::table::IndexedTable;
use super::written::{Built, ipc, upload};
use crate::fit_task::{CancelOnDrop, FitControl, blocking};
use crate::float_lists::FloatType;
use crate::memory::{Budget, resources_exhausted};

/// What takes memory and is named in errors.
pub(crate) const SUBJECT: &str = "the index";
/// Neighbours that recall is measured with.
const RECALL_K: usize = 10;
/// `ef_search` values that recall is measured at.
const RECALL_EF: [usize; 7] = [10, 20, 40, 80, 160, 320, 640];
/// Rows that recall is measured on, and the fewest where rows are so many that exact search takes long.
const RECALL_ROWS: usize = 1000;
const FEWEST_RECALL_ROWS: usize = 100;
/// Products and sums that measuring may take before it makes do with fewer rows.
const RECALL_WORK: usize = 200_000_000_000;

/// What is to be built.
#[derive(Debug, Clone)]
pub struct IndexDefinition {
    /// The index's name.
    pub name: String,
    /// Where it is put.
    pub place: IndexPlace,
    /// The column of vectors.
    pub column: String,
    /// A column that names the rows in results of a search without the table.
    pub id_column: Option<String>,
    /// What is nearest.
    pub metric: Metric,
    /// How the graph is built.
    pub options: HnswOptions,
    /// As what its vectors are walked through.
    pub storage: VectorStorage,
}

/// An index that was built.
#[derive(Debug)]
pub struct BuiltIndex {
    /// What it says about itself.
    pub header: IndexHeader,
    /// Where it is.
    pub place: IndexPlace,
    /// Size of its file.
    pub file_bytes: u64,
}

/// Reads the column, builds the index and puts its file in place, whole or not at all.
///
/// # Errors
/// For a column that holds no vectors, rows of other dimensions or with values that are not finite, zero vectors
/// under cosine distance, parameters out of range, too little memory, another builder of the same index, files
/// that change meanwhile, and a place that cannot be written to.
pub async fn build_index(
    state: &SessionState,
    table: &IndexedTable,
    definition: &IndexDefinition,
) -> Result<BuiltIndex> {
    let lock = RemoteLock::take(&definition.place, state.runtime_env()).await?;
    let built = build(state, table, definition).await;
    if let Some(lock) = lock {
        lock.release().await;
    }
    built
}

/// The same, where an object store has been locked.
async fn build(
    state: &SessionState,
    table: &IndexedTable,
    definition: &IndexDefinition,
) -> Result<BuiltIndex> {
    let IndexDefinition { name, place, .. } = definition;
    let options = definition.options;
    let out_of_range = |error| DataFusionError::Plan(format!("the index '{name}': {error}"));
    options.check().map_err(out_of_range)?;
    let exact_values = match FloatType::of_list(table.column(&definition.column)?) {
        Some(float) => float == FloatType::Float32,
        None => {
            return plan_err!(
                "column '{}' of '{}' must be a list of numbers to be indexed, it is {}",
                definition.column,
                table.name,
                table.column(&definition.column)?
            );
        }
    };
    if let Some(id) = &definition.id_column {
        table.column(id)?;
    }
    // Before anything is read, so that the second of two builders need not wait to be told.
    let lock = match place.local()? {
        Some(path) => {
            let taken = blocking(move || Ok((BuildLock::take(&path)?, path)));
            Some(taken.await?)
        }
        None => None,
    };
    let store = table.store(state)?;
    let sources = table.sources(&store).await?;
    let rows: u64 = sources.iter().map(|file| file.rows).sum();
    let context = state.task_ctx();
    let cancelled = CancelOnDrop(Arc::new(AtomicBool::new(false)));
    let budget = Budget::new(context.memory_pool(), SUBJECT);
    let control = FitControl::new(&context, &budget, &cancelled);
    let gathered = gather(table, definition, &sources, &budget, &context).await?;
    table.check_unchanged(&store).await?;

    let header = IndexHeader {
        written_by: format!("lakefold {}", env!("CARGO_PKG_VERSION")),
        name: name.clone(),
        table: table.below.clone(),
        table_directory: (place.directory() != table.directory)
            .then(|| table.directory.name_of(&table.directory.path)),
        column: definition.column.clone(),
        id_column: definition.id_column.clone(),
        metric: definition.metric.name().to_owned(),
        m: options.m,
        ef_construction: options.ef_construction,
        seed: options.seed,
        storage_option: definition.storage.name().to_owned(),
        dimensions: gathered.dimensions,
        rows: gathered.rows.len() as u64,
        null_rows: rows - gathered.rows.len() as u64,
        exact_values,
        sources,
        ..IndexHeader::default()
    };
    let (metric, storage) = (definition.metric, definition.storage);
    let subject = format!("the index '{name}' of column '{}'", header.column);
    let built = blocking(move || {
        let _held = budget;
        finish(
            gathered,
            header,
            (metric, options, storage),
            &control,
            &subject,
        )
    });
    let built = built.await?;
    drop(cancelled);
    let header = built.header.clone();
    let file_bytes = match lock {
        Some((lock, path)) => {
            blocking(move || publish(&lock, &path, |out| built.write(out))).await?
        }
        None => upload(state, place, built).await?,
    };
    Ok(BuiltIndex {
        header,
        place: place.clone(),
        file_bytes,
    })
}

fn finish(
    gathered: Gathered,
    mut header: IndexHeader,
    definition: (Metric, HnswOptions, VectorStorage),
    control: &FitControl,
    subject: &str,
) -> Result<Built> {
    let rows = gathered.rows.len();
    if let Some(reporter) = &control.reporter {
        reporter.started(rows);
    }
    let made = graph(&gathered, &mut header, definition, control);
    if let Some(reporter) = &control.reporter {
        reporter.ended();
    }
    let graph = made.map_err(|error| match error {
        ManifoldError::Memory(refusal) => resources_exhausted(subject, &refusal),
        other => exec_datafusion_err!("{subject}: {other}"),
    })?;
    let ids = match &gathered.ids {
        Some(ids) => ipc(header.id_column.as_deref().unwrap_or("id"), ids)?,
        None => vec![],
    };
    let mut built = Built {
        header,
        graph,
        rows: gathered.rows,
        ids,
    };
    built
        .measure(gathered.ids.is_some())
        .map_err(|error| exec_datafusion_err!("{subject} cannot be written: {error}"))?;
    Ok(built)
}

fn graph(
    gathered: &Gathered,
    header: &mut IndexHeader,
    (metric, options, storage): (Metric, HnswOptions, VectorStorage),
    control: &dyn Control,
) -> std::result::Result<Hnsw, ManifoldError> {
    let rows = gathered.rows.len();
    let shape = (rows, gathered.dimensions);
    let features = ArrayView2::from_shape(shape, &gathered.features).map_err(|error| {
        ManifoldError::LinearAlgebra {
            operation: "reading the features",
            detail: error.to_string(),
        }
    })?;
    let (graph, audit) = Hnsw::build(features, metric, &options, control)?;
    let HnswAudit {
        unreachable_repaired,
        not_self_found_repaired,
        ..
    } = audit;
    header.unreachable_repaired = unreachable_repaired;
    header.not_self_found_repaired = not_self_found_repaired;
    let affordable = RECALL_WORK / rows.saturating_mul(2 * gathered.dimensions).max(1);
    let queries = affordable.clamp(FEWEST_RECALL_ROWS, RECALL_ROWS).min(rows);
    let sample = graph.recall_sample(queries, RECALL_K, options.seed, control)?;
    let (graph, tried) = graph.stored(storage, &sample, control)?;
    graph.storage().name().clone_into(&mut header.storage);
    header.recall_k = RECALL_K.min(rows.saturating_sub(1));
    if header.recall_k == 0 {
        return Ok(graph);
    }
    header.recall_sample = queries;
    header.storage_recall = tried.map(|tried| StorageRecall {
        ef_search: tried.ef,
        f32: tried.f32,
        int8: tried.int8,
    });
    let measured = graph.recall_of(&sample, &RECALL_EF, control)?;
    let points = measured.iter().map(|point| RecallPoint {
        ef_search: point.ef,
        recall: point.recall,
    });
    header.recall = points.collect();
    Ok(graph)
}
