//! `laplacian_eigenmaps` in FROM.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::Float64Type;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use lakefold_functions::manifold::LaplacianEigenmaps;
use lakefold_functions::register_all;
use ndarray::Array2;

use crate::support::{
    batch, error, plan, plan_error, query, register, roll_batch, session, session_with, swiss_roll,
};

/// The numbers of a column of embeddings, row by row.
fn numbers(result: &RecordBatch, column: usize) -> Vec<f64> {
    let lists = result.column(column).as_fixed_size_list();
    assert_eq!(lists.null_count(), 0);
    lists
        .values()
        .as_primitive::<Float64Type>()
        .values()
        .to_vec()
}

fn expected(rows: usize, n_neighbors: usize) -> Vec<f64> {
    let features = Array2::from_shape_vec((rows, 3), swiss_roll(rows).concat()).unwrap();
    let eigenmaps = LaplacianEigenmaps::builder(2).n_neighbors(n_neighbors);
    let fit = eigenmaps
        .build()
        .unwrap()
        .fit(features.view(), &())
        .unwrap();
    fit.embedding.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_pass_through_in_order_beside_the_embedding() {
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
    let sql = "SELECT * FROM laplacian_eigenmaps(t, x)";
    let result = query(&ctx, sql).await.unwrap();
    assert_eq!(result.schema().field(3).name(), "embedding");
    let through = result.project(&[0, 1, 2]).unwrap();
    assert_eq!(through.columns(), roll.columns());
    assert_eq!(numbers(&result, 3), expected(300, 12));
    let text = plan(&ctx, sql).await;
    let operator = "ReductionExec: laplacian_eigenmaps(x, n_components=2, n_neighbors=12, solver=auto, seed=0)";
    assert!(text.contains(operator), "{text}");

    let named =
        "SELECT m.y FROM laplacian_eigenmaps(t, make_array(x[1], x[2], x[3]), n_neighbors => 8,
        solver => 'exact', seed => 3, output_column => 'y') AS m";
    let named = numbers(&query(&ctx, named).await.unwrap(), 0);
    // Another start vector: the same up to what the solver leaves.
    for (found, expected) in named.iter().zip(expected(300, 8)) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
}

#[tokio::test]
async fn nulls_stay_null_and_memory_is_given_back() {
    let ctx = session_with(roll_batch(60));
    let sql = "SELECT id, embedding FROM laplacian_eigenmaps(
        (SELECT id, CASE WHEN id % 4 > 0 THEN x END AS x FROM t), x, n_neighbors => 5)";
    let result = query(&ctx, sql).await.unwrap();
    let lists = result.column(1).as_fixed_size_list();
    assert!((0..60).all(|row| lists.is_null(row) == (row % 4 == 0)));
    let nulls = "SELECT embedding FROM laplacian_eigenmaps((SELECT id, NULL AS x FROM t), x)";
    let nulls = query(&ctx, nulls).await.unwrap();
    assert_eq!(nulls.column(0).null_count(), 60);
    let none = "SELECT * FROM laplacian_eigenmaps((SELECT * FROM t WHERE id > 99), x)";
    assert_eq!(query(&ctx, none).await.unwrap().num_rows(), 0);
    assert_eq!(ctx.runtime_env().memory_pool.reserved(), 0);
}

#[tokio::test]
async fn a_limit_too_small_names_need_and_remedy() {
    for (kib, expected) in [
        (
            20,
            "laplacian_eigenmaps: no memory for one more batch of the input",
        ),
        (
            400,
            "laplacian_eigenmaps of column x on 5000 rows: no memory for ",
        ),
    ] {
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(kib << 10, 1.0);
        let config = SessionConfig::new();
        let ctx = SessionContext::new_with_config_rt(config, runtime.build_arc().unwrap());
        register_all(&ctx).unwrap();
        register(&ctx, vec![vec![roll_batch(5000)]]);
        let message = error(&ctx, "SELECT * FROM laplacian_eigenmaps(t, x)").await;
        assert!(message.contains(expected), "{kib}: {message}");
        let pool = Arc::clone(&ctx.runtime_env().memory_pool);
        assert_eq!(pool.reserved(), 0);
    }
}

#[tokio::test]
async fn bad_input_is_named() {
    let ctx = session_with(roll_batch(30));
    for (arguments, expected) in [
        (
            "t",
            "laplacian_eigenmaps needs features: write laplacian_eigenmaps((SELECT …) or input, features, ",
        ),
        (
            "t, id",
            "features of laplacian_eigenmaps must be a list of numbers, got Int64",
        ),
        (
            "t, x, n_components => 0",
            "n_components of laplacian_eigenmaps must be a whole number of at least 1, got 0",
        ),
        (
            "t, x, n_neighbors => 'auto'",
            "n_neighbors of laplacian_eigenmaps must be a whole number of at least 1, got 'auto'",
        ),
        (
            "t, x, solver => 'landmarks'",
            "solver must be auto, dense or exact for Laplacian eigenmaps, got 'landmarks'",
        ),
        (
            "t, x, output_column => 'grp'",
            "has a column 'grp' already: name the new one, output_column => 'grp_laplacian_eigenmaps'",
        ),
    ] {
        let message = plan_error(
            &ctx,
            &format!("SELECT * FROM laplacian_eigenmaps({arguments})"),
        )
        .await;
        assert!(message.contains(expected), "{arguments}: {message}");
    }
    for (arguments, expected) in [
        (
            "t, x, n_neighbors => 30",
            "laplacian_eigenmaps of column x: n_neighbors = 30 needs",
        ),
        (
            "(SELECT id, CASE WHEN id = 7 THEN make_array('NaN'::DOUBLE, 0.0, 0.0) ELSE x END AS x FROM t), x",
            "laplacian_eigenmaps of column x: row 7 (counted from 0, id = 7) has NaN in dimension 0",
        ),
        (
            "(SELECT id, CASE WHEN id = 7 THEN make_array(0.0) ELSE x END AS x FROM t), x",
            "row 7 (counted from 0, id = 7) has 1 dimensions, but row 0 has 3",
        ),
    ] {
        let message = error(
            &ctx,
            &format!("SELECT * FROM laplacian_eigenmaps({arguments})"),
        )
        .await;
        assert!(message.contains(expected), "{arguments}: {message}");
    }
    let few = session_with(batch(0, &[Some(vec![Some(1.0)]), Some(vec![Some(2.0)])]));
    let message = error(&few, "SELECT * FROM laplacian_eigenmaps(t, x)").await;
    assert!(
        message.contains("n_components = 2 needs at least 4 distinct rows, found 2"),
        "{message}"
    );
}
