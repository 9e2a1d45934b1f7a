//! A `DataFusion` session with everything of Lakefold's on.

use std::num::NonZeroUsize;
use std::ops::Deref;
use std::sync::Arc;
use std::thread::available_parallelism;

use datafusion::common::config::ConfigNonZeroUsize;
use datafusion::common::format::MetricType;
use datafusion::common::{plan_datafusion_err, plan_err};
use datafusion::dataframe::DataFrame;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::Signature;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::{CopyToSource, DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::dialect_from_str;
use lakefold_functions::{
    FitReporter, FitReporterHandle, LLE_OPTION_NAMES, WINDOW_FUNCTION_NAMES, all_aggregate_udfs,
    all_scalar_udfs, register_all,
};
use lakefold_lake::{
    Job, JobControl, JobDescription, JobSummary, StoresFromEnvironment, WriteWholeFiles,
    files_of_functions, load_file,
};

use crate::array_agg::array_agg;
use crate::copy::warn_of_existing_files;
use crate::errors::error_message;
use crate::index_syntax::{of_statement, parse_statements};
use crate::memory::default_memory_limit;
use crate::rewrite::{Functions, KnownFunction, rewrite};

/// Rows in one file of `COPY … TO 'directory/'`, unless
/// `SET datafusion.execution.soft_max_rows_per_output_file` says otherwise. Files are cut between
/// batches, so a file can have up to one batch more.
pub const DEFAULT_ROWS_PER_FILE: usize = 1_000_000;
/// The largest users of memory that an out-of-memory error lists.
const LISTED_CONSUMERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4);

/// Settings of a [`Session`].
///
/// Defaults: four fifths of the machine's (or container's) memory, as many threads as it has, no
/// reporter.
#[derive(Debug, Clone)]
#[must_use = "call build()"]
pub struct SessionBuilder {
    memory_limit: Option<usize>,
    threads: Option<usize>,
    reporter: Option<Arc<dyn FitReporter>>,
}

impl Default for SessionBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl SessionBuilder {
    /// Starts from the defaults.
    pub fn new() -> Self {
        Self {
            memory_limit: default_memory_limit(),
            threads: None,
            reporter: None,
        }
    }

    /// Bytes that fits, sorts, joins and aggregates may hold together; `None` for no limit. What
    /// does not fit spills to disk where it can (sorts, joins, aggregates) and fails with an error
    /// that says what it needs where it cannot (fits).
    pub fn memory_limit(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.memory_limit = bytes.into();
        self
    }

    /// Partitions that a query is spread over (`DataFusion`'s `target_partitions`), at least 1.
    /// Fits run on rayon's global pool, whose size is the program's to choose.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Whom to tell how fits go.
    pub fn reporter(mut self, reporter: Arc<dyn FitReporter>) -> Self {
        self.reporter = Some(reporter);
        self
    }

    /// Makes the session.
    ///
    /// # Errors
    /// When the limit or the number of threads is zero, or `DataFusion` refuses the settings.
    pub fn build(self) -> Result<Session> {
        if self.threads == Some(0) || self.memory_limit == Some(0) {
            return plan_err!("a session needs at least one thread and one byte of memory");
        }
        let state = SessionStateBuilder::new()
            .with_config(self.config()?)
            .with_runtime_env(self.runtime()?)
            .with_default_features()
            .with_physical_optimizer_rule(Arc::new(WriteWholeFiles))
            .build();
        let context = SessionContext::new_with_state(state);
        register_all(&context)?;
        context.register_udaf(array_agg());
        lakefold_lake::enable_paths(&context);
        Ok(Session { context })
    }

    fn config(&self) -> Result<SessionConfig> {
        let threads = self
            .threads
            .or_else(|| available_parallelism().ok().map(NonZeroUsize::get))
            .unwrap_or(1);
        let mut config = SessionConfig::new()
            .with_information_schema(true)
            .with_target_partitions(threads)
            // The order of a table's rows is kept from file to file. Both of these would deal
            // batches out to threads and take them back in whatever order they finish.
            .with_round_robin_repartition(false)
            .with_repartition_file_scans(false);
        let options = config.options_mut();
        options.execution.minimum_parallel_output_files = ConfigNonZeroUsize::try_new(1)?;
        options.execution.soft_max_rows_per_output_file =
            ConfigNonZeroUsize::try_new(DEFAULT_ROWS_PER_FILE)?;
        options.execution.parquet.compression = Some("zstd(3)".to_owned());
        // Text columns would turn into view types on the way from file to file.
        options.execution.parquet.schema_force_view_types = false;
        // Lines of a thousand characters are for the developers of operators.
        options.explain.analyze_level = MetricType::Summary;
        if let Some(reporter) = &self.reporter {
            config = config.with_extension(Arc::new(FitReporterHandle(Arc::clone(reporter))));
        }
        Ok(config)
    }

