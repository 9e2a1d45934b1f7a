//! A job's plan, for people and programs.

use std::collections::BTreeMap;
use std::fmt;

use datafusion::error::Result;
use serde::Serialize;

use super::budget::BASE_MEMORY;
use super::footers::InputFile;
use super::plan::JobPlan;

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

pub(crate) fn mebibytes(bytes: usize) -> String {
    if bytes < 1 << 20 {
        return format!("{:.1} KiB", bytes as f64 / 1024.0);
    }
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

impl JobPlan {
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
