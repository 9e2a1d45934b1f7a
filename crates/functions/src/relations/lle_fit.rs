//! `lle_fit((SELECT …) or table, features, …, model => 'm.parquet')`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Float64Type, Schema, SchemaRef};
use datafusion::common::{Result, internal_err, plan_datafusion_err, plan_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, stream};
use lakefold_manifold::{Lle, QualityOptions};

use super::Signature;
use super::call::{Call, Parameter, written};
use super::documentation::{FIT_ARGUMENTS, INPUT_ARGUMENTS};
use super::lle::arguments;
use super::reduction::{Reduction, scan};
use crate::evaluator::off_the_async_threads;
use crate::features::Site;
use crate::fit_task::{CancelOnDrop, FitControl, blocking, fit_failed};
use crate::float_lists::FloatType;
use crate::lle_embed::float_type;
use crate::lle_metrics::LleMetrics;
use crate::lle_model::LleModel;
use crate::lle_parameters::{describe, parse_parameters};
use crate::memory::Budget;
use crate::model_file::encode;
use crate::model_store;
use crate::sampling::FeatureSample;

pub(crate) const NAME: &str = "lle_fit";
const FEATURES: &str = "features";
/// Rows on which a model's quality is measured.
const MEASURED_ROWS: usize = 2000;

