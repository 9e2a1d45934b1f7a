//! `knn` and `knn_join` in FROM.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use lakefold_functions::register_all;

use crate::support::{
    batch, error, plan, plan_error, query, register, roll_batch, session, session_with,
    with_number_type,
};

/// (id, neighbour, rank, distance's bits) of every row.
type Pairs = Vec<(i64, i64, i64, u64)>;

fn pairs(result: &RecordBatch) -> Pairs {
    let whole = |column: usize| result.column(column).as_primitive::<Int64Type>();
    let distances = result.column(3).as_primitive::<Float64Type>();
    (0..result.num_rows())
        .map(|row| {
            let [id, neighbor, rank] = [0, 1, 2].map(|column| whole(column).value(row));
            (id, neighbor, rank, distances.value(row).to_bits())
        })
        .collect()
}

async fn found(ctx: &SessionContext, sql: &str) -> Pairs {
    pairs(&query(ctx, sql).await.unwrap())
}

/// Whole numbers, so that products are the same in any order of summation, with many ties.
fn grid(rows: i64) -> RecordBatch {
    let points: Vec<_> = (0..rows)
        .map(|id| {
            Some(
                [1 + id % 7, 2 - id % 5, id % 3]
                    .map(|v| Some(v as f64))
                    .to_vec(),
            )
        })
        .collect();
    batch(0, &points)
}

#[tokio::test]
async fn every_metric_agrees_with_every_pair_compared() {
    let ctx = session_with(grid(200));
    for (metric, function, order) in [
        ("l2", "array_distance", "ASC"),
        ("ip", "inner_product", "DESC"),
        ("inner_product", "inner_product", "DESC"),
    ] {
        let distance = format!("{function}(a.x, b.x)");
        let expected = |left: &str, k: i64, condition: &str| {
            format!(
                "SELECT id, neighbor, rank, distance FROM (
                    SELECT a.id, b.id AS neighbor, CAST({distance} AS DOUBLE) AS distance,
                        CAST(row_number() OVER (PARTITION BY a.id ORDER BY {distance} {order}, b.id) AS BIGINT) AS rank
                    FROM {left} AS a CROSS JOIN t AS b WHERE {condition})
                 WHERE rank <= {k} ORDER BY id, rank"
            )
        };
        let others = found(&ctx, &expected("t", 9, "a.id <> b.id")).await;
        assert_eq!(others.len(), 200 * 9);
        let sql = format!("SELECT * FROM knn(t, id, x, k => 9, metric => '{metric}')");
        assert_eq!(found(&ctx, &sql).await, others, "{metric}");
        let left = "(SELECT id + 1000 AS id, make_array(x[3], x[1] + 1, x[2]) AS x FROM t)";
        let across = found(&ctx, &expected(left, 4, "true")).await;
        let sql = format!("SELECT * FROM knn_join({left}, id, x, t, id, x, 4, '{metric}')");
        assert_eq!(found(&ctx, &sql).await, across, "{metric}");
    }
}

