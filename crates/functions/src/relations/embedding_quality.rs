//! `embedding_quality((SELECT …) or table, features, embedding, k => 12, …)`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, stream};
use lakefold_manifold::{LabelAccuracy, Quality, QualityOptions};

use super::Signature;
use super::call::{Call, Parameter, written};
use super::quality_input::{Columns, QualityInput};
use super::reduction::{Reduction, scan};
use crate::evaluator::off_the_async_threads;
use crate::fit_task::{CancelOnDrop, FitControl, blocking};
use crate::float_lists::FloatType;
use crate::lle_embed::float_type;
use crate::memory::Budget;

pub(crate) const NAME: &str = "embedding_quality";
const FEATURES: &str = "features";
const EMBEDDING: &str = "embedding";
const LABEL: &str = "label";

pub(crate) const SIGNATURE: Signature = Signature {
    name: NAME,
    section: super::documentation::MANIFOLD_LEARNING,
    parameters: &[
        Parameter::table("input"),
        Parameter::column(FEATURES),
        Parameter::column(EMBEDDING),
        Parameter::value("k"),
        Parameter::optional_column(LABEL),
        Parameter::value("sample_size"),
        Parameter::value("seed"),
        Parameter::value("reg"),
    ],
    plan,
    description: "Measures how good an embedding is, whoever made it: one row.\n\n\
        - `rows`, `null_rows`, `measured_rows`: rows with features and embedding; rows without either, which \
        are left out; rows that were measured.\n\
        - `k`: neighbours of each row.\n\
        - `trustworthiness`: 1 if the k nearest rows in the embedding are all among the k nearest in the \
        features; each that is not costs as much as its rank there exceeds k (Venna and Kaski 2001; the same \
        as scikit-learn's).\n\
        - `continuity`: the same with roles swapped, what the embedding tore apart.\n\
        - `neighborhood_preservation`: mean share of the k nearest rows in the features that are among the k \
        nearest in the embedding.\n\
        - `lle_objective`: mean squared distance in the embedding between a row and its neighbours' weighted \
        sum, with the weights that reconstruct the features (Roweis and Saul 2000, equation 2); in the \
        square of the embedding's unit.\n\
        - `label_accuracy`, `label_train_rows`, `label_test_rows`: share of the test rows whose label wins \
        the vote of their 10 nearest training rows in the embedding, its columns standardised to mean 0 and \
        variance 1; NULL without `label`.\n\n\
        Up to `sample_size` rows everything is exact. Beyond it the measures are those of a sample, neighbours \
        sought within it: the distinct features with the smallest seeded hashes, which depends neither on the \
        order of the rows nor on threads or batches. The label vote has a larger sample of its own, up to \
        100,000 rows, because it needs no features. Of these, rows whose embedding's seeded hash is even \
        train, and of the others up to 5,000, those with the smallest hashes, test; rows whose label is NULL \
        are left out, and of labels with equally many votes the smallest wins.\n\n\
        Time grows with the square of `sample_size`; memory is that of the samples, at any number of rows.",
    arguments: &[
        &[
            (
                "input",
                "A query in parentheses, the name of a table, or a path in quotes.",
            ),
            (
                FEATURES,
                "A column of `input`, or an expression over its columns: the list of numbers that was \
                 embedded.",
            ),
            (EMBEDDING, "The same for the embedding: a list of numbers."),
            (
                "k",
                "Neighbours of each row, less than half of the measured rows. 12 when omitted.",
            ),
            (
                LABEL,
                "A column of labels, of any type that can be grouped by. Omitted, no accuracy is measured.",
            ),
            (
                "sample_size",
                "Rows that are measured at most. 5,000 when omitted.",
            ),
            ("seed", "Of the samples and the split. 0 when omitted."),
            (
                "reg",
                "Regularisation of the weights behind `lle_objective`. 0.001 when omitted.",
            ),
        ],
    ],
    example: "```sql
SELECT trustworthiness, continuity, label_accuracy
FROM embedding_quality(
    (SELECT pixels, label, lle_embed(pixels, 2) OVER () AS embedding FROM 'sample_data/digits.parquet'),
    pixels, embedding, k => 12, label => label)
```",
};

/// One row of measures.
fn plan(call: &Call) -> Result<LogicalPlan> {
    let defaults = QualityOptions::default();
    let whole = |name, default: usize| {
        let number = call.whole_number(name, 1)?;
        Ok::<usize, datafusion::common::DataFusionError>(number.map_or(default, |n| n as usize))
    };
    let options = QualityOptions {
        n_neighbors: whole("k", defaults.n_neighbors)?,
        sample: whole("sample_size", defaults.sample)?,
        seed: call.whole_number("seed", 0)?.unwrap_or(defaults.seed),
        reg: call.magnitude("reg")?.unwrap_or(defaults.reg),
    };
    let (features, embedding) = (call.column(FEATURES)?, call.column(EMBEDDING)?);
    let label = call.optional_column(LABEL);
    let columns = Columns {
        features: written(&features),
        embedding: written(&embedding),
        label: label.as_ref().map(written),
    };
    let label = label.map(|label| label.alias(LABEL));
    let expressions = [features.alias(FEATURES), embedding.alias(EMBEDDING)];
    let input = LogicalPlanBuilder::from(call.table("input")?)
        .project(expressions.into_iter().chain(label))?
        .build()?;
    let fields = input.schema().fields();
    float_type(fields[0].data_type(), NAME)?;
    if FloatType::of_list(fields[1].data_type()).is_none() {
        return plan_err!(
            "{EMBEDDING} of {NAME} must be a list of numbers, got {}: name the column that holds the \
             embedding",
            fields[1].data_type()
        );
    }
    let label = fields.get(2).map(|field| field.data_type().clone());
    if let Some(data_type) = &label
        && !RowConverter::supports_fields(&[SortField::new(data_type.clone())])
    {
        return plan_err!(
            "{LABEL} of {NAME} must have a type that can be grouped by, got {data_type}: cast it to text or \
             a number"
        );
    }
    let reduction = EmbeddingQuality {
        options,
        columns,
        label,
    };
    scan(NAME, Arc::new(reduction), vec![input])
}

#[derive(Debug)]
struct EmbeddingQuality {
    options: QualityOptions,
    columns: Columns,
    /// The label's type.
    label: Option<DataType>,
}

impl fmt::Display for EmbeddingQuality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (columns, options) = (&self.columns, &self.options);
        write!(
            f,
            "{NAME}({}, {}, k={}, sample_size={}, seed={}, reg={}",
            columns.features,
            columns.embedding,
            options.n_neighbors,
            options.sample,
            options.seed,
            options.reg
        )?;
        match &columns.label {
            Some(label) => write!(f, ", {LABEL}={label})"),
            None => f.write_str(")"),
        }
    }
}

#[async_trait]
impl Reduction for EmbeddingQuality {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    async fn run(
        &self,
        mut inputs: Vec<SendableRecordBatchStream>,
        context: Arc<TaskContext>,
        metrics: ExecutionPlanMetricsSet,
    ) -> Result<SendableRecordBatchStream> {
        let Some(mut stream) = inputs.pop() else {
            return internal_err!("{NAME} has one input");
        };
        let budget = Budget::new(context.memory_pool(), NAME);
        let mut input = QualityInput::new(
            self.columns.clone(),
            self.label.as_ref(),
            self.options.sample,
            self.options.seed,
        )?;
        while let Some(batch) = stream.next().await.transpose()? {
            off_the_async_threads(|| input.add(&batch, &budget))?;
        }
        drop(stream);
        let cancelled = CancelOnDrop(Arc::new(AtomicBool::new(false)));
        let control = FitControl::new(&context, &budget, &cancelled);
        let options = self.options.clone();
        let (rows, null_rows) = (input.rows, input.null_rows);
        let (quality, accuracy) = blocking(move || {
            let reporter = control.reporter.clone();
            if let Some(reporter) = &reporter {
                reporter.started(rows);
            }
            let measured = input.measure(&options, &control);
            if let Some(reporter) = reporter {
                reporter.ended();
            }
            measured
        })
        .await?;
        let count = |name: &'static str, count: usize| {
            let metric = MetricBuilder::new(&metrics).with_type(MetricType::Summary);
            metric.counter(name, 0).add(count);
        };
        count("rows", rows);
        count("measured_rows", quality.measured_rows);
        let row = row(rows, null_rows, &quality, accuracy.as_ref())?;
        let rows = stream::iter([Ok(row)]);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema(), rows)))
    }
}

fn schema() -> SchemaRef {
    let int = |name, nullable| Field::new(name, DataType::Int64, nullable);
    let float = |name, nullable| Field::new(name, DataType::Float64, nullable);
    Arc::new(Schema::new(vec![
        int("rows", false),
        int("null_rows", false),
        int("measured_rows", false),
        int("k", false),
        float("trustworthiness", false),
        float("continuity", false),
        float("neighborhood_preservation", false),
        float("lle_objective", false),
        float("label_accuracy", true),
        int("label_train_rows", true),
        int("label_test_rows", true),
    ]))
}

fn row(
    rows: usize,
    null_rows: usize,
    quality: &Quality,
    accuracy: Option<&LabelAccuracy>,
) -> Result<RecordBatch> {
    let int = |value: Option<usize>| {
        Arc::new(Int64Array::from(vec![value.map(|v| v as i64)])) as ArrayRef
    };
    let float = |value: Option<f64>| Arc::new(Float64Array::from(vec![value])) as ArrayRef;
    Ok(RecordBatch::try_new(
        schema(),
        vec![
            int(Some(rows)),
            int(Some(null_rows)),
            int(Some(quality.measured_rows)),
            int(Some(quality.n_neighbors)),
            float(Some(quality.trustworthiness)),
            float(Some(quality.continuity)),
            float(Some(quality.neighborhood_preservation)),
            float(Some(quality.lle_objective)),
            float(accuracy.map(|accuracy| accuracy.accuracy)),
            int(accuracy.map(|accuracy| accuracy.train_rows)),
            int(accuracy.map(|accuracy| accuracy.test_rows)),
        ],
    )?)
}
