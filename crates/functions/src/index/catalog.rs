//! The indexes that a session knows: those it finds beside tables, read once and kept.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path as FsPath;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::header::IndexHeader;
use super::local::failed;
use super::open::OpenIndex;
use super::place::{INDEX_EXTENSION, IndexPlace, TableDirectory, local_path};
use super::reading::{Stamp, is_nowhere, local_stamp, read_header, remote_header, text};
use super::remote_lock::RemoteLock;
use crate::fit_task::blocking;

/// An index that is there.
#[derive(Debug, Clone)]
pub struct FoundIndex {
    /// Where.
    pub place: IndexPlace,
    /// What it says about itself; its sections are unread.
    pub header: Arc<IndexHeader>,
    /// Size of its file.
    pub file_bytes: u64,
}

/// A file that has an index's name, or what is wrong with it.
pub type IndexEntry = std::result::Result<FoundIndex, String>;

/// Finds, reads and keeps indexes. Local ones are looked for at every question; of object stores those count that
/// [`IndexCatalog::refresh`] saw last.
#[derive(Debug, Default)]
pub struct IndexCatalog {
    headers: Mutex<HashMap<IndexPlace, (Stamp, IndexEntry)>>,
    open: Mutex<HashMap<IndexPlace, (Stamp, Arc<OpenIndex>)>>,
    /// By directory, as text.
    remote: Mutex<BTreeMap<String, Vec<FoundIndex>>>,
    /// Directories in which indexes were found or built.
    known: Mutex<BTreeMap<String, TableDirectory>>,
}

