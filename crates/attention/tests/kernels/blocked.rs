//! Many queries of one head: frames, masks, caps and strides.

use std::ops::Range;

use lakefold_attention::{Blocked, Mask, Query, Real, Similarity, attention_weights};
use ndarray::{Array2, s};
use proptest::prelude::*;

use crate::reference::{Scores, assert_close, attention, numbers};

#[derive(Debug, Clone, Copy)]
enum Frame {
    Whole,
    Causal,
    Sliding(usize),
    Random(u64),
    Empty,
}

impl Frame {
    fn of(self, query: usize, keys: usize) -> Range<usize> {
        match self {
            Frame::Whole => 0..keys,
            Frame::Causal => 0..query + 1,
            Frame::Sliding(width) => query.saturating_sub(width)..query + 1,
            Frame::Random(seed) => {
                let hash = (query as u64 + 1)
                    .wrapping_mul(seed | 1)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let (start, width) = (
                    (hash >> 40) as usize % (keys + 1),
                    (hash >> 20) as usize % 40,
                );
                start..start + width
            }
            Frame::Empty => 5..5,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    None,
    Additive,
    Boolean,
}

fn frames() -> impl Strategy<Value = Frame> {
    prop_oneof![
        Just(Frame::Whole),
        Just(Frame::Causal),
        (0..90_usize).prop_map(Frame::Sliding),
        any::<u64>().prop_map(Frame::Random),
        Just(Frame::Empty),
    ]
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::None), Just(Kind::Additive), Just(Kind::Boolean)]
}

#[derive(Debug, Clone, Copy)]
struct Case {
    queries: usize,
    keys: usize,
    d_k: usize,
    d_v: usize,
    frame: Frame,
    kind: Kind,
    transposed: bool,
    scale: f64,
    softcap: f64,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let sizes = (0..300_usize, 0..1_200_usize, 0..20_usize, 0..20_usize);
    let rest = (frames(), kinds(), any::<bool>(), -3.0..3.0_f64);
    let more = (prop_oneof![Just(0.0), 0.1..5.0_f64], any::<u64>());
    (sizes, rest, more).prop_map(
        |((queries, keys, d_k, d_v), (frame, kind, transposed, scale), (softcap, seed))| Case {
            queries,
            keys,
            d_k,
            d_v,
            frame,
            kind,
            transposed,
            scale,
            softcap,
            seed,
        },
    )
}

