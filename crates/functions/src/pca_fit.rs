//! Principal axes of rows that stream by.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::{ArrayRef, RecordBatch, new_null_array};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use lakefold_manifold::{
    DEFAULT_SAMPLE_SIZE, Feature, ManifoldError, Pca, PcaAccumulator, PcaModel, check_features,
};
use ndarray::ArrayView2;

use crate::embeddings::embedding_array;
use crate::features::{Features, Matrix, Site, check_dimensions, extract, measure};
use crate::fit::{copy_features, data_error, row_error};
use crate::fit_task::{CancelOnDrop, FitControl, Quiet, fit_failed};
use crate::float_lists::FloatType;
use crate::memory::{Budget, INPUT, batch_bytes, resources_exhausted};
use crate::relations::PCA;

/// Rows that are held at most, and fitted at once.
const HELD_ROWS: usize = DEFAULT_SAMPLE_SIZE;

/// Takes in rows: while there are few it keeps them, so that their order does not matter to the bit, then
/// it keeps sums.
pub(crate) struct PcaFit {
    pca: Pca,
    float: FloatType,
    column: String,
    dimensions: Option<usize>,
    rows: usize,
    /// Features of all rows, as long as they are held.
    held: Vec<ArrayRef>,
    /// From then on.
    sums: Option<Sums>,
    budget: Budget,
    cancelled: Arc<AtomicBool>,
}

/// `None` until there is a row that is not NULL.
struct Sums(Option<PcaAccumulator>);

/// What projects rows; `None` where all of them are NULL. It holds the memory of the rows that wait.
pub(crate) struct Projection {
    model: Option<PcaModel>,
    float: FloatType,
    column: String,
    cancelled: Arc<AtomicBool>,
    _budget: Budget,
}

impl PcaFit {
    pub(crate) fn new(
        pca: Pca,
        float: FloatType,
        column: String,
        budget: Budget,
        cancelled: &CancelOnDrop,
    ) -> Self {
        Self {
            pca,
            float,
            column,
            dimensions: None,
            rows: 0,
            held: vec![],
            sums: None,
            budget,
            cancelled: Arc::clone(&cancelled.0),
        }
    }

    /// Takes in the features `lists` of a batch. Whether the batch may be held in memory, which is true of
    /// the first ones only.
    pub(crate) fn add(&mut self, batch: &RecordBatch, lists: &ArrayRef) -> Result<bool> {
        self.rows += batch.num_rows();
        let site = streamed_site(&self.column, batch);
        let extent = measure(std::slice::from_ref(lists), &site)?;
        check_dimensions(&mut self.dimensions, &extent, &site)?;
        let features = extract(std::slice::from_ref(lists), extent, self.float)?;
        match &features.matrix {
            Matrix::Float32(rows) => checked(rows.view()),
            Matrix::Float64(rows) => checked(rows.view()),
        }
        .map_err(|error| row_error(&error, &site, &features.present))?;
        if self.sums.is_none() {
            let room = self.rows <= HELD_ROWS;
            if room && self.budget.reserve(INPUT, batch_bytes(batch)).is_ok() {
                self.held.push(Arc::clone(lists));
                return Ok(true);
            }
            self.start_sums()?;
        }
        self.sum(&features)?;
        Ok(false)
    }

    fn start_sums(&mut self) -> Result<()> {
        self.sums = Some(Sums(None));
        for lists in std::mem::take(&mut self.held) {
            let lists = std::slice::from_ref(&lists);
            let extent = measure(lists, &self.site())?;
            self.sum(&extract(lists, extent, self.float)?)?;
        }
        Ok(())
    }

