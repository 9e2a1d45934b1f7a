//! Everything about a job that is known before its first row is read.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::{ScalarValue, plan_datafusion_err, plan_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    wrap_partition_type_in_dict, wrap_partition_value_in_dict,
};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::parquet::file::metadata::KeyValue;
use datafusion::prelude::SessionContext;
use serde::Serialize;

use super::chunk_table::ChunkTable;
use super::chunks::{Chunk, ChunkLimits, plan_chunks};
use super::expressions::Expressions;
use super::footers::{InputFile, InputFiles, read_footers};
use super::manifest::{Definition, OUTPUT_VERSION, job_id};
use super::models::{LoadedModel, load_models};
use super::pinned::Pinned;
use super::spec::{Job, OnInvalid, Task};
use super::writer::BATCHES_AHEAD;
use crate::Location;
use crate::partitions::{Partitions, read_partitions};
use crate::table::NULL_PARTITION;

/// Rows of a batch. Bytes of the output depend on it, so it is no setting.
const BATCH_ROWS: usize = 8192;
/// What the process needs beside its chunks: code, catalogs, models, thread stacks.
const BASE_MEMORY: usize = 96 << 20;
/// What a chunk needs whatever its size: buffers of the transform and of the writer.
const CHUNK_MEMORY: usize = 24 << 20;
/// Metadata that Lakefold writes.
const OWN_KEYS: &str = "lakefold.";

/// Whether the output says it again: not how the input's columns were, or what an earlier job did.
fn is_passed_on(key: &str) -> bool {
    key != "ARROW:schema" && !key.starts_with(OWN_KEYS)
}

/// A job, planned.
#[derive(Debug)]
pub(crate) struct JobPlan {
    pub(crate) job: Job,
    /// The session's, with what makes chunks the same each time.
    pub(crate) state: SessionState,
    pub(crate) input: InputFiles,
    pub(crate) partitions: Partitions,
    pub(crate) table: ChunkTable,
    /// `None` as long as the model is to be fitted.
    pub(crate) expressions: Option<Expressions>,
    pub(crate) models: Vec<LoadedModel>,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) definition: Definition,
    threads: usize,
    memory_limit: Option<usize>,
}

impl JobPlan {
    /// Reads footers and models, and plans.
    ///
    /// # Errors
    /// See [`read_footers`] and [`Expressions::plan`]; and when two input files would become one
    /// output file, or the output lies in the input.
    pub(crate) async fn new(context: &SessionContext, job: &Job) -> Result<Self> {
        job.check()?;
        let state = job_state(context);
        let location = Location::parse(&job.input)?;
        let output = Location::parse(&job.output)?;
        let input = read_footers(&state, &location).await?;
        check_apart(&input, &output)?;
        let state = pinned(state, &input);
        let metas: Vec<_> = input.files.iter().map(|file| file.meta.clone()).collect();
        let partitions = read_partitions(&location, &metas)?;
        let partitions = kept_partitions(partitions, &input.schema);
        let table = ChunkTable::columns_only(table_schema(&input.schema, &partitions));
        let select = select(job, &input)?;
        let mut plan = Self {
            job: job.clone(),
            table,
            expressions: None,
            models: Vec::new(),
            chunks: Vec::new(),
            definition: Definition::new(),
            threads: context.state().config().target_partitions(),
            memory_limit: match context.runtime_env().memory_pool.memory_limit() {
                MemoryLimit::Finite(limit) => Some(limit),
                MemoryLimit::Infinite | MemoryLimit::Unknown => None,
            },
            state,
            input,
            partitions,
        };
        if let Some(select) = select {
            plan.models = load_models(context, &select, &job.options).await?;
            let expressions = plan.plan_expressions(context, &select).await?;
            plan.definition = plan.define(&select);
            plan.expressions = Some(expressions);
        }
        plan.cut()?;
        Ok(plan)
    }

