//! The physical operator that computes `self_attention`.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{FieldRef, SchemaBuilder, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, Result, Statistics, internal_err, plan_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::WindowFrame;
use datafusion::physical_expr::equivalence::EquivalenceProperties;
use datafusion::physical_expr::{
    LexRequirement, OrderingRequirements, PhysicalExpr, PhysicalSortExpr, PhysicalSortRequirement,
};
use datafusion::physical_expr_common::physical_expr::fmt_sql;
use datafusion::physical_plan::execution_plan::{CardinalityEffect, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::{
    ChildStats, ChildrenPropertiesMode, DisplayAs, DisplayFormatType, Distribution, ExecutionPlan,
    ExecutionPlanProperties, InputDistributionRequirements, PlanProperties, ReplaceChildrenOptions,
    StatisticsArgs, apply_expression_roots,
};

use super::blocks::Request;
use super::self_attention::{NAME, request};
use super::stream::attention_stream;

/// One planned call of `self_attention`.
#[derive(Debug, Clone)]
pub struct AttentionCall {
    /// Query, key and value.
    pub(crate) arguments: [Arc<dyn PhysicalExpr>; 3],
    pub(crate) request: Request,
    pub(crate) frame: Arc<WindowFrame>,
    field: FieldRef,
}

impl AttentionCall {
    /// `arguments` are those of the call in SQL, `field` is the column that it adds.
    ///
    /// # Errors
    /// When the arguments are not what `self_attention` accepts.
    pub fn try_new(
        arguments: &[Arc<dyn PhysicalExpr>],
        field: FieldRef,
        frame: Arc<WindowFrame>,
    ) -> Result<Self> {
        let [query, key, value, ..] = arguments else {
            return plan_err!("{NAME} needs query, key and value");
        };
        Ok(Self {
            request: request(arguments, field.data_type(), field.name())?,
            arguments: [query, key, value].map(Arc::clone),
            frame,
            field,
        })
    }
}

impl fmt::Display for AttentionCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request {
            columns, scoring, ..
        } = &self.request;
        let frame = &self.frame;
        let whole = frame.start_bound.is_unbounded() && frame.end_bound.is_unbounded();
        write!(
            f,
            "{NAME}({}, {}, {}, {scoring}) over ",
            columns.query, columns.key, columns.value
        )?;
        if whole {
            write!(f, "whole partitions")
        } else {
            let (start, end) = (&frame.start_bound, &frame.end_bound);
            write!(f, "{} BETWEEN {start} AND {end}", frame.units)
        }
    }
}

