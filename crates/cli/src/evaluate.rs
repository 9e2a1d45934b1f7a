//! `lakefold evaluate`.

use std::io::IsTerminal;

use lakefold::Session;

use crate::args::EvaluateArgs;
use crate::failure::Failure;
use crate::input::Input;
use crate::one_row::OneRow;
use crate::progress::FitProgress;

/// Measures an embedding and prints one JSON object.
pub(crate) async fn run(
    session: &Session,
    arguments: &EvaluateArgs,
    progress: &FitProgress,
) -> Result<(), Failure> {
    let input = Input::open(session, &arguments.input).await?;
    let label = match &arguments.label {
        Some(label) => format!(", label => {}", input.column(label)?),
        None => String::new(),
    };
    let sql = format!(
        "SELECT * FROM embedding_quality({}, {}, {}, k => {}, sample_size => {}, seed => {}{label})",
        input.sql(),
        input.column(&arguments.features)?,
        input.column(&arguments.embedding)?,
        arguments.k,
        arguments.sample_size,
        arguments.seed
    );
    let row = OneRow::query(session, &sql, &arguments.session, progress).await?;
    row.print(std::io::stdout().is_terminal())
}
