//! `lakefold index`.

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion_cli::print_options::MaxRows;
use futures::StreamExt;
use lakefold::{
    FoundIndex, HnswOptions, IndexHeader, IndexRequest, IndexTable, OpenIndex, Session,
    error_message, format_bytes, is_index_file,
};

use crate::failure::Failure;
use crate::index_args::{
    BuildArgs, IndexCommand, InfoArgs, InfoFormat, SearchArgs, VerifyArgs, Which,
};
use crate::index_info::{
    checks_json, checks_lines, info_json, info_lines, recall_text, storage_text,
};
use crate::input::{Input, text};
use crate::numbers::{counted, grouped};
use crate::output::Output;
use crate::progress::FitProgress;
use crate::stderr::say;

/// Queries that are searched for at once.
const QUERIES: usize = 4096;

/// Runs a command until its end or Ctrl-C.
pub(crate) async fn run(
    session: &Session,
    command: &IndexCommand,
    progress: &FitProgress,
) -> Result<(), Failure> {
    let work = async {
        match command {
            IndexCommand::Build(arguments) => build(session, arguments, progress).await,
            IndexCommand::Info(arguments) => info(session, arguments).await,
            IndexCommand::Verify(arguments) => verify(session, arguments, progress).await,
            IndexCommand::Search(arguments) => search(session, arguments, progress).await,
        }
    };
    let result = tokio::select! {
        result = work => result,
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
    };
    progress.take();
    result
}

fn failed(error: &datafusion::error::DataFusionError) -> Failure {
    Failure::Failed(error_message(error))
}

async fn build(
    session: &Session,
    arguments: &BuildArgs,
    progress: &FitProgress,
) -> Result<(), Failure> {
    let start = Instant::now();
    let options = HnswOptions {
        m: arguments.m,
        ef_construction: arguments.ef_construction,
        seed: arguments.seed,
    };
    options
        .check()
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let request = IndexRequest {
        name: arguments.name.clone(),
        id_column: arguments.id_column.clone(),
        metric: arguments.metric,
        options,
        storage: arguments.storage,
        path: arguments.index.clone(),
        replace: arguments.replace,
        ..IndexRequest::new(
            IndexTable::Path(arguments.input.clone()),
            arguments.column.clone(),
        )
    };
    let built = session
        .build_index(&request)
        .await
        .map_err(|e| failed(&e))?;
    progress.take();
    let Some(built) = built else {
        return Ok(());
    };
    if !arguments.session.quiet {
        for line in summary(&built.header) {
            say(&line);
        }
        let seconds = start.elapsed().as_secs_f64();
        let place = built.place.text();
        let size = format_bytes(built.file_bytes as usize);
        say(&format!("wrote '{place}' ({size}) in {seconds:.2} s"));
    }
    match arguments.format {
        InfoFormat::Text => Ok(()),
        InfoFormat::Json => print(&info_json(&built.header, built.file_bytes, None)),
    }
}

fn summary(header: &IndexHeader) -> Vec<String> {
    let mut lines = vec![format!(
        "{} of {} dimensions, metric {}, m {}, ef_construction {}",
        counted(header.rows as usize, "row"),
        grouped(header.dimensions),
        header.metric,
        header.m,
        grouped(header.ef_construction),
    )];
    if header.null_rows > 0 {
        let nulls = counted(header.null_rows as usize, "row");
        lines.push(format!("{nulls} without a vector left out"));
    }
    let repaired = header.unreachable_repaired + header.not_self_found_repaired;
    if repaired > 0 {
        lines.push(format!(
            "{} that searches would have missed {} linked again",
            counted(repaired, "row"),
            if repaired == 1 { "was" } else { "were" }
        ));
    }
    lines.push(format!("storage {}", storage_text(header)));
    lines.extend(recall_text(header));
    lines
}

async fn find(session: &Session, which: &Which) -> Result<FoundIndex, Failure> {
    let found = session
        .find_index(&which.index, which.name.as_deref())
        .await;
    found.map_err(|error| failed(&error))
}

async fn info(session: &Session, arguments: &InfoArgs) -> Result<(), Failure> {
    let found = find(session, &arguments.which).await?;
    let stale = session.why_stale(&found).await;
    match arguments.format {
        InfoFormat::Json => print(&info_json(&found.header, found.file_bytes, Some(&stale))),
        InfoFormat::Text => print(&info_lines(&found, stale.as_deref())),
    }
}

async fn verify(
    session: &Session,
    arguments: &VerifyArgs,
    progress: &FitProgress,
) -> Result<(), Failure> {
    let found = find(session, &arguments.which).await?;
    let checks = session.verify_index(&found).await;
    progress.take();
    let checks = checks.map_err(|error| failed(&error))?;
    print(&match arguments.format {
        InfoFormat::Json => checks_json(&checks),
        InfoFormat::Text => checks_lines(&checks),
    })?;
    let wrong: Vec<&str> = checks
        .iter()
        .filter(|check| !check.passed)
        .map(|check| check.name)
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "the index '{}' is not as it should be ({}): build it again with `lakefold index build --replace` or REINDEX \
         TABLE",
        found.header.name,
        wrong.join(", ")
    )))
}