// What panics elsewhere leaves nothing half-done in here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl IndexCatalog {
    /// The indexes of a directory, in order of their names; errors for files that are damaged.
    ///
    /// # Errors
    /// For a directory that cannot be read.
    pub fn of_directory(&self, directory: &TableDirectory) -> Result<Vec<IndexEntry>> {
        let Some(path) = local_path(&directory.store, &directory.indexes())? else {
            let remote = lock(&self.remote);
            let known = remote.get(&directory.name_of(&directory.path));
            return Ok(known.into_iter().flatten().cloned().map(Ok).collect());
        };
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if is_nowhere(&error) => return Ok(vec![]),
            Err(error) => return Err(failed("list", &path, &error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed("list", &path, &error))?;
            let name = entry.file_name().into_string().unwrap_or_default();
            if FsPath::new(&name)
                .extension()
                .is_some_and(|e| e == INDEX_EXTENSION)
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        let places = names.iter().map(|name| IndexPlace {
            store: directory.store.clone(),
            file: directory.indexes().join(name.as_str()),
        });
        Ok(places
            .map(|place| self.local_header(&place))
            .filter_map(Result::transpose)
            .map(|entry| entry.map_err(|error| text(&error)).and_then(|entry| entry))
            .collect())
    }

    /// Remembers a directory, for [`IndexCatalog::directories`].
    pub fn note(&self, directory: &TableDirectory) {
        let name = directory.name_of(&directory.path);
        lock(&self.known).insert(name, directory.clone());
    }

    /// The directories in which this session found or built indexes, in order of their names.
    pub fn directories(&self) -> Vec<TableDirectory> {
        lock(&self.known).values().cloned().collect()
    }

    /// The indexes of the directories around a file.
    pub(crate) fn around(&self, store: &ObjectStoreUrl, file: &Path) -> Vec<IndexEntry> {
        let mut found = Vec::new();
        let mut parts: Vec<_> = file.parts().map(|part| part.as_ref().to_owned()).collect();
        while parts.pop().is_some() {
            let directory = TableDirectory {
                store: store.clone(),
                path: parts.iter().map(String::as_str).collect(),
            };
            match self.of_directory(&directory) {
                Ok(entries) if entries.is_empty() => {}
                Ok(entries) => {
                    self.note(&directory);
                    found.extend(entries);
                }
                Err(error) => found.push(Err(text(&error))),
            }
        }
        found
    }

    /// `None` for a file that is gone.
    fn local_header(&self, place: &IndexPlace) -> Result<Option<IndexEntry>> {
        let Some(path) = place.local()? else {
            return Ok(None);
        };
        let Some(stamp) = local_stamp(&path)? else {
            return Ok(None);
        };
        if let Some((known, entry)) = lock(&self.headers).get(place)
            && *known == stamp
        {
            return Ok(Some(entry.clone()));
        }
        let entry = read_header(&path)
            .map(|layout| FoundIndex {
                place: place.clone(),
                file_bytes: layout.length(),
                header: Arc::new(layout.header),
            })
            .map_err(|error| text(&error));
        lock(&self.headers).insert(place.clone(), (stamp, entry.clone()));
        Ok(Some(entry))
    }

    /// Looks for the indexes of a directory in an object store; local ones need no such call.
    ///
    /// # Errors
    /// When the store fails. A damaged index is left out, with a warning.
    pub async fn refresh(&self, directory: &TableDirectory, env: &RuntimeEnv) -> Result<()> {
        if directory.is_local() {
            return Ok(());
        }
        let store = env.object_store(&directory.store)?;
        let listed: Vec<ObjectMeta> = store.list(Some(&directory.indexes())).try_collect().await?;
        let mut found = Vec::new();
        for meta in listed {
            if meta.location.extension() != Some(INDEX_EXTENSION) {
                continue;
            }
            let place = IndexPlace {
                store: directory.store.clone(),
                file: meta.location.clone(),
            };
            let stamp = Stamp::Remote(meta.size, meta.e_tag.clone());
            let known = lock(&self.headers).get(&place).cloned();
            let entry = match known {
                Some((known, entry)) if known == stamp => entry,
                _ => {
                    let entry = remote_header(store.as_ref(), &place, &meta).await;
                    let entry = entry.map_err(|error| text(&error));
                    lock(&self.headers).insert(place, (stamp, entry.clone()));
                    entry
                }
            };
            match entry {
                Ok(index) => found.push(index),
                Err(error) => tracing::warn!("{error}"),
            }
        }
        lock(&self.remote).insert(directory.name_of(&directory.path), found);
        Ok(())
    }

    /// Reads the header of the index at a place.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub async fn find(&self, place: &IndexPlace, env: &RuntimeEnv) -> Result<FoundIndex> {
        let missing = || exec_datafusion_err!("no index '{}'", place.text());
        let entry = if place.local()?.is_some() {
            self.local_header(place)?.ok_or_else(missing)?
        } else {
            let store = env.object_store(&place.store)?;
            let meta = store.head(&place.file).await.map_err(|error| match error {
                object_store::Error::NotFound { .. } => missing(),
                other => exec_datafusion_err!("'{}' cannot be read: {other}", place.text()),
            })?;
            return remote_header(store.as_ref(), place, &meta).await;
        };
        entry.map_err(DataFusionError::Execution)
    }

    /// Opens an index and checks all of its bytes, unless that was done before and the file is the same.
    ///
    /// # Errors
    /// For an index that is gone, cannot be read, or is damaged anywhere.
    pub async fn open(&self, place: &IndexPlace, env: &RuntimeEnv) -> Result<Arc<OpenIndex>> {
        let missing = || exec_datafusion_err!("no index '{}'", place.text());
        let known = |stamp: &Stamp| {
            let open = lock(&self.open);
            let (seen, index) = open.get(place)?;
            (seen == stamp).then(|| Arc::clone(index))
        };
        let (stamp, index) = if let Some(path) = place.local()? {
            let stamp = local_stamp(&path)?.ok_or_else(missing)?;
            if let Some(index) = known(&stamp) {
                return Ok(index);
            }
            (stamp, blocking(move || OpenIndex::map(&path)).await?)
        } else {
            let store = env.object_store(&place.store)?;
            let unreadable = |error: object_store::Error| match error {
                object_store::Error::NotFound { .. } => missing(),
                other => exec_datafusion_err!("'{}' cannot be read: {other}", place.text()),
            };
            let meta = store.head(&place.file).await.map_err(unreadable)?;
            let stamp = Stamp::Remote(meta.size, meta.e_tag);
            if let Some(index) = known(&stamp) {
                return Ok(index);
            }
            let found = store.get(&place.file).await.map_err(unreadable)?;
            let bytes = found.bytes().await.map_err(unreadable)?;
            let source = place.text();
            (
                stamp,
                blocking(move || OpenIndex::read(&bytes, source)).await?,
            )
        };
        let index = Arc::new(index);
        lock(&self.open).insert(place.clone(), (stamp, Arc::clone(&index)));
        Ok(index)
    }

    /// Removes the file of an index. Queries that read it go on.
    ///
    /// # Errors
    /// When there is none, somebody is building it, or it cannot be removed.
    pub async fn remove(&self, place: &IndexPlace, env: &RuntimeEnv) -> Result<()> {
        lock(&self.open).remove(place);
        lock(&self.headers).remove(place);
        if let Some(path) = place.local()? {
            return blocking(move || {
                if !path.is_file() {
                    return exec_err!("no index '{}'", path.display());
                }
                let _lock = super::local::BuildLock::take(&path)?;
                fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))
            })
            .await;
        }
        let held = RemoteLock::take(place, env).await?;
        let deleted = env.object_store(&place.store)?.delete(&place.file).await;
        if let Some(held) = held {
            held.release().await;
        }
        deleted?;
        for known in lock(&self.remote).values_mut() {
            known.retain(|index| index.place != *place);
        }
        Ok(())
    }
}
