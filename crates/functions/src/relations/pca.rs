//! `pca((SELECT …) or table, features, n_components => 2, …)`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{Result, plan_datafusion_err, plan_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, RecordOutput, SpillMetrics,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};
use lakefold_manifold::Pca;

use super::Signature;
use super::added_column::AddedColumn;
use super::call::{Call, Parameter};
use super::documentation::INPUT_ARGUMENTS;
use super::reduction::{Reduction, scan};
use crate::evaluator::off_the_async_threads;
use crate::fit_task::{CancelOnDrop, blocking};
use crate::float_lists::FloatType;
use crate::memory::Budget;
use crate::pca_fit::PcaFit;
use crate::rows::RowStore;

pub(crate) const NAME: &str = "pca";

pub(crate) const SIGNATURE: Signature = Signature {
    name: NAME,
    section: super::documentation::MANIFOLD_LEARNING,
    parameters: &[
        Parameter::table("input"),
        Parameter::column("features"),
        Parameter::value("n_components"),
        Parameter::value("output_column"),
    ],
    plan,
    description: "Principal components of a table, to compare with LLE: its columns and a column \
        `embedding` of `FixedSizeList<Float>`, the centred features along the axes of largest variance. \
        Columns come in order of variance, keep the features' unit and are not whitened; in each axis the \
        entry of largest magnitude is positive.\n\n\
        It streams: one pass over the rows finds the axes while the rows wait, the first 65,536 in memory if \
        there is room and the rest on disk, and a second pass projects them, in their order. A row whose \
        features are NULL gets NULL and takes no part in the fit. NaN, infinity, a NULL inside a list and \
        lists of different lengths are errors that name the row.\n\n\
        Up to 65,536 rows that fit in memory the same rows give the same bits in any order. Beyond that \
        their order changes the result by rounding; threads and batches never do.",
    arguments: &[
        INPUT_ARGUMENTS,
        &[
            (
                "n_components",
                "Dimensions of the result: at most the number of features and less than the number of \
                 rows. 2 when omitted.",
            ),
            (
                "output_column",
                "Name of the new column. `embedding` when omitted.",
            ),
        ],
    ],
    example: "What LLE adds to principal components:

```sql
SELECT 'pca' AS method, trustworthiness, continuity
FROM embedding_quality(
    (SELECT * FROM pca((SELECT * FROM 'sample_data/digits.parquet'), pixels, n_components => 2)),
    pixels, embedding)
UNION ALL
SELECT 'lle', trustworthiness, continuity
FROM embedding_quality(
    (SELECT * FROM lle((SELECT * FROM 'sample_data/digits.parquet'), pixels, n_components => 2)),
    pixels, embedding)
```",
};

/// The input's columns, and the scores.
fn plan(call: &Call) -> Result<LogicalPlan> {
    let (added, input) = AddedColumn::plan(call, NAME)?;
    let n_components = added.n_components;
    let pca = Pca::builder(n_components)
        .build()
        .map_err(|error| plan_datafusion_err!("{NAME}: {error}"))?;
    if let DataType::FixedSizeList(_, length) = added.data_type
        && n_components > length as usize
    {
        return plan_err!(
            "n_components of {NAME} must be at most the number of features, got {n_components} where \
             column {} has {length} dimensions: lower n_components",
            added.column
        );
    }
    let AddedColumn {
        float,
        column,
        place,
        schema,
        ..
    } = added;
    let reduction = PcaColumns {
        pca,
        float,
        column,
        place,
        schema,
    };
    scan(NAME, Arc::new(reduction), vec![input])
}

#[derive(Debug)]
struct PcaColumns {
    pca: Pca,
    float: FloatType,
    /// The features as written, and which column of the input they are.
    column: String,
    place: usize,
    schema: SchemaRef,
}

impl fmt::Display for PcaColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_components = self.pca.n_components();
        write!(f, "{NAME}({}, n_components={n_components})", self.column)
    }
}

#[async_trait]
impl Reduction for PcaColumns {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn any_order(&self) -> bool {
        false
    }

    async fn run(
        &self,
        inputs: Vec<SendableRecordBatchStream>,
        context: Arc<TaskContext>,
        metrics: ExecutionPlanMetricsSet,
    ) -> Result<SendableRecordBatchStream> {
        let baseline = BaselineMetrics::new(&metrics, 0);
        let cancelled = Arc::new(CancelOnDrop(Arc::new(AtomicBool::new(false))));
        let mut fit = PcaFit::new(
            self.pca.clone(),
            self.float,
            self.column.clone(),
            Budget::new(context.memory_pool(), NAME),
            &cancelled,
        );
        let mut rows: Option<RowStore> = None;
        // One after the other: the sums depend on the order of the rows, and of nothing else.
        for mut input in inputs {
            let store = rows.get_or_insert_with(|| {
                let spill = SpillMetrics::new(&metrics, 0);
                let manager = SpillManager::new(context.runtime_env(), spill, input.schema());
                RowStore::new(Arc::new(manager))
            });
            while let Some(batch) = input.next().await.transpose()? {
                let _timer = baseline.elapsed_compute().timer();
                let lists = batch.column(self.place);
                if off_the_async_threads(|| fit.add(&batch, lists))? {
                    store.hold(batch);
                } else {
                    store.spill(&batch)?;
                }
            }
        }
        let timer = baseline.elapsed_compute().timer();
        let projection = blocking(move || fit.finish()).await?;
        timer.done();
        let projection = Arc::new(projection);
        let (schema, place) = (self.schema(), self.place);
        let data_type = schema.field(schema.fields().len() - 1).data_type().clone();
        let output = rows.map_or_else(|| futures::stream::empty().boxed(), RowStore::into_stream);
        let result = Arc::clone(&schema);
        let output = output.and_then(move |batch| {
            let (projection, data_type) = (Arc::clone(&projection), data_type.clone());
            let (result, baseline) = (Arc::clone(&result), baseline.clone());
            // The work on other threads goes on for as long as somebody holds this.
            let _waiting = &cancelled;
            async move {
                let _timer = baseline.elapsed_compute().timer();
                let batch = blocking(move || {
                    let scores = projection.scores(&batch, batch.column(place), &data_type)?;
                    let mut columns = batch.columns().to_vec();
                    columns.truncate(result.fields().len() - 1);
                    columns.push(scores);
                    Ok(RecordBatch::try_new(result, columns)?)
                })
                .await?;
                Ok(batch.record_output(&baseline))
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, output)))
    }
}
