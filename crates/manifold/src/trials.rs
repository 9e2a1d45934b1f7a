//! Several fits of the same few rows, and their measures: what they have in common is computed once.

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use crate::components::bridge;
use crate::control::{Budget, Clock, Meter};
use crate::embed::Call;
use crate::fit::check_dimensions;
use crate::landmark_choice;
use crate::neighbors::{self, Neighbors};
use crate::points::{DistinctRows, Feature};
use crate::quality::{Quality, QualityOptions, measure_each};
use crate::{Control, LandmarkChoice, Lle, ManifoldError, Phase, ReserveError, Result, Solver};

/// Below so many rows candidates are fitted one after the other: it takes no time, and LAPACK, which may be
/// the faster solver there, is not chosen where there is no memory for it.
const FEW: usize = 1000;

/// The sample, and what candidates share of it.
struct Shared<T> {
    distinct: DistinctRows<T>,
    /// Bridged neighbours, one graph for each number of them.
    graphs: Vec<Neighbors>,
    landmarks: Vec<(Wanted, Vec<u32>)>,
}

/// Which landmarks a candidate asks for: their choice, number and seed.
type Wanted = (LandmarkChoice, usize, u64);

fn wanted(lle: &Lle, n: usize) -> Option<Wanted> {
    let wanted = (lle.landmark_choice(), lle.n_landmarks(n), lle.seed());
    (lle.solver() == Solver::Landmarks).then_some(wanted)
}

/// Fits the distinct `rows` of `features` with each of `candidates` and measures with `n_neighbors`: the
/// measures of a candidate's own fit of these rows, to the bit, or its error.
pub(crate) fn run<T: Feature>(
    features: ArrayView2<'_, T>,
    rows: &[usize],
    candidates: &[Lle],
    n_neighbors: usize,
    control: &dyn Control,
) -> Result<Vec<Result<Quality>>> {
    let quiet = Part(control);
    let meter = Meter::new(control, Phase::Choice, candidates.len() as u64);
    let (n, dimensions) = (rows.len(), features.ncols());
    let budget = Budget::new(control);
    let copy = n * dimensions * size_of::<T>();
    budget.reserve("a sample to choose parameters on", 3 * copy + n * 8)?;
    let distinct = DistinctRows::new(features.select(Axis(0), rows).view(), &quiet)?;
    budget.release(2 * copy);
    let points = distinct.points();

    let checked: Vec<Result<()>> = candidates
        .iter()
        .map(|lle| check_dimensions(lle, n, dimensions).and_then(|()| lle.check_size(n, n)))
        .collect();
    // The nearest of many neighbours are those of few.
    let fitting = candidates.iter().zip(&checked);
    let fitting: Vec<&Lle> = fitting
        .filter_map(|(lle, checked)| checked.is_ok().then_some(lle))
        .collect();
    let mut counts: Vec<usize> = fitting.iter().map(|lle| lle.n_neighbors()).collect();
    counts.sort_unstable();
    counts.dedup();
    let most = counts.last().map_or(n_neighbors, |&k| k.max(n_neighbors));
    let search = neighbors::predicted_bytes(n, dimensions, most);
    budget.reserve("the search for exact neighbours", search)?;
    let ids = (counts.iter().sum::<usize>() + n_neighbors) * n * size_of::<u32>();
    budget.reserve("the neighbours of all candidates", ids)?;
    let all = neighbors::self_join(points, most, &quiet)?;
    let measured = all.nearest(n_neighbors);
    let mut graphs = Vec::with_capacity(counts.len());
    for k in counts {
        let mut graph = all.nearest(k);
        bridge(points, &mut graph, &quiet)?;
        graphs.push(graph);
    }
    drop(all);
    budget.release(search);

    let mut landmarks: Vec<(Wanted, Vec<u32>)> = vec![];
    for wanted in fitting.iter().filter_map(|lle| wanted(lle, n)) {
        if landmarks.iter().all(|(known, _)| *known != wanted) {
            let (choice, count, seed) = wanted;
            let ids = landmark_choice::choose(points, choice, count, seed, &quiet)?;
            landmarks.push((wanted, ids));
        }
    }
    let kept = candidates.iter().map(Lle::n_components).sum::<usize>() * n * size_of::<f64>();
    budget.reserve("the embeddings of all candidates", kept)?;
    let shared = Shared {
        distinct,
        graphs,
        landmarks,
    };
    let embeddings = shared.fit_each(candidates, &checked, &meter, &quiet)?;
    shared.measure_each(embeddings, measured, &quiet)
}

