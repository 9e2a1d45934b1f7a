//! Scores that are huge, infinite or not numbers.

use lakefold_attention::{AttentionError, Blocked, HeadMask, Mask, MultiHead};
use ndarray::{Array2, array};

use crate::reference::numbers;

/// 300 queries and 700 keys, so that tiles and blocks of keys have neighbours.
fn attend(
    change: impl Fn(&mut Array2<f32>, &mut Array2<f32>, &mut Array2<f32>),
    mask: Mask<'_, f32>,
    visible: impl Fn(usize) -> std::ops::Range<usize> + Sync,
) -> Result<(Array2<f32>, Vec<bool>), AttentionError> {
    let (mut q, mut k, mut v) = (numbers(300, 8, 1), numbers(700, 8, 2), numbers(700, 5, 3));
    change(&mut q, &mut k, &mut v);
    let mut output = Array2::from_elem((300, 5), f32::NAN);
    let blocked = Blocked::new(q.view(), k.view(), v.view())?.mask(mask.view())?;
    let attended = blocked.attend(visible, output.view_mut())?;
    Ok((output, attended))
}

#[test]
fn scores_of_ten_thousand() {
    let (q, k) = (array![[1e4_f32], [-1e4], [0.0]], array![[1.0_f32], [-1.0]]);
    let v = array![[3.0_f32], [5.0]];
    let mut output = Array2::zeros((3, 1));
    let blocked = Blocked::new(q.view(), k.view(), v.view()).unwrap();
    let attended = blocked
        .scale(1.0)
        .unwrap()
        .attend(|_| 0..2, output.view_mut())
        .unwrap();
    assert_eq!(attended, [true; 3]);
    assert_eq!(output, array![[3.0], [5.0], [4.0]]);
}

#[test]
fn fully_masked_and_empty_queries_are_zero_and_reported() {
    let mut mask = Array2::from_elem((300, 700), true);
    mask.row_mut(170).fill(false);
    let visible = |query: usize| if query == 20 { 9..9 } else { 0..700 };
    let (output, attended) = attend(|_, _, _| (), Mask::Boolean(mask.view()), visible).unwrap();
    for (query, row) in output.rows().into_iter().enumerate() {
        let none = query == 20 || query == 170;
        assert_eq!(attended[query], !none);
        assert_eq!(row.iter().all(|&value| value == 0.0), none);
    }
}

#[test]
fn nan_names_query_and_key() {
    let spoil =
        |q: &mut Array2<f32>, _: &mut Array2<f32>, _: &mut Array2<f32>| q[[211, 3]] = f32::NAN;
    let error = attend(spoil, Mask::None, |_| 100..700).unwrap_err();
    let expected = "the score of query 211 and key 100 (counted from 0) is NaN";
    assert!(error.to_string().starts_with(expected), "{error}");
    let spoil =
        |_: &mut Array2<f32>, k: &mut Array2<f32>, _: &mut Array2<f32>| k[[600, 3]] = f32::NAN;
    let error = attend(spoil, Mask::None, |query| 0..query + 350).unwrap_err();
    let expected = "the score of query 251 and key 600 (counted from 0) is NaN";
    assert!(error.to_string().starts_with(expected), "{error}");
}

/// The only visible key: there is no maximum that a comparison would find.
#[test]
fn a_lone_nan_is_found() {
    let spoil = |_: &mut Array2<f32>, k: &mut Array2<f32>, _: &mut Array2<f32>| {
        k.row_mut(40).fill(f32::NAN);
    };
    let error = attend(spoil, Mask::None, |_| 40..41).unwrap_err();
    assert!(error.to_string().contains("query 0 and key 40"), "{error}");
}

#[test]
fn an_infinite_score_is_an_error_and_minus_infinity_weighs_nothing() {
    let spoil = |q: &mut Array2<f32>, k: &mut Array2<f32>, _: &mut Array2<f32>| {
        q.column_mut(0).fill(1.0);
        k[[5, 0]] = f32::INFINITY;
    };
    let error = attend(spoil, Mask::None, |_| 0..700).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("query 0 and key 5 (counted from 0) is inf"),
        "{error}"
    );
    let spoil = |q: &mut Array2<f32>, k: &mut Array2<f32>, v: &mut Array2<f32>| {
        q.column_mut(0).fill(1.0);
        k[[5, 0]] = f32::NEG_INFINITY;
        v.row_mut(5).fill(1e30);
    };
    let (output, attended) = attend(spoil, Mask::None, |_| 0..700).unwrap();
    assert!(attended.iter().all(|&any| any));
    assert!(output.iter().all(|value| value.abs() <= 1.0));
    let (output, attended) = attend(spoil, Mask::None, |_| 5..6).unwrap();
    assert!(output.iter().all(|&value| value == 0.0) && attended.iter().all(|&any| !any));
}

