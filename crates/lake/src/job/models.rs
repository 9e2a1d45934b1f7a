//! The models and weights that a job's expressions name.

use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::stores::register_store;
use crate::Location;
use crate::function_files::{LoadedFile, files_of_functions, load_file};

/// Reads the files of a list of expressions into the session's functions.
///
/// # Errors
/// For a syntax error, or a file that cannot be read.
pub(crate) async fn load_models(
    context: &SessionContext,
    select: &str,
    options: &std::collections::BTreeMap<String, String>,
) -> Result<Vec<LoadedFile>> {
    let statements =
        Parser::parse_sql(&GenericDialect {}, &format!("SELECT {select}")).map_err(|error| {
            DataFusionError::SQL(Box::new(error), None).context("in the expressions of the job")
        })?;
    let mut files = files_of_functions(&statements);
    files.sort_unstable();
    files.dedup();
    let mut models = Vec::new();
    for file in files {
        register_store(context, &Location::parse(&file.name)?, options)?;
        models.extend(load_file(context, &file).await?);
    }
    Ok(models)
}
