//! Our own index.

use anyhow::{Result, ensure};
use lakefold_manifold::{CodesRecall, Hnsw, HnswAudit, HnswOptions, Metric, VectorStorage};
use ndarray::{Array2, ArrayView2};

use super::{Engine, EngineOptions};

/// `lakefold_manifold::Hnsw`
pub struct Lakefold {
    index: Hnsw,
    audit: HnswAudit,
    codes: Option<CodesRecall>,
}

/// Rows that codes are judged by, and neighbours of each: as many as of a stored index.
const SAMPLE: (usize, usize) = (1000, 10);

impl Lakefold {
    /// # Errors
    /// Those of [`Hnsw::build`].
    pub fn build(
        rows: ArrayView2<'_, f32>,
        metric: Metric,
        options: &EngineOptions,
    ) -> Result<Self> {
        let options = HnswOptions {
            m: options.m,
            ef_construction: options.ef_construction,
            seed: options.seed,
        };
        let (index, audit) = Hnsw::build(rows, metric, &options, &())?;
        Ok(Self {
            index,
            audit,
            codes: None,
        })
    }

    /// Keeps the vectors otherwise.
    ///
    /// # Errors
    /// Those of [`Hnsw::stored`].
    pub fn stored(self, storage: VectorStorage) -> Result<Self> {
        let (queries, k) = SAMPLE;
        let sample = self.index.recall_sample(queries, k, 0, &())?;
        let (index, codes) = self.index.stored(storage, &sample, &())?;
        Ok(Self {
            index,
            codes,
            ..self
        })
    }
}

impl Engine for Lakefold {
    fn search(&self, queries: ArrayView2<'_, f32>, k: usize, ef: usize) -> Result<Array2<i64>> {
        let found = self.index.search(queries, k, ef, &())?.ids;
        ensure!(
            found.ncols() == k,
            "k is {k}, but there are {} rows",
            found.ncols()
        );
        Ok(found.mapv(i64::from))
    }

    fn unreachable(&self) -> usize {
        self.index.unreachable()
    }

    fn account(&self) -> String {
        let codes = match self.codes {
            Some(CodesRecall { ef, f32, int8 }) => {
                format!(", recall at {ef} by f32 {f32:.4}, by int8 {int8:.4}")
            }
            None => String::new(),
        };
        format!("storage {}{codes}, {:?}", self.index.storage(), self.audit)
    }
}