/// The quotient is rounded elsewhere than in DataFusion's function, so that ties are broken otherwise:
/// distances agree to rounding.
#[tokio::test]
async fn cosine_distances_are_those_of_the_function() {
    let ctx = session_with(roll_batch(200));
    let expected = "SELECT id, neighbor, rank, distance FROM (
            SELECT a.id, b.id AS neighbor, cosine_distance(a.x, b.x) AS distance,
                CAST(row_number() OVER (PARTITION BY a.id ORDER BY cosine_distance(a.x, b.x)) AS BIGINT) AS rank
            FROM t AS a CROSS JOIN t AS b WHERE a.id <> b.id)
        WHERE rank <= 6 ORDER BY id, rank";
    let expected = found(&ctx, expected).await;
    let sql = "SELECT * FROM knn(t, id, x, k => 6, metric => 'Cosine', method => 'exact')";
    let found = found(&ctx, sql).await;
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(
            (found.0, found.1, found.2),
            (expected.0, expected.1, expected.2)
        );
        let [found, expected] = [found.3, expected.3].map(f64::from_bits);
        assert!((found - expected).abs() < 1e-14, "{found} {expected}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_and_batches_change_nothing() {
    // More rows than a part has, and enough of them for a tree.
    let rows = roll_batch(5000);
    let sql = "SELECT * FROM knn(t, id, x, k => 3)";
    let join =
        "SELECT * FROM knn_join(t, id, x, (SELECT * FROM t WHERE id % 7 = 0), id, x, k => 40)";
    let whole = session_with(rows.clone());
    let (expected, joined) = (found(&whole, sql).await, found(&whole, join).await);
    assert_eq!(expected.len(), 5000 * 3);
    let order = expected.iter().map(|pair| (pair.0, pair.2));
    assert!(order.eq((0..5000).flat_map(|id| (1..=3).map(move |rank| (id, rank)))));
    assert_eq!(joined.len(), 5000 * 40);
    let ctx = session(
        SessionConfig::new()
            .with_target_partitions(3)
            .with_batch_size(100),
    );
    let parts = vec![
        vec![rows.slice(2511, 2489)],
        vec![rows.slice(2510, 1)],
        vec![rows.slice(0, 10), rows.slice(10, 2500)],
    ];
    register(&ctx, parts);
    assert_eq!(found(&ctx, sql).await, expected);
    // The left rows come as they come.
    let mut pairs = found(&ctx, join).await;
    assert_eq!(pairs[0].0, 2511);
    pairs.sort_by_key(|pair| (pair.0, pair.2));
    assert_eq!(pairs, joined);
    let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
    assert!(batches.iter().all(|batch| batch.num_rows() <= 100));
    let text = plan(&ctx, sql).await;
    let expected = "ReductionExec: knn(id, x, k=3, metric=l2, method=auto: exact or hnsw, by rows and dimensions)";
    assert!(text.contains(expected), "{text}");
}

#[tokio::test]
async fn ties_go_to_the_smaller_id_whatever_the_order() {
    let ctx = session_with(grid(105));
    // Every vector of the grid is there once; with the copies, twice.
    let twice = "(SELECT id, x FROM t UNION ALL SELECT id + 200, x FROM t)";
    let up = found(&ctx, &format!("SELECT * FROM knn({twice}, id, x, k => 1)")).await;
    assert!(
        up.iter()
            .all(|pair| (pair.0 - pair.1).abs() == 200 && pair.3 == 0)
    );
    for order in ["", "DESC", "+ id % 7 DESC"] {
        let rows =
            format!("(SELECT id, [abs(id - 50.0)] AS x FROM t ORDER BY id {order} LIMIT 105)");
        let own = format!("SELECT * FROM knn({rows}, id, x, k => 1) WHERE id = 50");
        assert_eq!(found(&ctx, &own).await[0].1, 49, "{order}");
        let two = format!(
            "SELECT * FROM knn_join((SELECT 0 AS id, [7.0] AS x), id, x, {rows}, id, x, k => 2)"
        );
        let two = found(&ctx, &two).await;
        assert_eq!((two[0].1, two[1].1), (43, 57), "{order}");
    }
    // Names are ids too, and NULL is the largest.
    let sql = "SELECT neighbor_id FROM knn_join((SELECT 0 AS id, [0.0] AS x), id, x,
        (SELECT column1 AS id, [1.0] AS x FROM (VALUES (NULL), ('b'), ('a'))), id, x, k => 3) ORDER BY rank";
    let batches = query(&ctx, sql).await.unwrap();
    let names: Vec<_> = batches.column(0).as_string::<i32>().iter().collect();
    assert_eq!(names, [Some("a"), Some("b"), None]);
}

