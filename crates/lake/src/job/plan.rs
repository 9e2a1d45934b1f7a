//! Everything about a job that is known before its first row is read.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use datafusion::common::plan_err;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionContext;

use super::chunk_table::ChunkTable;
use super::chunks::{Chunk, ChunkLimits, plan_chunks};
use super::expressions::Expressions;
use super::footers::{InputFile, InputFiles, read_footers};
use super::manifest::Definition;
use super::models::load_models;
use super::pinned::Pinned;
use super::spec::{Format, Job, Task};
use crate::Location;
use crate::function_files::LoadedFile;

/// Rows of a batch. Bytes of the output depend on it, so it is no setting.
pub(crate) const BATCH_ROWS: usize = 8192;
/// A job, planned.
#[derive(Debug)]
pub(crate) struct JobPlan {
    pub(crate) job: Job,
    /// The session's, with what makes chunks the same each time.
    pub(crate) state: SessionState,
    pub(crate) input: InputFiles,
    pub(crate) table: ChunkTable,
    /// `None` as long as the model is to be fitted.
    pub(crate) expressions: Option<Expressions>,
    pub(crate) models: Vec<LoadedFile>,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) definition: Definition,
    pub(crate) threads: usize,
    pub(crate) memory_limit: Option<usize>,
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
        let input = read_footers(&state, &location, job.input_version).await?;
        check_apart(&input, &output)?;
        let state = pinned(state, &input);
        let table = TableSchema::builder(Arc::clone(&input.schema))
            .with_table_partition_cols(input.partitions.fields())
            .build();
        let table = ChunkTable::columns_only(table);
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
        };
        if let Some(select) = select {
            plan.models = load_models(context, &select, &job.options).await?;
            let expressions = plan.plan_expressions(context, &select).await?;
            plan.definition = plan.define(&select);
            plan.expressions = Some(expressions);
            if job.format == Format::Delta {
                plan.delta_columns()?;
            }
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
        let dimensions =
            dimensions.filter_map(|model| Some((model.name.clone(), model.dimensions?)));
        let filter = self.job.filter.as_deref();
        let partitions = &self.input.partitions.columns;
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
        let is_read = |name: &str| read.is_none_or(|read| read.iter().any(|column| column == name));
        // Until the model is fitted, what makes up the mark is not known.
        let marked = self.job.format == Format::Delta && read.is_some();
        let mark = |file: &InputFile| marked.then(|| self.mark(file));
        self.chunks = plan_chunks(&self.input, limits, is_read, mark);
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

    pub(crate) fn file_of(&self, chunk: &Chunk) -> &InputFile {
        &self.input.files[chunk.file]
    }

    /// The chunk as a table, with all or some of its row groups.
    ///
    /// # Errors
    /// When the log of a Delta Lake table gives a partition value that is not of its type.
    pub(crate) fn table_of(&self, chunk: &Chunk) -> Result<ChunkTable> {
        let file = self.file_of(chunk);
        let values = self.input.partitions.scalars(chunk.file)?;
        Ok(self.table.with_chunk(
            self.input.location.object_store_url(),
            PartitionedFile::new_from_meta(file.meta.clone()).with_partition_values(values),
            file.row_groups.len(),
            chunk.row_groups.clone(),
        ))
    }
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
    let (Some(model), Task::Transform) = (&job.model, job.task) else {
        return Ok(None);
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
