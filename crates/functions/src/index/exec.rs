//! The operator that finds the nearest rows in an index and fetches them from their Parquet files.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricType, MetricsSet,
    RecordOutput,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, Distribution, ExecutionPlan,
    InputDistributionRequirements, Partitioning, PlanProperties, ReplaceChildrenOptions,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::candidates::Candidates;
use super::fetch::fetch;
use super::scan::IndexScan;
use crate::memory::{Budget, batch_bytes, resources_exhausted};

const NAME: &str = "HnswScanExec";
/// What is done where there is no index.
pub(crate) const EXACTLY: &str = "the query is answered exactly, by comparing every row";
/// Rows of a small index that are fetched by place rather than all read.
const FEW: u64 = 512;
/// Of a larger one, one in so many: beyond that, nearly every page of the files would be read anyway.
const SHARE: u64 = 10;
/// How much more is fetched in the next round at most, and at least.
const GROWTH: (f64, f64) = (2.0, 8.0);

/// The most rows of an index of so many that are worth fetching one by one.
pub(crate) fn most_candidates(rows: u64) -> usize {
    (rows / SHARE).max(FEW.min(rows)) as usize
}

/// Gives the k rows of its input that are nearest to a vector, as far as an index tells, and perhaps some more, in
/// no order: a sort above it decides by exact distances.
///
/// Its input is the plan that reads every row. It runs only where the index cannot answer: when so few rows pass a
/// filter that most of the table would have to be fetched row by row, or when the index file turns out to be
/// damaged, which is logged as a warning.
#[derive(Debug)]
pub struct HnswScanExec {
    scan: Arc<IndexScan>,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl HnswScanExec {
    pub(crate) fn new(scan: Arc<IndexScan>, input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self {
            scan,
            input,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for HnswScanExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match format {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "{NAME}: {}", self.scan)
            }
            DisplayFormatType::TreeRender => writeln!(f, "{}", self.scan),
        }
    }
}

impl ExecutionPlan for HnswScanExec {
    fn name(&self) -> &'static str {
        NAME
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition])
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(input), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("{NAME} has one input");
        };
        Ok(Arc::new(Self::new(Arc::clone(&self.scan), input)))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(
            children,
            ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute),
        )
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("{NAME} has one partition, not {partition}");
        }
        let search = Search {
            scan: Arc::clone(&self.scan),
            input: Arc::clone(&self.input),
            metrics: Metrics::new(&self.metrics),
            context,
        };
        let baseline = search.metrics.baseline.clone();
        let batches = stream::once(search.run())
            .try_flatten()
            .map_ok(move |batch| batch.record_output(&baseline));
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.input.schema(),
            batches,
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

struct Metrics {
    baseline: BaselineMetrics,
    candidates: Count,
    rounds: Count,
    exact_scans: Count,
}

impl Metrics {
    fn new(metrics: &ExecutionPlanMetricsSet) -> Self {
        let count = |name: &'static str| {
            MetricBuilder::new(metrics)
                .with_type(MetricType::Summary)
                .counter(name, 0)
        };
        Self {
            baseline: BaselineMetrics::new(metrics, 0),
            candidates: count("candidates"),
            rounds: count("rounds"),
            exact_scans: count("exact_scans"),
        }
    }
}

/// One run of the operator.
struct Search {
    scan: Arc<IndexScan>,
    input: Arc<dyn ExecutionPlan>,
    metrics: Metrics,
    context: Arc<TaskContext>,
}

impl Search {
    async fn run(self) -> Result<SendableRecordBatchStream> {
        let scan = &self.scan;
        let env = self.context.runtime_env();
        let index = scan.catalog.open_chosen(&scan.found, &env, EXACTLY);
        let Some(index) = index.await else {
            return self.exact();
        };
        let query = &scan.query;
        let most = most_candidates(index.header.rows);
        let budget = Budget::new(self.context.memory_pool(), NAME);
        let mut candidates = Candidates::new(Arc::clone(&index), Arc::clone(scan));
        let mut wanted = if query.is_filtered {
            (4 * query.k).max(scan.ef_search)
        } else {
            query.k + self.margin()
        };
        wanted = wanted.min(most);
        let (mut batches, mut passed) = (Vec::<RecordBatch>::new(), 0_usize);
        loop {
            let rows = candidates.up_to(wanted).await?;
            self.metrics.rounds.add(1);
            self.metrics.candidates.add(rows.len());
            let fetched = fetch(scan, &index, rows, &self.context).await?;
            for batch in fetched {
                let bytes = batch_bytes(&batch);
                budget
                    .reserve("the rows that an index found", bytes)
                    .map_err(|error| resources_exhausted(NAME, &error))?;
                passed += batch.num_rows();
                batches.push(batch);
            }
            if !query.is_filtered || passed >= query.k || candidates.are_exhausted() {
                break;
            }
            let examined = candidates.examined() as f64;
            let (least, largest) = (GROWTH.0 * examined, GROWTH.1 * examined);
            // As many again as would do at the rate so far, and a quarter more.
            let needed = 1.25 * examined * query.k as f64 / passed.max(1) as f64;
            wanted = if passed == 0 {
                largest
            } else {
                needed.clamp(least, largest)
            } as usize;
            if wanted > most {
                drop(batches);
                return self.exact();
            }
        }
        let batches = batches.into_iter().map(Ok::<_, DataFusionError>);
        let held = stream::iter(batches).map(move |batch| {
            let _held = &budget;
            batch
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.input.schema(),
            held,
        )))
    }

    /// Rows beyond k that are fetched because the index knows vectors, or the query, only as rounded to `f32`: the
    /// sort above decides by the numbers themselves.
    fn margin(&self) -> usize {
        let k = self.scan.query.k;
        let exact = self.scan.found.header.exact_values && self.scan.query.is_exact;
        if exact { 0 } else { 4 + k / 8 }
    }

    /// Every row.
    fn exact(&self) -> Result<SendableRecordBatchStream> {
        self.metrics.exact_scans.add(1);
        self.input.execute(0, Arc::clone(&self.context))
    }
}
