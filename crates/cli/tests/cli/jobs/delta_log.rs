//! Reading a Delta Lake table's log, line by line, without the library that wrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

/// A table's log: the actions of each version.
pub(crate) struct Log(Vec<Vec<Value>>);

impl Log {
    /// Empty where there is no table. Names that are no commit are left out, as by every reader.
    pub(crate) fn read(table: &Path) -> Self {
        let mut versions = BTreeMap::new();
        for entry in std::fs::read_dir(table.join("_delta_log"))
            .into_iter()
            .flatten()
        {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name.len() == 25
                && path
                    .extension()
                    .is_some_and(|extension| extension == "json")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                let actions = text.lines().map(|l| serde_json::from_str(l).unwrap());
                versions.insert(name, actions.collect());
            }
        }
        Self(versions.into_values().collect())
    }

    pub(crate) fn versions(&self) -> usize {
        self.0.len()
    }

    /// The actions of a kind, of one version.
    pub(crate) fn actions(&self, version: usize, kind: &str) -> Vec<&Value> {
        self.0[version]
            .iter()
            .filter_map(|action| action.get(kind))
            .collect()
    }

    /// Paths that a version adds or removes.
    pub(crate) fn paths(&self, version: usize, kind: &str) -> BTreeSet<String> {
        let actions = self.actions(version, kind).into_iter();
        actions
            .map(|action| action["path"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The files of a version. No version may add a file that is there, or remove one that is not.
    pub(crate) fn files(&self, version: usize) -> BTreeSet<String> {
        let mut files = BTreeSet::new();
        for version in 0..=version {
            for path in self.paths(version, "remove") {
                assert!(files.remove(&path), "{path} was not there");
            }
            for path in self.paths(version, "add") {
                assert!(files.insert(path.clone()), "{path} was there");
            }
        }
        files
    }

    /// Those of the newest version.
    pub(crate) fn newest(&self) -> BTreeSet<String> {
        match self.versions() {
            0 => BTreeSet::new(),
            count => self.files(count - 1),
        }
    }
}
