//! Several heads, keys and values shared or not, against the reference head by head.

use lakefold_attention::{HeadMask, MultiHead, Real};
use ndarray::{Array2, Array3, s};
use proptest::prelude::*;

use crate::reference::{Scores, assert_close, attention, numbers};

#[derive(Debug, Clone, Copy)]
struct Case {
    kv_num_heads: usize,
    shared: usize,
    queries: usize,
    keys: usize,
    d_k: usize,
    d_v: usize,
    is_causal: bool,
    query_offset: usize,
    softcap: f64,
    /// 0: none, 1 and 2: one for all heads, 3 and 4: one for each; odd: additive
    mask: usize,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let heads = (1..4_usize, 1..4_usize, 0..150_usize, 0..150_usize);
    let rest = (1..10_usize, 1..10_usize, any::<bool>(), 0..20_usize);
    let more = (
        prop_oneof![Just(0.0), 0.1..5.0_f64],
        0..5_usize,
        any::<u64>(),
    );
    (heads, rest, more).prop_map(
        |(
            (kv_num_heads, shared, queries, keys),
            (d_k, d_v, is_causal, query_offset),
            (softcap, mask, seed),
        )| Case {
            kv_num_heads,
            shared,
            queries,
            keys,
            d_k,
            d_v,
            is_causal,
            query_offset,
            softcap,
            mask,
            seed,
        },
    )
}

