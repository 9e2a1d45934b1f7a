//! Laplacian eigenmaps (Belkin and Niyogi 2003), to compare LLE with.

mod graph;

use ndarray::{Array2, ArrayView2};

use crate::control::{Budget, Clock};
use crate::embed::{check_rows, scale_and_orient};
use crate::points::{DistinctRows, Feature};
use crate::solver::{self, Operator, Request};
use crate::{Control, Factor, Lle, ManifoldError, Phase, Result, Solver, neighbors};

use graph::Laplacian;

/// Unchecked parameters. Defaults: `n_neighbors` 12, solver auto, seed 0.
#[derive(Debug, Clone, PartialEq)]
pub struct LaplacianEigenmapsBuilder {
    n_components: usize,
    n_neighbors: usize,
    solver: Solver,
    seed: u64,
}

impl LaplacianEigenmapsBuilder {
    /// Neighbours a row (k), at least 1. Default 12. A row is never its own neighbour; scikit-learn's
    /// `SpectralEmbedding` counts the row itself, so its `n_neighbors` is one more.
    #[must_use]
    pub fn n_neighbors(mut self, n_neighbors: usize) -> Self {
        self.n_neighbors = n_neighbors;
        self
    }

    /// How the eigenvectors are found. Default [`Solver::Auto`].
    #[must_use]
    pub fn solver(mut self, solver: Solver) -> Self {
        self.solver = solver;
        self
    }

    /// Seed of the eigensolver's start vectors. Default 0.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Checks what can be checked without data.
    ///
    /// # Errors
    /// [`crate::ManifoldError::InvalidParameter`] for zero components or neighbours.
    pub fn build(self) -> Result<LaplacianEigenmaps> {
        // The same rules as for standard LLE.
        Lle::builder(self.n_components)
            .n_neighbors(self.n_neighbors)
            .build()?;
        if self.solver == Solver::Landmarks {
            return Err(ManifoldError::InvalidParameter {
                name: "solver",
                value: "'landmarks'".to_owned(),
                requirement: "auto, dense or exact for Laplacian eigenmaps".to_owned(),
            });
        }
        Ok(LaplacianEigenmaps(self))
    }
}

/// Laplacian eigenmaps with checked parameters. Made by [`LaplacianEigenmaps::builder`].
#[derive(Debug, Clone, PartialEq)]
pub struct LaplacianEigenmaps(LaplacianEigenmapsBuilder);

/// A fitted embedding.
#[derive(Debug, Clone)]
pub struct LaplacianFit {
    /// Shape (rows, `n_components`), in the order of the input's rows.
    pub embedding: Array2<f64>,
    /// What happened on the way.
    pub diagnostics: LaplacianDiagnostics,
}

/// What a fit found and did.
#[derive(Debug, Clone)]
pub struct LaplacianDiagnostics {
    /// Rows of the input.
    pub rows: usize,
    /// Rows left after exact duplicates were merged.
    pub distinct_rows: usize,
    /// Columns of the input.
    pub dimensions: usize,
    /// Connected components of the neighbour graph before they were joined.
    pub connected_components: usize,
    /// Edges that join them.
    pub connecting_edges: usize,
    /// The solver that ran.
    pub solver: Solver,
    /// The sparse solver's fill-reducing order and the size of its factor.
    pub factor: Option<Factor>,
    /// Eigenvalues of the normalised Laplacian, ascending, one a component, the trivial 0 left out.
    pub eigenvalues: Vec<f64>,
    /// ‖Lv − λv‖ of each eigenpair, ‖v‖ = 1.
    pub residuals: Vec<f64>,
    /// Seconds by phase.
    pub seconds: Vec<(Phase, f64)>,
    /// The largest sum of reserved bytes.
    pub peak_reserved_bytes: usize,
}

impl LaplacianEigenmaps {
    /// Starts from the defaults listed on [`LaplacianEigenmapsBuilder`].
    pub fn builder(n_components: usize) -> LaplacianEigenmapsBuilder {
        LaplacianEigenmapsBuilder {
            n_components,
            n_neighbors: 12,
            solver: Solver::Auto,
            seed: 0,
        }
    }