    async fn plan_expressions(
        &self,
        context: &SessionContext,
        select: &str,
    ) -> Result<Expressions> {
        let dimensions = self.models.iter();
        let dimensions = dimensions.map(|model| (model.name.clone(), model.dimensions));
        let filter = self.job.filter.as_deref();
        let partitions = &self.partitions.columns;
        let dimensions: BTreeMap<String, usize> = dimensions.collect();
        let expressions =
            Expressions::plan(context, &self.table, select, filter, partitions, dimensions).await?;
        for file in &self.input.files {
            let missing = expressions.needed.iter().find(|name| {
                !partitions.contains(name) && file.schema.field_with_name(name).is_err()
            });
            if let Some(missing) = missing {
                return plan_err!(
                    "'{}' has no column '{missing}', which the job computes with; other files of '{}' \
                     have it: leave the file out with a glob, or write it anew with the column",
                    file.name,
                    self.job.input
                );
            }
        }
        Ok(expressions)
    }

    fn cut(&mut self) -> Result<()> {
        let limits = ChunkLimits {
            rows: self.job.chunk_rows.get(),
            bytes: self.job.chunk_bytes.bytes(),
        };
        let read = self.expressions.as_ref().map(|e| e.read.as_slice());
        self.chunks = plan_chunks(&self.input, limits, |name| {
            read.is_none_or(|read| read.iter().any(|column| column == name))
        });
        let mut names = HashSet::new();
        if let Some(twice) = self.chunks.iter().find(|chunk| !names.insert(&chunk.name)) {
            return plan_err!(
                "two files of '{}' would both become '{}': they differ in nothing but their extension, \
                 rename one",
                self.job.input,
                twice.name
            );
        }
        Ok(())
    }

