//! Parameters chosen by what they do to the data.

use ndarray::ArrayView2;

use crate::quality::Quality;
use crate::sample::smallest_hashes;
use crate::{Control, Feature, Lle, ManifoldError, Result, trials};

/// How [`choose_parameters`] compares. The defaults are those of [`ChoiceOptions::default`].
#[derive(Debug, Clone, PartialEq)]
pub struct ChoiceOptions {
    /// At most this many distinct rows are fitted and measured, once for every candidate: those with the
    /// smallest seeded hashes. Default 2,000.
    pub sample: usize,
    /// Neighbours a row for the measures, the same for every candidate; at most just below half of the
    /// sample. Default 12.
    pub n_neighbors: usize,
    /// Seed of the sample. Default 0.
    pub seed: u64,
}

impl Default for ChoiceOptions {
    fn default() -> Self {
        Self {
            sample: 2000,
            n_neighbors: 12,
            seed: 0,
        }
    }
}

/// One candidate's fit of the sample, measured, or why there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// The candidate.
    pub lle: Lle,
    /// Its measures on the sample, or the error of its fit.
    pub outcome: Result<Quality>,
}

impl Trial {
    /// The trustworthiness: an embedding should not invent neighbours. (On the Debian vectors the accuracy
    /// of labels follows it; continuity, which prefers many small pieces whole, does not.) `None` if the
    /// candidate was refused.
    pub fn score(&self) -> Option<f64> {
        let quality = self.outcome.as_ref().ok()?;
        Some(quality.trustworthiness)
    }
}

/// Scores this close are equal: the candidate that stands first, the more usual one, is taken.
const CLOSE: f64 = 0.002;

/// What [`choose_parameters`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Place of the best candidate in `trials`; of those within 0.002 of the best score the first.
    pub best: usize,
    /// Every candidate, in the order given.
    pub trials: Vec<Trial>,
    /// Rows that were fitted.
    pub sampled_rows: usize,
}

impl Choice {
    /// The best candidate.
    pub fn lle(&self) -> &Lle {
        &self.trials[self.best].lle
    }
}

/// Fits a sample of `features` (n, D) with each of `candidates` and names the one whose embedding keeps
/// neighbours best. The same for any order of the rows.
///
/// Neighbours, landmarks, distances and ranks in the features are computed once for all candidates, and as many
/// candidates are fitted at a time as there are threads; one that then finds no memory is fitted again
/// alone. Progress is told in candidates, as [`crate::Phase::Choice`].
///
/// A candidate that this data refuses (too many neighbours, no convergence) takes no part; its error is in
/// its [`Trial`]. A sample is thinner than the whole: a neighbour count that wins there spans a wider
/// piece of the data than the same count among all rows.
///
/// # Errors
/// [`ManifoldError::InvalidParameter`] without candidates or for zero `n_neighbors`; the first candidate's
/// error if all are refused; [`ManifoldError::ParameterNeedsMoreData`] for fewer than three distinct rows;
/// [`ManifoldError::Cancelled`].
pub fn choose_parameters<T: Feature>(
    features: ArrayView2<'_, T>,
    candidates: &[Lle],
    options: &ChoiceOptions,
    control: &dyn Control,
) -> Result<Choice> {
    T::choose(features, candidates, options, control)
}

pub(crate) fn choose<T: Feature>(
    features: ArrayView2<'_, T>,
    candidates: &[Lle],
    options: &ChoiceOptions,
    control: &dyn Control,
) -> Result<Choice> {
    crate::points::check(features)?;
    let rows = smallest_hashes(features, options.seed, options.sample);
    // The largest that leaves the measures defined; a fit needs three rows anyway.
    let n_neighbors = options.n_neighbors.min(rows.len().saturating_sub(1) / 2);
    check_options(candidates, options)?;
    if rows.len() < 3 {
        return Err(ManifoldError::ParameterNeedsMoreData {
            name: "n_neighbors",
            value: candidates[0].n_neighbors(),
            requirement: "at least 3 distinct rows to choose parameters on".to_owned(),
            found: rows.len().to_string(),
            remedy: "give the parameters or more rows".to_owned(),
        });
    }
    let outcomes = trials::run(features, &rows, candidates, n_neighbors, control)?;
    let trials = candidates.iter().zip(outcomes);
    let trials: Vec<Trial> = trials
        .map(|(lle, outcome)| Trial {
            lle: lle.clone(),
            outcome,
        })
        .collect();
    for trial in &trials {
        tracing::debug!(score = ?trial.score(), ?trial.lle, "candidate");
    }
    let highest = trials.iter().filter_map(Trial::score).reduce(f64::max);
    let best = trials
        .iter()
        .position(|trial| trial.score() >= highest.map(|score| score - CLOSE) && highest.is_some());
    match (best, trials[0].outcome.clone()) {
        (Some(best), _) => Ok(Choice {
            best,
            trials,
            sampled_rows: rows.len(),
        }),
        (None, outcome) => Err(outcome.err().unwrap_or(ManifoldError::Cancelled)),
    }
}

fn check_options(candidates: &[Lle], options: &ChoiceOptions) -> Result<()> {
    let (name, value) = if candidates.is_empty() {
        ("candidates", "none")
    } else if options.n_neighbors == 0 {
        ("n_neighbors", "0")
    } else {
        return Ok(());
    };
    Err(ManifoldError::InvalidParameter {
        name,
        value: value.to_owned(),
        requirement: "at least 1".to_owned(),
    })
}