impl<T: Feature> Shared<T> {
    /// As many at a time as there are threads. Whether there is memory must not depend on what runs beside
    /// a candidate, so one that is refused memory is tried once more, alone.
    fn fit_each(
        &self,
        candidates: &[Lle],
        checked: &[Result<()>],
        meter: &Meter<'_>,
        control: &dyn Control,
    ) -> Result<Vec<Result<Array2<f64>>>> {
        let at_once = if self.distinct.points().len() < FEW {
            candidates.len()
        } else {
            1
        };
        let mut embeddings: Vec<Result<Array2<f64>>> = candidates
            .par_iter()
            .with_min_len(at_once)
            .with_max_len(at_once)
            .zip(checked)
            .map(|(lle, checked)| {
                meter.check()?;
                let embedding = checked.clone().and_then(|()| self.fit(lle, control));
                meter.add(1);
                embedding
            })
            .collect();
        for (lle, embedding) in candidates.iter().zip(&mut embeddings) {
            if let Err(ManifoldError::Memory(_)) = embedding {
                *embedding = self.fit(lle, control);
            }
            if let Err(ManifoldError::Cancelled) = embedding {
                return Err(ManifoldError::Cancelled);
            }
        }
        Ok(embeddings)
    }

    /// Of the distinct rows in their order.
    fn fit(&self, lle: &Lle, control: &dyn Control) -> Result<Array2<f64>> {
        let points = self.distinct.points();
        let n = points.len();
        let graph = self.graphs.iter().find(|g| g.k == lle.n_neighbors());
        // What is left to the data is the candidate's own affair.
        let (Some(graph), false) = (graph, lle.is_auto()) else {
            let rows = ArrayView2::from_shape((n, points.dimensions()), self.distinct.values());
            let rows = rows.map_err(|error| ManifoldError::LinearAlgebra {
                operation: "the shape of the sample",
                detail: error.to_string(),
            })?;
            return Ok(lle.fit(rows, control)?.embedding);
        };
        let (budget, clock) = (Budget::new(control), Clock::new());
        let wanted = wanted(lle, n);
        let landmarks = self.landmarks.iter();
        let landmarks = landmarks.filter(|(known, _)| Some(*known) == wanted);
        let landmarks: Option<&[u32]> = landmarks.map(|(_, ids)| ids.as_slice()).next();
        let call = Call {
            control,
            budget: &budget,
            clock: &clock,
            landmarks,
        };
        let solver = lle.choose_solver(points, &budget, control)?;
        let solved = lle.embed(solver, &self.distinct, graph.clone(), 0, &call)?;
        Ok(solved.embedding)
    }

    fn measure_each(
        &self,
        embeddings: Vec<Result<Array2<f64>>>,
        neighbors: Neighbors,
        control: &dyn Control,
    ) -> Result<Vec<Result<Quality>>> {
        let errors: Vec<Option<ManifoldError>> = embeddings
            .iter()
            .map(|embedding| embedding.as_ref().err().cloned())
            .collect();
        let fitted: Vec<Array2<f64>> = embeddings.into_iter().flatten().collect();
        let points = self.distinct.points();
        let reg = QualityOptions::default().reg;
        let mut measured = measure_each(points, neighbors, &fitted, reg, control)?.into_iter();
        let outcomes = errors.into_iter().map(|error| match error {
            Some(error) => Err(error),
            None => measured
                .next()
                .unwrap_or_else(|| unreachable!("one an embedding")),
        });
        Ok(outcomes.collect())
    }
}

/// A part of a choice: it stops and takes memory like the whole, but its progress is not news.
pub(crate) struct Part<'a>(pub(crate) &'a dyn Control);

impl Control for Part<'_> {
    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    fn reserve(&self, purpose: &str, bytes: usize) -> Result<(), ReserveError> {
        self.0.reserve(purpose, bytes)
    }

    fn release(&self, bytes: usize) {
        self.0.release(bytes);
    }
}
