//! A fitted model applied to list columns.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use lakefold_manifold::{Control, Diagnostics, ManifoldError, Model, NeighborMethod, Quality};
use ndarray::{Array2, ArrayView2};

use crate::embeddings::embedding_array;
use crate::features::{Matrix, Site, extract, measure};
use crate::fit::row_error;
use crate::float_lists::FloatType;

/// A model of either float type.
#[derive(Debug, Clone)]
pub(crate) enum Typed {
    Float32(Model<f32>),
    Float64(Model<f64>),
}

/// A model and what its fit found.
#[derive(Debug, Clone)]
pub(crate) struct LleModel {
    pub(crate) typed: Typed,
    pub(crate) diagnostics: Diagnostics,
    /// Where it was asked for.
    pub(crate) quality: Option<Quality>,
}

impl Typed {
    pub(crate) fn float(&self) -> FloatType {
        match self {
            Typed::Float32(_) => FloatType::Float32,
            Typed::Float64(_) => FloatType::Float64,
        }
    }

    pub(crate) fn n_components(&self) -> usize {
        match self {
            Typed::Float32(model) => model.n_components(),
            Typed::Float64(model) => model.n_components(),
        }
    }

    pub(crate) fn embedding(&self) -> ArrayView2<'_, f64> {
        match self {
            Typed::Float32(model) => model.embedding(),
            Typed::Float64(model) => model.embedding(),
        }
    }

    pub(crate) fn landmark_neighbors(&self) -> usize {
        match self {
            Typed::Float32(model) => model.landmark_neighbors(),
            Typed::Float64(model) => model.landmark_neighbors(),
        }
    }

    /// How landmarks are found.
    pub(crate) fn search(&self) -> NeighborMethod {
        match self {
            Typed::Float32(model) => model.search(),
            Typed::Float64(model) => model.search(),
        }
    }

    pub(crate) fn dimensions(&self) -> usize {
        match self {
            Typed::Float32(model) => model.dimensions(),
            Typed::Float64(model) => model.dimensions(),
        }
    }

    /// Embeds the rows of a list column; NULL rows stay NULL. `data_type` is the result's, a list of the
    /// model's float type.
    pub(crate) fn transform(
        &self,
        lists: &ArrayRef,
        data_type: &DataType,
        site: &Site,
        control: &dyn Control,
    ) -> Result<ArrayRef> {
        let extent = measure(std::slice::from_ref(lists), site)?;
        let features = extract(std::slice::from_ref(lists), extent, self.float())?;
        let embedding = self
            .transform_matrix(&features.matrix, control)
            .map_err(|error| row_error(&error, site, &features.present))?;
        embedding_array(
            data_type,
            self.float(),
            embedding.iter().copied(),
            self.n_components(),
            features.present,
        )
    }

    fn transform_matrix(
        &self,
        features: &Matrix<'_>,
        control: &dyn Control,
    ) -> Result<Array2<f64>, ManifoldError> {
        match (self, features) {
            (Typed::Float32(model), Matrix::Float32(rows)) => model.transform(rows.view(), control),
            (Typed::Float64(model), Matrix::Float64(rows)) => model.transform(rows.view(), control),
            _ => unreachable!("features are extracted in the model's float type"),
        }
    }
}
