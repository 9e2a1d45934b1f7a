//! What 'auto' stands for: parameters chosen by what they do to a sample of the rows.

use ndarray::ArrayView2;

use crate::auto::{Choice, ChoiceOptions, choose_parameters};
use crate::control::{Budget, stop_if_cancelled};
use crate::intrinsic_dimension::{DimensionOptions, IntrinsicDimension, intrinsic_dimension};
use crate::points::{Feature, Points, enlarge};
use crate::sample::smallest_hashes;
use crate::solver_choice::{EXACT_ROWS, SAMPLE};
use crate::trials::Part;
use crate::{Control, DEFAULT_LANDMARKS, Lle, Method, Phase, Result, Solver};

/// From so many rows on, combinations of landmarks are worth a trial.
const LANDMARK_ROWS: usize = 400;

/// Why automatic parameters are what they are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// Behind `n_components`.
    pub dimension: Option<IntrinsicDimension>,
    /// Behind `n_neighbors`, `reg`, and the landmarks a row.
    pub choice: Option<Choice>,
}

/// One way to fit: what is tried, and what its landmarks are.
#[derive(Debug, Clone, Copy)]
struct Profile {
    solver: Solver,
    n_neighbors: usize,
    reg: f64,
    landmark_neighbors: Option<usize>,
}

/// The profiles of standard LLE, from a thin surface to a cloud. They were chosen by measurement
/// (`cargo run -p lakefold-benches --bin bench_choice`): a smooth surface wants weights that reconstruct it
/// exactly, real vectors of hundreds of dimensions want wide and even averages.
const EXACT: [(usize, f64); 4] = [(12, 1e-3), (12, 1.0), (30, 0.1), (60, 0.1)];
const LANDMARKS: [(usize, f64, usize); 2] = [(12, 1e-3, 12), (30, 1.0, 100)];
/// Neighbours for the other methods, or as many as they need.
const NEIGHBORS: [usize; 3] = [12, 30, 60];

impl Lle {
    /// Parameters without 'auto' for `features` (n, D), and the evidence for them.
    ///
    /// # Errors
    /// Those of [`choose_parameters`] and [`intrinsic_dimension`].
    pub(crate) fn resolve<T: Feature>(
        &self,
        features: ArrayView2<'_, T>,
        control: &dyn Control,
    ) -> Result<(Lle, Evidence)> {
        stop_if_cancelled(control)?;
        control.progress(Phase::Choice, 0, 1);
        crate::points::check(features)?;
        let options = ChoiceOptions {
            seed: self.seed(),
            ..ChoiceOptions::default()
        };
        let dimensions = features.ncols();
        let sampled = smallest_hashes(features, options.seed, options.sample).len();
        let mut evidence = Evidence::default();
        let mut lle = self.clone();
        if self.has_auto_components() {
            let most = dimensions.min(sampled.saturating_sub(2)).max(1);
            let mut n_components = 1;
            if sampled > 3 {
                let estimate = DimensionOptions {
                    seed: self.seed(),
                    ..DimensionOptions::default()
                };
                let found = intrinsic_dimension(features, &estimate, &Part(control))?;
                n_components = found.n_components(dimensions);
                evidence.dimension = Some(found);
            }
            lle = lle.with_n_components(n_components.min(most))?;
        }
        if !self.has_auto_neighbors() && !self.has_auto_reg() {
            return Ok((lle, evidence));
        }
        let most_exact = lle.most_exact_neighbors(features, control)?;
        let profiles = lle.profiles(most_exact, sampled);
        let candidates = |sampled| {
            let candidates = profiles.iter();
            candidates
                .map(|profile| lle.with_profile(profile, sampled))
                .collect::<Result<Vec<_>>>()
        };
        let (trials, finals) = (candidates(Some(sampled))?, candidates(None)?);
        // Too few rows to tell candidates apart; the fit says what it needs.
        if sampled < 4 || finals.len() == 1 {
            return Ok((finals[0].clone(), evidence));
        }
        let choice = choose_parameters(features, &trials, &options, control)?;
        let chosen = finals[choice.best].clone();
        evidence.choice = Some(choice);
        Ok((chosen, evidence))
    }

