//! How much memory chunks take, and how many are worked on at once.

use datafusion::common::plan_datafusion_err;
use datafusion::error::Result;

use super::chunks::Chunk;
use super::description::mebibytes;
use super::plan::{BATCH_ROWS, JobPlan};
use super::writer::BATCHES_AHEAD;

/// What the process needs beside its chunks: code, catalogs, models, thread stacks.
pub(crate) const BASE_MEMORY: usize = 96 << 20;
/// What a chunk needs whatever its size: buffers of the transform and of the writer.
const CHUNK_MEMORY: usize = 24 << 20;

impl JobPlan {
    /// Memory that a chunk takes at most, by estimate: the input's row group as stored, decoded
    /// batches, the output's row group.
    pub(crate) fn chunk_memory(&self, chunk: &Chunk) -> usize {
        let row = chunk.bytes.checked_div(chunk.rows).unwrap_or(0).max(64);
        let batches = (BATCHES_AHEAD + 4) * BATCH_ROWS.min(chunk.rows) * row * 3;
        let encoded = self.job.row_group_bytes.bytes();
        let encoded = (encoded + encoded / 2).min(chunk.bytes.saturating_mul(4));
        chunk.largest_row_group + batches + encoded + CHUNK_MEMORY
    }

    /// How many chunks are worked on at once.
    ///
    /// # Errors
    /// When the memory limit does not admit one.
    pub(crate) fn parallel(&self, chunks: &[Chunk]) -> Result<usize> {
        let most = self.threads.min(chunks.len()).max(1);
        let Some(largest) = chunks.iter().max_by_key(|chunk| self.chunk_memory(chunk)) else {
            return Ok(most);
        };
        let Some(limit) = self.memory_limit else {
            return Ok(most);
        };
        let each = self.chunk_memory(largest);
        let admitted = limit.saturating_sub(BASE_MEMORY) / each;
        if admitted == 0 {
            return Err(plan_datafusion_err!(
                "'{}' needs about {} for a chunk and {} for the program, the memory limit is {}: raise it \
                 to {} or more, lower --row-group-bytes, or write the input anew with smaller row groups \
                 (the largest is {})",
                self.file_of(largest).name,
                mebibytes(each),
                mebibytes(BASE_MEMORY),
                mebibytes(limit),
                mebibytes(each + BASE_MEMORY),
                mebibytes(largest.largest_row_group)
            ));
        }
        Ok(most.min(admitted))
    }
}
