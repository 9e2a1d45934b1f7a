//! Tables and columns named on the command line, in SQL.

use lakefold::{Session, error_message};

use crate::failure::Failure;

/// What a user named as INPUT.
#[derive(Debug)]
pub(crate) struct Input {
    name: String,
    columns: Vec<String>,
}

impl Input {
    /// Reads the schema.
    pub(crate) async fn open(session: &Session, name: &str) -> Result<Self, Failure> {
        let sql = format!("SELECT * FROM {}", text(name));
        let frame = session.sql(&sql).await;
        let frame = frame.map_err(|error| Failure::Failed(error_message(&error)))?;
        let columns = frame.schema().fields().iter();
        Ok(Self {
            name: name.to_owned(),
            columns: columns.map(|field| field.name().clone()).collect(),
        })
    }

    /// As an argument of a function in FROM.
    pub(crate) fn sql(&self) -> String {
        format!("(SELECT * FROM {})", text(&self.name))
    }

    /// A column that exists, as an identifier: spelled as in the file, whatever its letters.
    pub(crate) fn column(&self, column: &str) -> Result<String, Failure> {
        if self.columns.iter().any(|known| known == column) {
            return Ok(format!("\"{}\"", column.replace('"', "\"\"")));
        }
        let known: Vec<String> = self.columns.iter().map(|c| format!("'{c}'")).collect();
        Err(Failure::Failed(format!(
            "'{}' has no column '{column}', it has {}",
            self.name,
            known.join(", ")
        )))
    }
}

/// A text literal.
pub(crate) fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}