/// Scores that are all −∞ in single precision only: the query sees what it should.
#[test]
fn scores_below_single_precision() {
    let q = Array2::from_shape_fn((300, 1), |(i, _)| if i == 200 { 1e30_f32 } else { 1.0 });
    let k = Array2::from_shape_fn((700, 1), |(j, _)| -1e30 * (1.0 + j as f32));
    let v = Array2::from_shape_fn((700, 1), |(j, _)| j as f32);
    let mut boolean = Array2::from_elem((300, 700), true);
    boolean.slice_mut(ndarray::s![200, ..3]).fill(false);
    let additive = boolean.mapv(|attends| if attends { 0.0 } else { f32::NEG_INFINITY });
    for (mask, best) in [
        (Mask::None, 0.0),
        (Mask::Boolean(boolean.view()), 3.0),
        (Mask::Additive(additive.view()), 3.0),
    ] {
        let mut output = Array2::zeros((300, 1));
        let blocked = Blocked::new(q.view(), k.view(), v.view()).unwrap();
        let attended = blocked
            .mask(mask)
            .unwrap()
            .attend(|_| 0..700, output.view_mut())
            .unwrap();
        assert!(attended.iter().all(|&any| any));
        assert_eq!(output[[200, 0]], best);
    }
}

/// Zeros would say that no key may be seen: that is for masks to decide.
#[test]
fn scores_below_double_precision() {
    let (q, k) = (array![[1e300_f64]], array![[-1e300], [-1e300]]);
    let v = array![[1.0], [3.0]];
    let attend = |mask: [f64; 2]| {
        let mask = ndarray::Array3::from_shape_vec((1, 1, 2), mask.to_vec()).unwrap();
        let mut output = Array2::from_elem((1, 1), 9.0);
        let heads = MultiHead::new(1).unwrap();
        let mask = HeadMask::Additive(mask.view());
        let attended = heads.attend(q.view(), k.view(), v.view(), mask, output.view_mut());
        attended.map(|()| output[[0, 0]])
    };
    let error = attend([f64::NEG_INFINITY, 0.0]).unwrap_err().to_string();
    let expected = "the score of query 0 and key 1 of head 0 (counted from 0) is -inf; remove NaN";
    assert!(error.starts_with(expected), "{error}");
    assert_eq!(attend([f64::NEG_INFINITY; 2]), Ok(0.0));
    // A mean of rows says that it is none.
    let mut output = Array2::from_elem((1, 1), 9.0);
    let blocked = Blocked::new(q.view(), k.view(), v.view()).unwrap();
    let attended = blocked.attend(|_| 0..2, output.view_mut()).unwrap();
    assert_eq!((attended, output), (vec![false], array![[0.0]]));
}

/// What a query does not see, but shares a tile with, must not reach it.
#[test]
fn nan_outside_the_frame_or_behind_the_mask_changes_nothing() {
    let visible = |query: usize| if query < 150 { 0..350 } else { 351..700 };
    let spoil = |_: &mut Array2<f32>, k: &mut Array2<f32>, v: &mut Array2<f32>| {
        k.row_mut(350).fill(f32::NAN);
        v.row_mut(350).fill(f32::NAN);
    };
    let (clean, _) = attend(|_, _, _| (), Mask::None, visible).unwrap();
    let (output, _) = attend(spoil, Mask::None, visible).unwrap();
    assert!(
        (&clean - &output)
            .iter()
            .all(|difference| difference.abs() < 1e-6)
    );
    let mut mask = Array2::zeros((300, 700));
    mask.column_mut(350).fill(f32::NEG_INFINITY);
    let (clean, _) = attend(|_, _, _| (), Mask::Additive(mask.view()), |_| 0..700).unwrap();
    let (output, _) = attend(spoil, Mask::Additive(mask.view()), |_| 0..700).unwrap();
    assert!(
        (&clean - &output)
            .iter()
            .all(|difference| difference.abs() < 1e-6)
    );
}

/// Products that overflow in single precision only.
#[test]
fn products_beyond_single_precision() {
    let (q, k) = (
        array![[1e30_f32, 1e30]],
        array![[1e30_f32, -1e30], [1e-30, 0.0]],
    );
    let v = array![[3.0_f32], [5.0]];
    let mut output = Array2::zeros((1, 1));
    let blocked = Blocked::new(q.view(), k.view(), v.view()).unwrap();
    blocked
        .scale(1.0)
        .unwrap()
        .attend(|_| 0..2, output.view_mut())
        .unwrap();
    let first = 1.0 / (1.0 + 1.0f64.exp());
    let expected = 3.0 * first + 5.0 * (1.0 - first);
    assert!(
        (f64::from(output[[0, 0]]) - expected).abs() < 1e-6,
        "{output}"
    );
}

#[test]
fn values_of_nan_and_infinity() {
    let spoil =
        |_: &mut Array2<f32>, _: &mut Array2<f32>, v: &mut Array2<f32>| v[[30, 2]] = f32::NAN;
    let error = attend(spoil, Mask::None, |_| 0..700).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("query 0 (counted from 0) may see give NaN in column 2"),
        "{error}"
    );
    let spoil =
        |_: &mut Array2<f32>, _: &mut Array2<f32>, v: &mut Array2<f32>| v[[30, 2]] = f32::INFINITY;
    let error = attend(spoil, Mask::None, |query| 0..query + 1).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("query 30 (counted from 0) may see give inf in column 2"),
        "{error}"
    );
}

#[test]
fn the_head_is_named() {
    let (query, mut key) = (numbers::<f64>(3, 4, 1), numbers::<f64>(3, 4, 2));
    key[[2, 3]] = f64::NAN;
    let mut output = Array2::zeros((3, 4));
    let heads = MultiHead::new(2).unwrap();
    let error = heads
        .attend(
            query.view(),
            key.view(),
            key.view(),
            HeadMask::None,
            output.view_mut(),
        )
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("query 0 and key 2 of head 1 (counted from 0) is NaN"),
        "{error}"
    );
}
