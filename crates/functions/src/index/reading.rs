//! Reading the headers of index files.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use datafusion::common::{DataFusionError, Result};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::catalog::FoundIndex;
use super::layout::{Layout, damaged};
use super::local::failed;
use super::place::IndexPlace;

/// Read at once from a remote file's beginning: most headers.
const PREFETCH: u64 = 64 << 10;

/// Which bytes a file has: its size, and when or as what it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// With the inode, because clocks of file systems tick slowly.
    Local(u64, Option<SystemTime>, u64),
    Remote(u64, Option<String>),
}

/// An error that is kept, without the kind that `to_string` puts before it.
pub(crate) fn text(error: &DataFusionError) -> String {
    match error {
        DataFusionError::Execution(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(crate) fn is_nowhere(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
    )
}

/// `None` for a file that is gone.
pub(crate) fn local_stamp(path: &Path) -> Result<Option<Stamp>> {
    match fs::metadata(path) {
        Ok(meta) => Ok(Some(Stamp::Local(
            meta.len(),
            meta.modified().ok(),
            inode(&meta),
        ))),
        Err(error) if is_nowhere(&error) => Ok(None),
        Err(error) => Err(failed("read", path, &error)),
    }
}

fn inode(meta: &fs::Metadata) -> u64 {
    #[cfg(unix)]
    {
        std::os::unix::fs::MetadataExt::ino(meta)
    }
    #[cfg(not(unix))]
    {
        let _ = meta;
        0
    }
}

/// The header alone, checked against its own checksum and the file's length.
pub(crate) fn read_header(path: &Path) -> Result<Layout> {
    let source = path.display().to_string();
    let unreadable = |error: std::io::Error| failed("read", path, &error);
    let mut file = fs::File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let mut beginning = Vec::new();
    let mut read_to = |bytes: &mut Vec<u8>, end: usize| {
        let more = end.saturating_sub(bytes.len()) as u64;
        file.by_ref().take(more).read_to_end(bytes).map(drop)
    };
    read_to(&mut beginning, PREFETCH as usize).map_err(unreadable)?;
    let end = Layout::header_bytes(&beginning, &source)?;
    read_to(&mut beginning, end).map_err(unreadable)?;
    whole(Layout::read(&beginning, &source)?, length, &source)
}

/// The same of a file in an object store.
pub(crate) async fn remote_header(
    store: &dyn ObjectStore,
    place: &IndexPlace,
    meta: &ObjectMeta,
) -> Result<FoundIndex> {
    let source = place.text();
    let read = async |end: u64| store.get_range(&place.file, 0..end.min(meta.size)).await;
    let mut beginning = if meta.size == 0 {
        bytes::Bytes::new()
    } else {
        read(PREFETCH).await?
    };
    let end = Layout::header_bytes(&beginning, &source)?;
    if end > beginning.len() {
        beginning = read(end as u64).await?;
    }
    let layout = whole(Layout::read(&beginning, &source)?, meta.size, &source)?;
    Ok(FoundIndex {
        place: place.clone(),
        file_bytes: meta.size,
        header: Arc::new(layout.header),
    })
}

fn whole(layout: Layout, length: u64, source: &str) -> Result<Layout> {
    if layout.length() == length {
        return Ok(layout);
    }
    let expected = layout.length();
    Err(damaged(
        source,
        format!("it has {length} bytes of {expected}"),
    ))
}
