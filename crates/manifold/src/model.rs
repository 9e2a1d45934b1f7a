//! A fitted embedding that rows outside the fit can be placed in.

use std::borrow::Cow;

use ndarray::{Array2, ArrayView2};

use crate::landmarks::combine;
use crate::neighbors::Base;
use crate::points::{Feature, Points, check, enlarge, scale_up};
use crate::projection::Projection;
use crate::{Control, ManifoldError, NeighborMethod, Result};

/// Landmarks with their embeddings, and how other rows are written in terms of them.
#[derive(Debug, Clone)]
pub struct Model<T> {
    pub(crate) projection: Projection<T>,
    /// Shape (L, d).
    pub(crate) embedding: Array2<f64>,
    /// How often [`enlarge`] scaled the landmarks up.
    pub(crate) enlarged: u32,
}

impl<T: Feature> Model<T> {
    /// From `landmarks`, shape (L, D), and their `embedding`, shape (L, d). A row is a combination of its
    /// `landmark_neighbors` nearest landmarks, with weights regularised by `reg` times the trace of the
    /// local Gram matrix.
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] where these do not fit together, and
    /// [`ManifoldError::NonFinite`] and [`ManifoldError::TooLarge`] for the values.
    pub fn new(
        landmarks: ArrayView2<'_, T>,
        embedding: Array2<f64>,
        landmark_neighbors: usize,
        reg: f64,
    ) -> Result<Self> {
        let invalid = |name, value: String, requirement: &str| {
            Err(ManifoldError::InvalidParameter {
                name,
                value,
                requirement: requirement.to_owned(),
            })
        };
        check(landmarks)?;
        check(embedding.view())?;
        let count = landmarks.nrows();
        if embedding.nrows() != count {
            let value = format!("{} rows", embedding.nrows());
            return invalid(
                "embedding",
                value,
                &format!("of {count} rows, one a landmark"),
            );
        }
        if landmark_neighbors == 0 || landmark_neighbors > count {
            return invalid(
                "landmark_neighbors",
                landmark_neighbors.to_string(),
                &format!("from 1 to the number of landmarks, {count}"),
            );
        }
        if !reg.is_finite() || reg < 0.0 {
            return invalid("reg", reg.to_string(), "a finite number of at least 0");
        }
        let mut values: Vec<T> = landmarks.iter().map(|v| v.canonical()).collect();
        let enlarged = enlarge(&mut values);
        Ok(Self {
            projection: Projection {
                landmarks: Base::new(values, landmarks.ncols()),
                per_row: landmark_neighbors,
                reg,
            },
            embedding: embedding.as_standard_layout().into_owned(),
            enlarged,
        })
    }

    /// The same model, whose landmarks are searched through a graph if `method` says so: in less time where they
    /// are many, and not always the nearest. The graph is built with the first rows that are placed.
    #[must_use]
    pub fn with_search(mut self, method: NeighborMethod, seed: u64) -> Self {
        let landmarks = &self.projection.landmarks;
        if method != landmarks.method() {
            let (values, dimensions) = (landmarks.points().values().to_vec(), self.dimensions());
            self.projection.landmarks = Base::by(method, values, dimensions, seed);
        }
        self
    }

    /// How a row's nearest landmarks are found.
    #[must_use]
    pub fn search(&self) -> NeighborMethod {
        self.projection.landmarks.method()
    }

    /// The embeddings of `rows`, shape (m, D): shape (m, d). A row that equals a landmark gets that
    /// landmark's embedding; any other row the combination of its nearest landmarks' embeddings that
    /// reconstructs it best (Saul and Roweis 2003, section 6.1).
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] for rows of other dimensions than the landmarks,
    /// [`ManifoldError::NonFinite`] and [`ManifoldError::TooLarge`] for unusable values,
    /// [`ManifoldError::Cancelled`].
    pub fn transform(&self, rows: ArrayView2<'_, T>, control: &dyn Control) -> Result<Array2<f64>> {
        T::transform(self, rows, control)
    }

    /// Landmarks (L).
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "a model without landmarks cannot be made"
    )]
    pub fn len(&self) -> usize {
        self.embedding.nrows()
    }

    /// The landmarks' features, shape (L, D).
    #[must_use]
    pub fn landmarks(&self) -> Array2<T> {
        let points = self.projection.landmarks.points();
        let back = -scale_up(self.enlarged);
        Array2::from_shape_fn((points.len(), points.dimensions()), |(i, j)| {
            points.row(i)[j].scaled_twice(back)
        })
    }

    /// The landmarks' embeddings, shape (L, d).
    #[must_use]
    pub fn embedding(&self) -> ArrayView2<'_, f64> {
        self.embedding.view()
    }

    /// Landmarks that a row is a combination of.
    #[must_use]
    pub fn landmark_neighbors(&self) -> usize {
        self.projection.per_row
    }

    /// Regularisation of a row's weights, as a multiple of the local Gram matrix's trace.
    #[must_use]
    pub fn reg(&self) -> f64 {
        self.projection.reg
    }

    /// Dimensions of the features (D).
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.projection.landmarks.points().dimensions()
    }

    /// Dimensions of the embedding (d).
    #[must_use]
    pub fn n_components(&self) -> usize {
        self.embedding.ncols()
    }

    pub(crate) fn transform_rows(
        &self,
        rows: ArrayView2<'_, T>,
        control: &dyn Control,
    ) -> Result<Array2<f64>> {
        let dimensions = self.dimensions();
        if rows.nrows() == 0 {
            return Ok(Array2::zeros((0, self.n_components())));
        }
        if rows.ncols() != dimensions {
            return Err(ManifoldError::InvalidParameter {
                name: "features",
                value: format!("{} dimensions", rows.ncols()),
                requirement: format!("of the model's {dimensions} dimensions"),
            });
        }
        check(rows)?;
        let mut values = match rows.to_slice() {
            Some(values) => Cow::Borrowed(values),
            None => Cow::Owned(rows.iter().copied().collect()),
        };
        if self.enlarged > 0 {
            let up = scale_up(self.enlarged);
            values
                .to_mut()
                .iter_mut()
                .for_each(|v| *v = v.scaled_twice(up));
        }
        let mut embedding = Array2::zeros((rows.nrows(), self.n_components()));
        let points = Points::new(&values, dimensions);
        self.projection
            .for_each_batch(points, control, |start, batch| {
                let part = combine(&batch, self.projection.per_row, &self.embedding);
                let end = start + part.nrows();
                embedding
                    .slice_mut(ndarray::s![start..end, ..])
                    .assign(&part);
            })?;
        Ok(embedding)
    }
}