    /// What the bytes of the output depend on, beside the input. Models go by their contents.
    fn define(&self, select: &str) -> Definition {
        let job = &self.job;
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let by_content = |text: &str| {
            self.models.iter().fold(text.to_owned(), |text, model| {
                text.replace(
                    &quoted(&model.name),
                    &quoted(&format!("model {}", model.id)),
                )
            })
        };
        let text = |value: &str| serde_json::Value::from(value.to_owned());
        let mut ids: Vec<String> = self.models.iter().map(|model| model.id.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        let encoding: BTreeMap<&String, String> = job
            .encoding
            .iter()
            .map(|(column, encoding)| (column, format!("{encoding:?}")))
            .collect();
        [
            ("output_version", OUTPUT_VERSION.into()),
            ("select", text(&by_content(select))),
            (
                "where",
                job.filter
                    .as_deref()
                    .map(by_content)
                    .map_or(serde_json::Value::Null, serde_json::Value::from),
            ),
            (
                "on_invalid",
                text(match job.on_invalid {
                    OnInvalid::Error => "error",
                    OnInvalid::Null => "null",
                }),
            ),
            ("models", ids.into()),
            ("chunk_rows", job.chunk_rows.get().into()),
            ("chunk_bytes", job.chunk_bytes.bytes().into()),
            ("row_group_rows", job.row_group_rows.get().into()),
            ("row_group_bytes", job.row_group_bytes.bytes().into()),
            ("compression", text(job.compression.as_str())),
            (
                "encoding",
                serde_json::to_value(encoding).unwrap_or_default(),
            ),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    pub(crate) fn file_of(&self, chunk: &Chunk) -> &InputFile {
        &self.input.files[chunk.file]
    }

    /// The chunk as a table, with all or some of its row groups.
    pub(crate) fn table_of(&self, chunk: &Chunk) -> ChunkTable {
        let file = self.file_of(chunk);
        let values = self.partitions.values[chunk.file].iter();
        let values = values.map(|value| {
            let value = (value != NULL_PARTITION).then(|| value.clone());
            wrap_partition_value_in_dict(ScalarValue::Utf8(value))
        });
        self.table.with_chunk(
            self.input.location.object_store_url(),
            PartitionedFile::new_from_meta(file.meta.clone())
                .with_partition_values(values.collect()),
            file.row_groups.len(),
            chunk.row_groups.clone(),
        )
    }

    /// The columns of the output, with what the input file's schema says of the whole table. Some readers
    /// look for it there, some in the file's metadata, so it is in both.
    pub(crate) fn output_schema(&self, chunk: &Chunk, columns: &SchemaRef) -> SchemaRef {
        let said = self.file_of(chunk).schema.metadata().iter();
        let said = said.filter(|(key, _)| is_passed_on(key));
        let said = said.map(|(key, value)| (key.clone(), value.clone()));
        let columns = Schema::new(columns.fields().clone());
        Arc::new(columns.with_metadata(said.collect()))
    }

    /// What the output file says about itself, beside its columns: nothing that depends on when, where
    /// or by whom it was written.
    pub(crate) fn key_values(&self, chunk: &Chunk) -> Vec<KeyValue> {
        let file = self.file_of(chunk);
        let definition = serde_json::to_string(&self.definition).unwrap_or_default();
        let groups = &chunk.row_groups;
        let own = [
            ("lakefold.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("lakefold.job", job_id(&self.definition)),
            ("lakefold.parameters", definition),
            (
                "lakefold.models",
                self.models
                    .iter()
                    .map(|model| model.id.as_str())
                    .collect::<Vec<_>>()
                    .join(","),
            ),
            ("lakefold.input", file.stamp.path.clone()),
            ("lakefold.input.bytes", file.stamp.bytes.to_string()),
            ("lakefold.input.footer", file.stamp.footer.clone()),
            (
                "lakefold.input.row_groups",
                format!("{}..{}", groups.start, groups.end),
            ),
        ];
        let passed_on = file.key_values.iter();
        let passed_on = passed_on.filter(|pair| is_passed_on(&pair.key));
        let mut pairs: Vec<KeyValue> = passed_on.cloned().collect();
        pairs.sort_by(|a, b| a.key.cmp(&b.key));
        pairs.extend(own.map(|(key, value)| KeyValue::new(key.to_owned(), value)));
        pairs
    }

    /// Memory that a chunk takes at most, by estimate: the input's row group as stored, decoded
    /// batches, the output's row group.
    pub(crate) fn chunk_memory(&self, chunk: &Chunk) -> usize {
        let row = chunk.bytes.checked_div(chunk.rows).unwrap_or(0).max(64);
        let batches = (BATCHES_AHEAD + 4) * BATCH_ROWS.min(chunk.rows) * row * 3;
        let encoded = self.job.row_group_bytes.bytes();
        let encoded = (encoded + encoded / 2).min(chunk.bytes.saturating_mul(4));
        chunk.largest_row_group + batches + encoded + CHUNK_MEMORY
    }

    /// How many chunks are worked on at once.
    ///
    /// # Errors
    /// When the memory limit does not admit one.
    pub(crate) fn parallel(&self, chunks: &[Chunk]) -> Result<usize> {
        let most = self.threads.min(chunks.len()).max(1);
        let Some(largest) = chunks.iter().max_by_key(|chunk| self.chunk_memory(chunk)) else {
            return Ok(most);
        };
        let Some(limit) = self.memory_limit else {
            return Ok(most);
        };
        let each = self.chunk_memory(largest);
        let admitted = limit.saturating_sub(BASE_MEMORY) / each;
        if admitted == 0 {
            return Err(plan_datafusion_err!(
                "'{}' needs about {} for a chunk and {} for the program, the memory limit is {}: raise it \
                 to {} or more, lower --row-group-bytes, or write the input anew with smaller row groups \
                 (the largest is {})",
                self.file_of(largest).name,
                mebibytes(each),
                mebibytes(BASE_MEMORY),
                mebibytes(limit),
                mebibytes(each + BASE_MEMORY),
                mebibytes(largest.largest_row_group)
            ));
        }
        Ok(most.min(admitted))
    }

    /// For `--dry-run`.
    ///
    /// # Errors
    /// When the memory limit does not admit a chunk.
    pub(crate) fn description(&self) -> Result<JobDescription> {
        let parallel = self.parallel(&self.chunks)?;
        let largest = self
            .chunks
            .iter()
            .map(|chunk| self.chunk_memory(chunk))
            .max();
        Ok(JobDescription {
            input: self.job.input.clone(),
            output: self.job.output.clone(),
            files: self.input.files.len(),
            rows: self.input.files.iter().map(InputFile::rows).sum(),
            bytes: self.input.files.iter().map(|file| file.meta.size).sum(),
            bytes_read: self.chunks.iter().map(|chunk| chunk.bytes).sum(),
            parallel,
            memory: BASE_MEMORY + parallel * largest.unwrap_or(0),
            fits_model: self.expressions.is_none(),
            models: self
                .models
                .iter()
                .map(|model| (model.name.clone(), model.id.clone()))
                .collect(),
            columns: self.expressions.as_ref().map_or(Vec::new(), |expressions| {
                let schema = expressions.schema();
                let fields = schema.fields().iter();
                fields
                    .map(|field| format!("{} {}", field.name(), field.data_type()))
                    .collect()
            }),
            chunks: self
                .chunks
                .iter()
                .map(|chunk| ChunkDescription {
                    file: self.file_of(chunk).name.clone(),
                    row_groups: (chunk.row_groups.start, chunk.row_groups.end),
                    rows: chunk.rows,
                    bytes: chunk.bytes,
                    output: chunk.name.clone(),
                })
                .collect(),
        })
    }
}

/// What a job would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobDescription {
    /// As it was named.
    pub input: String,
    /// As it was named.
    pub output: String,
    /// Files of the input.
    pub files: usize,
    /// Rows of the input, before any filter.
    pub rows: usize,
    /// Bytes of the input.
    pub bytes: u64,
    /// Of these, those of columns that are read, as stored.
    pub bytes_read: usize,
    /// Chunks that are written at once.
    pub parallel: usize,
    /// Bytes of memory, by estimate.
    pub memory: usize,
    /// A model is fitted first.
    pub fits_model: bool,
    /// SHA-256 of models, by name.
    pub models: BTreeMap<String, String>,
    /// Columns of the output with their types; empty as long as a model is to be fitted.
    pub columns: Vec<String>,
    /// In the order of the input.
    pub chunks: Vec<ChunkDescription>,
}

/// A chunk of a [`JobDescription`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChunkDescription {
    /// The input file.
    pub file: String,
    /// The first row group, and the one after the last.
    pub row_groups: (usize, usize),
    /// Rows, before any filter.
    pub rows: usize,
    /// Bytes that are read, as stored.
    pub bytes: usize,
    /// The output file.
    pub output: String,
}

impl fmt::Display for JobDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "input    {}: {} files, {} rows, {}",
            self.input,
            self.files,
            self.rows,
            mebibytes(usize::try_from(self.bytes).unwrap_or(usize::MAX))
        )?;
        writeln!(f, "output   {}: {} chunks", self.output, self.chunks.len())?;
        writeln!(f, "reads    {} of columns", mebibytes(self.bytes_read))?;
        writeln!(
            f,
            "memory   about {}, {} chunks at once",
            mebibytes(self.memory),
            self.parallel
        )?;
        if self.fits_model {
            writeln!(f, "model    is fitted first")?;
        }
        for (name, id) in &self.models {
            writeln!(f, "model    {name} ({id})")?;
        }
        for column in &self.columns {
            writeln!(f, "column   {column}")?;
        }
        for chunk in &self.chunks {
            writeln!(
                f,
                "chunk    {}: {} rows, row groups {}..{} of {}",
                chunk.output, chunk.rows, chunk.row_groups.0, chunk.row_groups.1, chunk.file
            )?;
        }
        Ok(())
    }
}

