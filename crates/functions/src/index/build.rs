//! Building an index of a column of vectors.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{concat, filter};
use datafusion::arrow::datatypes::{DataType, Field, Schema, UInt64Type};
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err, plan_err};
use datafusion::execution::{SessionState, TaskContext};
use futures::StreamExt;
use lakefold_manifold::{Control, Hnsw, HnswAudit, HnswOptions, ManifoldError, Metric, Phase};
use ndarray::ArrayView2;
use object_store::{ObjectStoreExt, WriteMultipart};

use super::header::{IndexHeader, RecallPoint, Section};
use super::layout::{self, SectionWriter};
use super::local::{BuildLock, publish};
use super::place::IndexPlace;
use super::positions::Positions;
use super::table::IndexedTable;
use crate::features::Matrix;
use crate::fit_task::{CancelOnDrop, FitControl, blocking};
use crate::float_lists::FloatType;
use crate::held_rows::Source;
use crate::memory::{Budget, array_bytes, resources_exhausted};
use crate::progress::Announced;

const SUBJECT: &str = "the index";
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
    let gathered = gather(table, definition, rows, &budget, &context).await?;
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
        dimensions: gathered.dimensions,
        rows: gathered.rows.len() as u64,
        null_rows: rows - gathered.rows.len() as u64,
        exact_values,
        sources,
        ..IndexHeader::default()
    };
    let metric = definition.metric;
    let subject = format!("the index '{name}' of column '{}'", header.column);
    let built = blocking(move || {
        let _held = budget;
        finish(gathered, header, metric, options, &control, &subject)
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

/// The rows of a table that have a vector.
struct Gathered {
    dimensions: usize,
    /// Row by row.
    features: Vec<f32>,
    /// Their numbers in the table.
    rows: Vec<u64>,
    ids: Option<ArrayRef>,
}

async fn gather(
    table: &IndexedTable,
    definition: &IndexDefinition,
    table_rows: u64,
    budget: &Budget,
    context: &Arc<TaskContext>,
) -> Result<Gathered> {
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
    let schema = Arc::new(Schema::new(vec![
        Field::new("row", DataType::UInt64, false),
        Field::new(column, plan.schema().field(0).data_type().clone(), true),
    ]));
    while let Some(batch) = batches.next().await.transpose()? {
        let read = batch.num_rows() as u64;
        let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values(next..next + read));
        next += read;
        let vectors = Arc::clone(batch.column(0));
        let numbered = RecordBatch::try_new(Arc::clone(&schema), vec![numbers, vectors])?;
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
            let present = datafusion::arrow::array::BooleanArray::new(found.present, None);
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
    budget.reserve("the graph", graph).map_err(refused)?;
    // The kernel takes it again, as it goes.
    budget.release(graph);
    Ok(())
}

/// An index in memory.
struct Built {
    header: IndexHeader,
    graph: Hnsw,
    rows: Vec<u64>,
    ids: Vec<u8>,
}

fn finish(
    gathered: Gathered,
    mut header: IndexHeader,
    metric: Metric,
    options: HnswOptions,
    control: &FitControl,
    subject: &str,
) -> Result<Built> {
    let rows = gathered.rows.len();
    if let Some(reporter) = &control.reporter {
        reporter.started(rows);
    }
    let made = graph(&gathered, &mut header, metric, options, control);
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
    metric: Metric,
    options: HnswOptions,
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
    header.recall_k = RECALL_K.min(rows.saturating_sub(1));
    if header.recall_k == 0 {
        return Ok(graph);
    }
    let affordable = RECALL_WORK / rows.saturating_mul(2 * gathered.dimensions).max(1);
    header.recall_sample = affordable.clamp(FEWEST_RECALL_ROWS, RECALL_ROWS).min(rows);
    let measured = graph.recall(
        header.recall_sample,
        header.recall_k,
        &RECALL_EF,
        options.seed,
        control,
    )?;
    let points = measured.iter().map(|point| RecallPoint {
        ef_search: point.ef,
        recall: point.recall,
    });
    header.recall = points.collect();
    Ok(graph)
}

/// One column as a stream of Arrow's format, so that ids keep their type.
fn ipc(name: &str, ids: &ArrayRef) -> Result<Vec<u8>> {
    let batch = RecordBatch::try_from_iter_with_nullable([(name, Arc::clone(ids), true)])?;
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema())?;
    writer.write(&batch)?;
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}

impl Built {
    /// Notes in the header where the sections will be.
    fn measure(&mut self, has_ids: bool) -> std::io::Result<()> {
        let end = |section: &Section| section.offset + section.bytes;
        let graph = layout::measure(0, &self.graph_section())?;
        self.header.graph = graph;
        let mut from = end(&self.header.graph);
        if self.header.null_rows > 0 {
            let section = layout::measure(from, &self.positions_section())?;
            from = end(&section);
            self.header.positions = Some(section);
        }
        if has_ids {
            let section = layout::measure(from, &self.ids_section())?;
            self.header.ids = Some(section);
        }
        Ok(())
    }

    fn graph_section(&self) -> impl Fn(&mut dyn Write) -> std::io::Result<()> {
        |mut out| self.graph.write_to(&mut out).map(drop)
    }

    fn positions_section(&self) -> impl Fn(&mut dyn Write) -> std::io::Result<()> {
        |out| Positions::write(&self.rows, out)
    }

    fn ids_section(&self) -> impl Fn(&mut dyn Write) -> std::io::Result<()> {
        |out| out.write_all(&self.ids)
    }

    fn write(&self, out: &mut dyn Write) -> std::io::Result<u64> {
        let (graph, positions, ids) = (
            self.graph_section(),
            self.positions_section(),
            self.ids_section(),
        );
        let mut sections: Vec<(_, SectionWriter<'_>)> = vec![(&self.header.graph, &graph)];
        if let Some(section) = &self.header.positions {
            sections.push((section, &positions));
        }
        if let Some(section) = &self.header.ids {
            sections.push((section, &ids));
        }
        layout::write(&self.header, &sections, out)
    }
}

/// Puts an index into an object store, where it appears whole. Of two builders the one that ends last is seen.
async fn upload(state: &SessionState, place: &IndexPlace, built: Built) -> Result<u64> {
    let store = state.runtime_env().object_store(&place.store)?;
    let bytes = blocking(move || {
        let mut bytes = Vec::new();
        let written = built.write(&mut bytes);
        written.map_err(|error| exec_datafusion_err!("the index cannot be written: {error}"))?;
        Ok(bytes)
    });
    let bytes = bytes.await?;
    let length = bytes.len() as u64;
    let failed = |error: object_store::Error| {
        exec_datafusion_err!("the index cannot be written to '{}': {error}", place.text())
    };
    let parts = store.put_multipart(&place.file).await.map_err(failed)?;
    let mut parts = WriteMultipart::new(parts);
    parts.put(bytes.into());
    parts.finish().await.map_err(failed)?;
    Ok(length)
}
