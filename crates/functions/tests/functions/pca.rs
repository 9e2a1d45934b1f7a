//! `pca` in FROM.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::Result;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use lakefold_functions::manifold::Pca;
use lakefold_functions::register_all;
use ndarray::Array2;

use crate::support::{
    batch, error, plan, plan_error, query, register, roll_batch, session, session_with, swiss_roll,
    with_type,
};

fn scores(column: &ArrayRef) -> Vec<Option<Vec<f64>>> {
    let lists = column.as_fixed_size_list();
    let row = |row| {
        let numbers = cast(&lists.value(row), &DataType::Float64).unwrap();
        numbers.as_primitive::<Float64Type>().values().to_vec()
    };
    (0..lists.len())
        .map(|place| lists.is_valid(place).then(|| row(place)))
        .collect()
}

fn expected(rows: usize) -> Vec<Option<Vec<f64>>> {
    let features = Array2::from_shape_vec((rows, 3), swiss_roll(rows).concat()).unwrap();
    let model = Pca::builder(2)
        .build()
        .unwrap()
        .fit(features.view(), &())
        .unwrap();
    let scores = model.transform(features.view(), &()).unwrap();
    scores
        .rows()
        .into_iter()
        .map(|row| Some(row.to_vec()))
        .collect()
}

#[tokio::test]
async fn columns_pass_through_in_order_beside_the_scores() {
    let ctx = session(SessionConfig::new().with_target_partitions(3));
    let roll = roll_batch(300);
    register(
        &ctx,
        vec![
            vec![roll.slice(0, 40), roll.slice(40, 60)],
            vec![roll.slice(100, 1)],
            vec![roll.slice(101, 199)],
        ],
    );
    let result = query(&ctx, "SELECT * FROM pca(t, x)").await.unwrap();
    assert_eq!(result.schema().field(3).name(), "embedding");
    let through = result.project(&[0, 1, 2]).unwrap();
    assert_eq!(through.columns(), roll.columns());
    assert_eq!(scores(result.column(3)), expected(300));
    let text = plan(&ctx, "SELECT * FROM pca(t, x)").await;
    assert!(
        text.contains("ReductionExec: pca(x, n_components=2)"),
        "{text}"
    );

    let other = "SELECT p.y, id FROM pca((SELECT x, id FROM t WHERE id % 2 = 1),
        make_array(x[3], x[1]), n_components => 1, output_column => 'y') AS p";
    let other = query(&ctx, other).await.unwrap();
    assert_eq!(
        other.column(0).data_type(),
        &DataType::new_fixed_size_list(DataType::Float64, 1, true)
    );
    let ids = other.column(1).as_primitive::<Int64Type>();
    assert!(ids.values().iter().copied().eq((1..300).step_by(2)));
}

#[tokio::test]
async fn nulls_stay_null() {
    let points = [
        Some(vec![Some(1.0), Some(0.0)]),
        None,
        Some(vec![Some(-1.0), Some(0.0)]),
        Some(vec![Some(0.0), Some(0.5)]),
    ];
    let ctx = session_with(batch(0, &points));
    let result = query(&ctx, "SELECT * FROM pca(t, x)").await.unwrap();
    let scores = scores(result.column(3));
    assert_eq!(scores[1], None);
    let first: Vec<f64> = scores.iter().flatten().map(|row| row[0]).collect();
    assert_eq!(first, [1.0, -1.0, 0.0]);
    for sql in [
        "SELECT embedding FROM pca((SELECT * FROM t WHERE id = 1), x)",
        "SELECT embedding FROM pca((SELECT id, NULL AS x FROM t), x)",
    ] {
        let nulls = query(&ctx, sql).await.unwrap();
        assert_eq!(nulls.column(0).null_count(), nulls.num_rows(), "{sql}");
    }
    let none = query(&ctx, "SELECT * FROM pca((SELECT * FROM t WHERE id > 9), x)");
    assert_eq!(none.await.unwrap().num_rows(), 0);
}

/// More rows than are held: `rows` of 8 dimensions, in batches of `batch_rows`.
fn many(rows: i64, batch_rows: usize) -> Vec<RecordBatch> {
    let row = |id: i64| {
        let numbers = (0..8).map(|j| Some(((id * (2 * j + 3)) % 1009) as f64 + id as f64 * 1e-6));
        Some(numbers.collect())
    };
    let ids: Vec<i64> = (0..rows).collect();
    ids.chunks(batch_rows)
        .map(|ids| {
            let points: Vec<_> = ids.iter().map(|id| row(*id)).collect();
            let fixed = DataType::new_fixed_size_list(DataType::Float64, 8, true);
            with_type(&batch(ids[0], &points), &fixed)
        })
        .collect()
}

