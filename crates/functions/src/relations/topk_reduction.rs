//! What `attention_topk` and `attention_topk_error` have in common: queries that come by, and keys that are searched.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};

use super::look_ahead::{BATCH_ROWS, LookAhead};
use super::parts::Running;
use super::reduction::Reduction;
use super::searched_rows::ReadRows;
use super::topk_plan::{TopK, described};
use crate::memory::Budget;

/// What is made of queries and their best keys.
#[async_trait]
pub(super) trait OfTopK: fmt::Debug + Clone + Send + Sync + 'static {
    /// The function's name in SQL.
    const NAME: &'static str;
    /// Whether queries may come in any order.
    const ANY_ORDER: bool;

    /// Of the result.
    fn schema(&self) -> SchemaRef;

    async fn run(&self, topk: &TopK, begun: Begun) -> Result<SendableRecordBatchStream>;
}

/// A call whose keys were read.
pub(super) struct Begun {
    pub(super) queries: LookAhead,
    /// `None` where there are none.
    pub(super) keys: Option<ReadRows>,
    pub(super) running: Running,
    pub(super) budget: Budget,
    pub(super) context: Arc<TaskContext>,
    pub(super) metrics: ExecutionPlanMetricsSet,
    pub(super) baseline: BaselineMetrics,
}

/// A function over the best keys of queries.
#[derive(Debug, Clone)]
pub(super) struct OverTopK<F> {
    pub(super) topk: TopK,
    pub(super) function: F,
}

impl<F: OfTopK> fmt::Display for OverTopK<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", F::NAME, self.topk)
    }
}

#[async_trait]
impl<F: OfTopK> Reduction for OverTopK<F> {
    fn describe(&self, rows: &[Option<usize>]) -> String {
        described(F::NAME, &self.topk, rows)
    }

    fn through_indexes(
        &self,
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
    ) -> Result<Option<Arc<dyn Reduction>>> {
        let topk = self.topk.through_index(inputs, session)?;
        Ok(topk.map(|topk| {
            Arc::new(Self {
                topk,
                function: self.function.clone(),
            }) as _
        }))
    }

    fn schema(&self) -> SchemaRef {
        self.function.schema()
    }

    fn batch_rows(&self, input: usize) -> usize {
        if input == 0 { BATCH_ROWS } else { usize::MAX }
    }

    fn any_order(&self) -> bool {
        F::ANY_ORDER
    }

    async fn run(
        &self,
        inputs: Vec<SendableRecordBatchStream>,
        context: Arc<TaskContext>,
        metrics: ExecutionPlanMetricsSet,
    ) -> Result<SendableRecordBatchStream> {
        let Ok([queries, keys]) = <[_; 2]>::try_from(inputs) else {
            return internal_err!("{} has two inputs", F::NAME);
        };
        let baseline = BaselineMetrics::new(&metrics, 0);
        let budget = Budget::new(context.memory_pool(), F::NAME);
        let mut queries = LookAhead::new(queries, budget.sibling());
        let read = self.topk.read(keys, &mut queries, &context, &baseline);
        let begun = Begun {
            keys: read.await?,
            queries,
            running: Running::new(&context, 0),
            budget,
            context,
            metrics,
            baseline,
        };
        self.function.run(&self.topk, begun).await
    }
}
