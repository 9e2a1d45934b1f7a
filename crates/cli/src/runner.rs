//! Runs statements, one after the other.

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::ast;
use datafusion_cli::print_options::MaxRows;
use futures::StreamExt;
use lakefold::{Session, Statement, error_message};

use crate::args::{Format, SqlArgs};
use crate::failure::Failure;
use crate::numbers::{counted, grouped};
use crate::output::Output;
use crate::progress::{FitProgress, report_fits};
use crate::scripts::Script;
use crate::stderr::say;

/// Characters of a statement that an error quotes.
const QUOTED: usize = 60;

/// A session and how its results are shown.
pub(crate) struct Runner {
    pub(crate) session: Session,
    pub(crate) format: Format,
    pub(crate) max_rows: MaxRows,
    pub(crate) quiet: bool,
    verbose: bool,
    progress: Arc<FitProgress>,
}

impl Runner {
    pub(crate) fn new(session: Session, arguments: &SqlArgs, progress: Arc<FitProgress>) -> Self {
        Self {
            session,
            format: arguments.format,
            max_rows: arguments.max_rows,
            quiet: arguments.session.quiet,
            verbose: arguments.session.is_verbose(),
            progress,
        }
    }

    /// Runs scripts until the first failure. Each is checked for syntax before any of it runs.
    pub(crate) async fn run_scripts(&self, scripts: &[Script]) -> Result<(), Failure> {
        let mut output_closed = false;
        for script in scripts {
            match self.run(script, scripts.len() > 1, output_closed).await {
                Err(Failure::OutputClosed) => output_closed = true,
                result => result?,
            }
        }
        if output_closed {
            return Err(Failure::OutputClosed);
        }
        Ok(())
    }

    /// `name_source` makes errors say which script they are from.
    pub(crate) async fn run_script(
        &self,
        script: &Script,
        name_source: bool,
    ) -> Result<(), Failure> {
        self.run(script, name_source, false).await
    }

    /// After `output_closed` nobody reads results any more, and only statements that do something
    /// besides are run.
    async fn run(
        &self,
        script: &Script,
        name_source: bool,
        mut output_closed: bool,
    ) -> Result<(), Failure> {
        let Script { source, text } = script;
        let statements = self.session.statements(text).map_err(|error| {
            let place = if name_source {
                format!("\n  in {source}")
            } else {
                String::new()
            };
            Failure::Failed(format!("{}{place}", error_message(&error)))
        })?;
        let count = statements.len();
        for (index, statement) in statements.into_iter().enumerate() {
            if output_closed && !has_effects(&statement) {
                continue;
            }
            let place = match (count > 1, name_source) {
                (true, _) => {
                    format!(
                        "\n  in statement {} of {source}: {}",
                        index + 1,
                        quote(&statement)
                    )
                }
                (false, true) => format!("\n  in {source}: {}", quote(&statement)),
                (false, false) => String::new(),
            };
            match self.run_statement(statement).await {
                Ok(()) => {}
                Err(Failure::OutputClosed) => output_closed = true,
                Err(Failure::Failed(message)) => {
                    return Err(Failure::Failed(format!("{message}{place}")));
                }
                Err(other) => return Err(other),
            }
        }
        if output_closed {
            return Err(Failure::OutputClosed);
        }
        Ok(())
    }

    /// Runs a statement until its end or Ctrl-C. Dropping the statement's stream cancels its work.
    async fn run_statement(&self, statement: Statement) -> Result<(), Failure> {
        let result = tokio::select! {
            result = self.plan_and_print(statement) => result,
            _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        };
        let fits = self.progress.take();
        if result.is_ok() {
            report_fits(&fits, self.verbose, self.quiet);
        }
        result
    }

    async fn plan_and_print(&self, statement: Statement) -> Result<(), Failure> {
        let start = Instant::now();
        let frame = self
            .session
            .execute(statement)
            .await
            .map_err(|error| failed(&error))?;
        // Definitions and settings have no result.
        if frame.schema().fields().is_empty() {
            return Ok(());
        }
        let rows = self.print(frame).await?;
        if !self.quiet {
            let seconds = start.elapsed().as_secs_f64();
            let shown = match (self.format, self.max_rows) {
                (Format::Table, MaxRows::Limited(shown)) if shown < rows => {
                    format!(
                        " ({} shown; --max-rows or --format csv for more)",
                        grouped(shown)
                    )
                }
                _ => String::new(),
            };
            say(&format!(
                "{} in {seconds:.2} s{shown}",
                counted(rows, "row")
            ));
        }
        Ok(())
    }

    async fn print(&self, frame: DataFrame) -> Result<usize, Failure> {
        let options = self.session.copied_config().options().format.clone();
        let mut output = Output::new(self.format, self.max_rows, options);
        let mut stream = frame
            .execute_stream()
            .await
            .map_err(|error| failed(&error))?;
        let schema = stream.schema();
        let mut rows = 0;
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(|error| failed(&error))?;
            rows += batch.num_rows();
            self.write(&output.batch(&batch).map_err(|error| failed(&error))?)?;
        }
        self.write(&output.finish(&schema).map_err(|error| failed(&error))?)?;
        Ok(rows)
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.progress.suspend(|| {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(bytes)?;
            stdout.flush()
        })?;
        Ok(())
    }
}

/// Whether a statement does more than give a result.
fn has_effects(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(statement) => !matches!(
            statement.as_ref(),
            ast::Statement::Query(_)
                | ast::Statement::Explain { analyze: false, .. }
                | ast::Statement::ExplainTable { .. }
                | ast::Statement::ShowTables { .. }
                | ast::Statement::ShowColumns { .. }
                | ast::Statement::ShowFunctions { .. }
                | ast::Statement::ShowVariable { .. }
        ),
        Statement::Explain(explain) => explain.options.analyze && has_effects(&explain.statement),
        Statement::CopyTo(_) | Statement::CreateExternalTable(_) | Statement::Reset(_) => true,
    }
}

fn failed(error: &DataFusionError) -> Failure {
    Failure::Failed(error_message(error))
}

fn quote(statement: &Statement) -> String {
    let text = statement.to_string();
    let mut quoted: String = text.chars().take(QUOTED).collect();
    if quoted.len() < text.len() {
        quoted.push('…');
    }
    quoted
}