#[tokio::test]
async fn nulls_are_left_out_and_ids_keep_their_type() {
    let ctx = session(SessionConfig::new());
    let table = "(SELECT * FROM (VALUES ('a', [0.0, 0.0]), (NULL, [1.0, 0.0]), ('c', NULL),
        ('a', [0.0, 3.0])) AS v (name, x))";
    let sql = format!("SELECT * FROM knn({table}, name, x, k => 2)");
    let result = query(&ctx, &sql).await.unwrap();
    let text = DataType::Utf8;
    let [ids, neighbors] = [0, 1].map(|place| {
        let column = datafusion::arrow::compute::cast(result.column(place), &text).unwrap();
        let names = column.as_string::<i32>().iter();
        names
            .map(|name| name.map(str::to_owned))
            .collect::<Vec<_>>()
    });
    let names = |names: [&str; 6]| names.map(|n| (n != "-").then(|| n.to_owned())).to_vec();
    assert_eq!(ids, names(["a", "a", "a", "a", "-", "-"]));
    assert_eq!(neighbors, names(["-", "a", "a", "-", "a", "a"]));

    for empty in [
        "SELECT * FROM knn((SELECT 1 AS id, [1.0] AS x WHERE false), id, x)",
        "SELECT * FROM knn((SELECT 1 AS id, NULL AS x), id, x)",
        "SELECT * FROM knn_join((SELECT 1 AS id, [1.0] AS x WHERE false), id, x,
            (SELECT 1 AS id, [1.0] AS x WHERE false), id, x)",
        "SELECT * FROM knn_join((SELECT 1 AS id, NULL::DOUBLE[] AS x), id, x,
            (SELECT 1 AS id, [1.0] AS x), id, x)",
    ] {
        assert_eq!(query(&ctx, empty).await.unwrap().num_rows(), 0, "{empty}");
    }
}

