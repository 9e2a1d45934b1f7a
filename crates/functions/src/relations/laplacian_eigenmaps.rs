//! `laplacian_eigenmaps((SELECT …) or table, features, n_components => 2, n_neighbors => 12, …)`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, internal_err, plan_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricType, RecordOutput,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, stream};
use lakefold_manifold::{LaplacianEigenmaps, LaplacianFit, Solver};
use ndarray::s;

use super::Signature;
use super::added_column::AddedColumn;
use super::call::{Call, Parameter};
use super::documentation::INPUT_ARGUMENTS;
use super::reduction::{Reduction, scan};
use crate::embeddings::embedding_array;
use crate::features::{Features, Matrix, Site, measure};
use crate::fit::{copy_features, data_error};
use crate::fit_task::{CancelOnDrop, FitControl, blocking};
use crate::float_lists::FloatType;
use crate::memory::{Budget, INPUT, batch_bytes, resources_exhausted};

const NAME: &str = "laplacian_eigenmaps";

pub(crate) const SIGNATURE: Signature = Signature {
    name: NAME,
    section: super::documentation::MANIFOLD_LEARNING,
    parameters: &[
        Parameter::table("input"),
        Parameter::column("features"),
        Parameter::value("n_components"),
        Parameter::value("n_neighbors"),
        Parameter::value("solver"),
        Parameter::value("seed"),
        Parameter::value("output_column"),
    ],
    plan,
    description: "Laplacian eigenmaps of a table (Belkin and Niyogi 2003), to compare with LLE: its columns \
        and a column `embedding` of `FixedSizeList<Float>`. The embedding is that of scikit-learn's \
        `SpectralEmbedding(affinity='nearest_neighbors')`, whose `n_neighbors` counts the row itself and is \
        one more, up to scale and sign: columns have mean 0 and variance 1 and come in order of eigenvalue. \
        A neighbour graph that falls apart is joined by its components' nearest pairs, and equal rows are \
        merged.\n\n\
        All rows are held in memory: for large tables there is `lle`. A row whose features are NULL gets NULL \
        and takes no part in the fit. NaN, infinity, a NULL inside a list and lists of different lengths are \
        errors that name the row. The same rows give the same bits in any order.",
    arguments: &[
        INPUT_ARGUMENTS,
        &[
            (
                "n_components",
                "Dimensions of the embedding, less than the number of distinct rows less one. 2 when omitted.",
            ),
            (
                "n_neighbors",
                "Neighbours of each row (k), the row itself not among them. 12 when omitted.",
            ),
            (
                "solver",
                "`dense`, `exact` or `auto`, which picks by predicted cost. `auto` when omitted.",
            ),
            (
                "seed",
                "Of the eigensolver's start vectors. 0 when omitted.",
            ),
            (
                "output_column",
                "Name of the new column. `embedding` when omitted.",
            ),
        ],
    ],
    example: "```sql
SELECT trustworthiness, continuity
FROM embedding_quality(
    (SELECT * FROM laplacian_eigenmaps((SELECT * FROM 'sample_data/digits.parquet'), pixels)),
    pixels, embedding)
```",
};

fn plan(call: &Call) -> Result<LogicalPlan> {
    let invalid = |error| plan_datafusion_err!("{NAME}: {error}");
    let (added, input) = AddedColumn::plan(call, NAME)?;
    let n_components = added.n_components;
    let n_neighbors = call.whole_number("n_neighbors", 1)?.unwrap_or(12) as usize;
    let solver = match call.text("solver")? {
        Some(name) => Solver::parse(&name).map_err(invalid)?,
        None => Solver::Auto,
    };
    let seed = call.whole_number("seed", 0)?.unwrap_or(0);
    let eigenmaps = LaplacianEigenmaps::builder(n_components)
        .n_neighbors(n_neighbors)
        .solver(solver)
        .seed(seed);
    let solver = solver.name();
    let reduction = Eigenmaps {
        parameters: eigenmaps.build().map_err(invalid)?,
        description: format!(
            "n_components={n_components}, n_neighbors={n_neighbors}, solver={solver}, seed={seed}"
        ),
        added,
    };
    scan(NAME, Arc::new(reduction), vec![input])
}

#[derive(Debug)]
struct Eigenmaps {
    parameters: LaplacianEigenmaps,
    /// The parameters, for plans.
    description: String,
    added: AddedColumn,
}

impl fmt::Display for Eigenmaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAME}({}, {})", self.added.column, self.description)
    }
}

#[async_trait]
impl Reduction for Eigenmaps {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.added.schema)
    }

    fn any_order(&self) -> bool {
        false
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
        let baseline = BaselineMetrics::new(&metrics, 0);
        let budget = Budget::new(context.memory_pool(), NAME);
        let mut batches = Vec::new();
        while let Some(batch) = input.next().await.transpose()? {
            budget
                .reserve(INPUT, batch_bytes(&batch))
                .map_err(|error| resources_exhausted(NAME, &error))?;
            batches.push(batch);
        }
        drop(input);
        let cancelled = CancelOnDrop(Arc::new(AtomicBool::new(false)));
        let fit = EigenmapsFit {
            eigenmaps: self.parameters.clone(),
            float: self.added.float,
            place: self.added.place,
            site: Site {
                function: NAME,
                column: self.added.column.clone(),
                batches: batches.clone(),
                ..Site::default()
            },
            control: FitControl::new(&context, &budget, &cancelled),
        };
        let timer = baseline.elapsed_compute().timer();
        let (present, fit) = blocking(move || fit.run()).await?;
        timer.done();
        if let Some(fit) = &fit {
            let diagnostics = &fit.diagnostics;
            for (name, count) in [
                ("fitted_rows", diagnostics.rows),
                ("distinct_rows", diagnostics.distinct_rows),
                ("connected_components", diagnostics.connected_components),
                ("connecting_edges", diagnostics.connecting_edges),
            ] {
                let metric = MetricBuilder::new(&metrics).with_type(MetricType::Summary);
                metric.counter(name, 0).add(count);
            }
            let bytes = fit.embedding.len() * size_of::<f64>();
            budget
                .reserve("the embedding", bytes)
                .map_err(|error| resources_exhausted(NAME, &error))?;
        }
        let mut rows = Embedded {
            present,
            fit,
            n_components: self.added.n_components,
            float: self.added.float,
            schema: self.schema(),
            row: 0,
            fit_row: 0,
        };
        let batches = stream::iter(batches).map(move |batch| {
            // Rows and embedding are held until the last of them was read.
            let _held = &budget;
            Ok(rows.next(&batch)?.record_output(&baseline))
        });
        let schema = self.schema();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

/// The work on a blocking thread.
struct EigenmapsFit {
    eigenmaps: LaplacianEigenmaps,
    float: FloatType,
    /// Of the features.
    place: usize,
    site: Site,
    control: FitControl,
}

impl EigenmapsFit {
    /// Which rows were fitted, and their embedding if there are any.
    fn run(self) -> Result<(BooleanBuffer, Option<LaplacianFit>)> {
        let (site, control) = (&self.site, &self.control);
        let lists = site.batches.iter();
        let lists: Vec<ArrayRef> = lists
            .map(|batch| Arc::clone(batch.column(self.place)))
            .collect();
        let extent = measure(&lists, site)?;
        if extent.rows == 0 {
            return Ok((extent.present, None));
        }
        let rows = extent.rows;
        let Features { matrix, present } =
            copy_features(&lists, extent, self.float, site, control)?;
        if let Some(reporter) = &control.reporter {
            reporter.started(rows);
        }
        let fit = match &matrix {
            Matrix::Float32(matrix) => self.eigenmaps.fit(matrix.view(), control),
            Matrix::Float64(matrix) => self.eigenmaps.fit(matrix.view(), control),
        };
        // Its diagnostics are none of LLE's: the fit ends without them.
        if let Some(reporter) = &control.reporter {
            reporter.ended();
        }
        let subject = format!("{site} on {rows} rows");
        let fit = fit.map_err(|error| data_error(&error, &subject, site, &present))?;
        Ok((present, Some(fit)))
    }
}

/// The embedding of all rows, read off in order.
struct Embedded {
    present: BooleanBuffer,
    fit: Option<LaplacianFit>,
    n_components: usize,
    float: FloatType,
    schema: SchemaRef,
    row: usize,
    fit_row: usize,
}

impl Embedded {
    /// The columns of the next batch, and its rows' embedding.
    fn next(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let width = self.schema.fields().len() - 1;
        let present = self.present.slice(self.row, batch.num_rows());
        let fitted = self.fit_row..self.fit_row + present.count_set_bits();
        (self.row, self.fit_row) = (self.row + batch.num_rows(), fitted.end);
        let numbers = self.fit.as_ref();
        let numbers = numbers.map(|fit| fit.embedding.slice(s![fitted, ..]));
        let numbers = numbers.iter().flatten().copied();
        let embedding = embedding_array(
            self.schema.field(width).data_type(),
            self.float,
            numbers,
            self.n_components,
            present,
        )?;
        let mut columns = batch.columns().to_vec();
        columns.truncate(width);
        columns.push(embedding);
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}
