//! A directory on a local disk.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use datafusion::common::{exec_datafusion_err, exec_err};
use datafusion::error::{DataFusionError, Result};
use object_store::local::LocalFileSystem;
use sha2::{Digest, Sha256};

use super::{ASIDE, CONTROL, OutputFile, OutputLock};
use crate::Location;
use crate::job::digest::{hex, sha256};

const LOCK: &str = "_lakefold/lock";

/// A directory.
#[derive(Debug, Clone)]
pub(crate) struct LocalOutput {
    root: PathBuf,
    /// As the user wrote it.
    text: String,
}

/// A file below [`ASIDE`].
#[derive(Debug)]
pub(crate) struct LocalAside {
    writer: BufWriter<File>,
    path: PathBuf,
    target: PathBuf,
    root: PathBuf,
    published: bool,
}

/// An error of the disk, with what was tried and what helps.
fn failed(what: &str, path: &Path, error: &io::Error) -> DataFusionError {
    DataFusionError::Execution(message(what, path, error))
}

fn message(what: &str, path: &Path, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room and run the same job again, it goes on where it stopped"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; the job needs to create, rename and remove files there"
        }
        _ => "",
    };
    format!("cannot {what} '{}': {error}{remedy}", path.display())
}

impl LocalOutput {
    pub(crate) fn new(location: &Location) -> Result<Self> {
        let root = LocalFileSystem::new()
            .path_to_filesystem(location.prefix())
            .map_err(|error| {
                exec_datafusion_err!(
                    "'{}' is not a directory to write to: {error}",
                    location.text()
                )
            })?;
        Ok(Self {
            root,
            text: location.text().to_owned(),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn lock(&self) -> Result<OutputLock> {
        if self.root.exists() && !self.root.is_dir() {
            return exec_err!(
                "'{}' is a file: OUTPUT is a directory, which a job fills with files",
                self.text
            );
        }
        let control = self.path(CONTROL);
        create_directory(&control)?;
        create_directory(&self.path(ASIDE))?;
        let path = self.path(LOCK);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| failed("write to", &path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only words for the message.
                let _ = file.read_to_string(&mut holder);
                return exec_err!(
                    "another job ({}) is writing to '{}': wait until it is done, or choose another \
                     output",
                    holder.trim(),
                    self.text
                );
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path, &error)),
        }
        let note = format!("process {}\n", std::process::id());
        let noted = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(note.as_bytes()));
        noted.map_err(|error| failed("write to", &path, &error))?;
        Ok(OutputLock::Local { _file: file })
    }

