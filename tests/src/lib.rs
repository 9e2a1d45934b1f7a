//! What the tests of SQL share: a Lakefold session that sqllogictest can drive.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::{DataFusionError, Result};
use lakefold::{Session, SessionBuilder};
use sqllogictest::{DBOutput, DefaultColumnType};

/// The root of the repository, from which examples name their files.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A session of two threads and 2 GiB.
///
/// # Errors
/// When the session cannot be built.
pub fn session() -> Result<Session> {
    SessionBuilder::new()
        .threads(2)
        .memory_limit(2 << 30)
        .build()
}

/// A session that sqllogictest runs records on. Errors are what the command line would print.
pub struct Database {
    session: Session,
}

impl Database {
    /// A fresh session.
    ///
    /// # Errors
    /// When the session cannot be built.
    pub fn new() -> Result<Self> {
        Ok(Self {
            session: session()?,
        })
    }
}

/// An error as the command line prints it.
#[derive(Debug)]
pub struct Message(String);

impl std::fmt::Display for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Message {}

impl From<DataFusionError> for Message {
    fn from(error: DataFusionError) -> Self {
        Self(lakefold::error_message(&error))
    }
}

#[async_trait]
impl sqllogictest::AsyncDB for Database {
    type Error = Message;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Message> {
        let frame = self.session.sql(sql).await?;
        let types: Vec<DefaultColumnType> = frame
            .schema()
            .fields()
            .iter()
            .map(|field| column_type(field.data_type()))
            .collect();
        let batches = frame.collect().await?;
        if types.is_empty() {
            return Ok(DBOutput::StatementComplete(0));
        }
        let mut rows = Vec::new();
        for batch in &batches {
            rows.extend(lines(batch)?);
        }
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &'static str {
        "lakefold"
    }
}

fn column_type(data_type: &DataType) -> DefaultColumnType {
    match data_type {
        data_type if data_type.is_integer() => DefaultColumnType::Integer,
        data_type if data_type.is_floating() => DefaultColumnType::FloatingPoint,
        _ => DefaultColumnType::Text,
    }
}

/// Every row of the batch as text, NULL spelled out.
///
/// # Errors
/// When a type cannot be shown.
pub fn lines(batch: &RecordBatch) -> Result<Vec<Vec<String>>> {
    let options = FormatOptions::default().with_null("NULL");
    let columns = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
        .collect::<Result<Vec<_>, _>>()?;
    Ok((0..batch.num_rows())
        .map(|row| columns.iter().map(|c| c.value(row).to_string()).collect())
        .collect())
}