    /// A fair pool gives operators that cannot spill, the fits, whatever is free at the moment,
    /// and holds those that can spill to equal shares of the rest: a sort cannot starve a fit,
    /// it goes to disk. First come, first served (the greedy pool) would let it.
    fn runtime(&self) -> Result<Arc<RuntimeEnv>> {
        let disks = DiskManagerBuilder::default().with_mode(DiskManagerMode::OsTmpDirectory);
        let mut runtime = RuntimeEnvBuilder::new()
            .with_disk_manager_builder(disks)
            .with_object_store_registry(Arc::new(StoresFromEnvironment::default()))
            // Files change between statements, not least by this session's own COPY.
            .with_object_list_cache_limit(0);
        if let Some(limit) = self.memory_limit {
            let pool = TrackConsumersPool::new(FairSpillPool::new(limit), LISTED_CONSUMERS);
            runtime = runtime.with_memory_pool(Arc::new(pool));
        }
        runtime.build_arc()
    }
}

/// A `DataFusion` session in which `FROM 'path'` reads files, `lle_embed(…)` needs no OVER, skipped
/// named arguments mean their defaults, and row order is kept. It derefs to `SessionContext`.
///
/// URLs such as `s3://bucket/x.parquet` are paths as well, in FROM, COPY and functions: credentials come from the
/// environment ([`lakefold_lake::StoresFromEnvironment`]), unless a store is registered for the bucket.
///
/// `COPY … TO 'directory/'` writes zstd-compressed Parquet in files of
/// [`DEFAULT_ROWS_PER_FILE`] rows. Files appear whole or not at all
/// ([`lakefold_lake::WriteWholeFiles`]): a COPY to a single file that fails leaves that file as it
/// was. One to a directory leaves the files that it had finished.
///
/// `CREATE INDEX`, `DROP INDEX`, `SHOW INDEXES` and `REINDEX TABLE` are about HNSW indexes of Parquet tables,
/// which live in files beside them.
#[derive(Clone)]
pub struct Session {
    context: SessionContext,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.context.session_id())
            .finish_non_exhaustive()
    }
}

impl Deref for Session {
    type Target = SessionContext;

    fn deref(&self) -> &SessionContext {
        &self.context
    }
}

impl Session {
    /// `DataFusion`'s own view of the session. Its `sql` lacks what this type adds to SQL.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// Plans one statement. DDL and SET happen at once, queries and COPY when the result is
    /// collected or streamed.
    ///
    /// # Errors
    /// For a syntax error, a text that is not one statement, or a statement that cannot be planned.
    pub async fn sql(&self, sql: &str) -> Result<DataFrame> {
        let mut statements = self.statements(sql)?;
        match (statements.pop(), statements.len()) {
            (Some(statement), 0) => self.execute(statement).await,
            (None, _) => plan_err!("no SQL statement was given"),
            (Some(_), others) => plan_err!(
                "one SQL statement was expected, got {}: run them one by one",
                others + 1
            ),
        }
    }

    /// Parses statements separated by semicolons, in the session's dialect.
    ///
    /// # Errors
    /// For a syntax error in any of them.
    pub fn statements(&self, sql: &str) -> Result<Vec<Statement>> {
        let state = self.context.state();
        let options = &state.config().options().sql_parser;
        let dialect = dialect_from_str(options.dialect)
            .ok_or_else(|| plan_datafusion_err!("unknown SQL dialect '{}'", options.dialect))?;
        let mut parser = DFParserBuilder::new(sql)
            .with_dialect(dialect.as_ref())
            .with_recursion_limit(options.recursion_limit.get())
            .build()?;
        parse_statements(&mut parser)
    }

