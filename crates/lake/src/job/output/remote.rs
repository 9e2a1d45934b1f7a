//! A prefix in an object store.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use datafusion::common::{exec_datafusion_err, exec_err};
use datafusion::error::{DataFusionError, Result};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{
    ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion, WriteMultipart,
};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::{OutputFile, OutputLock};
use crate::Location;
use crate::job::digest::hex;

const LOCK: &str = "_lakefold/lock.json";
/// Size of a part of an upload.
const PART: usize = 8 << 20;
/// Parts that are on their way at once.
const PARTS_IN_FLIGHT: usize = 4;
/// Pauses before a deletion is tried again.
const DELETE_PAUSES: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// How often the holder of the lease shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A lease that did not change for so long, by the watch of whoever waits for it, is nobody's.
const EXPIRY: Duration = Duration::from_secs(20);

/// A prefix.
#[derive(Debug, Clone)]
pub(crate) struct RemoteOutput {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    text: String,
}

/// An upload that was not completed.
pub(crate) struct RemoteAside {
    upload: Option<WriteMultipart>,
    name: String,
}

impl fmt::Debug for RemoteAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteAside")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl RemoteOutput {
    pub(crate) fn new(location: &Location, store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            prefix: location.prefix().clone(),
            text: location.text().to_owned(),
        }
    }

    /// Names are parts of paths already encoded, so they are not encoded again.
    fn path(&self, name: &str) -> Result<Path> {
        let text = match self.prefix.as_ref() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        };
        Path::parse(&text).map_err(|error| {
            exec_datafusion_err!("'{name}' cannot be a name in '{}': {error}", self.text)
        })
    }

    fn failed(&self, what: &str, name: &str, error: object_store::Error) -> DataFusionError {
        let store = self.text.trim_end_matches('/');
        DataFusionError::from(error).context(format!("cannot {what} '{store}/{name}'"))
    }

    pub(crate) async fn list(&self) -> Result<Vec<OutputFile>> {
        let found: Vec<_> = self
            .store
            .list(Some(&self.prefix))
            .try_collect()
            .await
            .map_err(|error| self.failed("list", "", error))?;
        let mut files: Vec<OutputFile> = found
            .into_iter()
            .filter_map(|object| {
                let parts: Vec<_> = object.location.prefix_match(&self.prefix)?.collect();
                let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
                Some(OutputFile {
                    name: parts.join("/"),
                    bytes: object.size,
                })
            })
            .collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    pub(crate) async fn read(&self, name: &str) -> Result<Option<Bytes>> {
        let path = self.path(name)?;
        let found = match self.store.get(&path).await {
            Ok(found) => found.bytes().await,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => Err(error),
        };
        found
            .map(Some)
            .map_err(|error| self.failed("read", name, error))
    }

    pub(crate) async fn digest(&self, name: &str) -> Result<Option<(String, u64)>> {
        let path = self.path(name)?;
        let found = match self.store.get(&path).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed("read", name, error)),
        };
        let mut parts = found.into_stream();
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        while let Some(part) = parts
            .try_next()
            .await
            .map_err(|error| self.failed("read", name, error))?
        {
            hash.update(&part);
            bytes += part.len() as u64;
        }
        Ok(Some((hex(hash), bytes)))
    }

    pub(crate) async fn write(&self, name: &str, content: Vec<u8>) -> Result<()> {
        let path = self.path(name)?;
        let put = self.store.put(&path, content.into()).await;
        put.map(drop)
            .map_err(|error| self.failed("write", name, error))
    }

    pub(crate) async fn remove(&self, names: &[String]) -> Result<()> {
        for name in names {
            let path = self.path(name)?;
            let mut pauses = DELETE_PAUSES.iter();
            loop {
                match self.store.delete(&path).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => break,
                    // S3 deletes with POST, which the store does not repeat after a time-out.
                    Err(error) => match pauses.next() {
                        Some(pause) => tokio::time::sleep(*pause).await,
                        None => return Err(self.failed("remove", name, error)),
                    },
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn begin(&self, name: &str) -> Result<RemoteAside> {
        let upload = self.store.put_multipart(&self.path(name)?).await;
        let upload = upload.map_err(|error| self.failed("write", name, error))?;
        let store = self.text.trim_end_matches('/');
        Ok(RemoteAside {
            upload: Some(WriteMultipart::new_with_chunk_size(upload, PART)),
            name: format!("{store}/{name}"),
        })
    }

    /// Takes the lease: it is created if there is none, and taken over if its holder has not renewed it
    /// for [`EXPIRY`]. Clocks of two machines are never compared.
    pub(crate) async fn lock(&self) -> Result<OutputLock> {
        let path = self.path(LOCK)?;
        let holder = holder();
        let mut seen = None;
        loop {
            let mode = match &seen {
                None => PutMode::Create,
                Some(version) => PutMode::Update(UpdateVersion::clone(version)),
            };
            let taken = match put_lease(self.store.as_ref(), &path, &holder, 0, mode).await {
                Ok(version) => Some(version),
                Err(
                    object_store::Error::AlreadyExists { .. }
                    | object_store::Error::Precondition { .. },
                ) => held_by(self.store.as_ref(), &path, &holder).await,
                Err(object_store::Error::NotImplemented { .. }) => {
                    return exec_err!(
                        "'{}' has no conditional put, which keeps two jobs apart: for S3, set \
                         --option conditional_put=etag",
                        self.text
                    );
                }
                Err(error) => return Err(self.failed("write", LOCK, error)),
            };
            if let Some(version) = taken {
                return Ok(OutputLock::Remote(Lease::start(
                    Arc::clone(&self.store),
                    path,
                    holder,
                    version,
                    self.text.clone(),
                )));
            }
            seen = self.expired(&path).await?;
        }
    }

    /// Watches a lease; the version that stayed, or `None` when the lease went away.
    async fn expired(&self, path: &Path) -> Result<Option<UpdateVersion>> {
        let version = async || match self.store.get(path).await {
            Ok(found) => {
                let version = UpdateVersion {
                    e_tag: found.meta.e_tag.clone(),
                    version: found.meta.version.clone(),
                };
                let note = found.bytes().await;
                let note = note.map_err(|error| self.failed("read", LOCK, error))?;
                Ok(Some((version, String::from_utf8_lossy(&note).into_owned())))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", LOCK, error)),
        };
        let Some((first, note)) = version().await? else {
            return Ok(None);
        };
        tracing::warn!(
            "'{}' is locked by {note}: waiting up to {} s to see whether it lives",
            self.text,
            EXPIRY.as_secs()
        );
        let since = tokio::time::Instant::now();
        while since.elapsed() < EXPIRY {
            tokio::time::sleep(HEARTBEAT / 2).await;
            match version().await? {
                None => return Ok(None),
                Some((now, _)) if now != first => {
                    return exec_err!(
                        "another job ({note}) is writing to '{}': wait until it is done, or choose \
                         another output",
                        self.text
                    );
                }
                Some(_) => {}
            }
        }
        Ok(Some(first))
    }
}

async fn put_lease(
    store: &dyn ObjectStore,
    path: &Path,
    holder: &str,
    beat: u64,
    mode: PutMode,
) -> object_store::Result<UpdateVersion> {
    // The number makes each heartbeat another object, also where the ETag is a hash of the content.
    let content = format!("{holder}, beat {beat}");
    let options = PutOptions {
        mode,
        ..PutOptions::default()
    };
    let put = store
        .put_opts(path, PutPayload::from(content.into_bytes()), options)
        .await?;
    Ok(put.into())
}

/// The version of the lease, if this holder has it. A request that was repeated after a time-out is
/// refused when its first attempt had arrived after all.
async fn held_by(store: &dyn ObjectStore, path: &Path, holder: &str) -> Option<UpdateVersion> {
    let found = store.get(path).await.ok()?;
    let version = UpdateVersion {
        e_tag: found.meta.e_tag.clone(),
        version: found.meta.version.clone(),
    };
    let note = found.bytes().await.ok()?;
    note.starts_with(format!("{holder}, ").as_bytes())
        .then_some(version)
}

/// Process, host and time: a process of the same number on a host of the same name is another holder.
fn holder() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.map_or_else(|_| "a host".to_owned(), |name| name.trim().to_owned());
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let since = since.unwrap_or_default().as_nanos();
    format!("process {} of {host}, since {since}", std::process::id())
}

/// A lease that is renewed in the background.
#[derive(Debug)]
pub(crate) struct Lease {
    store: Arc<dyn ObjectStore>,
    path: Path,
    text: String,
    lost: Arc<AtomicBool>,
    heartbeat: JoinHandle<()>,
}

impl Lease {
    fn start(
        store: Arc<dyn ObjectStore>,
        path: Path,
        holder: String,
        first: UpdateVersion,
        text: String,
    ) -> Self {
        let lost = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&lost);
        let (renewed, at) = (Arc::clone(&store), path.clone());
        let heartbeat = tokio::spawn(async move {
            let mut version = first;
            let mut alive = tokio::time::Instant::now();
            for beat in 1.. {
                tokio::time::sleep(HEARTBEAT).await;
                let mode = PutMode::Update(version.clone());
                match put_lease(renewed.as_ref(), &at, &holder, beat, mode).await {
                    Ok(next) => {
                        version = next;
                        alive = tokio::time::Instant::now();
                    }
                    Err(error) => {
                        tracing::debug!("the lease was not renewed: {error}");
                        let refused = matches!(
                            error,
                            object_store::Error::Precondition { .. }
                                | object_store::Error::NotFound { .. }
                        );
                        let ours = if refused {
                            held_by(renewed.as_ref(), &at, &holder).await
                        } else {
                            None
                        };
                        if let Some(next) = ours {
                            version = next;
                            alive = tokio::time::Instant::now();
                        } else if refused || alive.elapsed() > EXPIRY {
                            flag.store(true, Ordering::Relaxed);
                            return;
                        }
                    }
                }
            }
        });
        Self {
            store,
            path,
            text,
            lost,
            heartbeat,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.lost.load(Ordering::Relaxed) {
            return exec_err!(
                "the lock on '{}' was lost: it could not be renewed in time, or another job took it; run \
                 the job again, it goes on where it stopped",
                self.text
            );
        }
        Ok(())
    }

    pub(crate) async fn release(self) {
        self.heartbeat.abort();
        if !self.lost.load(Ordering::Relaxed) {
            // Left behind, it expires.
            let _ = self.store.delete(&self.path).await;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.heartbeat.abort();
    }
}

fn gone(name: &str) -> io::Error {
    io::Error::other(format!("the upload of '{name}' has ended"))
}

impl RemoteAside {
    pub(crate) fn detach(&mut self) -> Self {
        Self {
            upload: self.upload.take(),
            name: self.name.clone(),
        }
    }

    pub(crate) fn keep_up(&mut self) -> Result<()> {
        let Some(upload) = &mut self.upload else {
            return Err(gone(&self.name).into());
        };
        Handle::current()
            .block_on(upload.wait_for_capacity(PARTS_IN_FLIGHT))
            .map_err(|error| failed_upload(&self.name, error))
    }

    pub(crate) async fn publish(mut self) -> Result<()> {
        let Some(upload) = self.upload.take() else {
            return Err(gone(&self.name).into());
        };
        upload
            .finish()
            .await
            .map(drop)
            .map_err(|error| failed_upload(&self.name, error))
    }

    pub(crate) async fn abandon(mut self) {
        if let Some(upload) = self.upload.take() {
            // Parts that stay behind are nobody's, and invisible.
            let _ = upload.abort().await;
        }
    }
}

fn failed_upload(name: &str, error: object_store::Error) -> DataFusionError {
    DataFusionError::from(error).context(format!("cannot write '{name}'"))
}

impl Write for RemoteAside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let upload = self.upload.as_mut().ok_or_else(|| gone(&self.name))?;
        upload.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
