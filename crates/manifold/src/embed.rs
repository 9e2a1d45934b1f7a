//! From distinct rows and their neighbours to an embedding: what every fit does, whoever found the neighbours.

use ndarray::Array2;

use crate::control::{Budget, Clock};
use crate::landmark_choice::choose;
use crate::matrix::Deviation;
use crate::neighbors::Neighbors;
use crate::panel::Panel;
use crate::points::{DistinctRows, Feature};
use crate::solver::{self, Operator, Request};
use crate::{Control, Factor, Lle, ManifoldError, Model, Phase, Result, Solver, landmarks, local};

/// What every phase of one fit shares.
pub(crate) struct Call<'a> {
    pub(crate) control: &'a dyn Control,
    pub(crate) budget: &'a Budget<'a>,
    pub(crate) clock: &'a Clock,
    /// The landmarks' points, where they were chosen before.
    pub(crate) landmarks: Option<&'a [u32]>,
}

/// What a solver leaves, for the distinct rows in their order.
pub(crate) struct Solved<T> {
    /// Shape (n, d).
    pub(crate) embedding: Array2<f64>,
    pub(crate) solver: Solver,
    pub(crate) factor: Option<Factor>,
    pub(crate) eigenvalues: Vec<f64>,
    pub(crate) residuals: Vec<f64>,
    /// Of the landmarks solver.
    pub(crate) model: Option<Model<T>>,
}

impl Lle {
    /// Refuses data that this cannot embed, as far as its size tells.
    pub(crate) fn check_size(&self, rows: usize, distinct: usize) -> Result<()> {
        check_rows(self.n_components(), self.n_neighbors(), rows, distinct)?;
        if self.solver() == Solver::Landmarks {
            landmarks::check(self, distinct)?;
        }
        solver::check_size(self.solver(), distinct)
    }

    /// The embedding of distinct rows whose closed components are bridged in `graph`; `solver` is no longer
    /// to be chosen between landmarks and the others. `rows` of the input will be written beside it.
    pub(crate) fn embed<T: Feature>(
        &self,
        solver: Solver,
        distinct: &DistinctRows<T>,
        graph: Neighbors,
        rows: usize,
        call: &Call<'_>,
    ) -> Result<Solved<T>> {
        let points = distinct.points();
        let deviation = local::deviation(self, points, graph, call.budget, call.control)?;
        call.clock.lap(Phase::Weights);
        // Eigenvectors, their images (also rotated) and residuals, the scaled copy, and the result.
        let numbers = 3 * points.len() + 2 * deviation.rows() + rows;
        let results = numbers * self.n_components() * size_of::<f64>();
        call.budget.reserve("the embedding", results)?;
        self.solve(solver, distinct, &deviation, call)
    }

    fn solve<T: Feature>(
        &self,
        solver: Solver,
        distinct: &DistinctRows<T>,
        deviation: &Deviation,
        call: &Call<'_>,
    ) -> Result<Solved<T>> {
        let (points, n) = (distinct.points(), deviation.len());
        if solver == Solver::Landmarks {
            let n_landmarks = self.n_landmarks(n);
            let ids = if let Some(ids) = call.landmarks {
                ids.to_vec()
            } else {
                let choice = self.landmark_choice();
                choose(points, choice, n_landmarks, self.seed(), call.control)?
            };
            let solved = landmarks::solve(
                points,
                deviation,
                &landmarks::Request {
                    lle: self,
                    n_components: self.n_components(),
                    landmarks: &ids,
                    per_row: self.landmark_neighbors(n_landmarks),
                    reg: self.reg(),
                    seed: self.seed(),
                    control: call.control,
                    budget: call.budget,
                    clock: call.clock,
                },
            )?;
            Ok(Solved {
                solver,
                factor: None,
                model: Some(Model {
                    projection: solved.projection,
                    embedding: solved.embedding,
                    enlarged: distinct.enlarged(),
                }),
                embedding: solved.rows,
                eigenvalues: solved.eigenvalues,
                residuals: solved.residuals,
            })
        } else {
            let request = Request {
                n_components: self.n_components(),
                solver,
                seed: self.seed(),
                control: call.control,
                budget: call.budget,
                clock: call.clock,
            };
            let pairs = solver::bottom(deviation, &request)?;
            let vectors = scale_and_orient(&pairs.vectors);
            Ok(Solved {
                embedding: Array2::from_shape_fn((n, self.n_components()), |(i, j)| {
                    vectors.column(j)[i]
                }),
                solver: pairs.solver,
                factor: pairs.factor,
                eigenvalues: pairs.values,
                residuals: pairs.residuals,
                model: None,
            })
        }
    }
}

pub(crate) fn check_rows(
    n_components: usize,
    n_neighbors: usize,
    rows: usize,
    distinct: usize,
) -> Result<()> {
    let found = if rows == distinct {
        format!("{rows}")
    } else {
        format!("{distinct} ({rows} rows with duplicates)")
    };
    let needs = |name, value: usize, least: usize| {
        let highest = (value + distinct).saturating_sub(least);
        let lower = if highest > 0 {
            format!("lower {name} to at most {highest}, or fit more rows")
        } else {
            "fit more rows".to_owned()
        };
        Err(ManifoldError::ParameterNeedsMoreData {
            name,
            value,
            requirement: format!("at least {least} distinct rows"),
            found: found.clone(),
            remedy: lower,
        })
    };
    if distinct < n_components + 2 {
        return needs("n_components", n_components, n_components + 2);
    }
    if distinct < n_neighbors + 1 {
        return needs("n_neighbors", n_neighbors, n_neighbors + 1);
    }
    Ok(())
}

/// Variance 1 a column, and the entry of largest magnitude positive.
pub(crate) fn scale_and_orient(vectors: &Panel) -> Panel {
    let mut embedding = vectors.clone();
    let scale = (vectors.rows() as f64).sqrt();
    for j in 0..vectors.columns() {
        let column = embedding.column_mut(j);
        let largest =
            column.iter().fold(
                0.0f64,
                |largest, v| if v.abs() > largest.abs() { *v } else { largest },
            );
        let factor = scale.copysign(largest);
        column.iter_mut().for_each(|v| *v *= factor);
    }
    embedding
}
