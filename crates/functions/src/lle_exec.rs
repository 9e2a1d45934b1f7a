//! The physical operator that computes `lle_embed`.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef, SchemaBuilder, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, Result, Statistics, internal_err, plan_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::equivalence::EquivalenceProperties;
use datafusion::physical_expr::{
    LexRequirement, OrderingRequirements, PhysicalExpr, PhysicalSortRequirement,
};
use datafusion::physical_expr_common::physical_expr::fmt_sql;
use datafusion::physical_plan::execution_plan::{CardinalityEffect, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::{
    ChildStats, ChildrenPropertiesMode, DisplayAs, DisplayFormatType, Distribution, ExecutionPlan,
    ExecutionPlanProperties, InputDistributionRequirements, Partitioning, PlanProperties,
    ReplaceChildrenOptions, StatisticsArgs, apply_expression_roots,
};
use lakefold_manifold::Lle;

use crate::argument_names::argument_name;
use crate::float_lists::FloatType;
use crate::lle_embed::{NAME, resolve};
use crate::lle_metrics::LleMetrics;
use crate::lle_parameters::describe;
use crate::lle_stream::embedding_stream;

/// One planned call of `lle_embed`.
#[derive(Debug, Clone)]
pub struct LleCall {
    pub(crate) features: Arc<dyn PhysicalExpr>,
    pub(crate) lle: Lle,
    pub(crate) float: FloatType,
    /// The features argument as written.
    column: String,
    field: FieldRef,
}

impl LleCall {
    /// `arguments` are those of the call in SQL, `field` is the column that it adds.
    ///
    /// # Errors
    /// When the arguments are not what `lle_embed` accepts.
    pub fn try_new(
        arguments: &[Arc<dyn PhysicalExpr>],
        field: FieldRef,
        input: &SchemaRef,
    ) -> Result<Self> {
        let Some(features) = arguments.first() else {
            return plan_err!("lle_embed needs features and n_components");
        };
        let column = argument_name(arguments, 0, field.name(), "features");
        let (lle, float) = resolve(arguments, Some(&features.data_type(input)?), &column)?;
        Ok(Self {
            features: Arc::clone(features),
            lle,
            float,
            column,
            field,
        })
    }

    /// Of the column that it adds.
    pub(crate) fn data_type(&self) -> &DataType {
        self.field.data_type()
    }

    /// The features argument as written.
    pub(crate) fn column(&self) -> String {
        self.column.clone()
    }

    /// As `DataFusion` names the call.
    pub(crate) fn name(&self) -> &str {
        self.field.name()
    }
}

impl fmt::Display for LleCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAME}({}, {})", self.column(), describe(&self.lle))
    }
}

