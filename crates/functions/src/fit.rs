//! One fit: list columns in, an embedding of the same rows out.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use lakefold_manifold::{Control, Fit, Lle, ManifoldError};
use ndarray::s;

use crate::embeddings::embedding_array;
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
    /// `List` or `FixedSizeList` of `float`.
    data_type: DataType,
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
) -> Result<Features<'static>> {
    control
        .reserve("the feature matrix", extent.bytes(float))
        .map_err(|error| {
            resources_exhausted(&subject(site, extent.rows, extent.dimensions), &error)
        })?;
    let Features { matrix, present } = extract(lists, extent, float)?;
    Ok(Features {
        matrix: matrix.into_owned(),
        present,
    })
}

/// Fits and lets go of the features.
///
/// # Errors
/// Names column, partition and row of the caller; [`DataFusionError::ResourcesExhausted`] when `control`
/// refuses memory.
pub(crate) fn fit_features(
    features: Features<'_>,
    lle: &Lle,
    data_type: &DataType,
    site: &Site,
    control: &dyn Control,
) -> Result<Embedding> {
    let Features { matrix, present } = features;
    let (rows, dimensions) = matrix.dim();
    let float = match &matrix {
        Matrix::Float32(_) => FloatType::Float32,
        Matrix::Float64(_) => FloatType::Float64,
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
            data_type: data_type.clone(),
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

/// The kernel's error in terms of the caller's columns, and of its rows as [`row_error`] does.
pub(crate) fn data_error(
    error: &ManifoldError,
    subject: &str,
    site: &Site,
    present: &BooleanBuffer,
) -> DataFusionError {
    match error {
        ManifoldError::Memory(refusal) => resources_exhausted(subject, refusal),
        _ => row_error(error, site, present),
    }
}

/// Says which of the caller's rows the kernel's row is; `present` has a bit for each of the caller's.
pub(crate) fn row_error(
    error: &ManifoldError,
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
        ManifoldError::ZeroVector { row } => (
            *row,
            "zeros only, which have no direction".to_owned(),
            if site.function.starts_with("attention") {
                "its angle to anything is undefined, filter the row out or choose similarity 'dot' or 'l2'"
            } else {
                "its cosine distance to anything is undefined, filter the row out or choose metric 'l2' or \
                 'inner_product'"
            },
        ),
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

    /// The embedding of the next `rows` rows.
    pub(crate) fn next_rows(&mut self, rows: usize) -> Result<ArrayRef> {
        let present = self.present.slice(self.row, rows);
        let fitted = present.count_set_bits();
        let n_components = self.fit.as_ref().map_or(0, |fit| fit.embedding.ncols());
        let rows_of_fit = s![self.fit_row..self.fit_row + fitted, ..];
        let numbers = self
            .fit
            .as_ref()
            .map(|fit| fit.embedding.slice(rows_of_fit));
        let numbers = numbers.iter().flatten().copied();
        self.row += rows;
        self.fit_row += fitted;
        embedding_array(&self.data_type, self.float, numbers, n_components, present)
    }
}