    /// Embeds the rows of `features`, shape (n, D), by the eigenvectors of the normalised Laplacian of their
    /// symmetric nearest-neighbour graph, each divided by the square root of the degrees (Belkin and Niyogi
    /// 2003, section 2, with weights ½ for one-sided neighbours and 1 for mutual ones): scikit-learn's
    /// `SpectralEmbedding(affinity='nearest_neighbors')`, up to the shift and scale of a column.
    ///
    /// A graph that falls apart is connected by its components' nearest pairs. Duplicates, scale, order and
    /// signs are treated as in [`Lle::fit`], and the same promise of equal bits holds.
    ///
    /// # Errors
    /// As [`Lle::fit`]; `n_components` may exceed D.
    pub fn fit<T: Feature>(
        &self,
        features: ArrayView2<'_, T>,
        control: &dyn Control,
    ) -> Result<LaplacianFit> {
        T::laplacian_eigenmaps(self, features, control)
    }

    pub(crate) fn fit_distinct<T: Feature>(
        &self,
        features: ArrayView2<'_, T>,
        control: &dyn Control,
    ) -> Result<LaplacianFit> {
        let LaplacianEigenmapsBuilder {
            n_components,
            n_neighbors,
            solver,
            seed,
        } = self.0;
        let (rows, dimensions) = features.dim();
        let budget = Budget::new(control);
        let clock = Clock::new();
        if rows == 0 {
            check_rows(n_components, n_neighbors, 0, 0)?;
        }
        control.progress(Phase::Deduplicate, 0, 1);
        let copy = rows * dimensions * size_of::<T>();
        budget.reserve("a sorted copy of the features", 2 * copy + rows * 8)?;
        let distinct = DistinctRows::new(features, control)?;
        budget.release(copy);
        let points = distinct.points();
        let n = points.len();
        check_rows(n_components, n_neighbors, rows, n)?;
        solver::check_size(solver, n)?;
        control.progress(Phase::Deduplicate, 1, 1);
        clock.lap(Phase::Deduplicate);

        let search = neighbors::predicted_bytes(n, dimensions, n_neighbors);
        budget.reserve("exact neighbours", search)?;
        let graph = neighbors::self_join(points, n_neighbors, control)?;
        clock.lap(Phase::Neighbors);
        let bytes = Laplacian::predicted_bytes(n, n_neighbors);
        budget.reserve("the neighbour graph's Laplacian", bytes)?;
        let (laplacian, connections) = Laplacian::connected(points, &graph, control)?;
        clock.lap(Phase::Components);
        drop(graph);
        let row_to_point = distinct.row_to_point();
        budget.release(search + copy);

        let request = Request {
            n_components,
            solver,
            seed,
            control,
            budget: &budget,
            clock: &clock,
        };
        let numbers = 3 * n + 2 * laplacian.rows() + rows;
        budget.reserve("the embedding", numbers * n_components * size_of::<f64>())?;
        let mut pairs = solver::bottom(&laplacian, &request)?;
        for j in 0..n_components {
            let column = pairs.vectors.column_mut(j);
            let entries = column.iter_mut().zip(laplacian.root_degrees());
            entries.for_each(|(v, s)| *v /= s);
        }
        pairs.vectors.standardize();
        let embedding = scale_and_orient(&pairs.vectors);
        let embedding = Array2::from_shape_fn((rows, n_components), |(row, j)| {
            embedding.column(j)[row_to_point[row] as usize]
        });
        Ok(LaplacianFit {
            embedding,
            diagnostics: LaplacianDiagnostics {
                rows,
                distinct_rows: n,
                dimensions,
                connected_components: connections.components,
                connecting_edges: connections.edges,
                solver: pairs.solver,
                factor: pairs.factor,
                eigenvalues: pairs.values,
                residuals: pairs.residuals,
                seconds: clock.into_seconds(),
                peak_reserved_bytes: budget.peak(),
            },
        })
    }
}