/// Runs the case on the middle columns of wider rows, and compares.
fn check<T: Real>(case: Case, tolerance: f64) {
    let Case {
        queries,
        keys,
        d_k,
        d_v,
        seed,
        ..
    } = case;
    let wide = |rows, width, seed| numbers::<T>(rows, width + 7, seed);
    let (q, k, v) = (
        wide(queries, d_k, seed),
        wide(keys, d_k, seed ^ 1),
        wide(keys, d_v, seed ^ 2),
    );
    let (q, k, v) = (
        q.slice(s![.., 3..3 + d_k]),
        k.slice(s![.., 2..2 + d_k]),
        v.slice(s![.., 5..5 + d_v]),
    );
    // Rows and columns exchanged in memory, so that a mask's row is not contiguous.
    let shape = if case.transposed {
        (keys, queries)
    } else {
        (queries, keys)
    };
    let additive = numbers::<T>(shape.0, shape.1, seed ^ 3).mapv(|value| {
        if value > T::from_f64(0.8) {
            T::NEG_INFINITY
        } else {
            value
        }
    });
    let boolean = additive.mapv(|value| value > T::from_f64(-0.3));
    let (additive, boolean) = if case.transposed {
        (additive.t(), boolean.t())
    } else {
        (additive.view(), boolean.view())
    };
    let mask = |i: usize, j: usize| match case.kind {
        Kind::None => 0.0,
        Kind::Additive => additive[[i, j]].to_f64(),
        Kind::Boolean => [f64::NEG_INFINITY, 0.0][usize::from(boolean[[i, j]])],
    };
    let visible = |query: usize| case.frame.of(query, keys);
    let scores = Scores {
        scale: case.scale,
        softcap: case.softcap,
        mask: &mask,
        visible: &visible,
    };
    let (expected, expected_attended) = attention(q, k, v, &scores);
    let mut output = Array2::from_elem((queries, d_v + 4), T::from_f64(7.0));
    let attended = Blocked::new(q, k, v)
        .and_then(|blocked| blocked.scale(case.scale))
        .and_then(|blocked| blocked.softcap(case.softcap))
        .and_then(|blocked| {
            blocked.mask(match case.kind {
                Kind::None => Mask::None,
                Kind::Additive => Mask::Additive(additive),
                Kind::Boolean => Mask::Boolean(boolean),
            })
        })
        .and_then(|blocked| blocked.attend(visible, output.slice_mut(s![.., 1..=d_v])))
        .unwrap();
    assert_eq!(attended, expected_attended);
    assert_close(output.slice(s![.., 1..=d_v]), expected.view(), tolerance);
    let beside = output.slice(s![.., d_v + 1..]);
    assert!(
        beside.iter().all(|value| value.to_f64() == 7.0),
        "wrote beside the output"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn single_precision_agrees_with_the_reference(case in cases()) {
        check::<f32>(case, 3e-6);
    }

    #[test]
    fn double_precision_agrees_with_the_reference(case in cases()) {
        check::<f64>(case, 1e-13);
    }
}

/// The same bits from pools of one, two and five threads.
#[test]
fn threads_do_not_change_a_bit() {
    let (q, k, v) = (
        numbers::<f32>(1_000, 24, 1),
        numbers::<f32>(1_500, 24, 2),
        numbers::<f32>(1_500, 16, 3),
    );
    let run = |threads: usize| {
        let mut output = Array2::zeros((1_000, 16));
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let blocked = Blocked::new(q.view(), k.view(), v.view()).unwrap();
            blocked
                .attend(|query| query / 2..query + 400, output.view_mut())
                .unwrap()
        });
        output.mapv(f32::to_bits)
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn every_similarity_weighs_as_for_one_query(
        (queries, keys, d_k) in (1..40_usize, 1..300_usize, 1..20_usize),
        which in 0..3_usize,
        shift in prop_oneof![Just(0.0_f32), Just(30.0)],
        seed in any::<u64>(),
    ) {
        let similarity = [Similarity::Dot, Similarity::Cosine, Similarity::L2][which];
        let shift = if which == 2 { shift } else { 0.0 };
        let (q, mut k) = (numbers::<f32>(queries, d_k, seed) + shift, numbers::<f32>(keys, d_k, seed ^ 1) + shift);
        k.row_mut(0).fill(0.0);
        let v = numbers::<f32>(keys, 3, seed ^ 2);
        let mut output = Array2::zeros((queries, 3));
        let blocked = Blocked::new(q.view(), k.view(), v.view()).unwrap().similarity(similarity);
        blocked.attend(|_| 0..keys, output.view_mut()).unwrap();
        let expected = Array2::from_shape_fn((queries, 3), |(i, column)| {
            let query = Query::new(q.row(i).to_slice().unwrap(), similarity, None).unwrap();
            let weights: Vec<f64> = attention_weights(&query, k.as_slice().unwrap(), |_| true).unwrap();
            weights.iter().zip(v.column(column)).map(|(w, &v)| w * f64::from(v)).sum()
        });
        let tolerance = if shift > 0.0 { 1e-3 } else { 5e-6 };
        assert_close(output.view(), expected.view(), tolerance);
    }
}

#[test]
fn distances_have_no_softcap() {
    let q = numbers::<f32>(2, 3, 1);
    let blocked = Blocked::new(q.view(), q.view(), q.view())
        .unwrap()
        .similarity(Similarity::L2);
    let error = blocked
        .softcap(1.0)
        .unwrap()
        .attend(|_| 0..2, Array2::zeros((2, 3)).view_mut())
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("softcap must be 0 where similarity is 'l2'"),
        "{error}"
    );
}
