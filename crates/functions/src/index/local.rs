//! Index files on local disks: one builder at a time, files that appear whole or not at all.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err};

/// What is written aside ends so; listings of indexes skip it.
const ASIDE: &str = "new";
const LOCK: &str = "lock";

/// An error of the disk, with what was tried and what helps.
pub(crate) fn failed(what: &str, path: &Path, error: &io::Error) -> DataFusionError {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room and build the index again"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; building an index creates and renames files there, `lakefold index build --index PATH` puts it \
             elsewhere"
        }
        _ => "",
    };
    exec_datafusion_err!("cannot {what} '{}': {error}{remedy}", path.display())
}

/// Keeps other builders of the same index away, until it is dropped or the process dies.
#[derive(Debug)]
pub(crate) struct BuildLock {
    _file: File,
    path: PathBuf,
}

impl BuildLock {
    /// Creates the directory if need be.
    ///
    /// # Errors
    /// While another builder holds the lock, which names its process.
    pub(crate) fn take(index: &Path) -> Result<Self> {
        if let Some(directory) = index.parent() {
            fs::create_dir_all(directory).map_err(|error| failed("create", directory, &error))?;
        }
        let path = index.with_added_extension(LOCK);
        let mut file = loop {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(&path)
                .map_err(|error| failed("write to", &path, &error))?;
            match file.try_lock() {
                // A builder that is done removes its file, perhaps between opening and locking.
                Ok(()) if is_at(&file, &path) => break file,
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    // Only words for the message.
                    let _ = file.read_to_string(&mut holder);
                    return exec_err!(
                        "another builder ({}) is writing the index '{}': wait until it is done, or give this \
                         index another name",
                        holder.trim(),
                        index.display()
                    );
                }
                Err(TryLockError::Error(error)) => return Err(failed("lock", &path, &error)),
            }
        };
        let note = format!("process {}\n", std::process::id());
        let noted = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(note.as_bytes()));
        noted.map_err(|error| failed("write to", &path, &error))?;
        Ok(Self { _file: file, path })
    }
}

impl Drop for BuildLock {
    fn drop(&mut self) {
        // Tidiness only.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the open file is the one that has this name.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let place = |meta: &fs::Metadata| (meta.dev(), meta.ino());
        let (open, named) = (file.metadata(), fs::metadata(path));
        matches!((&open, &named), (Ok(open), Ok(named)) if place(open) == place(named))
    }
    #[cfg(not(unix))]
    {
        // An open file cannot be removed there.
        let _ = (file, path);
        true
    }
}

/// Writes a file aside, makes it durable and renames it into place, under the lock.
pub(crate) fn publish(
    _lock: &BuildLock,
    index: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<u64>,
) -> Result<u64> {
    let aside = index.with_added_extension(ASIDE);
    let guard = RemoveOnDrop(Some(&aside));
    let file = File::create(&aside).map_err(|error| failed("write to", &aside, &error))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let written = write(&mut out).and_then(|bytes| {
        out.flush()?;
        out.get_ref().sync_all()?;
        Ok(bytes)
    });
    let bytes = written.map_err(|error| failed("write to", &aside, &error))?;
    fs::rename(&aside, index).map_err(|error| failed("write", index, &error))?;
    guard.keep();
    if let Some(directory) = index.parent() {
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|error| failed("write to", directory, &error))?;
    }
    Ok(bytes)
}

struct RemoveOnDrop<'a>(Option<&'a Path>);

impl RemoveOnDrop<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            // The next builder overwrites what cannot be removed now.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_builder_at_a_time_and_nothing_half_written() {
        let directory = tempfile::tempdir().unwrap();
        let index = directory.path().join(".lakefold/a.hnsw");
        let lock = BuildLock::take(&index).unwrap();
        let message = BuildLock::take(&index).unwrap_err().to_string();
        assert!(
            message.contains("another builder (process ") && message.contains("a.hnsw"),
            "{message}"
        );
        publish(&lock, &index, |out| out.write(b"first").map(|n| n as u64)).unwrap();
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = publish(&lock, &index, |out| {
            out.write_all(b"sec")?;
            Err(full)
        });
        assert!(error.unwrap_err().to_string().contains("make room"));
        assert_eq!(fs::read(&index).unwrap(), b"first");
        drop(lock);
        let left: Vec<_> = fs::read_dir(index.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        BuildLock::take(&index).unwrap();
    }
}
