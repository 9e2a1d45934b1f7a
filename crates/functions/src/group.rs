//! The rows of one fit, held or sampled while they arrive.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_plan::SpillManager;

use crate::features::Site;
use crate::lle_exec::LleCall;
use crate::memory::{Budget, INPUT, batch_bytes, resources_exhausted};
use crate::rows::RowStore;
use crate::sampling::FeatureSample;

/// Makes the groups of one output partition.
#[derive(Clone)]
pub(crate) struct GroupMaker {
    pub(crate) calls: Arc<[LleCall]>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) spill: Arc<SpillManager>,
}

impl GroupMaker {
    /// An empty group of rows that come from `partitions` sides.
    pub(crate) fn group(&self, partitions: usize, label: Option<String>) -> Group {
        let stores = (0..partitions).map(|_| RowStore::new(Arc::clone(&self.spill)));
        Group {
            stores: stores.collect(),
            label,
            held: Arc::new(self.budget.sibling()),
            calls: Arc::clone(&self.calls),
            rows: 0,
            samples: None,
        }
    }
}

/// The rows of one fit.
///
/// As long as there are no more of them than every call's `sample_size`, they are held in memory. From
/// then on, or when memory runs out, the fits see a sample of them ([`FeatureSample`]), and further rows
/// wait on disk. A call that asks for an exact solution needs all rows at once and prevents that.
pub(crate) struct Group {
    pub(crate) stores: Vec<RowStore>,
    /// `key = value, …`, where there is a PARTITION BY.
    pub(crate) label: Option<String>,
    /// What rows in memory and samples take.
    pub(crate) held: Arc<Budget>,
    pub(crate) rows: usize,
    /// One a call, once there are more rows than can be held.
    pub(crate) samples: Option<Vec<FeatureSample>>,
    calls: Arc<[LleCall]>,
}

impl Group {
    /// Takes the next rows of one side.
    ///
    /// # Errors
    /// When neither memory nor disk takes them, or when their features are not usable.
    pub(crate) fn push(&mut self, side: usize, batch: RecordBatch) -> Result<()> {
        self.rows += batch.num_rows();
        if self.samples.is_some() {
            self.sample(&batch)?;
        } else if self.rows > self.most_held() {
            self.start_sampling(&batch)?;
        } else if let Err(refusal) = self.held.reserve(INPUT, batch_bytes(&batch)) {
            let refused = || resources_exhausted("lle_embed", &refusal);
            if self.most_held() == usize::MAX {
                return Err(refused());
            }
            // If there is no room for a sample either, it is the rows that the user must hear of.
            self.start_sampling(&batch).map_err(|error| match error {
                DataFusionError::ResourcesExhausted(_) => refused(),
                other => other,
            })?;
        } else {
            self.stores[side].hold(batch);
            return Ok(());
        }
        self.stores[side].spill(&batch)
    }

    /// Rows above which a sample of them is fitted.
    fn most_held(&self) -> usize {
        let limits = self.calls.iter().map(|call| call.lle.most_rows());
        limits.max().unwrap_or(usize::MAX)
    }

    /// Begins with the rows that are in memory and `batch`.
    fn start_sampling(&mut self, batch: &RecordBatch) -> Result<()> {
        let samples = self.calls.iter();
        let samples = samples.map(|call| FeatureSample::new(&call.lle, call.float));
        self.samples = Some(samples.collect());
        let held: Vec<RecordBatch> = self
            .stores
            .iter()
            .flat_map(|store| store.memory().to_vec())
            .collect();
        let batches = held.iter().chain([batch]);
        batches.into_iter().try_for_each(|batch| self.sample(batch))
    }

    fn sample(&mut self, batch: &RecordBatch) -> Result<()> {
        let samples = self.samples.iter_mut().flatten();
        for (call, sample) in self.calls.iter().zip(samples) {
            let lists = call
                .features
                .evaluate(batch)?
                .into_array(batch.num_rows())?;
            let site = Site {
                column: call.column(),
                partition: self.label.clone(),
                batches: vec![batch.clone()],
                streamed: true,
                ..Site::default()
            };
            sample.add(&lists, &site, &self.held)?;
        }
        Ok(())
    }
}
