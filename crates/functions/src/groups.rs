//! From an input sorted by the PARTITION BY keys to one group of rows at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::partition;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;
use futures::future::try_join_all;

use crate::argument_names::partition_key_name;
use crate::features::shown;
use crate::group::{Group, GroupMaker};

/// Reads every input partition at once; the group keeps them in partition order, which keeps the row
/// order of a scan.
pub(crate) async fn collect_whole(
    input: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    maker: GroupMaker,
) -> Result<Group> {
    let partitions = input.output_partitioning().partition_count();
    let group = Arc::new(Mutex::new(maker.group(partitions, None)));
    let tasks = (0..partitions)
        .map(|index| {
            let mut stream = input.execute(index, Arc::clone(&context))?;
            let group = Arc::clone(&group);
            Ok(SpawnedTask::spawn(async move {
                while let Some(batch) = stream.next().await.transpose()? {
                    lock(&group).push(index, batch)?;
                }
                Ok::<_, DataFusionError>(())
            }))
        })
        .collect::<Result<Vec<_>>>()?;
    let join = |task: SpawnedTask<Result<()>>| async move {
        task.join_unwind()
            .await
            .map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?
    };
    try_join_all(tasks.into_iter().map(join)).await?;
    let empty = maker.group(0, None);
    Ok(std::mem::replace(&mut *lock(&group), empty))
}

fn lock(group: &Mutex<Group>) -> MutexGuard<'_, Group> {
    group.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Cuts a sorted stream into groups of equal keys.
pub(crate) struct Groups {
    input: SendableRecordBatchStream,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    maker: GroupMaker,
    /// Runs of equal keys of the batch last read.
    pending: VecDeque<(Vec<ScalarValue>, RecordBatch)>,
    current: Option<(Vec<ScalarValue>, Group)>,
}

impl Groups {
    pub(crate) fn new(
        input: SendableRecordBatchStream,
        keys: Vec<Arc<dyn PhysicalExpr>>,
        maker: GroupMaker,
    ) -> Self {
        Self {
            input,
            keys,
            maker,
            pending: VecDeque::new(),
            current: None,
        }
    }

    /// The next group, complete.
    pub(crate) async fn next(&mut self) -> Result<Option<Group>> {
        loop {
            if let Some((keys, batch)) = self.pending.pop_front() {
                if let Some((current, group)) = &mut self.current
                    && *current == keys
                {
                    group.push(0, batch)?;
                } else {
                    let finished = self.current.take();
                    let mut group = self.maker.group(1, Some(self.label(&keys)));
                    group.push(0, batch)?;
                    self.current = Some((keys, group));
                    if let Some((_, group)) = finished {
                        return Ok(Some(group));
                    }
                }
            } else if let Some(batch) = self.input.next().await.transpose()? {
                self.pending = self.runs(&batch)?;
            } else {
                return Ok(self.current.take().map(|(_, group)| group));
            }
        }
    }

    fn runs(&self, batch: &RecordBatch) -> Result<VecDeque<(Vec<ScalarValue>, RecordBatch)>> {
        let rows = batch.num_rows();
        let keys = self
            .keys
            .iter()
            .map(|key| key.evaluate(batch)?.into_array(rows))
            .collect::<Result<Vec<_>>>()?;
        partition(&keys)?
            .ranges()
            .into_iter()
            .map(|run| {
                let values = keys
                    .iter()
                    .map(|key| ScalarValue::try_from_array(key, run.start))
                    .collect::<Result<Vec<_>>>()?;
                Ok((values, batch.slice(run.start, run.len())))
            })
            .collect()
    }

    fn label(&self, values: &[ScalarValue]) -> String {
        let call = self.maker.calls.first().map_or("", |call| call.name());
        let pairs = values.iter().enumerate().map(|(place, value)| {
            let key = partition_key_name(&self.keys, place, call);
            format!("{key} = {}", shown(value))
        });
        pairs.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Budget;
    use datafusion::arrow::array::{ArrayRef, AsArray, Int32Array, StringArray};
    use datafusion::arrow::datatypes::Int32Type;
    use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};
    use datafusion::physical_plan::SpillManager;
    use datafusion::physical_plan::expressions::col;
    use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

    fn batch(keys: &[Option<&str>], first: i32) -> RecordBatch {
        let values = Int32Array::from_iter_values(first..first + keys.len() as i32);
        let keys: ArrayRef = Arc::new(StringArray::from(keys.to_vec()));
        RecordBatch::try_from_iter([("key", keys), ("value", Arc::new(values) as _)]).unwrap()
    }

    #[tokio::test]
    async fn groups_cross_batches_and_are_held_one_at_a_time() {
        let batches = [
            batch(&[None, Some("a")], 0),
            batch(&[Some("a")], 2),
            batch(&[], 3),
            batch(&[Some("a"), Some("b"), Some("c")], 3),
        ];
        let schema = batches[0].schema();
        let keys = vec![col("key", &schema).unwrap()];
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let input = futures::stream::iter(batches.map(Ok));
        let input = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), input));
        let maker = GroupMaker {
            calls: Arc::new([]),
            budget: Arc::new(Budget::new(&pool, "lle_embed")),
            spill: Arc::new(SpillManager::new(
                Arc::default(),
                SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0),
                Arc::clone(&schema),
            )),
        };
        let mut groups = Groups::new(input, keys, maker);
        let mut seen = vec![];
        while let Some(group) = groups.next().await.unwrap() {
            assert!(pool.reserved() > 0);
            let values: Vec<i32> = group.stores[0]
                .memory()
                .iter()
                .flat_map(|batch| {
                    batch
                        .column(1)
                        .as_primitive::<Int32Type>()
                        .values()
                        .to_vec()
                })
                .collect();
            seen.push((group.label.unwrap(), values));
        }
        let expected = [
            ("key = NULL", vec![0]),
            ("key = 'a'", vec![1, 2, 3]),
            ("key = 'b'", vec![4]),
            ("key = 'c'", vec![5]),
        ];
        assert_eq!(
            seen,
            expected.map(|(label, values)| (label.to_owned(), values))
        );
        drop(groups);
        assert_eq!(pool.reserved(), 0);
    }
}
