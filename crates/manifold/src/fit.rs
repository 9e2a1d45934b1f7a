//! The whole fit, from features to embedding.

use ndarray::{Array2, ArrayView2};

use crate::components::bridge;
use crate::control::{Budget, Clock};
use crate::embed::{Call, check_rows};
use crate::points::sealed::Sealed;
use crate::points::{DistinctRows, Feature};
use crate::projection::Projection;
use crate::resolve::Evidence;
use crate::{
    Control, Factor, LaplacianEigenmaps, LaplacianFit, Lle, ManifoldError, Model, NeighborMethod,
    Phase, Result, Sample, Solver, neighbors,
};

/// A fitted embedding.
#[derive(Debug, Clone)]
pub struct Fit {
    /// Shape (rows, `n_components`), in the order of the input's rows.
    pub embedding: Array2<f64>,
    /// What happened on the way.
    pub diagnostics: Diagnostics,
}

/// What a fit found and did.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    /// Rows of the input.
    pub rows: usize,
    /// Rows left after exact duplicates were merged.
    pub distinct_rows: usize,
    /// Columns of the input.
    pub dimensions: usize,
    /// The parameters, with what 'auto' stood for.
    pub parameters: Lle,
    /// Why 'auto' stood for that.
    pub evidence: Evidence,
    /// Closed strongly connected components of the neighbour graph before bridging.
    pub closed_components: usize,
    /// Rounds of bridging until one was left.
    pub bridge_rounds: usize,
    /// Neighbours that bridging replaced.
    pub bridged_edges: usize,
    /// How neighbours were found.
    pub neighbors: NeighborMethod,
    /// The share of the nearest neighbours that was found, measured on a sample of 100 rows; `None` where all
    /// were.
    pub neighbors_recall: Option<f64>,
    /// The solver that ran.
    pub solver: Solver,
    /// Landmarks of the landmarks solver, 0 of the others.
    pub landmarks: usize,
    /// The sparse solver's fill-reducing order and the size of its factor.
    pub factor: Option<Factor>,
    /// Eigenvalues of M, or of its reduction to landmarks, ascending, one a component.
    pub eigenvalues: Vec<f64>,
    /// ‖Mv − λv‖ of each eigenpair, ‖v‖ = 1.
    pub residuals: Vec<f64>,
    /// Seconds by phase.
    pub seconds: Vec<(Phase, f64)>,
    /// The largest sum of reserved bytes.
    pub peak_reserved_bytes: usize,
}

impl Lle {
    /// Embeds the rows of `features`, shape (n, D), in `n_components` dimensions (Roweis and Saul 2000).
    ///
    /// Equal rows are merged before neighbours are sought and get the same embedding. Each column of the
    /// embedding has mean 0 and variance 1 over the distinct rows (YᵀY = n·I); columns are ordered by
    /// eigenvalue, smallest first; in each the entry of largest magnitude is positive (of equals, that of
    /// the smallest row).
    ///
    /// The same rows, parameters and seed give the same bits, whatever the order of the rows and the
    /// number of threads.
    ///
    /// # Errors
    /// [`ManifoldError::NonFinite`] and [`ManifoldError::TooLarge`] for unusable features;
    /// [`ManifoldError::ParameterNeedsMoreData`] where `n_components` exceeds D or the distinct rows less
    /// two, or `n_neighbors` the distinct rows less one; [`ManifoldError::Memory`] and
    /// [`ManifoldError::Cancelled`] when `control` says so; [`ManifoldError::NoConvergence`] and
    /// [`ManifoldError::LinearAlgebra`] rather than a wrong answer.
    pub fn fit<T: Feature>(
        &self,
        features: ArrayView2<'_, T>,
        control: &dyn Control,
    ) -> Result<Fit> {
        T::fit(self, features, control)
    }

    /// The same fit, and a model that places other rows in its embedding.
    ///
    /// The model of a landmarks fit holds the landmarks, and gives each row of the fit the embedding that
    /// it had there. That of another fit holds every distinct row; a row outside the fit then gets the
    /// combination of its `n_neighbors` nearest rows' embeddings.
    ///
    /// # Errors
    /// Those of [`Lle::fit`].
    pub fn fit_model<T: Feature>(
        &self,
        features: ArrayView2<'_, T>,
        control: &dyn Control,
    ) -> Result<(Fit, Model<T>)> {
        T::fit_model(self, features, control)
    }

