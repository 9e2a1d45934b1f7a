//! `lakefold fit`.

use std::io::IsTerminal;
use std::time::Instant;

use lakefold::Session;

use crate::args::{FitArgs, FitFormat, FitParameters};
use crate::failure::Failure;
use crate::input::{Input, text};
use crate::numbers::{counted, grouped, significant};
use crate::one_row::OneRow;
use crate::progress::FitProgress;
use crate::stderr::say;

/// Fits a table and writes the model.
pub(crate) async fn run(
    session: &Session,
    arguments: &FitArgs,
    progress: &FitProgress,
) -> Result<(), Failure> {
    let start = Instant::now();
    let input = Input::open(session, &arguments.input).await?;
    let options: String = options(&arguments.parameters)
        .into_iter()
        .filter_map(|(name, value)| Some(format!(", {name} => {}", value?)))
        .collect();
    let sql = format!(
        "SELECT * FROM lle_fit({}, {}{options}, model => {})",
        input.sql(),
        input.column(&arguments.column)?,
        text(&arguments.model)
    );
    let row = OneRow::query(session, &sql, &arguments.session, progress).await?;
    if !arguments.session.quiet {
        for line in summary(&row) {
            say(&line);
        }
        let seconds = start.elapsed().as_secs_f64();
        say(&format!("wrote '{}' in {seconds:.2} s", arguments.model));
    }
    match arguments.format {
        FitFormat::Text => Ok(()),
        FitFormat::Json => row.print(std::io::stdout().is_terminal()),
    }
}

/// Those given, as SQL.
pub(crate) fn options(arguments: &FitParameters) -> [(&'static str, Option<String>); 10] {
    fn sql(value: Option<&impl ToString>) -> Option<String> {
        value.map(ToString::to_string)
    }
    [
        ("n_components", sql(arguments.n_components.as_ref())),
        ("n_neighbors", sql(arguments.n_neighbors.as_ref())),
        ("reg", sql(arguments.reg.as_ref())),
        ("method", arguments.method.as_deref().map(text)),
        ("solver", arguments.solver.as_deref().map(text)),
        ("seed", sql(arguments.seed.as_ref())),
        ("n_landmarks", sql(arguments.n_landmarks.as_ref())),
        (
            "landmark_neighbors",
            sql(arguments.landmark_neighbors.as_ref()),
        ),
        ("sample_size", sql(arguments.sample_size.as_ref())),
        (
            "neighbors_algorithm",
            arguments.neighbors_algorithm.as_deref().map(text),
        ),
    ]
}

fn summary(row: &OneRow) -> Vec<String> {
    let count = |column| row.count(column).unwrap_or_default();
    let mut lines = vec![format!(
        "{} ({} distinct fitted) of {} dimensions to {}: {} neighbours, reg {}, method {}, solver {}, {}",
        counted(count("rows"), "row"),
        grouped(count("distinct_rows")),
        grouped(count("dimensions")),
        grouped(count("n_components")),
        grouped(count("n_neighbors")),
        row.float("reg").map(significant).unwrap_or_default(),
        row.text("method").unwrap_or_default(),
        row.text("solver").unwrap_or_default(),
        counted(count("landmarks"), "landmark"),
    )];
    if let (Some(trustworthiness), Some(continuity)) =
        (row.float("trustworthiness"), row.float("continuity"))
    {
        lines.push(format!(
            "trustworthiness {trustworthiness:.3}, continuity {continuity:.3}"
        ));
    }
    lines
}
