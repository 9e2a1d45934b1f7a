//! An index that is open: its header, and its file in memory or mapped.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use lakefold_manifold::{Hnsw, SharedBytes};
use memmap2::{Advice, Mmap};

use super::candidates::Place;
use super::header::IndexHeader;
use super::layout::{Layout, damaged};
use super::local::failed;
use super::positions::Positions;

/// An index, all of whose bytes were checked.
pub struct OpenIndex {
    /// What it says about itself.
    pub header: Arc<IndexHeader>,
    pub(crate) graph: Arc<Hnsw>,
    pub(crate) positions: Positions,
    /// By source, the number of the row after its last.
    ends: Vec<u64>,
    bytes: SharedBytes,
    layout: Layout,
    /// Its path or URL, for errors.
    source: String,
}

impl std::fmt::Debug for OpenIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenIndex")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl OpenIndex {
    /// Maps a file on a local disk. Index files are never changed in place, only replaced by a rename, so
    /// that what is mapped stays as it is.
    ///
    /// # Errors
    /// For a file that cannot be read, or is damaged anywhere.
    pub(crate) fn map(path: &std::path::Path) -> Result<Self> {
        let source = path.display().to_string();
        let file = File::open(path).map_err(|error| failed("read", path, &error))?;
        let length = file
            .metadata()
            .map_err(|error| failed("read", path, &error))?;
        if length.len() == 0 {
            return Err(damaged(&source, "it is empty"));
        }
        // SAFETY: the mapping is read-only, and no writer of Lakefold's alters or shortens a file that has an
        // index's name: a new one is written aside and takes the name.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| failed("map", path, &error))?;
        // Only hints: one pass from end to end for the checksums, then wherever the search leads.
        let _ = map.advise(Advice::WillNeed);
        Self::check(Arc::new(map), source)
    }

    /// Of a file that was read from an object store.
    ///
    /// # Errors
    /// For a file that is damaged anywhere.
    pub(crate) fn read(bytes: &Bytes, source: String) -> Result<Self> {
        // What the network gave may begin at any address; a buffer's memory begins at a multiple of 64.
        Self::check(
            Arc::new(AlignedBytes(Buffer::from_slice_ref(bytes))),
            source,
        )
    }

    fn check(bytes: SharedBytes, source: String) -> Result<Self> {
        let all = (*bytes).as_ref();
        let layout = Layout::read(all, &source)?;
        layout.check(all, &source)?;
        let header = &layout.header;
        let graph = layout.range(&header.graph);
        let graph =
            Hnsw::from_bytes(Arc::clone(&bytes), graph).map_err(|error| damaged(&source, error))?;
        let agrees = graph.len() as u64 == header.rows
            && graph.dimensions() == header.dimensions
            && graph.metric().name() == header.metric
            && graph.storage().name() == header.storage
            && header.rows.checked_add(header.null_rows) == Some(header.table_rows());
        if !agrees {
            return Err(damaged(&source, "its header tells of another graph"));
        }
        let positions = header.positions.as_ref();
        let positions = positions.map(|section| {
            let range = layout.range(section);
            all.get(range).unwrap_or_default()
        });
        let positions = Positions::read(positions, header.rows, header.table_rows())
            .ok_or_else(|| damaged(&source, "its row numbers make no sense"))?;
        let ends = header.sources.iter().scan(0, |end, file| {
            *end += file.rows;
            Some(*end)
        });
        Ok(Self {
            ends: ends.collect(),
            header: Arc::new(header.clone()),
            graph: Arc::new(graph),
            positions,
            bytes,
            layout,
            source,
        })
    }

    /// The values of the id column, one for each row of the index; `None` if it was built without one.
    ///
    /// # Errors
    /// For ids that are no column.
    pub fn ids(&self) -> Result<Option<ArrayRef>> {
        let Some(section) = &self.header.ids else {
            return Ok(None);
        };
        let range: Range<usize> = self.layout.range(section);
        let bytes = (*self.bytes).as_ref().get(range).unwrap_or_default();
        let unreadable = |detail: String| damaged(&self.source, format!("its ids: {detail}"));
        let mut reader =
            StreamReader::try_new(bytes, None).map_err(|error| unreadable(error.to_string()))?;
        let batch = reader
            .next()
            .ok_or_else(|| unreadable("there are none".to_owned()))?
            .map_err(|error| unreadable(error.to_string()))?;
        match batch.columns() {
            [ids] if ids.len() as u64 == self.header.rows => Ok(Some(Arc::clone(ids))),
            _ => Err(unreadable("they are of other rows".to_owned())),
        }
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        self.layout.length()
    }

    /// Where a row of the index is.
    ///
    /// # Errors
    /// Never for a row of the index.
    pub(crate) fn place(&self, row: u32) -> Result<Place> {
        let number = self.positions.table_row(row);
        let number = number
            .ok_or_else(|| exec_datafusion_err!("the index '{}' has no row {row}", self.source))?;
        self.place_of_table_row(number)
    }

    /// Where a row of the table is.
    ///
    /// # Errors
    /// Never for a row of the table.
    pub(crate) fn place_of_table_row(&self, row: u64) -> Result<Place> {
        let file = self.ends.partition_point(|end| *end <= row);
        let before = file.checked_sub(1).and_then(|before| self.ends.get(before));
        if file == self.ends.len() {
            return exec_err!("the index '{}' has no file with row {row}", self.source);
        }
        Ok((file, row - before.copied().unwrap_or(0)))
    }
}

struct AlignedBytes(Buffer);

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