fn mebibytes(bytes: usize) -> String {
    if bytes < 1 << 20 {
        return format!("{:.1} KiB", bytes as f64 / 1024.0);
    }
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// One partition, fixed batches, types as stored.
fn job_state(context: &SessionContext) -> SessionState {
    let state = context.state();
    let mut config = state
        .config()
        .clone()
        .with_target_partitions(1)
        .with_batch_size(BATCH_ROWS)
        .with_round_robin_repartition(false)
        .with_repartition_file_scans(false);
    let parquet = &mut config.options_mut().execution.parquet;
    parquet.schema_force_view_types = false;
    parquet.binary_as_string = false;
    SessionStateBuilder::new_from_existing(state)
        .with_config(config)
        .build()
}

/// The state with the input as it was planned with.
fn pinned(state: SessionState, input: &InputFiles) -> SessionState {
    let url = input.location.object_store_url();
    let known = input.files.iter().map(|file| &file.meta);
    let env =
        Pinned::new(Arc::clone(&input.store), known).within(state.runtime_env(), url.as_ref());
    SessionStateBuilder::new_from_existing(state)
        .with_runtime_env(Arc::new(env))
        .build()
}

/// The expressions of the output; `None` where the model is not there yet.
fn select(job: &Job, input: &InputFiles) -> Result<Option<String>> {
    let Some(column) = &job.column else {
        return Ok(job.select.clone());
    };
    let schema = &input.schema;
    let columns = || {
        let names: Vec<String> = schema
            .fields()
            .iter()
            .map(|f| format!("'{}'", f.name()))
            .collect();
        names.join(", ")
    };
    if schema.field_with_name(column).is_err() {
        return plan_err!(
            "'{}' has no column '{column}', it has {}",
            job.input,
            columns()
        );
    }
    if schema.field_with_name(&job.output_column).is_ok() {
        return plan_err!(
            "'{}' has a column '{}' already: name another with --output-column, it has {}",
            job.input,
            job.output_column,
            columns()
        );
    }
    let model = match (&job.model, job.task) {
        (Some(model), Task::Transform) => model,
        _ => return Ok(None),
    };
    Ok(Some(format!(
        "*, lle_transform({}, '{}') AS {}",
        quoted(column),
        model.replace('\'', "''"),
        quoted(&job.output_column)
    )))
}

/// A name as SQL has it, whatever its letters.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The output must not become input of the next run.
fn check_apart(input: &InputFiles, output: &Location) -> Result<()> {
    if input.location.object_store_url() != output.object_store_url() {
        return Ok(());
    }
    let inside = input
        .files
        .iter()
        .find(|file| file.meta.location.prefix_matches(output.prefix()));
    match inside {
        Some(file) => plan_err!(
            "'{}' is read and lies in the output '{}': choose an output outside of the input",
            file.name,
            output.text()
        ),
        None => Ok(()),
    }
}

/// Partition columns that are not also written into the files.
fn kept_partitions(partitions: Partitions, schema: &SchemaRef) -> Partitions {
    let kept: Vec<bool> = partitions
        .columns
        .iter()
        .map(|name| schema.field_with_name(name).is_err())
        .collect();
    let keep = |values: Vec<String>| {
        let values = values.into_iter().zip(&kept);
        values.filter(|(_, kept)| **kept).map(|(v, _)| v).collect()
    };
    Partitions {
        columns: keep(partitions.columns),
        values: partitions.values.into_iter().map(keep).collect(),
    }
}

fn table_schema(schema: &SchemaRef, partitions: &Partitions) -> TableSchema {
    let columns = partitions.columns.iter().map(|name| {
        let data_type = wrap_partition_type_in_dict(DataType::Utf8);
        Arc::new(Field::new(name, data_type, true)) as FieldRef
    });
    TableSchema::builder(Arc::clone(schema))
        .with_table_partition_cols(columns.collect::<Vec<_>>())
        .build()
}
