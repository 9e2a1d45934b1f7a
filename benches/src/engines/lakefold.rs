//! Our own index.

use anyhow::{Result, ensure};
use lakefold_manifold::{Hnsw, HnswAudit, HnswOptions, Metric};
use ndarray::{Array2, ArrayView2};

use super::{Engine, EngineOptions};

/// `lakefold_manifold::Hnsw`
pub struct Lakefold {
    index: Hnsw,
    audit: HnswAudit,
}

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
        Ok(Self { index, audit })
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
        format!("{:?}", self.audit)
    }
}
