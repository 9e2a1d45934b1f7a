//! A table that is computed from whole inputs: the plan, the operator, and the blocking work.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::datasource::{TableType, provider_as_source};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, Distribution, ExecutionPlan,
    ExecutionPlanProperties, InputDistributionRequirements, Partitioning, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::{StreamExt, TryStreamExt, stream};

/// What is computed.
#[async_trait]
pub(crate) trait Reduction: fmt::Debug + fmt::Display + Send + Sync {
    /// Of the result.
    fn schema(&self) -> SchemaRef;

    /// What plans show; `rows` of each input, where they are known or estimated.
    fn describe(&self, _rows: &[Option<usize>]) -> String {
        self.to_string()
    }

    /// Whether rows may reach it in any order. If not, an input's partitions come one after the other, each
    /// in its order.
    fn any_order(&self) -> bool {
        true
    }

    /// Rows of a batch of an input at most, where its operators keep to what is set: few let the first come soon.
    fn batch_rows(&self, _input: usize) -> usize {
        usize::MAX
    }

    /// The same by means of stored indexes, where any fit of what the inputs give.
    fn through_indexes(
        &self,
        _inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
    ) -> Result<Option<Arc<dyn Reduction>>> {
        Ok(None)
    }

    /// Reads the inputs, one stream each, and gives the result. Nothing of an input runs before it is read.
    async fn run(
        &self,
        inputs: Vec<SendableRecordBatchStream>,
        context: Arc<TaskContext>,
        metrics: ExecutionPlanMetricsSet,
    ) -> Result<SendableRecordBatchStream>;
}

/// A scan of the result of `reduction` over `inputs`.
pub(crate) fn scan(
    name: &str,
    reduction: Arc<dyn Reduction>,
    inputs: Vec<LogicalPlan>,
) -> Result<LogicalPlan> {
    let table = ReducedTable { reduction, inputs };
    LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(table)), None)?.build()
}

/// The plans that a function in FROM reads; none of any other table.
pub fn relation_inputs(table: &dyn TableProvider) -> &[LogicalPlan] {
    match table.downcast_ref::<ReducedTable>() {
        Some(table) => &table.inputs,
        None => &[],
    }
}

#[derive(Debug)]
struct ReducedTable {
    reduction: Arc<dyn Reduction>,
    inputs: Vec<LogicalPlan>,
}

#[async_trait]
impl TableProvider for ReducedTable {
    fn schema(&self) -> SchemaRef {
        self.reduction.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            inputs.push(state.create_physical_plan(input).await?);
        }
        let reduction = self.reduction.through_indexes(&inputs, state)?;
        let reduction = reduction.unwrap_or_else(|| Arc::clone(&self.reduction));
        let plan: Arc<dyn ExecutionPlan> = Arc::new(ReductionExec::new(reduction, inputs));
        let Some(projection) = projection else {
            return Ok(plan);
        };
        let schema = plan.schema();
        let columns = projection.iter().map(|&index| {
            let name = schema.field(index).name();
            let column = datafusion::physical_expr::expressions::Column::new(name, index);
            (Arc::new(column) as Arc<dyn PhysicalExpr>, name.clone())
        });
        Ok(Arc::new(ProjectionExec::try_new(
            columns.collect::<Vec<_>>(),
            plan,
        )?))
    }
}

/// The operator of a function in FROM that needs its whole input before it has a first row.
#[derive(Debug)]
pub(crate) struct ReductionExec {
    reduction: Arc<dyn Reduction>,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ReductionExec {
    fn new(reduction: Arc<dyn Reduction>, inputs: Vec<Arc<dyn ExecutionPlan>>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(reduction.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self {
            reduction,
            inputs,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for ReductionExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<Option<usize>> = self.inputs.iter().map(estimated_rows).collect();
        let description = self.reduction.describe(&rows);
        match format {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "ReductionExec: {description}")
            }
            DisplayFormatType::TreeRender => writeln!(f, "{description}"),
        }
    }
}

impl ExecutionPlan for ReductionExec {
    fn name(&self) -> &'static str {
        "ReductionExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        let distribution = if self.reduction.any_order() {
            Distribution::SinglePartition
        } else {
            Distribution::UnspecifiedDistribution
        };
        InputDistributionRequirements::new(vec![distribution; self.inputs.len()])
    }

    /// Where the order matters, a sort below must not be taken for a useless one.
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![!self.reduction.any_order(); self.inputs.len()]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.inputs.len()]
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(Arc::clone(&self.reduction), children)))
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
            return internal_err!("ReductionExec has one partition, not {partition}");
        }
        let inputs = self.inputs.iter().enumerate();
        let inputs = inputs
            .map(|(place, input)| {
                let context = with_batches_of(self.reduction.batch_rows(place), &context);
                all_partitions(input, &context)
            })
            .collect();
        let (reduction, metrics) = (Arc::clone(&self.reduction), self.metrics.clone());
        let batches = stream::once(async move { reduction.run(inputs, context, metrics).await })
            .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.reduction.schema(),
            batches,
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The same with batches of at most so many rows.
fn with_batches_of(rows: usize, context: &Arc<TaskContext>) -> Arc<TaskContext> {
    let config = context.session_config();
    if config.batch_size() <= rows {
        return Arc::clone(context);
    }
    Arc::new(TaskContext::new(
        context.task_id(),
        context.session_id(),
        config.clone().with_batch_size(rows),
        context.scalar_functions().clone(),
        context.higher_order_functions().clone(),
        context.aggregate_functions().clone(),
        context.window_functions().clone(),
        context.runtime_env(),
    ))
}

/// By the statistics of the files and tables that a plan reads.
fn estimated_rows(plan: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new());
    statistics.ok()?.num_rows.get_value().copied()
}

/// The partitions of a plan as one stream, one after the other, which begin when the first is asked for a row.
fn all_partitions(
    plan: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
) -> SendableRecordBatchStream {
    let (plan, context, schema) = (Arc::clone(plan), Arc::clone(context), plan.schema());
    let rows = stream::once(async move {
        let partitions = 0..plan.output_partitioning().partition_count();
        let partitions = partitions
            .map(|partition| plan.execute(partition, Arc::clone(&context)))
            .collect::<Result<Vec<_>>>()?;
        Ok::<_, DataFusionError>(stream::iter(partitions).flatten())
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows.try_flatten()))
}
