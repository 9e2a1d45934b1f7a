//! One schema for many files.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{plan_datafusion_err, plan_err};
use datafusion::datasource::file_format::FileFormat;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;

use crate::{Files, Location};

/// The schema of all files together. Columns that only some files have are NULL in the others.
///
/// # Errors
/// When a file is damaged, has a column of another type, or shares no column with the first; the
/// file is named.
pub(crate) async fn infer_schema(
    state: &SessionState,
    location: &Location,
    files: &Files,
    reader: &dyn FileFormat,
) -> Result<SchemaRef> {
    if !files.kind.has_schema() {
        // Types are guessed from the text of all files together.
        let not_empty: Vec<_> = files
            .files
            .iter()
            .filter(|file| file.size > 0)
            .cloned()
            .collect();
        let schema = reader.infer_schema(state, &files.store, &not_empty).await;
        return schema.map_err(|error| error.context(format!("cannot read '{}'", location.text())));
    }
    let concurrent = state
        .config_options()
        .execution
        .meta_fetch_concurrency
        .get();
    let schemas: Vec<SchemaRef> = futures::stream::iter(&files.files)
        .map(|file| async move {
            let schema = reader
                .infer_schema(state, &files.store, std::slice::from_ref(file))
                .await;
            schema.map_err(|error| damaged(location, files.kind.format, file, error))
        })
        .boxed()
        .buffered(concurrent)
        .try_collect()
        .await?;
    files.merged(location, &schemas)
}

pub(crate) fn merge(
    location: &Location,
    files: &[ObjectMeta],
    schemas: &[SchemaRef],
) -> Result<SchemaRef> {
    let mut fields: Vec<Field> = Vec::new();
    // Column name to its place in `fields` and the first file that has it.
    let mut columns: HashMap<&str, (usize, usize)> = HashMap::new();
    for (file, schema) in schemas.iter().enumerate() {
        let mut shared = 0;
        for field in schema.fields() {
            let Some(&(place, first)) = columns.get(field.name().as_str()) else {
                columns.insert(field.name(), (fields.len(), file));
                fields.push(field.as_ref().clone());
                continue;
            };
            shared += 1;
            let known = &mut fields[place];
            if known.data_type() != field.data_type() {
                return plan_err!(
                    "column '{}' is {} in '{}' but {} in '{}': files read together must agree; \
                     name those of one type with a glob",
                    field.name(),
                    known.data_type(),
                    location.name_of(&files[first].location),
                    field.data_type(),
                    location.name_of(&files[file].location)
                );
            }
            known.set_nullable(known.is_nullable() || field.is_nullable());
        }
        if file > 0 && shared == 0 {
            return plan_err!(
                "'{}' shares no column with '{}': they look like different tables, name one of \
                 them with a glob",
                location.name_of(&files[file].location),
                location.name_of(&files[0].location)
            );
        }
    }
    for field in &mut fields {
        if schemas
            .iter()
            .any(|schema| schema.field_with_name(field.name()).is_err())
        {
            field.set_nullable(true);
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

pub(crate) fn damaged(
    location: &Location,
    format: &str,
    file: &ObjectMeta,
    error: DataFusionError,
) -> DataFusionError {
    let name = location.name_of(&file.location);
    if let DataFusionError::ObjectStore(_) = &error {
        return error.context(format!("cannot read '{name}'"));
    }
    plan_datafusion_err!(
        "'{name}' ({} bytes) is not a whole {format} file: it may be cut off, still being written, \
         or of another format under that name; write it again or leave it out ({})",
        file.size,
        innermost(&error)
    )
}

/// The message of the library that failed, without the wrappers' prefixes.
fn innermost(error: &DataFusionError) -> String {
    match error {
        DataFusionError::ParquetError(error) => error.to_string(),
        DataFusionError::ArrowError(error, _) => error.to_string(),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            innermost(inner)
        }
        DataFusionError::External(inner) => inner.to_string(),
        other => other.strip_backtrace(),
    }
}
