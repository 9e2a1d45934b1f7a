//! Reading the files of a data lake from SQL, and jobs that write new ones.
//!
//! [`run_job`] applies expressions to every row of a table of Parquet files and writes the result as
//! such a table, chunk by chunk, in bounded memory, so that a job that was killed goes on where it
//! stopped.
//!
//! [`enable_paths`] teaches a `SessionContext` to read `FROM 'path'`, where the path is a file, a
//! directory (with hive partitions such as `year=2026/`), a glob or a URL. Rows come in the order
//! of the files' names, numbers in names counted as numbers (`part-2` before `part-10`).

mod delta;
mod format;
mod function_files;
mod job;
mod listing;
mod location;
mod natural_order;
mod partitions;
mod schema;
mod staging;
mod store_registry;
mod table;
mod whole_files;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{DynamicFileCatalog, TableProvider, UrlTableFactory};
use datafusion::common::plan_datafusion_err;
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;

pub use function_files::{FunctionFile, LoadedFile, files_of_functions, load_file};
pub use job::{
    ByteSize, ChunkDescription, ColumnEncoding, Compression, FIT_OPTION_NAMES, FitOptions,
    FitValue, Format, Job, JobControl, JobDescription, JobReporter, JobStop, JobSummary, OnInvalid,
    Seconds, Task, Work, peak_memory, plan_job, register_store, run_job,
};
pub use listing::{Files, list_files};
pub use location::{Location, expand_home};
pub use natural_order::natural_cmp;
pub use store_registry::StoresFromEnvironment;
pub use table::FilesTable;
pub use whole_files::WriteWholeFiles;

/// Makes `FROM 'path'` work in `ctx`, for every name that is no table and looks like a path: it
/// has a `/`, a `.`, a `*`, a `?`, a `[` or starts with `~`.
///
/// A path that cannot be read is an error that says where it looked and what to do.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> datafusion::error::Result<()> {
/// use datafusion::prelude::SessionContext;
///
/// let ctx = SessionContext::new();
/// lakefold_lake::enable_paths(&ctx);
/// let error = ctx.sql("SELECT * FROM 'nowhere.parquet'").await.unwrap_err();
/// assert!(error.to_string().contains("no file 'nowhere.parquet'"));
/// # Ok(())
/// # }
/// ```
pub fn enable_paths(ctx: &SessionContext) {
    let state = ctx.state_weak_ref();
    let factory = PathTables {
        state: Box::new(move || state.upgrade().map(|state| state.read().clone())),
    };
    let inner = Arc::clone(ctx.state().catalog_list());
    ctx.register_catalog_list(Arc::new(DynamicFileCatalog::new(inner, Arc::new(factory))));
}

/// Turns path-like table names into [`FilesTable`]s.
struct PathTables {
    /// The session's present state. The session owns this factory, so the link back is weak.
    state: Box<dyn Fn() -> Option<SessionState> + Send + Sync>,
}

impl std::fmt::Debug for PathTables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PathTables").finish_non_exhaustive()
    }
}

#[async_trait]
impl UrlTableFactory for PathTables {
    async fn try_new(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if !location::looks_like_path(name) {
            return Ok(None);
        }
        let state =
            (self.state)().ok_or_else(|| plan_datafusion_err!("the session has been closed"))?;
        let table = FilesTable::open(&state, &Location::parse(name)?).await?;
        Ok(Some(Arc::new(table)))
    }
}
