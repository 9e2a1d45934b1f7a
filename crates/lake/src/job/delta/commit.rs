//! The transaction at the end of a run.

use std::time::Duration;

use datafusion::common::exec_err;
use datafusion::error::Result;
use deltalake::kernel::Transaction;
use deltalake::kernel::transaction::{
    CommitBuilder, CommitProperties, TableReference, TransactionError,
};
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaResult, DeltaTableError};
use serde_json::{Value, json};

use super::change::Change;
use super::{APPLICATION, DeltaOutput};
use crate::delta::failed;
use crate::job::manifest::{Manifest, job_id};
use crate::job::output::{Output, OutputLock};
use crate::job::plan::JobPlan;

/// How often a commit is tried anew when another writer was faster.
const ATTEMPTS: u32 = 15;
/// How often the library itself tries, before it is worked out anew what is to be done. It goes on
/// where the other writer only added rows, which neither what is added nor what is removed depends on:
/// but to replace a table is to replace these too.
const RETRIES: usize = 30;
/// The first pause before that; each is half as long again as the one before.
const PAUSE: Duration = Duration::from_millis(50);

impl DeltaOutput {
    /// Brings the table to the files of the manifest, in one transaction, unless it has them already;
    /// returns the version that has them.
    ///
    /// What the job adds and removes are files of its own, which others' additions do not touch. When
    /// another writer does more than that meanwhile, what is to be done is worked out anew from the table
    /// as it is then.
    ///
    /// # Errors
    /// When the other writer's change and this one exclude each other, the log cannot be written, or the
    /// output's lock was lost.
    pub(crate) async fn commit(
        &mut self,
        plan: &JobPlan,
        output: &Output,
        lock: &OutputLock,
        manifest: &Manifest,
    ) -> Result<Option<u64>> {
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            self.look().await?;
            let change = self.change(plan, manifest).await?;
            if change.actions.is_empty() {
                return self.settled(output, &change).await;
            }
            lock.check()?;
            let last = match &self.table {
                Some(table) => self.last_transaction(table).await?,
                None => None,
            };
            self.state.begin(change.after.clone(), last);
            let id = self
                .table
                .as_ref()
                .map(|table| table.metadata().id().to_owned());
            self.state.table = id.or_else(|| change.id.clone());
            self.state.write(output).await?;
            let number = self.state.transaction;
            let Err(error) = self.write_log(plan, &change).await else {
                self.look().await?;
                return self.settled(output, &change).await;
            };
            // The answer may have got lost, or what came after the commit may have failed.
            self.look().await?;
            if let Some(table) = &self.table
                && self.last_transaction(table).await? >= Some(number)
            {
                tracing::warn!("the commit happened, but after it: {error}");
                return self.settled(output, &change).await;
            }
            if !is_overtaken(&error) {
                let what = format!(
                    "cannot commit to the Delta Lake table '{}'",
                    self.place.text()
                );
                return Err(failed(&what, error));
            }
            tracing::info!(
                attempt,
                "another writer was faster, the commit is tried anew"
            );
            tokio::time::sleep(pause).await;
            pause = pause.mul_f64(1.5);
        }
        exec_err!(
            "cannot commit to the Delta Lake table '{}': {ATTEMPTS} times other writers were faster; run the \
             job again when there are fewer, its files are written and only the commit is left",
            self.place.text()
        )
    }

    async fn write_log(&self, plan: &JobPlan, change: &Change) -> DeltaResult<()> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.ok().and_then(|now| i64::try_from(now.as_millis()).ok());
        let number = self.state.transaction;
        let properties = CommitProperties::default()
            .with_max_retries(if change.replaces { 0 } else { RETRIES })
            .with_metadata(commit_info(plan, change))
            .with_application_transaction(Transaction::new_with_last_update(
                APPLICATION,
                number,
                now,
            ));
        let partitions = &plan.input.partitions.columns;
        let operation = DeltaOperation::Write {
            mode: if change.replaces {
                SaveMode::Overwrite
            } else {
                SaveMode::Append
            },
            partition_by: (!partitions.is_empty()).then(|| partitions.clone()),
            predicate: None,
        };
        let table = self
            .table
            .as_ref()
            .map(|table| table as &dyn TableReference);
        CommitBuilder::from(properties)
            .with_actions(change.actions.clone())
            .build(table, self.place.log.clone(), operation)
            .await
            .map(drop)
    }

    /// Notes that the log has everything, so that nobody needs to ask it again.
    async fn settled(&mut self, output: &Output, change: &Change) -> Result<Option<u64>> {
        let mut settled = self.state.clone();
        settled.committed.clone_from(&change.after);
        settled.begun = None;
        settled.replace = false;
        if let Some(table) = &self.table {
            settled.table = Some(table.metadata().id().to_owned());
        }
        settled.write(output).await?;
        self.state = settled;
        Ok(self
            .table
            .as_ref()
            .map(deltalake::table::state::DeltaTableState::version))
    }
}

fn is_overtaken(error: &DeltaTableError) -> bool {
    match error {
        DeltaTableError::VersionAlreadyExists(_) => true,
        DeltaTableError::Transaction { source } => matches!(
            source,
            TransactionError::VersionAlreadyExists(_)
                | TransactionError::MaxCommitAttempts(_)
                | TransactionError::CommitConflict(_)
        ),
        _ => false,
    }
}

/// What the table's history says of the commit.
fn commit_info(plan: &JobPlan, change: &Change) -> Vec<(String, Value)> {
    let models: Vec<&str> = plan.models.iter().map(|model| model.id.as_str()).collect();
    let said = json!({
        "lakefold.version": env!("CARGO_PKG_VERSION"),
        "lakefold.job": job_id(&plan.definition),
        "lakefold.models": models,
        "lakefold.parameters": plan.definition,
    });
    let metrics = json!({
        "numFiles": change.added.to_string(),
        "numOutputRows": change.rows.to_string(),
        "numRemovedFiles": change.removed.to_string(),
    });
    [
        ("userMetadata", said.to_string().into()),
        ("operationMetrics", metrics),
        (
            "isBlindAppend",
            (change.removed == 0 && !change.replaces).into(),
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
