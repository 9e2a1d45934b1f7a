//! One fit: list columns in, an embedding of the same rows out.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float32Array, Float64Array, ListArray};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::Field;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err};
use lakefold_manifold::{Control, Fit, Lle, ManifoldError};
use ndarray::s;

use crate::features::{Extent, Features, Matrix, Site, extract, input_row};
use crate::float_lists::FloatType;
use crate::memory::resources_exhausted;

/// The embedding of all rows of a partition, read off in order.
#[derive(Debug)]
pub(crate) struct Embedding {
    /// `None` where every row is NULL.
    fit: Option<Fit>,
    present: BooleanBuffer,
    float: FloatType,
    /// Rows handed out so far, with and without those that are NULL.
    row: usize,
    fit_row: usize,
}

/// Copies what [`crate::features::measure`] found in `lists` into a matrix.
///
/// # Errors
/// [`DataFusionError::ResourcesExhausted`] when `control` refuses the memory.
pub(crate) fn copy_features(
    lists: &[ArrayRef],
    extent: Extent,
    float: FloatType,
    site: &Site,
    control: &dyn Control,
) -> Result<Features> {
    control
        .reserve("the feature matrix", extent.bytes(float))
        .map_err(|error| {
            resources_exhausted(&subject(site, extent.rows, extent.dimensions), &error)
        })?;
    extract(lists, extent, float)
}

/// Fits and lets go of the features.
///
/// # Errors
/// Names column, partition and row of the caller; [`DataFusionError::ResourcesExhausted`] when `control`
/// refuses memory.
pub(crate) fn fit_features(
    features: Features,
    lle: &Lle,
    site: &Site,
    control: &dyn Control,
) -> Result<Embedding> {
    let Features { matrix, present } = features;
    let (float, (rows, dimensions)) = match &matrix {
        Matrix::Float32(matrix) => (FloatType::Float32, matrix.dim()),
        Matrix::Float64(matrix) => (FloatType::Float64, matrix.dim()),
    };
    let fit = if rows == 0 {
        Ok(None)
    } else {
        match &matrix {
            Matrix::Float32(matrix) => lle.fit(matrix.view(), control).map(Some),
            Matrix::Float64(matrix) => lle.fit(matrix.view(), control).map(Some),
        }
    };
    drop(matrix);
    control.release(rows * dimensions * float.bytes());
    match fit {
        Ok(fit) => Ok(Embedding {
            fit,
            present,
            float,
            row: 0,
            fit_row: 0,
        }),
        Err(error) => {
            let subject = subject(site, rows, dimensions);
            Err(data_error(&error, &subject, site, &present))
        }
    }
}

fn subject(site: &Site, rows: usize, dimensions: usize) -> String {
    format!("{site} on {rows} rows x {dimensions}")
}

/// Says which of the caller's rows the kernel's row is.
fn data_error(
    error: &ManifoldError,
    subject: &str,
    site: &Site,
    present: &BooleanBuffer,
) -> DataFusionError {
    let (kernel_row, what, remedy) = match error {
        ManifoldError::NonFinite {
            row,
            dimension,
            value,
        } => (
            *row,
            format!("{value} in dimension {dimension} (counted from 0)"),
            "features must be finite, filter the row out or replace the value",
        ),
        ManifoldError::TooLarge {
            row,
            dimension,
            value,
        } => (
            *row,
            format!("{value:e} in dimension {dimension} (counted from 0)"),
            "squared distances would overflow, scale the features down",
        ),
        ManifoldError::Memory(refusal) => return resources_exhausted(subject, refusal),
        _ => return exec_datafusion_err!("{site}: {error}"),
    };
    match input_row(present, kernel_row) {
        Ok(row) => exec_datafusion_err!("{site}: {} has {what}: {remedy}", site.row(row)),
        Err(error) => error,
    }
}

impl Embedding {
    pub(crate) fn fit(&self) -> Option<&Fit> {
        self.fit.as_ref()
    }

    /// Bytes that the embedding holds.
    pub(crate) fn bytes(&self) -> usize {
        self.fit
            .as_ref()
            .map_or(0, |fit| fit.embedding.len() * size_of::<f64>())
    }

    /// The embedding of the next `rows` rows as `List<Float>`.
    pub(crate) fn next_rows(&mut self, rows: usize) -> Result<ArrayRef> {
        let present = self.present.slice(self.row, rows);
        let fitted = present.count_set_bits();
        let n_components = self.fit.as_ref().map_or(0, |fit| fit.embedding.ncols());
        if fitted.saturating_mul(n_components) > i32::MAX as usize {
            return exec_err!(
                "a batch of {rows} rows holds more than {} numbers of embedding: lower \
                 datafusion.execution.batch_size or n_components",
                i32::MAX
            );
        }
        let rows_of_fit = s![self.fit_row..self.fit_row + fitted, ..];
        let numbers = self
            .fit
            .as_ref()
            .map(|fit| fit.embedding.slice(rows_of_fit));
        let numbers = numbers.iter().flatten().copied();
        let values: ArrayRef = match self.float {
            FloatType::Float32 => Arc::new(Float32Array::from_iter_values(
                numbers.map(|number| number as f32),
            )),
            FloatType::Float64 => Arc::new(Float64Array::from_iter_values(numbers)),
        };
        let lengths = present
            .iter()
            .map(|present| if present { n_components } else { 0 });
        let offsets = OffsetBuffer::from_lengths(lengths);
        self.row += rows;
        self.fit_row += fitted;
        let field = Arc::new(Field::new_list_field(self.float.data_type(), true));
        Ok(Arc::new(ListArray::try_new(
            field,
            offsets,
            values,
            Some(NullBuffer::new(present)),
        )?))
    }
}
