//! Approximate nearest neighbours: a hierarchical navigable small world graph (Malkov and Yashunin 2018).

mod audit;
mod beam;
mod build;
mod bytes;
mod code_sums;
mod codes;
mod cost;
mod create;
mod graph;
mod lanes;
mod near;
mod options;
mod part;
mod queries;
mod recall;
mod search;
mod select;
mod space;
mod storage;
mod stored;
mod vertices;
mod walk;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_codes;

use std::sync::Arc;

pub use audit::HnswAudit;
pub use cost::{NeighborChoice, NeighborCost, NeighborMethod};
pub use options::HnswOptions;
pub use recall::{Recall, RecallSample};
pub use storage::VectorStorage;
pub use stored::CodesRecall;
pub use walk::NearestFirst;

use crate::{ManifoldError, Metric, Result};
use codes::Codes;
use graph::Graph;
use lanes::Rows;
use part::Part;
use space::Space;
use vertices::Vertices;

/// Bytes that stay where they are as long as they are shared: a mapped file, or a vector.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Rows and the graph through which their nearest ones are found.
#[derive(Clone)]
pub struct Hnsw {
    options: HnswOptions,
    metric: Metric,
    dimensions: usize,
    vertices: Vertices,
    /// Of the vertices, padded.
    vectors: Part<f32>,
    /// See [`Space::factors`]; empty under [`Metric::L2`].
    factors: Part<f32>,
    /// See [`Space::scale`].
    scale: f64,
    graph: Graph,
    /// What walks compare with queries in the place of the vectors, if there are any.
    codes: Option<Codes>,
}

impl Hnsw {
    fn space(&self) -> Space<'_> {
        let rows = Rows {
            values: self.vectors.as_slice(),
            stride: padded(self.dimensions),
        };
        let factors = self.factors.as_slice();
        Space::new(self.metric, self.dimensions, rows, factors, self.scale)
    }

    /// Rows in the index (n).
    #[must_use]
    pub fn len(&self) -> usize {
        self.vertices.vertex_of_row.len()
    }

    /// Whether there is nothing to be found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Dimensions of the rows (D).
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// What is searched for.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// What the index was built with.
    #[must_use]
    pub fn options(&self) -> &HnswOptions {
        &self.options
    }

    /// As what the vectors are walked through: [`VectorStorage::F32`] or [`VectorStorage::Int8`].
    #[must_use]
    pub fn storage(&self) -> VectorStorage {
        match self.codes {
            None => VectorStorage::F32,
            Some(_) => VectorStorage::Int8,
        }
    }

    /// A row as it was given.
    ///
    /// # Panics
    /// Unless `row` is below [`Hnsw::len`].
    #[must_use]
    pub fn vector(&self, row: usize) -> &[f32] {
        let vertex = self.vertices.vertex_of_row.as_slice()[row];
        self.space().vector(vertex)
    }

    /// All rows, in the order in which their vectors lie in memory.
    pub(crate) fn stored_rows(&self) -> &[u32] {
        self.vertices.rows.as_slice()
    }
}

impl Hnsw {
    /// The same index of the same rows in another order: row `order[i]` becomes row i. It answers as if it had been
    /// built so; the vectors and the graph, which do not depend on the order, are shared where their bytes are. Memory
    /// of [`Hnsw::reordered_bytes`] is to be reserved by the caller.
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] unless `order` has each row once.
    pub fn reordered(&self, order: &[u32]) -> Result<Self> {
        let vertices = self.vertices.reordered(order);
        let vertices = vertices.ok_or_else(|| ManifoldError::InvalidParameter {
            name: "order",
            value: format!("{} numbers", order.len()),
            requirement: format!("each of the index's {} rows once", self.len()),
        })?;
        Ok(Self {
            vertices,
            ..self.clone()
        })
    }

    /// Bytes that [`Hnsw::reordered`] takes at most, of an index that was read.
    #[must_use]
    pub fn reordered_bytes(&self) -> usize {
        self.len() * vertices::BYTES_PER_REORDERED_ROW
    }
}

/// Vertices that [`beam::Seen`] can tell apart.
const LARGEST_COUNT: usize = i32::MAX as usize;

/// Numbers from one row to the next.
fn padded(dimensions: usize) -> usize {
    dimensions.next_multiple_of(lanes::LANES)
}

#[cfg(test)]
mod tests;