pub(crate) const SIGNATURE: Signature = Signature {
    name: NAME,
    section: super::documentation::MANIFOLD_LEARNING,
    parameters: &[
        Parameter::table("input"),
        Parameter::column(FEATURES),
        Parameter::value("n_components"),
        Parameter::value("n_neighbors"),
        Parameter::value("reg"),
        Parameter::value("method"),
        Parameter::value("solver"),
        Parameter::value("seed"),
        Parameter::value("n_landmarks"),
        Parameter::value("landmark_neighbors"),
        Parameter::value("landmark_choice"),
        Parameter::value("sample_size"),
        Parameter::value("neighbors_algorithm"),
        Parameter::value("model"),
    ],
    plan,
    description: "Fits a Locally Linear Embedding, writes it as a model file, and returns one row of \
        diagnostics: what was fitted, the parameters and the solver, how neighbours were found and which share of \
        them (1 where exactly, else measured on a sample), closed components and bridges, \
        eigenvalues and residuals, quality on a sample of up to 2,000 of the fitted rows, and seconds by \
        phase. `lle_transform` places rows with the model.\n\nThe file is Parquet, one row a landmark, and \
        appears whole or not at all. The input is read once as a stream; at most `sample_size` rows of it \
        are held.",
    arguments: &[
        INPUT_ARGUMENTS,
        FIT_ARGUMENTS,
        &[("model", "The path or URL of the file to write.")],
    ],
    example: "```sql
SELECT rows, solver, landmarks, trustworthiness
FROM lle_fit((SELECT * FROM 'sample_data/digits.parquet'), pixels, n_components => 2, model => '/tmp/digits_2.parquet')
```",
};

/// One row of diagnostics.
pub(crate) fn plan(call: &Call) -> Result<LogicalPlan> {
    let Some(model) = call.text("model")? else {
        return plan_err!("{NAME} needs model: write model => 'm.parquet', the file to write");
    };
    let [n_components, n_neighbors, options] = arguments(call, NAME)?;
    let lle = parse_parameters(&n_components, &n_neighbors, &options, NAME)?;
    let features = call.column(FEATURES)?;
    let column = written(&features);
    let input = LogicalPlanBuilder::from(call.table("input")?)
        .project([features.alias(FEATURES)])?
        .build()?;
    let float = float_type(input.schema().field(0).data_type(), NAME)?;
    let reduction = LleFit {
        lle,
        float,
        column,
        model,
    };
    scan(NAME, Arc::new(reduction), vec![input])
}

#[derive(Debug)]
struct LleFit {
    lle: Lle,
    float: FloatType,
    column: String,
    /// Where the model goes.
    model: String,
}

impl fmt::Display for LleFit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{NAME}({}, {}, model='{}')",
            self.column,
            describe(&self.lle),
            self.model
        )
    }
}

#[async_trait]
impl Reduction for LleFit {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    async fn run(
        &self,
        mut inputs: Vec<SendableRecordBatchStream>,
        context: Arc<TaskContext>,
        metrics: ExecutionPlanMetricsSet,
    ) -> Result<SendableRecordBatchStream> {
        let Some(mut input) = inputs.pop() else {
            return internal_err!("{NAME} has one input");
        };
        let target = model_store::Location::parse(&self.model)?;
        let budget = Budget::new(context.memory_pool(), NAME);
        let metrics = LleMetrics::new(&metrics, 0);
        let mut sample = FeatureSample::new(&self.lle, self.float);
        let mut rows = 0;
        while let Some(batch) = input.next().await.transpose()? {
            rows += batch.num_rows();
            let site = Site {
                function: NAME,
                column: self.column.clone(),
                streamed: true,
                ..Site::default()
            };
            off_the_async_threads(|| sample.add(batch.column(0), &site, &budget))?;
        }
        let cancelled = CancelOnDrop(Arc::new(AtomicBool::new(false)));
        let control = FitControl::new(&context, &budget, &cancelled);
        let site = Site {
            function: NAME,
            column: self.column.clone(),
            ..Site::default()
        };
        let lle = self.lle.clone();
        let (model, payload, id) = blocking(move || {
            let measure = QualityOptions {
                sample: MEASURED_ROWS,
                seed: lle.seed(),
                ..QualityOptions::default()
            };
            let reporter = control.reporter.clone();
            if let Some(reporter) = &reporter {
                reporter.started(rows);
            }
            let model = sample
                .fit(&lle, Some(&measure), &control)
                .map_err(|error| fit_failed(&error, &site, rows))
                .and_then(|model| {
                    model.ok_or_else(|| {
                        plan_datafusion_err!(
                            "{site}: all {rows} rows are NULL, there is nothing to fit"
                        )
                    })
                });
            match (&model, &reporter) {
                (Ok(model), Some(reporter)) => reporter.finished(&model.diagnostics),
                (Err(_), Some(reporter)) => reporter.ended(),
                (_, None) => {}
            }
            let model = model?;
            let (payload, id) = encode(&model, &lle)?;
            Ok((model, payload, id))
        })
        .await?;
        metrics.record(&model.diagnostics);
        model_store::write(&target, payload, &context.runtime_env()).await?;
        let row = diagnostics(&model, &self.lle, rows, &self.model, &id)?;
        let rows = stream::iter([Ok(row)]);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema(), rows)))
    }
}

fn seconds_fields() -> Fields {
    Fields::from(vec![
        Field::new("phase", DataType::Utf8, false),
        Field::new("seconds", DataType::Float64, false),
    ])
}

fn schema() -> SchemaRef {
    let numbers = DataType::new_list(DataType::Float64, true);
    let seconds = Field::new_list_field(DataType::Struct(seconds_fields()), false);
    let int = |name| Field::new(name, DataType::Int64, false);
    let float = |name, nullable| Field::new(name, DataType::Float64, nullable);
    let text = |name| Field::new(name, DataType::Utf8, false);
    Arc::new(Schema::new(vec![
        text("model"),
        text("model_id"),
        int("rows"),
        int("distinct_rows"),
        int("dimensions"),
        int("n_components"),
        int("n_neighbors"),
        float("reg", false),
        text("method"),
        text("solver"),
        int("landmarks"),
        int("landmark_neighbors"),
        text("neighbors_algorithm"),
        float("neighbors_recall", false),
        int("closed_components"),
        int("bridged_edges"),
        Field::new("eigenvalues", numbers.clone(), false),
        Field::new("residuals", numbers, false),
        float("trustworthiness", true),
        float("continuity", true),
        float("neighborhood_preservation", true),
        Field::new("seconds", DataType::List(Arc::new(seconds)), false),
    ]))
}

fn diagnostics(
    model: &LleModel,
    lle: &Lle,
    rows: usize,
    path: &str,
    id: &str,
) -> Result<RecordBatch> {
    let found = &model.diagnostics;
    let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    let int = |value: usize| Arc::new(Int64Array::from(vec![value as i64])) as ArrayRef;
    let float = |value: Option<f64>| Arc::new(Float64Array::from(vec![value])) as ArrayRef;
    let list = |values: &[f64]| {
        let values = values.iter().copied().map(Some);
        Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>([Some(
            values,
        )])) as ArrayRef
    };
    let quality = model.quality;
    Ok(RecordBatch::try_new(
        schema(),
        vec![
            text(path),
            text(id),
            int(rows),
            int(found.distinct_rows),
            int(found.dimensions),
            int(model.typed.n_components()),
            int(found.parameters.n_neighbors()),
            float(Some(found.parameters.reg())),
            text(lle.method().name()),
            text(found.solver.name()),
            int(model.typed.embedding().nrows()),
            int(model.typed.landmark_neighbors()),
            text(found.neighbors.name()),
            float(Some(found.neighbors_recall.unwrap_or(1.0))),
            int(found.closed_components),
            int(found.bridged_edges),
            list(&found.eigenvalues),
            list(&found.residuals),
            float(quality.map(|quality| quality.trustworthiness)),
            float(quality.map(|quality| quality.continuity)),
            float(quality.map(|quality| quality.neighborhood_preservation)),
            seconds(model)?,
        ],
    )?)
}

fn seconds(model: &LleModel) -> Result<ArrayRef> {
    let phases = &model.diagnostics.seconds;
    let names: StringArray = phases.iter().map(|(phase, _)| Some(phase.name())).collect();
    let seconds: Float64Array = phases.iter().map(|(_, seconds)| Some(*seconds)).collect();
    let pairs = StructArray::try_new(
        seconds_fields(),
        vec![Arc::new(names), Arc::new(seconds)],
        None,
    )?;
    let field = Field::new_list_field(DataType::Struct(seconds_fields()), false);
    Ok(Arc::new(ListArray::try_new(
        Arc::new(field),
        OffsetBuffer::from_lengths([phases.len()]),
        Arc::new(pairs),
        None,
    )?))
}
