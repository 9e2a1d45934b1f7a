//! `lle_reconstruction_error`.

use datafusion::arrow::array::{Array, AsArray, Float64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::prelude::SessionConfig;
use lakefold_functions::manifold::reconstruction_error;
use ndarray::Array2;

use crate::support::{
    batch, error, plan_error, query, register, roll_batch, session, session_with, swiss_roll,
    with_number_type,
};

fn column(result: &RecordBatch, place: usize) -> &Float64Array {
    result.column(place).as_primitive::<Float64Type>()
}

fn expected(rows: usize, k: usize, reg: f64) -> Vec<f64> {
    let numbers = swiss_roll(rows).concat();
    let features = Array2::from_shape_vec((rows, 3), numbers).unwrap();
    reconstruction_error(features.view(), k, reg, &()).unwrap()
}

#[tokio::test]
async fn values_are_the_kernels_in_any_order() {
    let ctx = session(SessionConfig::new().with_target_partitions(2));
    let roll = roll_batch(300);
    register(
        &ctx,
        vec![
            vec![roll.slice(100, 200)],
            vec![roll.slice(0, 30), roll.slice(30, 70)],
        ],
    );
    for (arguments, k, reg) in [
        ("x", 12, 1e-3),
        ("x, 8, 0.1", 8, 0.1),
        ("x, n_neighbors => NULL, reg => 0.1", 12, 0.1),
    ] {
        let sql =
            format!("SELECT id, lle_reconstruction_error({arguments}) OVER () FROM t ORDER BY id");
        let result = query(&ctx, &sql).await.unwrap();
        assert_eq!(
            column(&result, 1).values().to_vec(),
            expected(300, k, reg),
            "{arguments}"
        );
    }
}

#[tokio::test]
async fn groups_nulls_and_number_types() {
    let mut points: Vec<_> = swiss_roll(90)
        .iter()
        .map(|point| Some(point.iter().copied().map(Some).collect::<Vec<_>>()))
        .collect();
    points[4] = None;
    let ctx = session_with(batch(0, &points));
    let sql = "SELECT id, lle_reconstruction_error(x, 5) OVER (PARTITION BY grp ORDER BY id) AS e,
               grp FROM t ORDER BY id";
    let grouped = query(&ctx, sql).await.unwrap();
    assert!(column(&grouped, 1).is_null(4));
    assert_eq!(column(&grouped, 1).null_count(), 1);
    let one =
        "SELECT id, lle_reconstruction_error(x, 5) OVER () FROM t WHERE grp = 'a' ORDER BY id";
    let one = query(&ctx, one).await.unwrap();
    let of_group: Vec<f64> = (0..90)
        .step_by(3)
        .map(|row| column(&grouped, 1).value(row))
        .collect();
    assert_eq!(column(&one, 1).values().to_vec(), of_group);

    let single = session_with(with_number_type(&roll_batch(90), &DataType::Float32));
    let sql = "SELECT lle_reconstruction_error(x, 5) OVER () FROM t";
    let single = query(&single, sql).await.unwrap();
    assert_eq!(single.column(0).data_type(), &DataType::Float64);
    for (found, expected) in column(&single, 0)
        .values()
        .iter()
        .zip(expected(90, 5, 1e-3))
    {
        assert!((found - expected).abs() < 1e-4 * (1.0 + expected));
    }
    let nothing = "SELECT lle_reconstruction_error(NULL) OVER () AS e FROM t";
    assert_eq!(
        query(&ctx, nothing).await.unwrap().column(0).null_count(),
        90
    );
}

#[tokio::test]
async fn bad_calls_say_what_to_do() {
    let ctx = session_with(roll_batch(30));
    for (call, expected) in [
        (
            "lle_reconstruction_error(id) OVER ()",
            "features of lle_reconstruction_error must be a list of numbers, got Int64",
        ),
        (
            "lle_reconstruction_error(x, 0) OVER ()",
            "n_neighbors of lle_reconstruction_error must be a whole number of at least 1, got 0",
        ),
        (
            "lle_reconstruction_error(x, id) OVER ()",
            "n_neighbors of lle_reconstruction_error must be a constant, got id",
        ),
        (
            "lle_reconstruction_error(x, 5, -0.5) OVER ()",
            "reg of lle_reconstruction_error must be a finite number of at least 0, got -0.5",
        ),
        (
            "lle_reconstruction_error(x, 5, 0.1, 3) OVER ()",
            "lle_reconstruction_error takes 1 to 3 arguments, got 4",
        ),
        (
            "lle_reconstruction_error(x) OVER (ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)",
            "lle_reconstruction_error fits whole partitions, it cannot follow the window frame",
        ),
    ] {
        let message = plan_error(&ctx, &format!("SELECT {call} FROM t")).await;
        assert!(message.contains(expected), "{call}: {message}");
    }
    let message = error(
        &ctx,
        "SELECT lle_reconstruction_error(x, 30) OVER () FROM t",
    );
    let message = message.await;
    assert!(
        message.contains("n_neighbors = 30 needs at least 31 distinct rows, found 30"),
        "{message}"
    );
    let sql = "SELECT lle_reconstruction_error(
        CASE WHEN id = 7 THEN make_array('NaN'::DOUBLE, 0.0, 0.0) ELSE x END) OVER () FROM t";
    let message = error(&ctx, sql).await;
    assert!(
        message.contains("row 7 of its partition (counted from 0) has NaN in dimension 0"),
        "{message}"
    );
}
