//! Errors in the words of whoever wrote them.

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use datafusion::sql::sqlparser::parser::ParserError;

/// The message of an error for people: complete, but without the layers' prefixes that
/// `to_string` stacks up ("Execution error: External error: …").
///
/// ```
/// use datafusion::error::DataFusionError;
/// let inner = DataFusionError::Execution("row 7 has NaN".to_owned());
/// let outer = DataFusionError::External(Box::new(inner));
/// assert_eq!(outer.to_string(), "External error: Execution error: row 7 has NaN");
/// assert_eq!(lakefold::error_message(&outer), "row 7 has NaN");
/// ```
pub fn error_message(error: &DataFusionError) -> String {
    match error {
        DataFusionError::Plan(text)
        | DataFusionError::Execution(text)
        | DataFusionError::Configuration(text)
        | DataFusionError::ResourcesExhausted(text)
        | DataFusionError::NotImplemented(text)
        | DataFusionError::Substrait(text)
        | DataFusionError::Ffi(text) => text.clone(),
        DataFusionError::SQL(error, _) => match error.as_ref() {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => {
                format!("syntax error: {text}")
            }
            ParserError::RecursionLimitExceeded => {
                "syntax error: the statement is nested too deeply".to_owned()
            }
        },
        DataFusionError::SchemaError(error, _) => error.to_string(),
        DataFusionError::ArrowError(error, _) => arrow_message(error),
        DataFusionError::ParquetError(error) => parquet_message(error),
        DataFusionError::ObjectStore(error) => error.to_string(),
        DataFusionError::IoError(error) => error.to_string(),
        DataFusionError::External(error) => boxed_message(error.as_ref()),
        DataFusionError::Context(text, inner) => format!("{text}: {}", error_message(inner)),
        DataFusionError::Diagnostic(_, inner) => error_message(inner),
        DataFusionError::Shared(inner) => error_message(inner),
        DataFusionError::Collection(errors) => {
            let messages: Vec<_> = errors.iter().map(error_message).collect();
            messages.join("; ")
        }
        DataFusionError::ExecutionJoin(error) => format!("a worker stopped: {error}"),
        // A bug somewhere: the full text, with the request to report it.
        DataFusionError::Internal(_) => error.to_string(),
    }
}

fn arrow_message(error: &ArrowError) -> String {
    match error {
        ArrowError::ExternalError(error) => boxed_message(error.as_ref()),
        ArrowError::IoError(_, error) => error.to_string(),
        other => other.to_string(),
    }
}

fn parquet_message(error: &ParquetError) -> String {
    match error {
        ParquetError::External(error) => boxed_message(error.as_ref()),
        other => other.to_string(),
    }
}

/// Errors travel through other libraries in boxes and are wrapped again on the way back.
fn boxed_message(error: &(dyn std::error::Error + Send + Sync + 'static)) -> String {
    if let Some(error) = error.downcast_ref::<DataFusionError>() {
        error_message(error)
    } else if let Some(error) = error.downcast_ref::<ArrowError>() {
        arrow_message(error)
    } else if let Some(error) = error.downcast_ref::<ParquetError>() {
        parquet_message(error)
    } else {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn wrappers_of_every_library_are_taken_off() {
        let plain = DataFusionError::Plan("no table 'x'".to_owned());
        let arrow = ArrowError::ExternalError(Box::new(plain));
        let parquet = ParquetError::External(Box::new(arrow));
        let shared = DataFusionError::Shared(Arc::new(DataFusionError::from(parquet)));
        let wrapped = shared.context("while writing 'out/'");
        assert_eq!(error_message(&wrapped), "while writing 'out/': no table 'x'");
    }

    #[test]
    fn syntax_errors_say_so() {
        let error = ParserError::ParserError("Expected: end of statement".to_owned());
        let error = DataFusionError::SQL(Box::new(error), None);
        assert_eq!(error_message(&error), "syntax error: Expected: end of statement");
    }
}
