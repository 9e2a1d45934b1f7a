//! `softmax` over every kind of list.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type};
use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::SessionConfig;
use lakefold_functions::Softmax;

use crate::scalar_tester::ScalarTester;
use crate::support::{batch, error, lists, plan_error, query, session, session_with};

fn list_array(rows: &[Option<&[Option<f64>]>]) -> ArrayRef {
    Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(
        rows.iter().map(|row| row.map(<[_]>::to_vec)),
    ))
}

fn list_of(number: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(number, true)))
}

fn function() -> ScalarUDF {
    ScalarUDF::from(Softmax::try_new().unwrap())
}

#[test]
fn all_list_types_and_forms() {
    let (a, b) = (1.0 / (1.0 + 1_f64.exp()), 1.0 / (1.0 + (-1_f64).exp()));
    let scores = list_array(&[
        Some(&[Some(1.0), Some(2.0)]),
        None,
        Some(&[Some(7.0), None]),
        Some(&[None, None]),
        Some(&[Some(3.0), Some(3.0)]),
    ]);
    let expected = list_array(&[
        Some(&[Some(a), Some(b)]),
        None,
        Some(&[Some(1.0), None]),
        Some(&[None, None]),
        Some(&[Some(0.5), Some(0.5)]),
    ]);
    let item = |number| Arc::new(Field::new_list_field(number, true));
    for number in [
        DataType::Float64,
        DataType::Float32,
        DataType::Float16,
        DataType::Int8,
        DataType::UInt16,
        DataType::Int64,
        DataType::UInt64,
        DataType::Decimal128(10, 2),
    ] {
        for lists in [
            DataType::List(item(number.clone())),
            DataType::LargeList(item(number.clone())),
            DataType::FixedSizeList(item(number.clone()), 2),
        ] {
            let tester = ScalarTester::new(function(), vec![lists]);
            tester.assert_all_forms(std::slice::from_ref(&scores), &expected);
        }
    }
}

#[test]
fn temperature_by_row() {
    let scores = list_array(&[
        Some(&[Some(0.0), Some(4_f64.ln())]),
        Some(&[Some(0.0), Some(4_f64.ln())]),
        Some(&[Some(0.0), Some(0.0)]),
        None,
    ]);
    let temperature: ArrayRef = Arc::new(Float64Array::from(vec![
        None,
        Some(2.0),
        Some(0.1),
        Some(1.0),
    ]));
    let types = vec![list_of(DataType::Float64), DataType::Float64];
    let result = ScalarTester::new(function(), types.clone())
        .invoke(
            vec![Arc::clone(&scores).into(), Arc::clone(&temperature).into()],
            4,
        )
        .unwrap();
    let weights = lists(&result);
    for (row, expected) in [[0.2, 0.8], [1.0 / 3.0, 2.0 / 3.0], [0.5, 0.5]]
        .iter()
        .enumerate()
    {
        for (weight, expected) in weights[row].as_ref().unwrap().iter().zip(expected) {
            assert!((weight - expected).abs() < 1e-15, "row {row}: {weights:?}");
        }
    }
    assert_eq!(weights[3], None);
    ScalarTester::new(function(), types).assert_all_forms(&[scores, temperature], &result);
}

#[tokio::test]
async fn sql_literals() {
    let ctx = session(SessionConfig::new());
    let one = |sql: &'static str| {
        let ctx = ctx.clone();
        async move { lists(query(&ctx, sql).await.unwrap().column(0)).remove(0) }
    };
    assert_eq!(one("SELECT softmax([0, 0])").await, Some(vec![0.5, 0.5]));
    assert_eq!(
        one("SELECT softmax(scores => [5], temperature => NULL)").await,
        Some(vec![1.0])
    );
    assert_eq!(
        one("SELECT softmax([1, 1, 1, 1], 3)").await,
        Some(vec![0.25; 4])
    );
    assert_eq!(one("SELECT softmax(NULL)").await, None);
    assert_eq!(one("SELECT softmax(make_array())").await, Some(vec![]));
    assert_eq!(
        one("SELECT softmax(['infinity'::double, 1, 'infinity'::double])").await,
        Some(vec![0.5, 0.0, 0.5])
    );
    assert_eq!(
        one("SELECT softmax(['-infinity'::double, '-infinity'::double])").await,
        Some(vec![0.0, 0.0])
    );
    let typed = query(
        &ctx,
        "SELECT softmax(arrow_cast([1, 2], 'FixedSizeList(2, Float32)'))",
    )
    .await;
    let typed = typed.unwrap();
    assert_eq!(
        typed.column(0).as_fixed_size_list().values().data_type(),
        &DataType::Float32
    );
}

#[tokio::test]
async fn bad_input() {
    let ctx = session_with(batch(
        0,
        &[
            Some(vec![Some(1.0), Some(2.0)]),
            Some(vec![Some(1.0), Some(f64::NAN)]),
        ],
    ));
    let message = error(&ctx, "SELECT softmax(x) FROM t").await;
    assert!(
        message.contains(
            "scores x of softmax: score 1 (counted from 0) is NaN in [1.0, NaN]: filter the row out or \
             replace the score with NULL"
        ),
        "{message}"
    );
    let constant = "SELECT softmax([NULL, 1, 'NaN'::double])";
    let message = error(&ctx, constant).await;
    assert!(
        message.contains("scores of softmax: score 2 (counted from 0) is NaN in [, 1.0, NaN]"),
        "{message}"
    );
    for temperature in ["0", "-2.5", "'NaN'::double", "'infinity'::double"] {
        let sql = format!("SELECT softmax(x, {temperature}) FROM t");
        let message = error(&ctx, &sql).await;
        assert!(
            message.contains("temperature of softmax must be a finite number greater than 0"),
            "{message}"
        );
    }
    let by_row = "SELECT softmax([1, 2], column1) FROM (VALUES (1.0), (0.0))";
    let message = error(&ctx, by_row).await;
    assert!(
        message.contains("got 0: leave it out or write NULL for 1"),
        "{message}"
    );

    for (sql, expected) in [
        (
            "SELECT softmax(3)",
            "scores of softmax must be a list of numbers, got Int64: write make_array",
        ),
        (
            "SELECT softmax(['a'])",
            "scores of softmax must be a list of numbers",
        ),
        (
            "SELECT softmax([1], 'hot')",
            "temperature of softmax must be a number, got Utf8",
        ),
        ("SELECT softmax()", "softmax takes 1 or 2 arguments, got 0"),
        (
            "SELECT softmax([1], 1, 1)",
            "softmax takes 1 or 2 arguments, got 3",
        ),
    ] {
        let message = plan_error(&ctx, sql).await;
        assert!(message.contains(expected), "{sql}: {message}");
    }
}
