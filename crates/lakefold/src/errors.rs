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
        | DataFusionError::Ffi(text) => unlayered(text),
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
        // Constants are computed while planning; which rule did so is no help to a user.
        DataFusionError::Context(text, inner) if text.starts_with("Optimizer rule ") => {
            error_message(inner)
        }
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

/// `DataFusion`'s planner turns some errors into text on the way, prefixes and all.
fn unlayered(text: &str) -> String {
    const PREFIXES: [&str; 6] = [
        "Error during planning: ",
        "Execution error: ",
        "External error: ",
        "Arrow error: ",
        "Schema error: ",
        "This feature is not implemented: ",
    ];
    // A function's own words about its arguments come between these two of the planner's.
    const BEFORE: &str = "user-defined coercion failed with: ";
    const AFTER: &str = " No function matches the given name and argument types";
    let text = match text.split_once(BEFORE) {
        Some((_, own)) => own
            .split_once(AFTER)
            .map_or(own, |(own, _)| own.trim_end_matches('.')),
        None => text,
    };
    PREFIXES
        .iter()
        .fold(text.to_owned(), |text, prefix| text.replace(prefix, ""))
}

fn arrow_message(error: &ArrowError) -> String {
    match error {
        ArrowError::ExternalError(error) => boxed_message(error.as_ref()),
        ArrowError::IoError(_, error) => error.to_string(),
        ArrowError::CastError(text)
        | ArrowError::CsvError(text)
        | ArrowError::JsonError(text)
        | ArrowError::ComputeError(text)
        | ArrowError::InvalidArgumentError(text) => text.clone(),
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
        assert_eq!(
            error_message(&wrapped),
            "while writing 'out/': no table 'x'"
        );
    }

    #[test]
    fn a_function_speaks_for_itself() {
        let text = "Execution error: Function 'f' user-defined coercion failed with: Error during \
                    planning: features must be a list, got Int64. No function matches the given \
                    name and argument types 'f(Int64)'. You might need to add explicit type casts.";
        let error = DataFusionError::Plan(text.to_owned());
        assert_eq!(error_message(&error), "features must be a list, got Int64");
    }

    #[test]
    fn syntax_errors_say_so() {
        let error = ParserError::ParserError("Expected: end of statement".to_owned());
        let error = DataFusionError::SQL(Box::new(error), None);
        assert_eq!(
            error_message(&error),
            "syntax error: Expected: end of statement"
        );
    }
}
