//! The choice of parameters by what they do to a sample.

mod common;

use common::swiss_roll;
use lakefold_manifold::{Choice, ChoiceOptions, Control, Lle, ManifoldError, choose_parameters};
use ndarray::{Array2, Axis, concatenate};

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