    /// With how many neighbours at most an exact fit is worth a trial, see [`Lle::exact_pays`]: an order for
    /// fewer neighbours is never the harder one.
    fn most_exact_neighbors<T: Feature>(
        &self,
        features: ArrayView2<'_, T>,
        control: &dyn Control,
    ) -> Result<usize> {
        let (rows, dimensions) = features.dim();
        match self.solver() {
            Solver::Auto if rows > EXACT_ROWS => {}
            Solver::Landmarks => return Ok(0),
            _ => return Ok(usize::MAX),
        }
        let sample = smallest_hashes(features, self.seed(), SAMPLE);
        if sample.len() < SAMPLE {
            // So few are distinct.
            return Ok(usize::MAX);
        }
        let budget = Budget::new(control);
        let bytes = SAMPLE * dimensions * size_of::<T>();
        budget.reserve("a sample to predict the factorisation on", bytes)?;
        let values = sample.iter().flat_map(|&row| features.row(row));
        let mut values: Vec<T> = values.map(|v| v.canonical()).collect();
        enlarge(&mut values);
        let sample = Points::new(&values, dimensions);
        let mut counts = match (self.has_auto_neighbors(), self.method()) {
            (false, _) => vec![self.n_neighbors()],
            (true, Method::Standard) => EXACT.map(|(k, _)| k).to_vec(),
            (true, _) => NEIGHBORS.to_vec(),
        };
        counts.dedup();
        let mut most = 0;
        for k in counts {
            if !self.exact_pays(sample, rows, k, &budget, &Part(control))? {
                break;
            }
            most = k;
        }
        Ok(most)
    }

    fn profiles(&self, most_exact: usize, sampled: usize) -> Vec<Profile> {
        let landmarks = match self.solver() {
            Solver::Auto => sampled >= LANDMARK_ROWS,
            solver => solver == Solver::Landmarks,
        };
        let least = self.method().least_neighbors(self.n_components()).0;
        let most = sampled.saturating_sub(1).max(1);
        let fitting = |k: usize| k.max(least).min(most.max(least));
        let asked = |k: usize| {
            if self.has_auto_neighbors() {
                fitting(k)
            } else {
                self.n_neighbors()
            }
        };
        let mut profiles = vec![];
        let mut add = |solver, n_neighbors, reg, landmark_neighbors| {
            profiles.push(Profile {
                solver,
                n_neighbors: asked(n_neighbors),
                reg: if self.has_auto_reg() { reg } else { self.reg() },
                landmark_neighbors,
            });
        };
        let solver = |kind| match self.solver() {
            Solver::Auto => kind,
            asked => asked,
        };
        if self.method() == Method::Standard {
            for (k, reg) in EXACT {
                if asked(k) <= most_exact || !landmarks {
                    add(solver(Solver::Exact), k, reg, None);
                }
            }
            for (k, reg, per_row) in LANDMARKS.into_iter().filter(|_| landmarks) {
                add(Solver::Landmarks, k, reg, Some(per_row));
            }
        } else {
            for k in NEIGHBORS {
                let kind = if asked(k) <= most_exact {
                    Solver::Exact
                } else {
                    Solver::Landmarks
                };
                add(solver(kind), k, 1e-3, None);
            }
        }
        let mut seen: Vec<(Solver, usize, f64)> = vec![];
        profiles.retain(|profile| {
            let key = (profile.solver, profile.n_neighbors, profile.reg);
            let new = !seen.contains(&key) || profile.landmark_neighbors.is_some();
            seen.push(key);
            new
        });
        profiles
    }

    /// With `sampled`, for a trial on so many rows.
    fn with_profile(&self, profile: &Profile, sampled: Option<usize>) -> Result<Lle> {
        let mut builder = self
            .to_builder()
            .n_neighbors(profile.n_neighbors)
            .reg(profile.reg)
            .solver(profile.solver);
        let most = sampled.map_or(usize::MAX, |rows| rows / 2);
        let asked = self.asked_landmarks().unwrap_or(DEFAULT_LANDMARKS);
        if profile.solver == Solver::Landmarks {
            if asked > most || self.asked_landmarks().is_some() {
                builder = builder.n_landmarks(asked.min(most));
            }
            if self.asked_landmark_neighbors().is_none()
                && let Some(per_row) = profile.landmark_neighbors
            {
                builder = builder.landmark_neighbors(per_row.min(asked.min(most)));
            }
        }
        builder.build()
    }
}
