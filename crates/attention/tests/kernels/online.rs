//! States: any split of the rows, merged in any order, gives the attention of all of them.

use lakefold_attention::{GroupedStates, OnlineState, Query, Similarity};
use ndarray::Array2;
use proptest::prelude::*;

use crate::reference::{Scores, attention, numbers};

const D_K: usize = 6;
const D_V: usize = 5;

fn query(values: &[f32]) -> Query {
    Query::new(values, Similarity::Dot, Some(1.5)).unwrap()
}

fn flat(array: &Array2<f32>) -> &[f32] {
    array.as_slice().unwrap()
}

/// The state of the rows that `own` picks.
fn state(
    q: &Array2<f32>,
    k: &Array2<f32>,
    v: &Array2<f32>,
    own: impl Fn(usize) -> bool,
) -> OnlineState {
    let mut state = OnlineState::new(D_V);
    state
        .absorb(&query(flat(q)), flat(k), flat(v), own)
        .unwrap();
    state
}

fn expected(q: &Array2<f32>, k: &Array2<f32>, v: &Array2<f32>) -> Vec<f64> {
    let rows = k.nrows();
    let scores = Scores {
        scale: 1.5,
        softcap: 0.0,
        mask: &|_, _| 0.0,
        visible: &|_| 0..rows,
    };
    attention(q.view(), k.view(), v.view(), &scores)
        .0
        .into_raw_vec_and_offset()
        .0
}

fn assert_same(found: &[f64], expected: &[f64]) {
    let size = expected
        .iter()
        .fold(0.0_f64, |size, value| size.max(value.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() <= 1e-9 * size,
            "{found}, not {expected}"
        );
    }
}

