//! Commands whose result is one row.

use std::io::Write;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Float64Type, Int64Type};
use datafusion::arrow::json::writer::{LineDelimited, WriterBuilder};
use datafusion::error::Result;
use lakefold::{Session, error_message};

use crate::args::SessionArgs;
use crate::failure::Failure;
use crate::progress::{FitProgress, report_fits};

/// A batch of one row.
#[derive(Debug)]
pub(crate) struct OneRow(RecordBatch);

impl OneRow {
    /// Runs a query that gives one row, until its end or Ctrl-C.
    pub(crate) async fn query(
        session: &Session,
        sql: &str,
        arguments: &SessionArgs,
        progress: &FitProgress,
    ) -> Result<Self, Failure> {
        let run = async { session.sql(sql).await?.collect().await };
        let result = tokio::select! {
            result = run => result,
            _ = tokio::signal::ctrl_c() => {
                progress.take();
                return Err(Failure::Interrupted);
            }
        };
        let fits = progress.take();
        let batches = result.map_err(|error| Failure::Failed(error_message(&error)))?;
        report_fits(&fits, arguments.is_verbose(), arguments.quiet);
        let row = batches.into_iter().find(|batch| batch.num_rows() == 1);
        row.map(Self)
            .ok_or_else(|| Failure::Failed("the query gave no row".to_owned()))
    }

    /// A column of whole numbers; `None` for NULL.
    pub(crate) fn count(&self, column: &str) -> Option<usize> {
        let column = self
            .0
            .column_by_name(column)?
            .as_primitive_opt::<Int64Type>()?;
        let value = column.iter().next()??;
        usize::try_from(value).ok()
    }

    /// A column of floats; `None` for NULL.
    pub(crate) fn float(&self, column: &str) -> Option<f64> {
        let column = self.0.column_by_name(column)?;
        column.as_primitive_opt::<Float64Type>()?.iter().next()?
    }

    /// A column of text; `None` for NULL.
    pub(crate) fn text(&self, column: &str) -> Option<&str> {
        let column = self.0.column_by_name(column)?;
        column.as_string_opt::<i32>()?.iter().next()?
    }

    /// A JSON object with a line end, on one line or, for people, one line a column.
    pub(crate) fn json(&self, pretty: bool) -> Result<String> {
        let members = (0..self.0.num_columns())
            .map(|column| self.member(column))
            .collect::<Result<Vec<String>>>()?;
        Ok(if pretty {
            format!("{{\n  {}\n}}\n", members.join(",\n  "))
        } else {
            format!("{{{}}}\n", members.join(","))
        })
    }

    /// `"name":value`.
    fn member(&self, column: usize) -> Result<String> {
        let mut writer = WriterBuilder::new()
            .with_explicit_nulls(true)
            .build::<_, LineDelimited>(Vec::new());
        writer.write(&self.0.project(&[column])?)?;
        writer.finish()?;
        let object = String::from_utf8_lossy(writer.get_ref()).into_owned();
        let object = object.trim_end();
        let member = object.strip_prefix('{').and_then(|o| o.strip_suffix('}'));
        Ok(member.unwrap_or(object).to_owned())
    }

    /// Writes [`OneRow::json`] to stdout.
    pub(crate) fn print(&self, pretty: bool) -> Result<(), Failure> {
        let json = self
            .json(pretty)
            .map_err(|error| Failure::Failed(error_message(&error)))?;
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(json.as_bytes())?;
        stdout.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
    use std::sync::Arc;

    #[test]
    fn a_row_is_an_object() {
        let columns: [(&str, ArrayRef); 3] = [
            ("rows", Arc::new(Int64Array::from(vec![7]))),
            ("a \"b\"", Arc::new(StringArray::from(vec!["{x}"]))),
            ("accuracy", Arc::new(Float64Array::from(vec![None]))),
        ];
        let row = OneRow(RecordBatch::try_from_iter(columns).unwrap());
        assert_eq!(row.count("rows"), Some(7));
        assert_eq!(row.float("accuracy"), None);
        assert_eq!(row.text("a \"b\""), Some("{x}"));
        let one = r#"{"rows":7,"a \"b\"":"{x}","accuracy":null}"#;
        assert_eq!(row.json(false).unwrap(), format!("{one}\n"));
        let pretty = "{\n  \"rows\":7,\n  \"a \\\"b\\\"\":\"{x}\",\n  \"accuracy\":null\n}\n";
        assert_eq!(row.json(true).unwrap(), pretty);
    }
}