/// Computes `lle_embed` with one fit for each PARTITION BY group: the columns of the input, then one
/// `List<Float>` for each call.
///
/// It takes the place of `DataFusion`'s `WindowAggExec`, which would run the fit on an async thread,
/// reserve no memory, copy every column and return one giant batch. This one passes the input's batches
/// through as they came, reserves what it holds and what the fit needs from the session's memory pool,
/// runs the fit on a blocking thread and stops it when its stream is dropped.
///
/// Without PARTITION BY it reads all input partitions at once and returns them in partition order as
/// one. With it, it needs the input partitioned and sorted by the keys and holds one group at a time.
#[derive(Debug, Clone)]
pub struct LleExec {
    calls: Arc<[LleCall]>,
    partition_by: Vec<Arc<dyn PhysicalExpr>>,
    /// Whether groups may be spread over several input partitions.
    can_repartition: bool,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl LleExec {
    /// Calls that share one PARTITION BY, over `input`.
    ///
    /// # Errors
    /// When the columns of `input` and `calls` make no schema.
    pub fn try_new(
        calls: impl Into<Arc<[LleCall]>>,
        partition_by: Vec<Arc<dyn PhysicalExpr>>,
        can_repartition: bool,
        input: Arc<dyn ExecutionPlan>,
    ) -> Result<Self> {
        let calls = calls.into();
        let properties = Arc::new(plan_properties(&calls, &partition_by, &input)?);
        Ok(Self {
            calls,
            partition_by,
            can_repartition,
            input,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// The calls, in the order of the columns that they add.
    pub fn calls(&self) -> &[LleCall] {
        &self.calls
    }

    /// The PARTITION BY keys.
    pub fn partition_by(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.partition_by
    }

    /// The plan that is embedded.
    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }
}

fn plan_properties(
    calls: &[LleCall],
    partition_by: &[Arc<dyn PhysicalExpr>],
    input: &Arc<dyn ExecutionPlan>,
) -> Result<PlanProperties> {
    let mut schema = SchemaBuilder::from(input.schema().fields());
    for call in calls {
        schema.push(Arc::clone(&call.field));
    }
    let schema = schema
        .finish()
        .with_metadata(input.schema().metadata().clone());
    let mut equivalences = EquivalenceProperties::new(Arc::new(schema))
        .extend(input.equivalence_properties().clone())?;
    let (partitioning, emission) = if partition_by.is_empty() {
        if input.output_partitioning().partition_count() > 1 {
            equivalences.clear_orderings();
            equivalences.clear_per_partition_constants();
        }
        (Partitioning::UnknownPartitioning(1), EmissionType::Final)
    } else {
        (
            input.output_partitioning().clone(),
            EmissionType::Incremental,
        )
    };
    Ok(PlanProperties::new(
        equivalences,
        partitioning,
        emission,
        input.boundedness(),
    ))
}

impl DisplayAs for LleExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls: Vec<String> = self.calls.iter().map(ToString::to_string).collect();
        let keys: Vec<String> = self
            .partition_by
            .iter()
            .map(|key| fmt_sql(key.as_ref()).to_string())
            .collect();
        match format {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(
                    f,
                    "LleExec: {}, partition_by=[{}]",
                    calls.join(", "),
                    keys.join(", ")
                )
            }
            DisplayFormatType::TreeRender => {
                for call in calls {
                    writeln!(f, "call={call}")?;
                }
                if !keys.is_empty() {
                    writeln!(f, "partition_by={}", keys.join(", "))?;
                }
                Ok(())
            }
        }
    }
}

impl ExecutionPlan for LleExec {
    fn name(&self) -> &'static str {
        "LleExec"
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
        let features = self.calls.iter().map(|call| &call.features);
        apply_expression_roots(features.chain(&self.partition_by), f)
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![if self.partition_by.is_empty() {
            Distribution::UnspecifiedDistribution
        } else if self.can_repartition {
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
        vec![LexRequirement::new(keys).map(OrderingRequirements::new)]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        // True of any single input, but said of an unsorted one it would invite the optimizer to push a
        // later ORDER BY below, where it would have to sort the features as well.
        let sorted = self.input.output_ordering().is_some()
            && self.input.output_partitioning().partition_count() == 1;
        vec![sorted || !self.partition_by.is_empty()]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        // A round-robin repartition would only shuffle the rows that are about to be gathered.
        vec![!self.partition_by.is_empty() && self.can_repartition]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(input), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("LleExec has one child");
        };
        let properties = match options.children_properties {
            ChildrenPropertiesMode::Keep => Arc::clone(&self.properties),
            ChildrenPropertiesMode::Recompute => {
                Arc::new(plan_properties(&self.calls, &self.partition_by, &input)?)
            }
        };
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Arc::new(Self {
            input,
            properties,
            metrics,
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
        let metrics = LleMetrics::new(&self.metrics, partition);
        embedding_stream(self, partition, &context, metrics)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(if self.partition_by.is_empty() {
            None
        } else {
            partition
        })]
    }

    fn statistics_from_inputs(
        &self,
        input_stats: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let [input] = input_stats else {
            return internal_err!("LleExec has one child");
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