/// Computes `self_attention` a partition of the window at a time: the columns of the input, then one list for
/// each call.
///
/// It takes the place of `DataFusion`'s `WindowAggExec`, which would ask for one row after the other on an
/// async thread. This one gathers whole partitions, many small ones or one large one at a time, takes their
/// memory from the session's pool, computes all their frames in blocks on a blocking thread, and stops when
/// its stream is dropped.
#[derive(Debug, Clone)]
pub struct SelfAttentionExec {
    pub(crate) calls: Arc<[AttentionCall]>,
    pub(crate) partition_by: Vec<Arc<dyn PhysicalExpr>>,
    pub(crate) order_by: Vec<PhysicalSortExpr>,
    /// Whether partitions may be spread over several input partitions.
    can_repartition: bool,
    input: Arc<dyn ExecutionPlan>,
    /// The input's, as they leave: see [`crate::fixed_lists`].
    columns: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SelfAttentionExec {
    /// Calls that share PARTITION BY and ORDER BY, over `input`.
    ///
    /// # Errors
    /// When the columns of `input` and `calls` make no schema.
    pub fn try_new(
        calls: impl Into<Arc<[AttentionCall]>>,
        partition_by: Vec<Arc<dyn PhysicalExpr>>,
        order_by: Vec<PhysicalSortExpr>,
        can_repartition: bool,
        input: Arc<dyn ExecutionPlan>,
    ) -> Result<Self> {
        let (calls, columns) = (calls.into(), input.schema());
        let properties = Arc::new(plan_properties(&calls, &columns, &input)?);
        Ok(Self {
            calls,
            partition_by,
            order_by,
            can_repartition,
            input,
            columns,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// Its input's columns leave with these types.
    pub(crate) fn with_columns(self, columns: &SchemaRef) -> Result<Self> {
        Ok(Self {
            columns: Arc::clone(columns),
            properties: Arc::new(plan_properties(&self.calls, columns, &self.input)?),
            ..self
        })
    }
}

fn plan_properties(
    calls: &[AttentionCall],
    columns: &SchemaRef,
    input: &Arc<dyn ExecutionPlan>,
) -> Result<PlanProperties> {
    let mut schema = SchemaBuilder::from(columns.fields());
    for call in calls {
        schema.push(Arc::clone(&call.field));
    }
    let schema = schema.finish().with_metadata(columns.metadata().clone());
    let equivalences = EquivalenceProperties::new(Arc::new(schema))
        .extend(input.equivalence_properties().clone())?;
    Ok(PlanProperties::new(
        equivalences,
        input.output_partitioning().clone(),
        EmissionType::Incremental,
        input.boundedness(),
    ))
}

impl DisplayAs for SelfAttentionExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls: Vec<String> = self.calls.iter().map(ToString::to_string).collect();
        let keys = self.partition_by.iter();
        let keys: Vec<String> = keys.map(|key| fmt_sql(key.as_ref()).to_string()).collect();
        let order: Vec<String> = self.order_by.iter().map(ToString::to_string).collect();
        match format {
            DisplayFormatType::Default | DisplayFormatType::Verbose => write!(
                f,
                "SelfAttentionExec: {}, partition_by=[{}], order_by=[{}]",
                calls.join(", "),
                keys.join(", "),
                order.join(", ")
            ),
            DisplayFormatType::TreeRender => {
                for call in calls {
                    writeln!(f, "call={call}")?;
                }
                for (name, columns) in [("partition_by", keys), ("order_by", order)] {
                    if !columns.is_empty() {
                        writeln!(f, "{name}={}", columns.join(", "))?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl ExecutionPlan for SelfAttentionExec {
    fn name(&self) -> &'static str {
        "SelfAttentionExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let arguments = self.calls.iter().flat_map(|call| &call.arguments);
        let order = self.order_by.iter().map(|order| &order.expr);
        apply_expression_roots(arguments.chain(&self.partition_by).chain(order), f)
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        let spread = self.can_repartition && !self.partition_by.is_empty();
        InputDistributionRequirements::new(vec![if spread {
            Distribution::KeyPartitioned(self.partition_by.clone())
        } else {
            Distribution::SinglePartition
        }])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let keys = self
            .partition_by
            .iter()
            .map(|key| PhysicalSortRequirement::new(Arc::clone(key), None));
        let order = self.order_by.iter().cloned();
        let order = order.map(PhysicalSortRequirement::from);
        vec![LexRequirement::new(keys.chain(order)).map(OrderingRequirements::new)]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    /// One input partition stays one: hashing its rows to several copies them all on one thread and saves nothing,
    /// because a partition's attention is computed by all threads and overlaps with reading the next.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(input), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("SelfAttentionExec has one child");
        };
        let properties = match options.children_properties {
            ChildrenPropertiesMode::Keep => Arc::clone(&self.properties),
            ChildrenPropertiesMode::Recompute => {
                Arc::new(plan_properties(&self.calls, &self.columns, &input)?)
            }
        };
        Ok(Arc::new(Self {
            input,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
            ..Self::clone(&self)
        }))
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
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        Ok(attention_stream(self, input, &context, metrics))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(
        &self,
        input_stats: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let [input] = input_stats else {
            return internal_err!("SelfAttentionExec has one child");
        };
        let mut statistics = input.as_ref().clone();
        statistics
            .column_statistics
            .extend(self.calls.iter().map(|_| ColumnStatistics::new_unknown()));
        statistics.total_byte_size = Precision::Absent;
        Ok(Arc::new(statistics))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}