async fn streamed(batches: Vec<Vec<RecordBatch>>, memory: usize) -> Result<RecordBatch> {
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_limit(memory, 1.0)
        .build_arc()?;
    let ctx = SessionContext::new_with_config_rt(SessionConfig::new(), runtime);
    register_all(&ctx)?;
    register(&ctx, batches);
    let sql = "SELECT id, embedding FROM pca(t, x)";
    let frame = ctx.sql(sql).await?;
    let schema = Arc::clone(frame.schema().inner());
    let batches = frame.collect().await?;
    assert_eq!(ctx.runtime_env().memory_pool.reserved(), 0);
    Ok(concat_batches(&schema, &batches)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_what_is_held_rows_wait_on_disk() {
    const ROWS: i64 = 70_000;
    let whole = streamed(vec![many(ROWS, 8192)], 64 << 20).await.unwrap();
    let ids: &Int64Array = whole.column(0).as_primitive();
    assert!(ids.values().iter().copied().eq(0..ROWS));
    // Neither batches nor partitions change a bit.
    let batches = many(ROWS, 5000);
    let (first, second) = batches.split_at(6);
    let parts = streamed(vec![first.to_vec(), second.to_vec()], 64 << 20)
        .await
        .unwrap();
    assert_eq!(parts, whole);
    // With little memory the same bits, because sums are kept in any case.
    let tight = streamed(vec![many(ROWS, 8192)], 1 << 20).await.unwrap();
    assert_eq!(tight, whole);
    let variance = |component: usize| {
        let rows = scores(whole.column(1));
        let values = rows.iter().flatten().map(|row| row[component]);
        values.map(|v| v * v).sum::<f64>() / ROWS as f64
    };
    assert!(variance(0) > variance(1) && variance(1) > 1.0);
}

#[tokio::test]
async fn a_reader_that_leaves_early_leaves_nothing_behind() {
    let ctx = session_with(roll_batch(500));
    let some = query(&ctx, "SELECT id, embedding FROM pca(t, x) LIMIT 3").await;
    assert_eq!(some.unwrap().num_rows(), 3);
    assert_eq!(ctx.runtime_env().memory_pool.reserved(), 0);
}

#[tokio::test]
async fn bad_input_is_named() {
    let ctx = session_with(roll_batch(30));
    for (arguments, expected) in [
        (
            "t",
            "pca needs features: write pca((SELECT …) or input, features, n_components => …",
        ),
        (
            "t, id",
            "features of pca must be a list of numbers, got Int64",
        ),
        (
            "t, x, n_components => 0",
            "n_components of pca must be a whole number of at least 1, got 0",
        ),
        (
            "t, x, n_components => 'two'",
            "n_components of pca must be a whole number of at least 1, got 'two'",
        ),
        (
            "t, x, output_column => 'grp'",
            "the input of pca has a column 'grp' already: name the new one, output_column => 'grp_pca'",
        ),
        (
            "(SELECT arrow_cast(x, 'FixedSizeList(3, Float64)') AS x FROM t), x, n_components => 4",
            "n_components of pca must be at most the number of features, got 4 where column x has 3 dimensions",
        ),
    ] {
        let message = plan_error(&ctx, &format!("SELECT * FROM pca({arguments})")).await;
        assert!(message.contains(expected), "{arguments}: {message}");
    }
    for (arguments, expected) in [
        (
            "t, x, n_components => 4",
            "n_components = 4 needs at least 4 dimensions, found 3",
        ),
        (
            "(SELECT * FROM t WHERE id < 2), x",
            "n_components = 2 needs at least 3 rows, found 2",
        ),
        (
            "(SELECT id, CASE WHEN id = 7 THEN make_array('NaN'::DOUBLE, 0.0, 0.0) ELSE x END AS x FROM t), x",
            "pca of column x: row 7 of its batch (counted from 0, id = 7) has NaN in dimension 0",
        ),
        (
            "(SELECT id, CASE WHEN id = 7 THEN make_array(0.0) ELSE x END AS x FROM t), x",
            "pca of column x: row 7 of its batch (counted from 0, id = 7) has 1 dimensions, but row 0 has 3",
        ),
    ] {
        let message = error(&ctx, &format!("SELECT * FROM pca({arguments})")).await;
        assert!(message.contains(expected), "{arguments}: {message}");
    }
}
