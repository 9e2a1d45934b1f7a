//! What 'auto' stands for: parameters chosen by what they do to a sample of the rows.

use ndarray::ArrayView2;

use crate::auto::{Choice, ChoiceOptions, choose_parameters};
use crate::control::stop_if_cancelled;
use crate::intrinsic_dimension::{DimensionOptions, IntrinsicDimension, intrinsic_dimension};
use crate::points::Feature;
use crate::sample::smallest_hashes;
use crate::{Control, DEFAULT_LANDMARKS, Lle, Method, Phase, ReserveError, Result, Solver};

/// Up to this many rows [`Solver::Auto`] solves exactly.
pub(crate) const EXACT_ROWS: usize = 10_000;
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
        let (rows, dimensions) = features.dim();
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
        let profiles = lle.profiles(rows, sampled);
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
        let choice = choose_parameters(features, &trials, &options, &Part(control))?;
        let chosen = finals[choice.best].clone();
        evidence.choice = Some(choice);
        control.progress(Phase::Choice, 1, 1);
        Ok((chosen, evidence))
    }

    fn profiles(&self, rows: usize, sampled: usize) -> Vec<Profile> {
        let exact = match self.solver() {
            Solver::Auto => rows <= EXACT_ROWS,
            Solver::Exact | Solver::Dense => true,
            Solver::Landmarks => false,
        };
        let landmarks = match self.solver() {
            Solver::Auto => sampled >= LANDMARK_ROWS,
            solver => solver == Solver::Landmarks,
        };
        let least = self.method().least_neighbors(self.n_components()).0;
        let most = sampled.saturating_sub(1).max(1);
        let fitting = |k: usize| k.max(least).min(most.max(least));
        let mut profiles = vec![];
        let mut add = |solver, n_neighbors, reg, landmark_neighbors| {
            profiles.push(Profile {
                solver,
                n_neighbors: if self.has_auto_neighbors() {
                    fitting(n_neighbors)
                } else {
                    self.n_neighbors()
                },
                reg: if self.has_auto_reg() { reg } else { self.reg() },
                landmark_neighbors,
            });
        };
        let solver = |kind| match self.solver() {
            Solver::Auto => kind,
            asked => asked,
        };
        if self.method() == Method::Standard {
            for (k, reg) in EXACT.into_iter().filter(|_| exact || !landmarks) {
                add(solver(Solver::Exact), k, reg, None);
            }
            for (k, reg, per_row) in LANDMARKS.into_iter().filter(|_| landmarks) {
                add(Solver::Landmarks, k, reg, Some(per_row));
            }
        } else {
            let kind = if exact {
                Solver::Exact
            } else {
                Solver::Landmarks
            };
            for k in NEIGHBORS {
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

/// A part of a choice: it stops and takes memory like the whole, but its progress is not news.
struct Part<'a>(&'a dyn Control);

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