    fn fit_distinct<T: Feature>(
        &self,
        features: ArrayView2<'_, T>,
        with_model: bool,
        control: &dyn Control,
    ) -> Result<(Fit, Option<Model<T>>)> {
        if self.is_auto() && features.nrows() > 0 {
            let start = std::time::Instant::now();
            let (chosen, evidence) = self.resolve(features, control)?;
            let seconds = start.elapsed().as_secs_f64();
            let (mut fit, model) = chosen.fit_distinct(features, with_model, control)?;
            fit.diagnostics.seconds.insert(0, (Phase::Choice, seconds));
            fit.diagnostics.evidence = evidence;
            return Ok((fit, model));
        }
        let (rows, dimensions) = features.dim();
        let budget = Budget::new(control);
        let clock = Clock::new();
        if rows == 0 {
            check_rows(self.n_components(), self.n_neighbors(), 0, 0)?;
        }
        check_dimensions(self, rows, dimensions)?;

        control.progress(Phase::Deduplicate, 0, 1);
        let copy = rows * dimensions * size_of::<T>();
        budget.reserve("a sorted copy of the features", 2 * copy + rows * 8)?;
        let distinct = DistinctRows::new(features, control)?;
        budget.release(copy);
        let points = distinct.points();
        let n = points.len();
        self.check_size(rows, n)?;
        control.progress(Phase::Deduplicate, 1, 1);
        clock.lap(Phase::Deduplicate);

        let k = self.n_neighbors();
        let method = self.neighbors_algorithm().resolve(n, dimensions, k, true);
        let search = neighbors::predicted_bytes_by::<T>(method, n, dimensions, k);
        let purpose = match method {
            NeighborMethod::Exact => "the search for exact neighbours",
            NeighborMethod::Hnsw => "the search for neighbours through a graph",
        };
        budget.reserve(purpose, search)?;
        let (mut graph, recall) = neighbors::self_join_by(method, points, k, self.seed(), control)?;
        clock.lap(Phase::Neighbors);
        let bridges = bridge(points, &mut graph, control)?;
        clock.lap(Phase::Components);
        budget.release(search);

        let call = Call {
            control,
            budget: &budget,
            clock: &clock,
            landmarks: None,
        };
        let solver = self.choose_solver(points, &budget, control)?;
        let solved = self.embed(solver, &distinct, graph, rows, &call)?;
        let row_to_point = distinct.row_to_point();
        let embedding = Array2::from_shape_fn((rows, self.n_components()), |(row, j)| {
            solved.embedding[(row_to_point[row] as usize, j)]
        });
        let landmarks = solved.model.as_ref().map_or(0, Model::len);
        let model = with_model.then(|| {
            solved.model.unwrap_or_else(|| Model {
                projection: Projection {
                    landmarks: self.landmark_base(distinct.values().to_vec(), dimensions, k),
                    per_row: k,
                    reg: self.reg(),
                },
                embedding: solved.embedding,
                enlarged: distinct.enlarged(),
            })
        });
        let fit = Fit {
            embedding,
            diagnostics: Diagnostics {
                rows,
                distinct_rows: n,
                dimensions,
                parameters: self.clone(),
                evidence: Evidence::default(),
                closed_components: bridges.closed_components,
                bridge_rounds: bridges.rounds,
                bridged_edges: bridges.edges,
                neighbors: method,
                neighbors_recall: recall,
                solver: solved.solver,
                landmarks,
                factor: solved.factor,
                eigenvalues: solved.eigenvalues,
                residuals: solved.residuals,
                seconds: clock.into_seconds(),
                peak_reserved_bytes: budget.peak(),
            },
        };
        Ok((fit, model))
    }
}

/// Keeps the generic code compiled in this crate.
macro_rules! compile_for {
    ($number:ty) => {
        impl Sealed for $number {
            fn fit(
                lle: &Lle,
                features: ArrayView2<'_, Self>,
                control: &dyn Control,
            ) -> Result<Fit> {
                let (fit, _) = lle.fit_distinct(features, false, control)?;
                Ok(fit)
            }

            fn fit_model(
                lle: &Lle,
                features: ArrayView2<'_, Self>,
                control: &dyn Control,
            ) -> Result<(Fit, Model<Self>)> {
                let (fit, model) = lle.fit_distinct(features, true, control)?;
                Ok((fit, model.unwrap_or_else(|| unreachable!("asked for"))))
            }

            fn transform(
                model: &Model<Self>,
                rows: ArrayView2<'_, Self>,
                control: &dyn Control,
            ) -> Result<Array2<f64>> {
                model.transform_rows(rows, control)
            }

            fn add_to_sample(sample: &mut Sample<Self>, rows: ArrayView2<'_, Self>) -> Result<()> {
                sample.add_rows(rows)
            }

            fn laplacian_eigenmaps(
                model: &LaplacianEigenmaps,
                features: ArrayView2<'_, Self>,
                control: &dyn Control,
            ) -> Result<LaplacianFit> {
                model.fit_distinct(features, control)
            }

            fn nearest_neighbors(
                features: ArrayView2<'_, Self>,
                n_neighbors: usize,
                control: &dyn Control,
            ) -> Result<Array2<u32>> {
                neighbors::of_rows(features, n_neighbors, control)
            }
        }
    };
}
compile_for!(f32);
compile_for!(f64);

pub(crate) fn check_dimensions(lle: &Lle, rows: usize, dimensions: usize) -> Result<()> {
    // Without rows there are no dimensions to compare with.
    if rows > 0 && lle.n_components() > dimensions {
        return Err(ManifoldError::ParameterNeedsMoreData {
            name: "n_components",
            value: lle.n_components(),
            requirement: format!("features of at least {} dimensions", lle.n_components()),
            found: dimensions.to_string(),
            remedy: format!("lower n_components to at most {dimensions}"),
        });
    }
    Ok(())
}
