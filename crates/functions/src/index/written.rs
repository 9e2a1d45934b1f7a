//! An index on its way into a file.

use std::io::Write;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::execution::SessionState;
use lakefold_manifold::Hnsw;
use object_store::{ObjectStoreExt, WriteMultipart};

use super::header::{IndexHeader, Section};
use super::layout::{self, SectionWriter};
use super::place::IndexPlace;
use super::positions::Positions;
use crate::fit_task::blocking;

/// An index in memory.
pub(crate) struct Built {
    pub(crate) header: IndexHeader,
    pub(crate) graph: Hnsw,
    /// Their numbers in the table.
    pub(crate) rows: Vec<u64>,
    /// See [`ipc`]; empty where there are none.
    pub(crate) ids: Vec<u8>,
}

impl Built {
    /// Notes in the header where the sections will be.
    pub(crate) fn measure(&mut self, has_ids: bool) -> std::io::Result<()> {
        let end = |section: &Section| section.offset + section.bytes;
        let graph = layout::measure(0, &self.graph_section())?;
        self.header.graph = graph;
        let mut from = end(&self.header.graph);
        if self.header.null_rows > 0 {
            let section = layout::measure(from, &self.positions_section())?;
            from = end(&section);
            self.header.positions = Some(section);
        }
        if has_ids {
            let section = layout::measure(from, &self.ids_section())?;
            self.header.ids = Some(section);
        }
        Ok(())
    }

    fn graph_section(&self) -> impl Fn(&mut dyn Write) -> std::io::Result<()> {
        |mut out| self.graph.write_to(&mut out).map(drop)
    }

    fn positions_section(&self) -> impl Fn(&mut dyn Write) -> std::io::Result<()> {
        |out| Positions::write(&self.rows, out)
    }

    fn ids_section(&self) -> impl Fn(&mut dyn Write) -> std::io::Result<()> {
        |out| out.write_all(&self.ids)
    }

    /// Writes the file, whose length it gives.
    pub(crate) fn write(&self, out: &mut dyn Write) -> std::io::Result<u64> {
        let (graph, positions, ids) = (
            self.graph_section(),
            self.positions_section(),
            self.ids_section(),
        );
        let mut sections: Vec<(_, SectionWriter<'_>)> = vec![(&self.header.graph, &graph)];
        if let Some(section) = &self.header.positions {
            sections.push((section, &positions));
        }
        if let Some(section) = &self.header.ids {
            sections.push((section, &ids));
        }
        layout::write(&self.header, &sections, out)
    }
}

/// One column as a stream of Arrow's format, so that ids keep their type.
pub(crate) fn ipc(name: &str, ids: &ArrayRef) -> Result<Vec<u8>> {
    let batch = RecordBatch::try_from_iter_with_nullable([(name, Arc::clone(ids), true)])?;
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema())?;
    writer.write(&batch)?;
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}

/// Puts an index into an object store, where it appears whole.
pub(crate) async fn upload(state: &SessionState, place: &IndexPlace, built: Built) -> Result<u64> {
    let store = state.runtime_env().object_store(&place.store)?;
    let bytes = blocking(move || {
        let mut bytes = Vec::new();
        let written = built.write(&mut bytes);
        written.map_err(|error| exec_datafusion_err!("the index cannot be written: {error}"))?;
        Ok(bytes)
    });
    let bytes = bytes.await?;
    let length = bytes.len() as u64;
    let failed = |error: object_store::Error| {
        exec_datafusion_err!("the index cannot be written to '{}': {error}", place.text())
    };
    let parts = store.put_multipart(&place.file).await.map_err(failed)?;
    let mut parts = WriteMultipart::new(parts);
    parts.put(bytes.into());
    parts.finish().await.map_err(failed)?;
    Ok(length)
}
