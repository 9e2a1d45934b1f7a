//! The bounded sample of rows that a streaming fit sees.

use datafusion::arrow::array::ArrayRef;
use datafusion::common::{Result, exec_err};
use lakefold_manifold::{
    Control, Feature, Lle, ManifoldError, Model, QualityOptions, Sample, embedding_quality,
};

use crate::features::{Matrix, Site, extract, input_row, measure};
use crate::fit::row_error;
use crate::float_lists::FloatType;
use crate::lle_model::{self as model, LleModel};
use crate::memory::{Budget, resources_exhausted};

/// More distinct rows than this have no room in a graph.
const MOST: usize = (u32::MAX / 2) as usize;

/// Features of at most `sample_size` distinct rows, see [`Sample`].
pub(crate) struct FeatureSample {
    limit: usize,
    seed: u64,
    float: FloatType,
    /// Made when the number of dimensions is known.
    sample: Option<Typed>,
    /// Bytes reserved for it.
    reserved: usize,
}

enum Typed {
    Float32(Sample<f32>, usize),
    Float64(Sample<f64>, usize),
}

impl FeatureSample {
    pub(crate) fn new(lle: &Lle, float: FloatType) -> Self {
        Self {
            limit: lle.most_rows().min(MOST),
            seed: lle.seed(),
            float,
            sample: None,
            reserved: 0,
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
        self.reserve(extent.rows, dimensions, site, budget)?;
        if self.sample.is_none() {
            self.sample = Some(self.make(dimensions));
        }
        let features = extract(std::slice::from_ref(lists), extent, self.float)?;
        let added = match (&mut self.sample, &features.matrix) {
            (Some(Typed::Float32(sample, _)), Matrix::Float32(rows)) => sample.add(rows.view()),
            (Some(Typed::Float64(sample, _)), Matrix::Float64(rows)) => sample.add(rows.view()),
            _ => unreachable!("made of the same float type"),
        };
        added.map_err(|error| row_error(&error, site, &features.present))
    }

    /// Takes memory for more rows, up to what a full sample needs.
    fn reserve(
        &mut self,
        rows: usize,
        dimensions: usize,
        site: &Site,
        budget: &Budget,
    ) -> Result<()> {
        let row = dimensions * self.float.bytes() + size_of::<u64>();
        let full = match self.float {
            FloatType::Float32 => Sample::<f32>::bytes(self.limit, dimensions),
            FloatType::Float64 => Sample::<f64>::bytes(self.limit, dimensions),
        };
        let more = (rows * row).min(full.saturating_sub(self.reserved));
        budget
            .reserve("the sample of rows to fit", more)
            .map_err(|error| resources_exhausted(&site.to_string(), &error))?;
        self.reserved += more;
        Ok(())
    }

    fn make(&self, dimensions: usize) -> Typed {
        let (limit, seed) = (self.limit, self.seed);
        match self.float {
            FloatType::Float32 => Typed::Float32(Sample::new(limit, dimensions, seed), dimensions),
            FloatType::Float64 => Typed::Float64(Sample::new(limit, dimensions, seed), dimensions),
        }
    }

    /// Fits the sample; `None` where every row was NULL. With `measure`, the quality of the embedding is
    /// measured as well.
    pub(crate) fn fit(
        self,
        lle: &Lle,
        measure: Option<&QualityOptions>,
        control: &dyn Control,
    ) -> Result<Option<LleModel>, ManifoldError> {
        match self.sample {
            None => Ok(None),
            Some(Typed::Float32(sample, _)) => {
                fit_rows(sample, lle, measure, control, model::Typed::Float32)
            }
            Some(Typed::Float64(sample, _)) => {
                fit_rows(sample, lle, measure, control, model::Typed::Float64)
            }
        }
    }
}

fn fit_rows<T: Feature>(
    sample: Sample<T>,
    lle: &Lle,
    measure: Option<&QualityOptions>,
    control: &dyn Control,
    typed: fn(Model<T>) -> model::Typed,
) -> Result<Option<LleModel>, ManifoldError> {
    let rows = sample.into_rows();
    let (fit, model) = lle.fit_model(rows.view(), control)?;
    let quality = match measure {
        Some(options) if rows.nrows() > 2 * options.n_neighbors + 1 => Some(embedding_quality(
            rows.view(),
            fit.embedding.view(),
            options,
            control,
        )?),
        _ => None,
    };
    Ok(Some(LleModel {
        typed: typed(model),
        diagnostics: fit.diagnostics,
        quality,
    }))
}