fn check<T: Real>(case: Case, tolerance: f64) {
    let Case {
        kv_num_heads,
        shared,
        queries,
        keys,
        d_k,
        d_v,
        seed,
        ..
    } = case;
    let num_heads = kv_num_heads * shared;
    let query = numbers::<T>(queries, num_heads * d_k, seed);
    let key = numbers::<T>(keys, kv_num_heads * d_k, seed ^ 1);
    let value = numbers::<T>(keys, kv_num_heads * d_v, seed ^ 2);
    let added = numbers::<T>(num_heads * queries, keys, seed ^ 3)
        .into_shape_with_order((num_heads, queries, keys))
        .unwrap();
    let allowed: Array3<bool> = added.mapv(|value| value > T::from_f64(-0.5));
    let mask = match case.mask {
        0 => HeadMask::None,
        1 => HeadMask::Additive(added.slice(s![0, .., ..])),
        2 => HeadMask::Boolean(allowed.slice(s![0, .., ..])),
        3 => HeadMask::AdditivePerHead(added.view()),
        _ => HeadMask::BooleanPerHead(allowed.view()),
    };
    let attention_of = MultiHead::new(num_heads)
        .and_then(|heads| heads.kv_num_heads(kv_num_heads))
        .and_then(|heads| heads.softcap(case.softcap))
        .unwrap()
        .is_causal(case.is_causal)
        .query_offset(case.query_offset);
    let width = attention_of
        .output_width(query.ncols(), key.ncols(), value.ncols())
        .unwrap();
    assert_eq!(width, num_heads * d_v);
    let mut output = Array2::from_elem((queries, width), T::from_f64(9.0));
    attention_of
        .attend(
            query.view(),
            key.view(),
            value.view(),
            mask,
            output.view_mut(),
        )
        .unwrap();
    for head in 0..num_heads {
        let kv = head / shared;
        let mask = |i: usize, j: usize| match case.mask {
            0 => 0.0,
            1 => added[[0, i, j]].to_f64(),
            3 => added[[head, i, j]].to_f64(),
            kind => {
                let allows = allowed[[if kind == 2 { 0 } else { head }, i, j]];
                [f64::NEG_INFINITY, 0.0][usize::from(allows)]
            }
        };
        let visible = |i: usize| {
            0..if case.is_causal {
                i + case.query_offset + 1
            } else {
                keys
            }
        };
        let scores = Scores {
            scale: 1.0 / (d_k as f64).sqrt(),
            softcap: case.softcap,
            mask: &mask,
            visible: &visible,
        };
        let (expected, _) = attention(
            query.slice(s![.., head * d_k..(head + 1) * d_k]),
            key.slice(s![.., kv * d_k..(kv + 1) * d_k]),
            value.slice(s![.., kv * d_v..(kv + 1) * d_v]),
            &scores,
        );
        assert_close(
            output.slice(s![.., head * d_v..(head + 1) * d_v]),
            expected.view(),
            tolerance,
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn single_precision_agrees_with_the_reference(case in cases()) {
        check::<f32>(case, 3e-6);
    }

    #[test]
    fn double_precision_agrees_with_the_reference(case in cases()) {
        check::<f64>(case, 1e-13);
    }
}

#[test]
fn parameters() {
    let message = |result: Result<MultiHead, _>| {
        result
            .map_err(|e: lakefold_attention::AttentionError| e.to_string())
            .unwrap_err()
    };
    assert!(message(MultiHead::new(0)).contains("num_heads must be at least 1"));
    let heads = || MultiHead::new(12).unwrap();
    assert!(
        message(heads().kv_num_heads(5))
            .contains("kv_num_heads must be a divisor of num_heads = 12, got 5")
    );
    assert!(message(heads().kv_num_heads(0)).contains("kv_num_heads"));
    assert!(message(heads().scale(f64::NAN)).contains("scale must be a finite number, got NaN"));
    assert!(message(heads().softcap(-1.0)).contains("softcap must be"));
    assert!(message(heads().softcap(f64::INFINITY)).contains("softcap must be"));
}

#[test]
fn shapes() {
    let error = |query: (usize, usize),
                 key: (usize, usize),
                 value: (usize, usize),
                 mask: HeadMask<'_, f32>| {
        let heads = MultiHead::new(4).unwrap().kv_num_heads(2).unwrap();
        let mut output = Array2::zeros((query.0, 4 * 3));
        let (q, k, v) = (
            Array2::zeros(query),
            Array2::zeros(key),
            Array2::zeros(value),
        );
        heads
            .attend(q.view(), k.view(), v.view(), mask, output.view_mut())
            .map_err(|error| error.to_string())
    };
    let none = || HeadMask::None;
    assert_eq!(error((2, 8), (3, 4), (3, 6), none()), Ok(()));
    let check = |result: Result<(), String>, text: &str| {
        let message = result.unwrap_err();
        assert!(message.contains(text), "{message}");
    };
    check(
        error((2, 9), (3, 4), (3, 6), none()),
        "query must be a multiple of num_heads = 4 numbers wide, got 9",
    );
    check(
        error((2, 8), (3, 6), (3, 6), none()),
        "key must be kv_num_heads · d_k = 2 · 2 = 4 numbers wide, got 6",
    );
    check(
        error((2, 8), (3, 4), (3, 5), none()),
        "value must be a multiple of kv_num_heads = 2",
    );
    check(
        error((2, 8), (3, 4), (4, 6), none()),
        "value must be 3 rows, as key has, got 4",
    );
    check(
        error((2, 8), (3, 4), (3, 8), none()),
        "output must be 2 × 16, got 2 × 12",
    );
    let mask = Array2::zeros((2, 4));
    check(
        error((2, 8), (3, 4), (3, 6), HeadMask::Additive(mask.view())),
        "attn_mask must be 2 × 3 (queries × keys), got 2 × 4",
    );
    let mask = Array3::from_elem((3, 2, 3), true);
    check(
        error(
            (2, 8),
            (3, 4),
            (3, 6),
            HeadMask::BooleanPerHead(mask.view()),
        ),
        "4 × queries × keys",
    );
}

#[test]
fn a_sequence_of_length_zero() {
    let heads = MultiHead::new(2).unwrap();
    let (query, empty) = (numbers::<f32>(3, 4, 1), Array2::zeros((0, 4)));
    let mut output = Array2::from_elem((3, 4), 1.0);
    heads
        .attend(
            query.view(),
            empty.view(),
            empty.view(),
            HeadMask::None,
            output.view_mut(),
        )
        .unwrap();
    assert_eq!(output, Array2::zeros((3, 4)));
    let mut output = Array2::zeros((0, 4));
    heads
        .attend(
            empty.view(),
            query.view(),
            query.view(),
            HeadMask::None,
            output.view_mut(),
        )
        .unwrap();
}