    pub(crate) fn list(&self) -> Result<Vec<OutputFile>> {
        let mut files = Vec::new();
        let mut directories = vec![PathBuf::new()];
        while let Some(directory) = directories.pop() {
            let path = self.root.join(&directory);
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed("list", &path, &error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| failed("list", &path, &error))?;
                let below = directory.join(entry.file_name());
                let meta = fs::metadata(entry.path());
                let meta = meta.map_err(|error| failed("look at", &entry.path(), &error))?;
                if meta.is_dir() {
                    directories.push(below);
                } else if let Some(name) = below.to_str() {
                    files.push(OutputFile {
                        name: name.to_owned(),
                        bytes: meta.len(),
                    });
                }
            }
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    pub(crate) fn read(&self, name: &str) -> Result<Option<Bytes>> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(content) => Ok(Some(content.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path, &error)),
        }
    }

    pub(crate) async fn digest(&self, name: &str) -> Result<Option<(String, u64)>> {
        let path = self.path(name);
        let digest = tokio::task::spawn_blocking(move || match File::open(&path) {
            Ok(file) => hash_file(file)
                .map(Some)
                .map_err(|error| failed("read", &path, &error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path, &error)),
        });
        digest
            .await
            .map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let aside = self.write_aside(name, content)?;
        rename(&aside, &self.path(name), &self.root).inspect_err(|_| discard(&aside))
    }

    /// Writes a small file where nobody looks for it, durably.
    fn write_aside(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let directory = self.path(ASIDE);
        create_directory(&directory)?;
        let aside = directory.join(format!("{}.new", sha256(name.as_bytes())));
        let write = || -> io::Result<()> {
            let mut file = File::create(&aside)?;
            file.write_all(content)?;
            file.sync_all()
        };
        write().map_err(|error| {
            discard(&aside);
            failed("write to", &aside, &error)
        })?;
        Ok(aside)
    }

    /// Writes a small file durably, if nothing has its name; whether that was so.
    pub(crate) fn create(&self, name: &str, content: &[u8]) -> Result<bool> {
        let target = self.path(name);
        let directory = target.parent().unwrap_or(&self.root);
        create_directory(directory)?;
        let aside = self.write_aside(name, content)?;
        // Unlike a rename, a link does not replace what is there.
        let linked = fs::hard_link(&aside, &target);
        discard(&aside);
        match linked {
            Ok(()) => sync_directory(directory).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(failed("write", &target, &error)),
        }
    }

    pub(crate) fn remove(&self, names: &[String]) -> Result<()> {
        for name in names {
            let path = self.path(name);
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("remove", &path, &error)),
            }
            // A partition without files is none; fails where there are others, which is right.
            let mut directory = path.parent();
            while let Some(parent) = directory.filter(|parent| **parent != self.root) {
                // The job's own directories stay: it is about to write there again.
                if parent.starts_with(self.path(CONTROL)) || fs::remove_dir(parent).is_err() {
                    break;
                }
                directory = parent.parent();
            }
        }
        Ok(())
    }

    pub(crate) fn begin(&self, name: &str) -> Result<LocalAside> {
        let path = self
            .path(ASIDE)
            .join(format!("{}.tmp", sha256(name.as_bytes())));
        create_directory(&self.path(ASIDE))?;
        let file = File::create(&path).map_err(|error| failed("write to", &path, &error))?;
        Ok(LocalAside {
            writer: BufWriter::with_capacity(1 << 20, file),
            path,
            target: self.path(name),
            root: self.root.clone(),
            published: false,
        })
    }
}

impl LocalAside {
    pub(crate) fn sync(&mut self) -> Result<()> {
        let synced = self
            .writer
            .flush()
            .and_then(|()| self.writer.get_ref().sync_all());
        synced.map_err(|error| failed("write to", &self.path, &error))
    }

    pub(crate) fn publish(mut self) -> Result<()> {
        rename(&self.path, &self.target, &self.root)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for LocalAside {
    fn drop(&mut self) {
        if !self.published {
            discard(&self.path);
        }
    }
}

impl Write for LocalAside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes).map_err(|error| self.named(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush().map_err(|error| self.named(error))
    }
}

impl LocalAside {
    /// The error with the name of the file that was to appear.
    fn named(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), message("write", &self.target, &error))
    }
}

/// Removes a file that is not to appear. The next run removes what cannot be removed now.
fn discard(aside: &Path) {
    let _ = fs::remove_file(aside);
}

fn hash_file(mut file: File) -> io::Result<(String, u64)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((hex(hash), bytes));
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
}

/// Creates what is missing of a directory's path, durably.
fn create_directory(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(|error| failed("create", path, &error))?;
    match path.parent() {
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

/// Renames durably: the new name survives a loss of power. `root` is the directory above which nothing
/// was created.
fn rename(from: &Path, to: &Path, root: &Path) -> Result<()> {
    let directory = to.parent().unwrap_or(root);
    let is_new = !directory.is_dir();
    create_directory(directory)?;
    fs::rename(from, to).map_err(|error| failed("write", to, &error))?;
    sync_directory(directory)?;
    if is_new {
        // New partitions, one in another.
        let above = directory
            .ancestors()
            .skip(1)
            .take_while(|above| above.starts_with(root));
        for above in above {
            sync_directory(above)?;
        }
    }
    Ok(())
}

fn sync_directory(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| failed("write to", path, &error))
}