#[test]
fn known_scores_weigh_as_computed_ones() {
    let (q, k, v) = (
        numbers::<f32>(1, D_K, 1),
        numbers(300, D_K, 2),
        numbers(300, D_V, 3),
    );
    let scores: Vec<f64> = k
        .rows()
        .into_iter()
        .map(|key| Similarity::Dot.score(flat(&q), key.as_slice().unwrap(), 1.5))
        .collect();
    let mut state = OnlineState::new(D_V);
    state
        .absorb_scores(&scores[..7], &flat(&v)[..7 * D_V])
        .unwrap();
    state
        .absorb_scores(&scores[7..], &flat(&v)[7 * D_V..])
        .unwrap();
    assert_same(&state.finish::<f64>().unwrap(), &expected(&q, &k, &v));

    let before = state.clone();
    for bad in [f64::NAN, f64::INFINITY] {
        let message = state
            .absorb_scores(&[0.0, bad], &[0.0_f32; 2 * D_V])
            .unwrap_err()
            .to_string();
        assert!(message.contains("the score of key 1"), "{message}");
    }
    assert!(state.absorb_scores(&[0.0], &[0.0_f32; 2]).is_err());
    assert_eq!(state, before);
    state
        .absorb_scores(&[f64::NEG_INFINITY], &[f32::NAN; D_V])
        .unwrap();
    assert_eq!(state, before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn any_partition_merged_in_any_tree(
        rows in 1..2_000_usize,
        parts in 1..=64_usize,
        spread in 0.1..300.0_f32,
        seed in any::<u64>(),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 128),
    ) {
        let q = numbers::<f32>(1, D_K, seed) * spread;
        let (k, v) = (numbers(rows, D_K, seed ^ 1), numbers(rows, D_V, seed ^ 2));
        let owner = |row: usize| (row as u64).wrapping_mul(seed | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let mut states: Vec<OnlineState> = (0..parts)
            .map(|part| state(&q, &k, &v, |row| owner(row) as usize % parts == part))
            .collect();
        let mut picks = picks.iter();
        while states.len() > 1 {
            let taken = states.swap_remove(picks.next().unwrap().index(states.len()));
            let into = picks.next().unwrap().index(states.len());
            // Through its parts, as a table's columns would hold it.
            let taken = OnlineState::from_parts(taken.maximum(), taken.sum(), taken.accumulator().to_vec()).unwrap();
            states[into].merge(&taken).unwrap();
        }
        let expected = expected(&q, &k, &v);
        assert_same(&states[0].finish::<f64>().unwrap(), &expected);
        prop_assert_eq!(states[0].accumulator().len(), D_V);
    }

    #[test]
    fn groups_agree_with_single_states(
        rows in 0..300_usize,
        groups in 1..7_usize,
        seed in any::<u64>(),
        first in 0..8_usize,
    ) {
        let (q, k, v) = (numbers(1, D_K, seed), numbers(rows, D_K, seed ^ 1), numbers(rows, D_V, seed ^ 2));
        let group = |row: usize| (row * 7 + row / 5) % groups;
        let mut states = GroupedStates::new(D_V);
        states.resize(groups);
        let ids: Vec<usize> = (0..rows).map(group).collect();
        let mut scores = vec![0.0; rows];
        query(flat(&q)).scores_into(flat(&k), &mut scores).unwrap();
        let mut at_once = states.clone();
        at_once.absorb(&ids, &mut scores.clone(), flat(&v)).unwrap();
        // Cut anywhere.
        let cut = first * rows / 8;
        let (before, after) = scores.split_at_mut(cut);
        states.absorb(&ids[..cut], before, &flat(&v)[..cut * D_V]).unwrap();
        states.absorb(&ids[cut..], after, &flat(&v)[cut * D_V..]).unwrap();
        let mut merged = GroupedStates::new(D_V);
        merged.resize(groups);
        for group in 0..groups {
            let accumulator = &states.accumulators()[group * D_V..(group + 1) * D_V];
            merged.merge_one(group, states.maxima()[group], states.sums()[group], accumulator).unwrap();
        }
        prop_assert_eq!(&merged, &states);
        let taken = states.take_first(first);
        prop_assert_eq!(taken.len(), first.min(groups));
        prop_assert_eq!(taken.len() + states.len(), groups);
        for own in 0..groups {
            let single = state(&q, &k, &v, |row| group(row) == own).finish::<f64>();
            let mut out = [f64::NAN; D_V];
            let any = if own < first {
                taken.finish_into(own, &mut out).unwrap()
            } else {
                states.finish_into(own - first, &mut out).unwrap()
            };
            prop_assert_eq!(any, single.is_some());
            let single = single.unwrap_or(vec![0.0; D_V]);
            assert_same(&out, &single);
            at_once.finish_into(own, &mut out).unwrap();
            assert_same(&out, &single);
        }
    }
}

#[test]
fn nothing_absorbed_is_nothing() {
    let mut state = OnlineState::new(2);
    assert_eq!(state.finish::<f32>(), None);
    let mut out = [1.0, 1.0];
    assert!(!state.finish_into(&mut out).unwrap());
    assert_eq!(out, [0.0, 0.0]);
    state.merge(&OnlineState::new(2)).unwrap();
    assert_eq!(state, OnlineState::new(2));
    let query = Query::new(&[1.0_f64], Similarity::Dot, Some(1.0)).unwrap();
    state
        .absorb(&query, &[f64::NEG_INFINITY, f64::NAN], &[1.0; 4], |row| {
            row == 0
        })
        .unwrap();
    assert_eq!(state, OnlineState::new(2));
    state.absorb::<f32>(&query, &[], &[], |_| true).unwrap();
    assert_eq!(state, OnlineState::new(2));
}

#[test]
fn huge_scores_and_null_rows() {
    let query = Query::new(&[1e4_f64], Similarity::Dot, Some(1.0)).unwrap();
    let mut state = OnlineState::new(1);
    let (keys, values) = ([-1.0, f64::NAN, 1.0, 1.0], [7.0, f64::NAN, 2.0, 4.0]);
    state
        .absorb(&query, &keys, &values, |row| row != 1)
        .unwrap();
    assert_eq!(state.finish(), Some(vec![3.0]));
    assert_eq!((state.maximum(), state.sum()), (1e4, 2.0));
}

#[test]
fn bad_input() {
    let mut state = OnlineState::new(2);
    let query = Query::new(&[1.0_f64], Similarity::Dot, None).unwrap();
    let mut absorb = |keys: &[f64], values: &[f64]| {
        state
            .absorb(&query, keys, values, |_| true)
            .map_err(|error| error.to_string())
            .unwrap_err()
    };
    let message = absorb(&[0.0, f64::NAN], &[0.0; 4]);
    assert!(
        message.contains("the score of key 1 (counted from 0) is NaN"),
        "{message}"
    );
    assert!(
        absorb(&[f64::INFINITY], &[0.0; 2]).contains("the score of key 0 (counted from 0) is inf")
    );
    assert!(absorb(&[0.0], &[0.0; 3]).contains("values must be 2 numbers, got 3"));
    assert!(state.merge(&OnlineState::new(3)).is_err());
    assert!(state.finish_into(&mut [0.0_f32]).is_err());
    assert!(OnlineState::from_parts(f64::NAN, 1.0, vec![]).is_err());
    assert!(OnlineState::from_parts(0.0, 0.0, vec![]).is_err());
    assert!(OnlineState::from_parts(f64::NEG_INFINITY, 1.0, vec![]).is_err());
    assert!(OnlineState::from_parts(f64::NEG_INFINITY, 0.0, vec![]).is_ok());
    let mut groups = GroupedStates::new(2);
    assert!(groups.absorb(&[0], &mut [1.0], &[0.0_f32; 2]).is_err());
    groups.resize(1);
    let message = groups
        .absorb(&[0, 0], &mut [1.0, f64::NAN], &[0.0_f32; 4])
        .unwrap_err()
        .to_string();
    assert!(message.contains("the score of key 1"), "{message}");
    assert!(groups.absorb(&[0], &mut [1.0], &[0.0_f32; 3]).is_err());
    assert!(groups.absorb(&[0, 0], &mut [1.0], &[0.0_f32; 2]).is_err());
    let nothing = &mut [f64::NEG_INFINITY; 2];
    groups.absorb(&[0, 0], nothing, &[f32::NAN; 4]).unwrap();
    assert!(groups.merge_one(0, 0.0, 0.5, &[0.0; 2]).is_err());
    assert!(groups.merge_one(0, 0.0, 1.0, &[0.0; 3]).is_err());
    assert_eq!(
        (groups.maxima(), groups.sums()),
        (&[f64::NEG_INFINITY][..], &[0.0][..])
    );
}
