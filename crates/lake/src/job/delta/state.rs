//! What the job has given to the table: `_lakefold/delta.json`.

use std::collections::BTreeSet;

use datafusion::error::Result;
use serde::{Deserialize, Serialize};

use crate::job::manifest::{open, seal};
use crate::job::output::Output;

const STATE: &str = "_lakefold/delta.json";

/// What is noted. Nothing in it is taken from the log, which others write to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// The id of the table.
    pub(super) table: Option<String>,
    /// The number of the last commit that was begun.
    pub(super) transaction: i64,
    /// Files that commits have added and none has removed. Others may have.
    pub(super) committed: BTreeSet<String>,
    /// `committed` after a commit that was begun: whether it happened, the log tells.
    pub(super) begun: Option<BTreeSet<String>>,
    /// The next commit removes all that is not of the job.
    pub(super) replace: bool,
}

impl State {
    pub(super) async fn read(output: &Output) -> Result<Self> {
        match output.read(STATE).await? {
            Some(text) => open(STATE, &text),
            None => Ok(Self::default()),
        }
    }

    pub(super) async fn write(&self, output: &Output) -> Result<()> {
        output.write(STATE, seal(self)).await
    }

    /// Where there is no table, nothing is in it.
    pub(super) fn has_no_table(&mut self) {
        self.committed.clear();
        self.begun = None;
    }

    /// Takes a commit that was begun for one that happened, if its number is in the log.
    pub(super) fn settle(&mut self, last_in_log: Option<i64>) {
        let Some(after) = self.begun.take() else {
            return;
        };
        if last_in_log.is_some_and(|last| last >= self.transaction) {
            self.committed = after;
            self.replace = false;
        }
    }

    /// Notes a commit before it is made.
    pub(super) fn begin(&mut self, after: BTreeSet<String>, last_in_log: Option<i64>) {
        // A number that neither this job nor one before it in the same table has used: a commit that
        // was on its way when its process died may still arrive.
        self.transaction = self.transaction.max(last_in_log.unwrap_or(0)) + 1;
        self.begun = Some(after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_log_decides_whether_a_commit_happened() {
        let mut state = State {
            committed: files(&["a"]),
            replace: true,
            ..State::default()
        };
        state.begin(files(&["b"]), None);
        assert_eq!(state.transaction, 1);
        let mut lost = state.clone();
        lost.settle(None);
        assert_eq!((&lost.committed, lost.replace), (&files(&["a"]), true));
        state.settle(Some(1));
        assert_eq!((&state.committed, state.replace), (&files(&["b"]), false));
        // Nothing is begun any more: what the log says is no longer asked.
        state.settle(None);
        assert_eq!(state.committed, files(&["b"]));
        state.begin(files(&["b", "c"]), Some(7));
        assert_eq!(state.transaction, 8);
    }
}
