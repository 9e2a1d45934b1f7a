//! Encoding a chunk, on a thread of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::KeyValue;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use tokio::sync::mpsc;

use super::output::{Aside, Hashing};
use super::spec::{ColumnEncoding, Job};

/// Batches between the reader and the writer: the reader waits when there are more.
pub(crate) const BATCHES_AHEAD: usize = 2;

/// Rows written at once: a row group is over its cap by no more than these.
const SLICE_ROWS: usize = 1024;

/// What the reader sends.
#[derive(Debug)]
pub(crate) enum Message {
    Batch(RecordBatch),
    /// Without it the chunk is not whole, and is thrown away.
    End,
}

/// A chunk that is written and durable, and not visible yet.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) aside: Aside,
    pub(crate) rows: usize,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    /// Time spent encoding and writing, without waiting for rows.
    pub(crate) busy: Duration,
}

/// Properties of output files. They depend on the job alone.
///
/// # Errors
/// When a column of the job's encodings does not exist.
pub(crate) fn properties(job: &Job, schema: &SchemaRef) -> Result<WriterProperties> {
    let mut builder = WriterProperties::builder()
        .set_created_by(format!("lakefold {}", env!("CARGO_PKG_VERSION")))
        .set_compression(job.compression.codec()?)
        .set_max_row_group_row_count(Some(job.row_group_rows.get()))
        .set_max_row_group_bytes(Some(job.row_group_bytes.bytes()));
    let descriptor = ArrowSchemaConverter::new().convert(schema)?;
    for name in job.encoding.keys() {
        if schema.field_with_name(name).is_err() {
            return datafusion::common::plan_err!(
                "encoding names the column '{name}', which the output does not have"
            );
        }
    }
    for leaf in 0..descriptor.num_columns() {
        let root = descriptor.get_column_root(leaf).name();
        let path = descriptor.column(leaf).path().clone();
        let chosen = job.encoding.get(root).copied();
        let is_vector = schema
            .field_with_name(root)
            .is_ok_and(|field| is_list_of_floats(field.data_type()));
        // Hardly two numbers of a vector are equal: looking each up costs time and saves nothing.
        // Their minimum and maximum over all dimensions help no reader either.
        if is_vector {
            builder = builder
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_statistics_enabled(path.clone(), EnabledStatistics::Chunk);
        }
        if let Some(chosen) = chosen {
            let is_dictionary = chosen == ColumnEncoding::Dictionary;
            builder = builder.set_column_dictionary_enabled(path.clone(), is_dictionary);
            if let Some(encoding) = chosen.encoding() {
                builder = builder.set_column_encoding(path, encoding);
            }
        }
    }
    Ok(builder.build())
}

fn is_list_of_floats(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            item.data_type().is_floating()
        }
        _ => false,
    }
}

/// Writes batches until [`Message::End`] and makes the file durable. Blocks. Beside an error comes what
/// has to be abandoned.
///
/// # Errors
/// When the disk or store fails, or the sender stopped before the end.
pub(crate) fn encode(
    mut batches: mpsc::Receiver<Message>,
    aside: Aside,
    schema: &SchemaRef,
    properties: WriterProperties,
    key_values: Vec<KeyValue>,
) -> (Result<Encoded>, Option<Aside>) {
    let sink = Hashing::new(aside);
    let mut writer = match ArrowWriter::try_new(sink, Arc::clone(schema), Some(properties)) {
        Ok(writer) => writer,
        Err(error) => return (Err(failed(error)), None),
    };
    for pair in key_values {
        writer.append_key_value_metadata(pair);
    }
    let (mut rows, mut busy) = (0, Duration::ZERO);
    let mut write = || -> Result<()> {
        loop {
            match batches.blocking_recv() {
                Some(Message::Batch(batch)) => {
                    let start = Instant::now();
                    rows += batch.num_rows();
                    let batch = batch.with_schema(Arc::clone(schema))?;
                    for start in (0..batch.num_rows()).step_by(SLICE_ROWS) {
                        let rows = SLICE_ROWS.min(batch.num_rows() - start);
                        writer.write(&batch.slice(start, rows)).map_err(failed)?;
                    }
                    writer.inner_mut().inner.keep_up()?;
                    busy += start.elapsed();
                }
                Some(Message::End) => return Ok(()),
                None => return exec_err!("the chunk was abandoned"),
            }
        }
    };
    let written = write();
    let start = Instant::now();
    if let Err(error) = written {
        let left = writer.inner_mut().inner.detach();
        return (Err(error), left);
    }
    let sink = match writer.into_inner() {
        Ok(sink) => sink,
        Err(error) => return (Err(failed(error)), None),
    };
    let (mut aside, sha256, bytes) = sink.finish();
    if let Err(error) = aside.sync() {
        return (Err(error), Some(aside));
    }
    busy += start.elapsed();
    let encoded = Encoded {
        aside,
        rows,
        bytes,
        sha256,
        busy,
    };
    (Ok(encoded), None)
}

/// The store's or disk's own words, without the writer's around them.
fn failed(error: ParquetError) -> DataFusionError {
    match error {
        ParquetError::External(source) => match source.downcast::<std::io::Error>() {
            Ok(error) => DataFusionError::Execution(error.to_string()),
            Err(source) => DataFusionError::External(source),
        },
        other => DataFusionError::from(other),
    }
}