    fn sum(&mut self, features: &Features) -> Result<()> {
        let (site, rows) = (self.site(), self.rows);
        let (Some(Sums(sums)), Some(dimensions)) = (&mut self.sums, self.dimensions) else {
            return Ok(());
        };
        if features.present.count_set_bits() == 0 {
            return Ok(());
        }
        let quiet = Quiet(Arc::clone(&self.cancelled));
        if sums.is_none() {
            let bytes = PcaAccumulator::bytes(dimensions);
            self.budget
                .reserve("the covariance of the features", bytes)
                .map_err(|error| resources_exhausted(PCA, &error))?;
            let accumulator = PcaAccumulator::new(dimensions);
            *sums = Some(accumulator.map_err(|error| fit_failed(&error, &site, rows))?);
        }
        let Some(accumulator) = sums else {
            return Ok(());
        };
        match &features.matrix {
            Matrix::Float32(rows) => accumulator.add(rows.view(), &quiet),
            Matrix::Float64(rows) => accumulator.add(rows.view(), &quiet),
        }
        .map_err(|error| fit_failed(&error, &site, rows))
    }

    /// Finds the axes.
    pub(crate) fn finish(mut self) -> Result<Projection> {
        let model = match self.sums.take() {
            Some(Sums(None)) => None,
            Some(Sums(Some(accumulator))) => {
                let model = accumulator.finish(&self.pca);
                let model = model.map_err(|error| fit_failed(&error, &self.site(), self.rows))?;
                self.budget.release(PcaAccumulator::bytes(model.mean.len()));
                Some(model)
            }
            None => self.fit_held()?,
        };
        Ok(Projection {
            model,
            float: self.float,
            column: self.column,
            cancelled: self.cancelled,
            _budget: self.budget,
        })
    }

    fn fit_held(&self) -> Result<Option<PcaModel>> {
        let site = self.site();
        let control = FitControl {
            budget: self.budget.sibling(),
            cancelled: Arc::clone(&self.cancelled),
            reporter: None,
        };
        let extent = measure(&self.held, &site)?;
        if extent.rows == 0 {
            return Ok(None);
        }
        let features = copy_features(&self.held, extent, self.float, &site, &control)?;
        let model = match &features.matrix {
            Matrix::Float32(rows) => self.pca.fit(rows.view(), &control),
            Matrix::Float64(rows) => self.pca.fit(rows.view(), &control),
        };
        let subject = format!("{site} on {} rows", self.rows);
        model
            .map(Some)
            .map_err(|error| data_error(&error, &subject, &site, &features.present))
    }

    fn site(&self) -> Site {
        Site {
            function: PCA,
            column: self.column.clone(),
            ..Site::default()
        }
    }
}

impl Projection {
    /// The scores of the features `lists` of a batch, as an array of `data_type`.
    pub(crate) fn scores(
        &self,
        batch: &RecordBatch,
        lists: &ArrayRef,
        data_type: &DataType,
    ) -> Result<ArrayRef> {
        let Some(model) = &self.model else {
            return Ok(new_null_array(data_type, batch.num_rows()));
        };
        let site = streamed_site(&self.column, batch);
        let extent = measure(std::slice::from_ref(lists), &site)?;
        if extent.rows == 0 {
            return Ok(new_null_array(data_type, batch.num_rows()));
        }
        let features = extract(std::slice::from_ref(lists), extent, self.float)?;
        let quiet = Quiet(Arc::clone(&self.cancelled));
        let scores = match &features.matrix {
            Matrix::Float32(rows) => model.transform(rows.view(), &quiet),
            Matrix::Float64(rows) => model.transform(rows.view(), &quiet),
        }
        .map_err(|error| row_error(&error, &site, &features.present))?;
        let n_components = scores.ncols();
        let numbers = scores.into_iter();
        embedding_array(
            data_type,
            self.float,
            numbers,
            n_components,
            features.present,
        )
    }
}

fn streamed_site(column: &str, batch: &RecordBatch) -> Site {
    Site {
        function: PCA,
        column: column.to_owned(),
        batches: vec![batch.clone()],
        streamed: true,
        ..Site::default()
    }
}

/// Rows of NULLs only are nothing to check.
fn checked<T: Feature>(rows: ArrayView2<'_, T>) -> Result<(), ManifoldError> {
    if rows.is_empty() {
        Ok(())
    } else {
        check_features(rows)
    }
}
