//! The bounded sample of rows that a streaming fit sees.

use datafusion::arrow::array::ArrayRef;
use datafusion::common::{Result, exec_err};
use lakefold_manifold::{Control, Lle, ManifoldError, Sample};

use crate::features::{Matrix, Site, extract, input_row, measure};
use crate::fit::row_error;
use crate::float_lists::FloatType;
use crate::lle_model::LleModel;
use crate::memory::{Budget, resources_exhausted};

/// Features of at most `sample_size` distinct rows, see [`Sample`].
pub(crate) struct FeatureSample {
    limit: usize,
    seed: u64,
    float: FloatType,
    /// Made when the number of dimensions is known.
    sample: Option<Typed>,
}

enum Typed {
    Float32(Sample<f32>, usize),
    Float64(Sample<f64>, usize),
}

impl FeatureSample {
    pub(crate) fn new(lle: &Lle, float: FloatType) -> Self {
        Self {
            limit: lle.sample_size(),
            seed: lle.seed(),
            float,
            sample: None,
        }
    }

    /// Adds one batch of rows.
    pub(crate) fn add(&mut self, lists: &ArrayRef, site: &Site, budget: &Budget) -> Result<()> {
        let extent = measure(std::slice::from_ref(lists), site)?;
        if extent.rows == 0 {
            return Ok(());
        }
        let dimensions = extent.dimensions;
        let known = match &self.sample {
            None => dimensions,
            Some(Typed::Float32(_, known) | Typed::Float64(_, known)) => *known,
        };
        if known != dimensions {
            let row = input_row(&extent.present, 0)?;
            return exec_err!(
                "{site}: {} has {dimensions} dimensions, but rows before it have {known}: every row \
                 needs the same number, filter the row out or pad the list",
                site.row(row)
            );
        }
        if self.sample.is_none() {
            self.sample = Some(self.make(dimensions, site, budget)?);
        }
        let features = extract(std::slice::from_ref(lists), extent, self.float)?;
        let added = match (&mut self.sample, &features.matrix) {
            (Some(Typed::Float32(sample, _)), Matrix::Float32(rows)) => sample.add(rows.view()),
            (Some(Typed::Float64(sample, _)), Matrix::Float64(rows)) => sample.add(rows.view()),
            _ => unreachable!("made of the same float type"),
        };
        added.map_err(|error| row_error(&error, site, &features.present))
    }

    fn make(&self, dimensions: usize, site: &Site, budget: &Budget) -> Result<Typed> {
        let (limit, seed) = (self.limit, self.seed);
        let bytes = match self.float {
            FloatType::Float32 => Sample::<f32>::bytes(limit, dimensions),
            FloatType::Float64 => Sample::<f64>::bytes(limit, dimensions),
        };
        budget
            .reserve("the sample of rows to fit", bytes)
            .map_err(|error| resources_exhausted(&site.to_string(), &error))?;
        Ok(match self.float {
            FloatType::Float32 => Typed::Float32(Sample::new(limit, dimensions, seed), dimensions),
            FloatType::Float64 => Typed::Float64(Sample::new(limit, dimensions, seed), dimensions),
        })
    }

    /// Fits the sample; `None` where every row was NULL.
    pub(crate) fn fit(
        self,
        lle: &Lle,
        control: &dyn Control,
    ) -> Result<Option<LleModel>, ManifoldError> {
        Ok(match self.sample {
            None => None,
            Some(Typed::Float32(sample, _)) => {
                let (fit, model) = lle.fit_model(sample.into_rows().view(), control)?;
                Some(LleModel::new_f32(model, fit.diagnostics))
            }
            Some(Typed::Float64(sample, _)) => {
                let (fit, model) = lle.fit_model(sample.into_rows().view(), control)?;
                Some(LleModel::new_f64(model, fit.diagnostics))
            }
        })
    }
}
