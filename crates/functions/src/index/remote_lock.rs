//! The lock on an index in an object store: an object that only one builder can create.

use std::sync::Arc;
use std::time::SystemTime;

use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::execution::runtime_env::RuntimeEnv;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};
use tokio::runtime::Handle;

use super::place::IndexPlace;

/// What a lock is called after the index.
const LOCK: &str = "lock";

/// Keeps other builders of the same index away until it is given back. A process that dies leaves its lock behind:
/// whoever meets it is told where it is.
#[derive(Debug)]
pub(crate) struct RemoteLock {
    store: Arc<dyn ObjectStore>,
    path: Path,
    /// Who holds it, as the object says.
    holder: String,
    is_held: bool,
}

impl RemoteLock {
    /// `None` for a place on a local disk, and, with a warning, in a store that cannot create an object only where there
    /// is none.
    ///
    /// # Errors
    /// While another builder holds the lock, and where it cannot be written.
    pub(crate) async fn take(place: &IndexPlace, env: &RuntimeEnv) -> Result<Option<Self>> {
        if place.local()?.is_some() {
            return Ok(None);
        }
        let store = env.object_store(&place.store)?;
        let path = Path::from(format!("{}.{LOCK}", place.file));
        let name = place.directory().name_of(&path);
        let lock = Self {
            store,
            path,
            holder: holder(),
            is_held: true,
        };
        let put = lock.store.put_opts(
            &lock.path,
            lock.holder.clone().into(),
            PutMode::Create.into(),
        );
        match put.await {
            Ok(_) => Ok(Some(lock)),
            // A request is repeated whose answer was lost.
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                let found = lock.found().await;
                if found.as_ref() == Some(&lock.holder) {
                    return Ok(Some(lock));
                }
                lock.forget();
                exec_err!(
                    "another builder ({}) is writing the index '{}': wait until it is done, or give this index \
                     another name; if it does not run any more, remove the lock that it left, '{name}'",
                    found.as_deref().unwrap_or("unknown"),
                    place.text()
                )
            }
            Err(error @ (Error::NotImplemented { .. } | Error::NotSupported { .. })) => {
                lock.forget();
                tracing::warn!(
                    "the store has no lock '{name}', so that of two who change this index at once the last one wins: {error}"
                );
                Ok(None)
            }
            Err(error) => {
                // The request may have come through all the same.
                if lock.found().await.as_ref() == Some(&lock.holder) {
                    return Ok(Some(lock));
                }
                lock.forget();
                Err(exec_datafusion_err!(
                    "the index cannot be written to '{}', its lock '{name}' was refused: {error}",
                    place.text()
                ))
            }
        }
    }

    /// What the lock says, if there is one.
    async fn found(&self) -> Option<String> {
        found(self.store.as_ref(), &self.path).await
    }

    /// Gives it back.
    pub(crate) async fn release(mut self) {
        self.is_held = false;
        remove(self.store.as_ref(), &self.path, &self.holder).await;
    }

    fn forget(mut self) {
        self.is_held = false;
    }
}

impl Drop for RemoteLock {
    /// Of a build that was abandoned: as far as there is time.
    fn drop(&mut self) {
        if let (true, Ok(runtime)) = (self.is_held, Handle::try_current()) {
            let (store, path) = (Arc::clone(&self.store), self.path.clone());
            let holder = std::mem::take(&mut self.holder);
            drop(runtime.spawn(async move { remove(store.as_ref(), &path, &holder).await }));
        }
    }
}

async fn found(store: &dyn ObjectStore, path: &Path) -> Option<String> {
    let found = store.get(path).await.ok()?;
    let note = found.bytes().await.ok()?;
    Some(String::from_utf8_lossy(&note).into_owned())
}

/// One that was removed and taken by another builder meanwhile stays that one's, and so does one that was never ours.
async fn remove(store: &dyn ObjectStore, path: &Path, holder: &str) {
    if found(store, path).await.as_deref() != Some(holder) {
        return;
    }
    if let Err(error) = store.delete(path).await {
        tracing::warn!("the lock '{path}' was not removed: {error}");
    }
}

/// Process, host and time: a process of the same number on a host of the same name is another holder.
fn holder() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.map_or_else(|_| "a host".to_owned(), |name| name.trim().to_owned());
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or_default();
    format!(
        "process {} of {host}, since {}.{:09}",
        std::process::id(),
        since.as_secs(),
        since.subsec_nanos()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::execution::object_store::ObjectStoreUrl;
    use object_store::local::LocalFileSystem;
    use object_store::memory::InMemory;

    async fn one_holder_at_a_time(store: Arc<dyn ObjectStore>) {
        let env = RuntimeEnv::default();
        let url = ObjectStoreUrl::parse("memory://bucket").unwrap();
        env.register_object_store(url.as_ref(), Arc::clone(&store));
        let place = IndexPlace {
            store: url,
            file: Path::from("t/.lakefold/i.hnsw"),
        };
        let path = Path::from("t/.lakefold/i.hnsw.lock");
        let take = async || RemoteLock::take(&place, &env).await;
        let first = take().await.unwrap().unwrap();
        let message = take().await.unwrap_err().to_string();
        let holder = format!("another builder (process {} of ", std::process::id());
        assert!(message.contains(&holder), "{message}");
        let remedy = "remove the lock that it left, 'memory://bucket/t/.lakefold/i.hnsw.lock'";
        assert!(message.contains(remedy), "{message}");
        // Whoever was refused has nothing to give back.
        store.head(&path).await.unwrap();
        first.release().await;
        store.head(&path).await.unwrap_err();
        drop(take().await.unwrap().unwrap());
        // A dropped lock goes in the background.
        while store.head(&path).await.is_ok() {
            tokio::task::yield_now().await;
        }
        let stolen = take().await.unwrap().unwrap();
        store.delete(&path).await.unwrap();
        let abandoned = take().await.unwrap().unwrap();
        stolen.release().await;
        store.head(&path).await.unwrap();
        // One who drops what is another's by now takes nothing away.
        store.delete(&path).await.unwrap();
        let second = take().await.unwrap().unwrap();
        drop(abandoned);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        store.head(&path).await.unwrap();
        second.release().await;
        store.head(&path).await.unwrap_err();
    }

    #[tokio::test]
    async fn one_holder_in_memory_and_on_disk() {
        one_holder_at_a_time(Arc::new(InMemory::new())).await;
        let directory = tempfile::tempdir().unwrap();
        let disk = LocalFileSystem::new_with_prefix(directory.path()).unwrap();
        one_holder_at_a_time(Arc::new(disk)).await;
    }
}
