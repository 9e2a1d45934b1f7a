//! Where a job writes: a directory on a local disk, or a prefix in an object store.
//!
//! Visible files appear whole. What is not for readers of the table is in `_lakefold/`, which they skip,
//! as they do every name with an underscore in front.

mod local;
mod remote;

use std::io::Write;

use bytes::Bytes;
use datafusion::error::Result;
use datafusion::execution::runtime_env::RuntimeEnv;
use sha2::{Digest, Sha256};

use super::digest::hex;
use crate::Location;
pub(crate) use local::LocalOutput;
pub(crate) use remote::RemoteOutput;

/// What is not for readers of the table.
pub(crate) const CONTROL: &str = "_lakefold";
/// Chunks that are being written, on a local disk.
pub(crate) const ASIDE: &str = "_lakefold/tmp";

/// A file below the output's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputFile {
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// The output's directory.
#[derive(Debug, Clone)]
pub(crate) enum Output {
    Local(LocalOutput),
    Remote(RemoteOutput),
}

/// A chunk that nobody sees yet; dropped, it is gone.
#[derive(Debug)]
pub(crate) enum Aside {
    Local(local::LocalAside),
    Remote(remote::RemoteAside),
}

/// Keeps other writers away for as long as it lives.
#[derive(Debug)]
pub(crate) enum OutputLock {
    Local {
        /// The operating system lets go of the lock with the file.
        _file: std::fs::File,
    },
    Remote(remote::Lease),
}

impl OutputLock {
    /// # Errors
    /// When the lock was lost, as after a pause longer than it lasts: another job may be writing.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            OutputLock::Local { .. } => Ok(()),
            OutputLock::Remote(lease) => lease.check(),
        }
    }

    /// Lets others in.
    pub(crate) async fn release(self) {
        if let OutputLock::Remote(lease) = self {
            lease.release().await;
        }
    }
}

impl Output {
    /// Creates nothing yet.
    ///
    /// # Errors
    /// When no store is registered for the location.
    pub(crate) fn open(location: &Location, env: &RuntimeEnv) -> Result<Self> {
        if location.is_local() {
            return Ok(Self::Local(LocalOutput::new(location)?));
        }
        let store = env.object_store(location.object_store_url())?;
        Ok(Self::Remote(RemoteOutput::new(location, store)))
    }

    /// # Errors
    /// When another job holds it, or the directory cannot be written.
    pub(crate) async fn lock(&self) -> Result<OutputLock> {
        match self {
            Output::Local(output) => output.lock(),
            Output::Remote(output) => output.lock().await,
        }
    }

    /// Every file, in control directories too.
    ///
    /// # Errors
    /// When it cannot be listed; a directory that does not exist is empty.
    pub(crate) async fn list(&self) -> Result<Vec<OutputFile>> {
        match self {
            Output::Local(output) => output.list(),
            Output::Remote(output) => output.list().await,
        }
    }

    /// A file's content; `None` if there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub(crate) async fn read(&self, name: &str) -> Result<Option<Bytes>> {
        match self {
            Output::Local(output) => output.read(name),
            Output::Remote(output) => output.read(name).await,
        }
    }

    /// SHA-256 and size of a file; `None` if there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub(crate) async fn digest(&self, name: &str) -> Result<Option<(String, u64)>> {
        match self {
            Output::Local(output) => output.digest(name).await,
            Output::Remote(output) => output.digest(name).await,
        }
    }

    /// Writes a small file whole or not at all, and durably.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) async fn write(&self, name: &str, content: Vec<u8>) -> Result<()> {
        match self {
            Output::Local(output) => output.write(name, &content),
            Output::Remote(output) => output.write(name, content).await,
        }
    }

    /// Removes files; those that are gone already are no error.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub(crate) async fn remove(&self, names: &[String]) -> Result<()> {
        match self {
            Output::Local(output) => output.remove(names),
            Output::Remote(output) => output.remove(names).await,
        }
    }

    /// Begins a chunk aside.
    ///
    /// # Errors
    /// When it cannot be begun.
    pub(crate) async fn begin(&self, name: &str) -> Result<Aside> {
        match self {
            Output::Local(output) => output.begin(name).map(Aside::Local),
            Output::Remote(output) => output.begin(name).await.map(Aside::Remote),
        }
    }
}

impl Aside {
    /// Waits until what was written has gone far enough on its way that more may follow. Blocks.
    pub(crate) fn keep_up(&mut self) -> Result<()> {
        match self {
            Aside::Local(_) => Ok(()),
            Aside::Remote(aside) => aside.keep_up(),
        }
    }

    /// Makes what was written durable, still unseen. Blocks.
    ///
    /// # Errors
    /// When the disk says so.
    pub(crate) fn sync(&mut self) -> Result<()> {
        match self {
            Aside::Local(aside) => aside.sync(),
            Aside::Remote(_) => Ok(()),
        }
    }

    /// Takes what has to be told that it was given up, out of a writer that is dropped.
    pub(crate) fn detach(&mut self) -> Option<Self> {
        match self {
            // Dropping it removes the file.
            Aside::Local(_) => None,
            Aside::Remote(aside) => Some(Aside::Remote(aside.detach())),
        }
    }

    /// Shows the chunk under its name, in place of what was there.
    ///
    /// # Errors
    /// When that fails; the chunk is then not visible.
    pub(crate) async fn publish(self) -> Result<()> {
        match self {
            Aside::Local(aside) => aside.publish(),
            Aside::Remote(aside) => aside.publish().await,
        }
    }

    /// Removes it.
    pub(crate) async fn abandon(self) {
        match self {
            Aside::Local(aside) => drop(aside),
            Aside::Remote(aside) => aside.abandon().await,
        }
    }
}

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Aside::Local(aside) => aside.write(bytes),
            Aside::Remote(aside) => aside.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Aside::Local(aside) => aside.flush(),
            Aside::Remote(_) => Ok(()),
        }
    }
}

/// A writer that hashes and counts what passes through it.
#[derive(Debug)]
pub(crate) struct Hashing<W> {
    pub(crate) inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Hashing<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    /// The writer below, SHA-256 and size.
    pub(crate) fn finish(self) -> (W, String, u64) {
        (self.inner, hex(self.hash), self.bytes)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}