async fn search(
    session: &Session,
    arguments: &SearchArgs,
    progress: &FitProgress,
) -> Result<(), Failure> {
    let start = Instant::now();
    let found = find(session, &arguments.which).await?;
    let index = session.open_index(&found).await.map_err(|e| failed(&e))?;
    // An index file that was named is searched wherever it is, its table may be gone.
    if !is_index_file(&arguments.which.index)
        && let Some(why) = session.why_stale(&found).await
    {
        tracing::warn!(
            "the index '{}' is stale, because {why} since it was built: these are the rows of that time; rebuild it with \
             `lakefold index build --replace`",
            found.header.name
        );
    }
    let sql = queries_sql(session, arguments).await?;
    let frame = session.sql(&sql).await.map_err(|e| failed(&e))?;
    let mut stream = frame.execute_stream().await.map_err(|e| failed(&e))?;
    let options = session.copied_config().options().format.clone();
    let max_rows = MaxRows::Limited(arguments.k.get().max(40));
    let mut output = Output::new(arguments.format, max_rows, options);
    let (mut queries, mut schema) = (0, None);
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(|error| failed(&error))?;
        for start in (0..batch.num_rows()).step_by(QUERIES) {
            let part = batch.slice(start, QUERIES.min(batch.num_rows() - start));
            let part = numbered(&part, queries, arguments).map_err(|e| failed(&e))?;
            queries += part.num_rows();
            let pairs = answer(session, &index, &part, arguments).await?;
            schema.get_or_insert_with(|| pairs.schema());
            let bytes = output.batch(&pairs).map_err(|error| failed(&error))?;
            write(&bytes, progress)?;
        }
    }
    let Some(schema) = schema else {
        return Err(Failure::Failed(
            "there is no vector to search for".to_owned(),
        ));
    };
    write(&output.finish(&schema).map_err(|e| failed(&e))?, progress)?;
    if !arguments.session.quiet {
        let seconds = start.elapsed().as_secs_f64();
        let ef_search = arguments.ef_search.get().max(arguments.k.get());
        let recall = found.header.expected_recall(ef_search);
        let recall = recall.map(|recall| format!(", expected recall {recall:.3}"));
        let count = if queries == 1 {
            "1 query".to_owned()
        } else {
            format!("{} queries", grouped(queries))
        };
        let recall = recall.unwrap_or_default();
        say(&format!("{count} in {seconds:.2} s{recall}"));
    }
    Ok(())
}

/// The queries as a statement with two columns: what names them, and their vectors.
async fn queries_sql(session: &Session, arguments: &SearchArgs) -> Result<String, Failure> {
    if let Some(vector) = &arguments.vector {
        let numbers: Vec<f64> = serde_json::from_str(vector).map_err(|_| {
            Failure::Usage(format!(
                "--vector must be a list of numbers such as '[0.1, 0.2]', got '{vector}'"
            ))
        })?;
        let numbers: Vec<String> = numbers.iter().map(|v| format!("{v:e}")).collect();
        return Ok(format!(
            "SELECT 0 AS query, [{}] AS vector",
            numbers.join(", ")
        ));
    }
    let (Some(queries), Some(column)) = (&arguments.queries, &arguments.column) else {
        return Err(Failure::Usage("--vector or --queries is needed".to_owned()));
    };
    let input = Input::open(session, queries).await?;
    let id = match &arguments.query_id {
        Some(id) => format!("{} AS query", input.column(id)?),
        None => "0 AS query".to_owned(),
    };
    let column = input.column(column)?;
    Ok(format!("SELECT {id}, {column} FROM {}", text(queries)))
}

/// Queries without a name of their own are numbered.
fn numbered(
    batch: &RecordBatch,
    before: usize,
    arguments: &SearchArgs,
) -> datafusion::error::Result<RecordBatch> {
    if arguments.query_id.is_some() {
        return Ok(batch.clone());
    }
    let numbers = before as i64..(before + batch.num_rows()) as i64;
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    let schema = batch.schema();
    let vectors = (
        schema.field(1).name().as_str(),
        Arc::clone(batch.column(1)),
        true,
    );
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("query", numbers, false),
        vectors,
    ])?)
}

async fn answer(
    session: &Session,
    index: &Arc<OpenIndex>,
    queries: &RecordBatch,
    arguments: &SearchArgs,
) -> Result<RecordBatch, Failure> {
    let (k, ef_search) = (arguments.k.get(), arguments.ef_search.get());
    let pairs = session.search_index(index, queries, k, ef_search).await;
    pairs.map_err(|error| failed(&error))
}

fn write(bytes: &[u8], progress: &FitProgress) -> Result<(), Failure> {
    progress.suspend(|| {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    })?;
    Ok(())
}

fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}
