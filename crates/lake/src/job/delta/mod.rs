//! An output that is a Delta Lake table.
//!
//! Chunks are written as for a directory of Parquet files. At the end of a run one transaction of the
//! table's log adds those that are new and removes those whose input file was replaced. Until then they
//! are in no version of the table.
//!
//! Which files the job has given to the table is noted in `_lakefold/delta.json`, before each commit and
//! after it. The commit has a number in the log (a `txn` action), so that a run that was killed in
//! between knows whether it happened.

mod change;
mod columns;
mod commit;
mod durable;
mod state;
mod stats;
mod writable;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::execution::runtime_env::RuntimeEnv;
use deltalake::kernel::LogicalFileView;
use deltalake::table::state::DeltaTableState;
use object_store::ObjectStore;
use object_store::prefix::PrefixStore;

use self::durable::DurableLog;
use self::state::State;
use self::writable::check_writable;
use super::manifest::Record;
use super::output::Output;
use super::plan::JobPlan;
use crate::Location;
use crate::delta::{DeltaPlace, failed};

/// The name under which transactions of jobs are numbered in a table's log.
const APPLICATION: &str = "lakefold";

/// The output's table.
pub(crate) struct DeltaOutput {
    location: Location,
    store: Arc<dyn ObjectStore>,
    place: DeltaPlace,
    state: State,
    /// As of the last look; `None` where there is no table yet.
    table: Option<DeltaTableState>,
    /// Files of the table by name.
    active: HashMap<String, LogicalFileView>,
    /// The table is not the one that the job has written to.
    is_another: bool,
}

impl std::fmt::Debug for DeltaOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeltaOutput")
            .field("place", &self.place)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl DeltaOutput {
    /// Creates nothing yet.
    ///
    /// # Errors
    /// When no store is registered for the location.
    pub(crate) fn open(location: &Location, output: &Output, env: &RuntimeEnv) -> Result<Self> {
        let store = env.object_store(location.object_store_url())?;
        let prefixed = PrefixStore::new(Arc::clone(&store), location.prefix().clone());
        let prefixed: Arc<dyn ObjectStore> = match output {
            Output::Local(output) => Arc::new(DurableLog::new(prefixed, output.clone())),
            Output::Remote(_) => Arc::new(prefixed),
        };
        Ok(Self {
            location: location.clone(),
            place: DeltaPlace::with_writer(location, &store, prefixed)?,
            store,
            state: State::default(),
            table: None,
            active: HashMap::new(),
            is_another: false,
        })
    }

    /// Reads what is noted and what the log says.
    ///
    /// # Errors
    /// When either was damaged, or cannot be read.
    pub(crate) async fn load(&mut self, output: &Output, overwrite: bool) -> Result<()> {
        self.state = match State::read(output).await {
            Ok(state) => state,
            Err(error) if !overwrite => return Err(error),
            Err(error) => {
                tracing::warn!("the table is replaced, because {}", error.strip_backtrace());
                State {
                    replace: true,
                    ..State::default()
                }
            }
        };
        self.look().await
    }

    /// Reads the log anew, and settles whether a commit that was begun has happened.
    async fn look(&mut self) -> Result<()> {
        self.table = self.place.load(None).await?;
        self.active.clear();
        self.is_another = false;
        let Some(table) = &self.table else {
            self.state.has_no_table();
            return Ok(());
        };
        for view in table.log_data().iter() {
            self.active.insert(view.path().into_owned(), view);
        }
        let last = self.last_transaction(table).await?;
        self.state.settle(last);
        let id = table.metadata().id();
        self.is_another = self.state.table.as_deref().is_some_and(|known| known != id);
        if self.is_another {
            self.state.committed.clear();
        }
        Ok(())
    }

    async fn last_transaction(&self, table: &DeltaTableState) -> Result<Option<i64>> {
        let log = self.place.log.as_ref();
        let found = table.transaction_version(log, APPLICATION).await;
        found.map_err(|error| {
            let what = format!("cannot read the transactions of '{}'", self.place.text());
            failed(&what, error)
        })
    }

    pub(crate) fn is_table(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the plan's files can be added to the table as it is.
    ///
    /// # Errors
    /// When it is another table, has other columns, or has features that need more of a writer; unless
    /// all of it is to be replaced.
    pub(crate) fn check(&self, plan: &JobPlan) -> Result<()> {
        let Some(table) = &self.table else {
            return Ok(());
        };
        check_writable(table, self.place.text())?;
        if self.replaces(plan) {
            return Ok(());
        }
        if self.is_another {
            return plan_err!(
                "the Delta Lake table '{}' is not the one that this job has written (it was created anew \
                 meanwhile): choose another output, or replace all of it with --overwrite",
                plan.job.output
            );
        }
        self.check_columns(table, plan)
    }

    /// Whether the run ends with the job's files alone in the table.
    fn replaces(&self, plan: &JobPlan) -> bool {
        plan.job.overwrite || self.state.replace
    }

    /// Notes that the next commit replaces everything, also if a later run makes it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) async fn replace(&mut self, output: &Output) -> Result<()> {
        self.state.replace = true;
        self.state.write(output).await
    }

    /// Those of the files that no version of the table has, which can be deleted.
    pub(crate) fn unused(&self, files: Vec<String>) -> Vec<String> {
        let is_used =
            |name: &String| self.active.contains_key(name) || self.state.committed.contains(name);
        files.into_iter().filter(|name| !is_used(name)).collect()
    }

    /// Whether others took the file out of the table, by deleting its rows or by writing them into
    /// another file. It is theirs to do, and must not be undone.
    pub(crate) fn is_taken_out(&self, name: &str) -> bool {
        self.state.committed.contains(name) && !self.active.contains_key(name)
    }

    /// Whether the output of replaced input files can be taken out of the table.
    ///
    /// # Errors
    /// When others have rewritten it.
    pub(crate) fn check_removable<'a>(
        &self,
        plan: &JobPlan,
        mut records: impl Iterator<Item = &'a Record>,
    ) -> Result<()> {
        if self.replaces(plan) {
            return Ok(());
        }
        match records.find(|record| self.is_taken_out(&record.file)) {
            Some(record) => self.rewritten(&record.file, &record.input.path),
            None => Ok(()),
        }
    }

    fn rewritten<T>(&self, file: &str, input: &str) -> Result<T> {
        plan_err!(
            "the input file '{input}' was replaced or removed, but its output '{file}' is no longer in the \
             Delta Lake table '{}' as the job wrote it: another program has deleted it or written its rows \
             into other files, as OPTIMIZE does, where they cannot be told apart; write the table anew with \
             --overwrite",
            self.place.text()
        )
    }
}
