//! Results on stdout, as they come.

use std::io::Write;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::arrow::json::writer::{
    JsonArray, JsonFormat, LineDelimited, Writer, WriterBuilder,
};
use datafusion::config::FormatOptions;
use datafusion::error::Result;
use datafusion_cli::print_options::MaxRows;

use crate::args::Format;
use crate::table::{table, with_texts};

/// Turns batches into bytes. Bytes are made before they are written, so that a reader who has
/// gone away is told from a value that cannot be written.
pub(crate) enum Output {
    /// Keeps what will be shown and counts the rest.
    Table {
        kept: Vec<RecordBatch>,
        max_rows: MaxRows,
        options: Box<FormatOptions>,
    },
    Csv {
        header_written: bool,
    },
    Json(Box<Writer<Vec<u8>, JsonArray>>),
    Ndjson(Box<Writer<Vec<u8>, LineDelimited>>),
}

impl Output {
    pub(crate) fn new(format: Format, max_rows: MaxRows, options: FormatOptions) -> Self {
        match format {
            Format::Table => Self::Table {
                kept: Vec::new(),
                max_rows,
                options: Box::new(options),
            },
            Format::Csv => Self::Csv {
                header_written: false,
            },
            Format::Json => Self::Json(Box::new(json_writer())),
            Format::Ndjson => Self::Ndjson(Box::new(json_writer())),
        }
    }

    /// What to write for the next batch.
    pub(crate) fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>> {
        match self {
            Self::Table { kept, max_rows, .. } => {
                let have: usize = kept.iter().map(RecordBatch::num_rows).sum();
                let room = match max_rows {
                    MaxRows::Unlimited => batch.num_rows(),
                    // One more than is shown tells that there is more.
                    MaxRows::Limited(rows) => rows.saturating_add(1).saturating_sub(have),
                };
                if room > 0 && batch.num_rows() > 0 {
                    kept.push(batch.slice(0, room.min(batch.num_rows())));
                }
                Ok(Vec::new())
            }
            Self::Csv { header_written } => {
                let header = !std::mem::replace(header_written, true);
                csv_text(batch, header)
            }
            Self::Json(writer) => write_json(writer, batch),
            Self::Ndjson(writer) => write_json(writer, batch),
        }
    }

    /// What to write after the last batch.
    pub(crate) fn finish(self, schema: &SchemaRef) -> Result<Vec<u8>> {
        match self {
            Self::Table {
                kept,
                max_rows,
                options,
            } => table(schema, &kept, max_rows, &options),
            Self::Csv {
                header_written: true,
            } => Ok(Vec::new()),
            Self::Csv {
                header_written: false,
            } => csv_text(&RecordBatch::new_empty(Arc::clone(schema)), true),
            Self::Json(mut writer) => {
                writer.finish()?;
                let mut text = writer.into_inner();
                text.write_all(b"\n")?;
                Ok(text)
            }
            Self::Ndjson(mut writer) => {
                writer.finish()?;
                Ok(writer.into_inner())
            }
        }
    }
}

/// NULLs are written out, so that every object has every key.
fn json_writer<F: JsonFormat>() -> Writer<Vec<u8>, F> {
    WriterBuilder::new()
        .with_explicit_nulls(true)
        .build(Vec::new())
}

fn write_json<F: JsonFormat>(
    writer: &mut Writer<Vec<u8>, F>,
    batch: &RecordBatch,
) -> Result<Vec<u8>> {
    writer.write(batch)?;
    Ok(std::mem::take(writer.get_mut()))
}

fn csv_text(batch: &RecordBatch, header: bool) -> Result<Vec<u8>> {
    let flat = with_texts(batch, json_texts)?;
    let mut text = Vec::new();
    let mut writer = csv::WriterBuilder::new()
        .with_header(header)
        .build(&mut text);
    writer.write(&flat)?;
    drop(writer);
    Ok(text)
}

/// CSV has no lists: nested values become JSON text.
fn json_texts(column: &ArrayRef) -> Result<Option<ArrayRef>> {
    const PREFIX: &str = r#"{"v":"#;
    if !column.data_type().is_nested() {
        return Ok(None);
    }
    let field = Field::new("v", column.data_type().clone(), true);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::clone(column)])?;
    let mut writer = json_writer::<LineDelimited>();
    writer.write(&batch)?;
    writer.finish()?;
    let lines = String::from_utf8_lossy(writer.get_ref()).into_owned();
    let texts: StringArray = lines
        .lines()
        .enumerate()
        .map(|(row, line)| {
            let value = line.strip_prefix(PREFIX)?.strip_suffix('}')?;
            column.is_valid(row).then(|| value.to_owned())
        })
        .collect();
    Ok(Some(Arc::new(texts)))
}
