//! The choice of parameters by what they do to a sample.

mod common;

use common::swiss_roll;
use lakefold_manifold::{
    Choice, ChoiceOptions, Control, LandmarkChoice, Lle, ManifoldError, Phase, QualityOptions,
    Solver, choose_parameters, embedding_quality, smallest_hashes,
};
use ndarray::{Array2, Axis, concatenate};
use std::sync::Mutex;

fn candidates(pairs: &[(usize, f64)]) -> Vec<Lle> {
    let lle = |&(k, reg): &(usize, f64)| Lle::builder(2).n_neighbors(k).reg(reg).build().unwrap();
    pairs.iter().map(lle).collect()
}

fn choose(features: &Array2<f64>, pairs: &[(usize, f64)]) -> Choice {
    let options = ChoiceOptions {
        sample: 600,
        ..ChoiceOptions::default()
    };
    choose_parameters(features.view(), &candidates(pairs), &options, &()).unwrap()
}

/// Neighbourhoods of 200 among 600 rows reach across the turns of the roll, the more so the more evenly
/// they are weighted.
#[test]
fn neighbourhoods_that_cut_through_the_roll_lose() {
    let choice = choose(&swiss_roll(1500, 1), &[(200, 1e-3), (10, 1e-3), (200, 1.0)]);
    assert_eq!(choice.best, 1, "{choice:?}");
    assert_eq!(choice.lle().n_neighbors(), 10);
    assert_eq!((choice.sampled_rows, choice.trials.len()), (600, 3));
    let scores: Vec<f64> = choice
        .trials
        .iter()
        .map(|trial| trial.score().unwrap())
        .collect();
    assert!(scores[1] > scores[2] + 0.02, "{scores:?}");
}

#[test]
fn order_and_duplicates_change_no_bit() {
    let rows = swiss_roll(900, 2);
    let pairs = [(8, 1e-3), (12, 1e-1)];
    let order: Vec<usize> = (0..900).map(|i| (i * 7 + 3) % 900).collect();
    let doubled = concatenate![Axis(0), rows.select(Axis(0), &order), rows];
    assert_eq!(choose(&doubled, &pairs), choose(&rows, &pairs));
}

/// What candidates share, and what runs beside them, leaves no trace. 700 rows are fitted one after the other,
/// 1,100 at the same time.
#[test]
fn a_trial_is_the_candidates_own_fit_to_the_bit() {
    let near = swiss_roll(1150, 4);
    let far = swiss_roll(50, 5) * 0.1 + 300.0;
    let features = concatenate![Axis(0), near, far];
    let landmarks = |choice| {
        let lle = Lle::builder(2).solver(Solver::Landmarks).n_landmarks(200);
        lle.landmark_neighbors(20).landmark_choice(choice)
    };
    let candidates = [
        Lle::builder(2).n_neighbors(9),
        Lle::builder(3).n_neighbors(12).reg(0.1),
        Lle::builder(2).n_neighbors(40),
        Lle::builder(2).n_neighbors(5000),
        Lle::builder(2).auto_reg(),
        landmarks(LandmarkChoice::Uniform),
        landmarks(LandmarkChoice::Farthest).n_neighbors(9),
    ]
    .map(|lle| lle.build().unwrap());
    for sample in [700, 1100] {
        let options = ChoiceOptions {
            sample,
            ..ChoiceOptions::default()
        };
        let choice = choose_parameters(features.view(), &candidates, &options, &()).unwrap();
        let rows = features.select(Axis(0), &smallest_hashes(features.view(), 0, sample));
        let quality = QualityOptions::default();
        for trial in choice.trials {
            let own = trial.lle.fit(rows.view(), &()).and_then(|fit| {
                embedding_quality(rows.view(), fit.embedding.view(), &quality, &())
            });
            assert_eq!(trial.outcome, own, "{:?}", trial.lle);
        }
    }
}

#[test]
fn progress_is_told_in_candidates() {
    struct Told(Mutex<Vec<(Phase, u64, u64)>>);
    impl Control for Told {
        fn progress(&self, phase: Phase, done: u64, total: u64) {
            self.0.lock().unwrap().push((phase, done, total));
        }
    }
    let told = Told(Mutex::default());
    let candidates = candidates(&[(8, 1e-3), (12, 1e-3), (12, 1.0)]);
    let options = ChoiceOptions::default();
    choose_parameters(swiss_roll(1200, 1).view(), &candidates, &options, &told).unwrap();
    let mut told = told.0.into_inner().unwrap();
    told.sort_by_key(|&(_, done, _)| done);
    assert_eq!(told, [0, 1, 2, 3].map(|done| (Phase::Choice, done, 3)));
}

#[test]
fn refused_candidates_are_reported_and_equals_go_to_the_first() {
    let choice = choose(&swiss_roll(10, 3), &[(12, 1e-3), (5, 1e-3), (5, 1e-3)]);
    assert_eq!(choice.best, 1);
    let refused = choice.trials[0].outcome.as_ref().unwrap_err().to_string();
    assert!(
        refused.starts_with("n_neighbors = 12 needs at least 13 distinct rows"),
        "{refused}"
    );
    assert_eq!(choice.trials[0].score(), None);
}

#[test]
fn impossible_requests_say_what_to_do() {
    let error = |features: &Array2<f64>, pairs: &[(usize, f64)], options: &ChoiceOptions| {
        let chosen = choose_parameters(features.view(), &candidates(pairs), options, &());
        chosen.unwrap_err().to_string()
    };
    let default = ChoiceOptions::default();
    let none = ChoiceOptions {
        n_neighbors: 0,
        ..ChoiceOptions::default()
    };
    let rows = swiss_roll(10, 3);
    let messages = [
        error(&rows, &[], &default),
        error(&rows, &[(5, 1e-3)], &none),
        error(&rows, &[(12, 1e-3), (15, 1e-3)], &default),
        error(&Array2::ones((50, 3)), &[(5, 1e-3)], &default),
        error(&Array2::zeros((0, 3)), &[(5, 1e-3)], &default),
        error(&(rows.clone() * f64::NAN), &[(5, 1e-3)], &default),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn a_cancelled_choice_stops() {
    struct Cancelled;
    impl Control for Cancelled {
        fn is_cancelled(&self) -> bool {
            true
        }
    }
    let (features, options) = (swiss_roll(200, 0), ChoiceOptions::default());
    let stopped = choose_parameters(
        features.view(),
        &candidates(&[(8, 1e-3)]),
        &options,
        &Cancelled,
    );
    assert_eq!(stopped, Err(ManifoldError::Cancelled));
}
