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
    query_offset: i64,
    softcap: f64,
    mask: Option<MaskOf>,
    seed: u64,
}

/// A mask that may stand for all heads or all queries, and may lack keys.
#[derive(Debug, Clone, Copy)]
struct MaskOf {
    additive: bool,
    one_head: bool,
    one_query: bool,
    missing: usize,
}

fn masks() -> impl Strategy<Value = Option<MaskOf>> {
    let any = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        prop_oneof![Just(0), 0..150_usize],
    );
    prop::option::weighted(
        0.8,
        any.prop_map(|(additive, one_head, one_query, missing)| MaskOf {
            additive,
            one_head,
            one_query,
            missing,
        }),
    )
}

fn cases() -> impl Strategy<Value = Case> {
    let heads = (1..4_usize, 1..4_usize, 0..150_usize, 0..150_usize);
    let rest = (1..10_usize, 1..10_usize, any::<bool>(), -170..20_i64);
    let more = (prop_oneof![Just(0.0), 0.1..5.0_f64], masks(), any::<u64>());
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
    let shape = case.mask.map_or((0, 0, 0), |mask| {
        (
            if mask.one_head { 1 } else { num_heads },
            if mask.one_query { 1 } else { queries },
            keys.saturating_sub(mask.missing),
        )
    });
    let added = numbers::<T>(shape.0 * shape.1, shape.2, seed ^ 3)
        .into_shape_with_order(shape)
        .unwrap();
    let allowed: Array3<bool> = added.mapv(|value| value > T::from_f64(-0.5));
    let mask = match case.mask {
        None => HeadMask::None,
        Some(mask) if mask.additive => HeadMask::Additive(added.view()),
        Some(_) => HeadMask::Boolean(allowed.view()),
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
        let mask = |i: usize, j: usize| {
            let Some(mask) = case.mask else {
                return 0.0;
            };
            let place = [head.min(shape.0 - 1), i.min(shape.1 - 1), j];
            if j >= shape.2 || !mask.additive && !allowed[place] {
                return f64::NEG_INFINITY;
            }
            if mask.additive {
                added[place].to_f64()
            } else {
                0.0
            }
        };
        let visible = |i: usize| {
            let end = i as i64 + case.query_offset + 1;
            0..if case.is_causal {
                end.max(0) as usize
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
        "key must be kv_num_heads (num_heads when omitted) · d_k = 2 · 2 = 4 numbers wide, got 6",
    );
    check(
        error((2, 8), (3, 4), (3, 5), none()),
        "value must be a multiple of kv_num_heads (num_heads when omitted) = 2",
    );
    check(
        error((2, 8), (3, 4), (4, 6), none()),
        "value must be 3 rows, as key has, got 4",
    );
    check(
        error((2, 8), (3, 4), (3, 8), none()),
        "output must be 2 × 16, got 2 × 12",
    );
    // More keys, neither one head nor all, neither one query nor all, nothing at all.
    for (heads, queries, keys) in [
        (4, 2, 4),
        (1, 1, 4),
        (2, 2, 3),
        (4, 3, 3),
        (0, 2, 3),
        (1, 0, 3),
    ] {
        let mask = Array3::from_elem((heads, queries, keys), true);
        check(
            error((2, 8), (3, 4), (3, 6), HeadMask::Boolean(mask.view())),
            &format!(
                "attn_mask must be 4 × 2 × 3 (heads × queries × keys; 1 head or 1 query stands for all, missing \
                 keys are masked out), got {heads} × {queries} × {keys}"
            ),
        );
    }
}

/// ONNX pads a mask, whatever it lacks, and then broadcasts it.
#[test]
fn a_mask_of_one_key_or_none_is_not_spread_over_the_keys() {
    let heads = MultiHead::new(1).unwrap();
    let (zeros, value) = (
        Array2::<f32>::zeros((2, 1)),
        ndarray::array![[1.0_f32], [3.0]],
    );
    for (keys, expected) in [(1, 1.0), (0, 0.0)] {
        let mask = Array3::from_elem((1, 1, keys), true);
        let mut output = Array2::from_elem((2, 1), 9.0);
        let mask = HeadMask::Boolean(mask.view());
        heads
            .attend(
                zeros.view(),
                zeros.view(),
                value.view(),
                mask,
                output.view_mut(),
            )
            .unwrap();
        assert_eq!(output, Array2::from_elem((2, 1), expected));
    }
}

#[test]
fn offsets_of_any_size() {
    let (zeros, value) = (
        Array2::<f32>::zeros((3, 1)),
        ndarray::array![[1.0_f32], [3.0], [5.0]],
    );
    for (offset, expected) in [
        (i64::MIN, [0.0; 3]),
        (-3, [0.0; 3]),
        (-1, [0.0, 1.0, 2.0]),
        (1, [2.0, 3.0, 3.0]),
        (i64::MAX, [3.0; 3]),
    ] {
        let heads = MultiHead::new(1)
            .unwrap()
            .is_causal(true)
            .query_offset(offset);
        let mut output = Array2::from_elem((3, 1), 9.0);
        heads
            .attend(
                zeros.view(),
                zeros.view(),
                value.view(),
                HeadMask::None,
                output.view_mut(),
            )
            .unwrap();
        assert_eq!(output.column(0).to_vec(), expected, "{offset}");
    }
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