#[tokio::test]
async fn the_wider_type_decides() {
    let ctx = session_with(with_number_type(&roll_batch(50), &DataType::Float32));
    let double = "(SELECT id, arrow_cast(x, 'List(Float64)') AS x FROM t)";
    let sql = |left: &str, right: &str| {
        format!("SELECT * FROM knn_join({left}, id, x, {right}, id, x, k => 5)")
    };
    let expected = found(&ctx, &sql(double, double)).await;
    for (left, right) in [("t", double), (double, "t"), ("t", "t")] {
        // Narrow numbers, but differences and sums are of doubles in any case.
        assert_eq!(found(&ctx, &sql(left, right)).await, expected);
    }
    assert!(expected.iter().all(|pair| pair.2 != 1 || pair.0 == pair.1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_early_leaves_nothing_behind() {
    let ctx = session_with(roll_batch(20_000));
    let pool = Arc::clone(&ctx.runtime_env().memory_pool);
    for sql in [
        "SELECT * FROM knn(t, id, x)",
        "SELECT * FROM knn_join(t, id, x, t, id, x)",
    ] {
        let frame = ctx.sql(sql).await.unwrap();
        let plan = frame.create_physical_plan().await.unwrap();
        let mut stream = execute_stream(plan, ctx.task_ctx()).unwrap();
        let first = stream.next().await.unwrap().unwrap();
        assert_eq!(first.num_rows(), 8192, "{sql}");
        assert!(pool.reserved() > 20_000 * 3 * 8, "{}", pool.reserved());
        drop(stream);
        assert_eq!(pool.reserved(), 0, "{sql}");
    }
}

#[tokio::test]
async fn a_limit_too_small_names_need_and_remedy() {
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_limit(100 << 10, 1.0)
        .build_arc()
        .unwrap();
    let ctx = SessionContext::new_with_config_rt(SessionConfig::new(), runtime);
    register_all(&ctx).unwrap();
    register(&ctx, vec![vec![roll_batch(5000)]]);
    for (sql, function) in [
        ("SELECT * FROM knn(t, id, x)", "knn"),
        ("SELECT * FROM knn_join(t, id, x, t, id, x)", "knn_join"),
    ] {
        let message = error(&ctx, sql).await;
        let expected = format!(
            "{function} of column x: no memory for the features of the rows to search, which takes about"
        );
        assert!(message.contains(&expected), "{message}");
        assert!(
            message.contains("features of fewer dimensions"),
            "{message}"
        );
        assert_eq!(ctx.runtime_env().memory_pool.reserved(), 0);
    }
}

#[tokio::test]
async fn bad_parameters_are_named_before_anything_is_read() {
    let ctx = session_with(roll_batch(30));
    for (call, expected) in [
        (
            "knn(t, id)",
            "knn needs features: write knn((SELECT …) or input, id, features, k => …",
        ),
        (
            "knn(t, id, grp)",
            "features of knn must be a list of numbers, got",
        ),
        (
            "knn(t, id, x, k => 0)",
            "k of knn must be a whole number of at least 1, got 0",
        ),
        (
            "knn(t, id, x, metric => 'l1')",
            "knn: metric must be one of l2, cosine, ip, inner_product, got 'l1'",
        ),
        (
            "knn(t, id, x, method => 'magic')",
            "method of knn must be one of auto, exact, hnsw, got 'magic'",
        ),
        (
            "knn(t, id, x, m => 257)",
            "knn: m must be from 2 to 256, got 257",
        ),
        (
            "knn_join(t, id, x, t, id, x, ef_construction => 15)",
            "knn_join: ef_construction must be from 16 to",
        ),
        (
            "knn(t, id, x, ef_search => 0)",
            "ef_search of knn must be a whole number of at least 1, got 0",
        ),
        (
            "knn(t, id, x, ef_search => 100000000)",
            "ef_search of knn must be from 1 to 1048576, got 100000000",
        ),
        (
            "knn(t, id, x, seed => 0.5)",
            "seed of knn must be a whole number of at least 0, got 0.5",
        ),
        (
            "knn_join(t, id, x, t, id)",
            "knn_join needs right_features: write knn_join((SELECT …) or left, left_id, left_features, ",
        ),
        (
            "knn_join(t, id, x, t, id, id)",
            "right_features of knn_join must be a list of numbers, got Int64",
        ),
        (
            "knn_join(t, id, arrow_cast(x, 'FixedSizeList(3, Float64)'),
                (SELECT id, arrow_cast(x[1:2], 'FixedSizeList(2, Float64)') AS y FROM t), id, y)",
            "has 3 dimensions and right_features, y, has 2: both need the same number",
        ),
    ] {
        let message = plan_error(&ctx, &format!("SELECT * FROM {call}")).await;
        assert!(message.contains(expected), "{call}: {message}");
    }
}

#[tokio::test]
async fn bad_rows_are_named() {
    let ctx = session_with(roll_batch(30));
    let replaced = |vector: &str| {
        format!("(SELECT id, CASE WHEN id = 7 THEN {vector} ELSE x END AS x FROM t)")
    };
    let zero = replaced("[0.0, 0.0, 0.0]");
    let row = "row 7 of its batch (counted from 0, id = 7)";
    let no_direction = format!("{row} has zeros only, which have no direction");
    for (call, expected) in [
        (
            "knn(t, id, x, k => 30)".to_owned(),
            "knn of column x: k = 30 needs at least 1 neighbour and more rows than neighbours, found 30 rows"
                .to_owned(),
        ),
        (
            "knn_join(t, id, x, (SELECT * FROM t WHERE id < 4), id, x, k => 5)".to_owned(),
            "k = 5 of knn_join needs as many right rows, found 4 with features in column x: lower k"
                .to_owned(),
        ),
        (
            "knn_join(t, id, x, (SELECT * FROM t WHERE id < 0), id, x, k => 1)".to_owned(),
            "k = 1 of knn_join needs as many right rows, found 0".to_owned(),
        ),
        (
            format!("knn({zero}, id, x, metric => 'cosine')"),
            format!("knn of column x: {no_direction}"),
        ),
        (
            format!("knn_join({zero}, id, x, t, id, x, metric => 'cosine')"),
            format!("knn_join of column x: {no_direction}"),
        ),
        (
            format!("knn_join(t, id, x, {zero}, id, x, metric => 'cosine')"),
            format!("knn_join of column x: {no_direction}"),
        ),
        (
            format!("knn({}, id, x)", replaced("['NaN'::DOUBLE, 0.0, 0.0]")),
            format!("{row} has NaN in dimension 0"),
        ),
        (
            format!("knn({}, id, x)", replaced("[1.0]")),
            format!("{row} has 1 dimensions, but row 0 has 3"),
        ),
        (
            "knn_join(t, id, x, (SELECT id, x[1:2] AS y FROM t), id, y)".to_owned(),
            "left_features of knn_join, x, has 3 dimensions (row 0 of its batch (counted from 0, id = 0)) \
             and right_features, y, has 2: both need the same number"
                .to_owned(),
        ),
    ] {
        let message = error(&ctx, &format!("SELECT * FROM {call}")).await;
        assert!(message.contains(&expected), "{call}: {message}");
    }
    // Without a direction, but at a place.
    let rows = found(&ctx, &format!("SELECT * FROM knn({zero}, id, x, k => 2)")).await;
    assert_eq!(rows.len(), 60);
}
