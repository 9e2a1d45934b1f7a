//! Where an index file is: `.lakefold/NAME.hnsw` in the directory of the table.

use std::path::PathBuf;

use datafusion::common::{Result, exec_datafusion_err, plan_err};
use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::ObjectMeta;
use object_store::local::LocalFileSystem;
use object_store::path::Path;

/// The directory of indexes, in that of the table. Listings skip it because of the dot.
pub const INDEX_DIRECTORY: &str = ".lakefold";
/// What index files are called after their name.
pub const INDEX_EXTENSION: &str = "hnsw";
const LONGEST_NAME: usize = 200;

/// The directory of a table's files, to which an index belongs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableDirectory {
    /// The store that it is in.
    pub store: ObjectStoreUrl,
    /// The directory.
    pub path: Path,
}

impl TableDirectory {
    /// A path in the same store, as a user would write it.
    pub fn name_of(&self, path: &Path) -> String {
        match self.store.as_str().strip_prefix("file://") {
            Some(root) => format!("{root}{path}"),
            None => format!("{}{path}", self.store.as_str()),
        }
    }

    /// Where its indexes are.
    pub(crate) fn indexes(&self) -> Path {
        self.path.clone().join(INDEX_DIRECTORY)
    }

    /// Whether it is on a local disk.
    pub fn is_local(&self) -> bool {
        self.store == ObjectStoreUrl::local_filesystem()
    }

    /// The path below this directory; `None` for one elsewhere.
    pub(crate) fn below(&self, path: &Path) -> Option<String> {
        let parts: Vec<String> = path
            .prefix_match(&self.path)?
            .map(|part| part.as_ref().to_owned())
            .collect();
        Some(parts.join("/"))
    }

    /// The path of a file below this directory.
    pub(crate) fn join(&self, below: &str) -> Path {
        below
            .split('/')
            .filter(|part| !part.is_empty())
            .fold(self.path.clone(), Path::join)
    }

    /// The present version of a file, which is another once the file is.
    pub(crate) fn version(&self, meta: &ObjectMeta) -> String {
        match &meta.e_tag {
            // A local file's has its inode in it, which a restored copy does not keep.
            Some(tag) if !self.is_local() => tag.clone(),
            _ => meta.last_modified.to_rfc3339(),
        }
    }
}

/// Where one index is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IndexPlace {
    /// The store that the file is in.
    pub store: ObjectStoreUrl,
    /// The file.
    pub file: Path,
}

impl IndexPlace {
    /// The place of an index of this name.
    ///
    /// # Errors
    /// For a name that cannot be a file's.
    pub fn named(directory: &TableDirectory, name: &str) -> Result<Self> {
        let fits = !name.is_empty()
            && name.len() <= LONGEST_NAME
            && !name.starts_with('.')
            && name
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
        if !fits {
            return plan_err!(
                "'{name}' cannot name an index, which becomes a file's name: take up to {LONGEST_NAME} letters, \
                 digits, '_', '-' and '.', the first not a dot"
            );
        }
        Ok(Self {
            store: directory.store.clone(),
            file: directory
                .indexes()
                .join(format!("{name}.{INDEX_EXTENSION}")),
        })
    }

    /// As a user would write it.
    pub fn text(&self) -> String {
        self.directory().name_of(&self.file)
    }

    /// The directory of the table, which is two above the file. An index at a place of its own belongs to
    /// the directory that it is in.
    pub fn directory(&self) -> TableDirectory {
        let mut parts: Vec<_> = self.file.parts().collect();
        parts.pop();
        if parts
            .last()
            .is_some_and(|part| part.as_ref() == INDEX_DIRECTORY)
        {
            parts.pop();
        }
        TableDirectory {
            store: self.store.clone(),
            path: parts.into_iter().collect(),
        }
    }

    /// Whether a file is there, on a local disk.
    pub fn is_local_file(&self) -> bool {
        matches!(self.local(), Ok(Some(path)) if path.is_file())
    }

    /// The path on a local disk; `None` for an index in an object store.
    ///
    /// # Errors
    /// For a path that the system cannot have.
    pub(crate) fn local(&self) -> Result<Option<PathBuf>> {
        local_path(&self.store, &self.file)
    }
}

/// The path on a local disk; `None` for another store.
///
/// # Errors
/// For a path that the system cannot have.
pub(crate) fn local_path(store: &ObjectStoreUrl, path: &Path) -> Result<Option<PathBuf>> {
    if *store != ObjectStoreUrl::local_filesystem() {
        return Ok(None);
    }
    let path = LocalFileSystem::new().path_to_filesystem(path);
    path.map(Some)
        .map_err(|error| exec_datafusion_err!("not a path on this machine: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_lives_beside_its_table() {
        let directory = TableDirectory {
            store: ObjectStoreUrl::local_filesystem(),
            path: Path::from("data/lake"),
        };
        let place = IndexPlace::named(&directory, "by_vector").unwrap();
        assert_eq!(place.text(), "/data/lake/.lakefold/by_vector.hnsw");
        assert_eq!(place.directory(), directory);
        let file = directory.join("year=2026/a.parquet");
        assert_eq!(directory.below(&file).unwrap(), "year=2026/a.parquet");
        assert_eq!(directory.below(&Path::from("data/other")), None);
        for name in ["", ".x", "a/b", "a b", "a\0", &"x".repeat(300)] {
            assert!(IndexPlace::named(&directory, name).is_err(), "{name}");
        }
    }
}