    /// Rewrites and plans a statement of [`Self::statements`], as [`Self::sql`] does.
    ///
    /// # Errors
    /// For a statement that cannot be planned.
    pub async fn execute(&self, mut statement: Statement) -> Result<DataFrame> {
        if let Some(statement) = of_statement(&statement)? {
            return self.execute_index(statement).await;
        }
        rewrite(&mut statement, &self.functions())?;
        if let Statement::CopyTo(copy) = &statement {
            warn_of_existing_files(&self.context, copy).await;
        }
        self.load_files(&statement).await?;
        let state = self.context.state();
        let plan = state
            .statement_to_plan(statement)
            .await
            .map_err(explain_missing_table)?;
        self.find_remote_indexes(&plan).await?;
        self.context.execute_logical_plan(plan).await
    }

    /// Runs a job within this session's limits, until everything is written or `control` stops it.
    ///
    /// # Errors
    /// See [`lakefold_lake::run_job`].
    pub async fn run_job(&self, job: &Job, control: &JobControl) -> Result<JobSummary> {
        lakefold_lake::run_job(&self.context, job, control).await
    }

    /// What a job would do.
    ///
    /// # Errors
    /// See [`lakefold_lake::plan_job`].
    pub async fn plan_job(&self, job: &Job) -> Result<JobDescription> {
        lakefold_lake::plan_job(&self.context, job).await
    }

    /// Reads the models of `lle_transform` and the weights of `linear`, from wherever they are.
    async fn load_files(&self, statement: &Statement) -> Result<()> {
        let files = match statement {
            Statement::Statement(inner) => files_of_functions(inner.as_ref()),
            Statement::CopyTo(copy) => match &copy.source {
                CopyToSource::Query(query) => files_of_functions(query.as_ref()),
                CopyToSource::Relation(_) => vec![],
            },
            Statement::Explain(explain) => {
                return Box::pin(self.load_files(&explain.statement)).await;
            }
            Statement::CreateExternalTable(_) | Statement::Reset(_) => vec![],
        };
        for file in files {
            load_file(&self.context, &file).await?;
        }
        Ok(())
    }

    /// Read from the session, because a user may have replaced a function.
    fn functions(&self) -> Functions {
        let state = self.context.state();
        let with_parameters = |name: &str, signature: &Signature| {
            let known = KnownFunction {
                parameters: signature.parameter_names.clone()?,
                ..KnownFunction::default()
            };
            Some((name.to_owned(), known))
        };
        let ours = all_scalar_udfs().unwrap_or_default();
        let scalars = ours.iter().filter_map(|function| {
            let function = state.scalar_functions().get(function.name())?;
            with_parameters(function.name(), function.signature())
        });
        let ours = all_aggregate_udfs().unwrap_or_default();
        let aggregates = ours.iter().filter_map(|function| {
            let function = state.aggregate_functions().get(function.name())?;
            with_parameters(function.name(), function.signature())
        });
        let known = WINDOW_FUNCTION_NAMES.iter().filter_map(|name| {
            let function = state.window_functions().get(*name)?;
            let parameters = function.signature().parameter_names.clone();
            let parameters = parameters.unwrap_or_default();
            let takes_options = parameters.iter().any(|name| name == "options");
            let options: &[&str] = if takes_options {
                &LLE_OPTION_NAMES
            } else {
                &[]
            };
            let known = KnownFunction {
                is_window: true,
                parameters,
                options: options.iter().map(|name| (*name).to_owned()).collect(),
            };
            Some(((*name).to_owned(), known))
        });
        Functions {
            known: known.chain(scalars).chain(aggregates).collect(),
            aggregates: state.aggregate_functions().keys().cloned().collect(),
        }
    }
}

/// People who mean a file often leave out its directory or extension.
fn explain_missing_table(error: DataFusionError) -> DataFusionError {
    let message = error_message(&error);
    let name = message
        .strip_prefix("table '")
        .and_then(|text| text.strip_suffix("' not found"));
    let Some(name) = name else {
        return error;
    };
    let name = name.strip_prefix("datafusion.public.").unwrap_or(name);
    plan_datafusion_err!(
        "no table '{name}': SHOW TABLES lists those there are; a file is named by its path, such as \
         FROM '{name}.parquet' or FROM './{name}'"
    )
}
