//! Neighbours through a graph, in SQL.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use lakefold_functions::register_all;

use crate::support::{
    batch, bits, error, plan, query, register, session, session_with, with_number_type,
};

const DIMENSIONS: usize = 16;

/// Clusters of 16 dimensions, the same in every run: no two rows are equal.
fn clusters(rows: i64) -> RecordBatch {
    let points: Vec<_> = (0..rows)
        .map(|id| {
            let mut state = (id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d;
            let point = (0..DIMENSIONS).map(|dimension| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let noise = (state >> 11) as f64 / (1u64 << 53) as f64;
                let centre = ((id % 20) * (dimension as i64 + 3) % 11) as f64;
                Some(centre + noise)
            });
            Some(point.collect())
        })
        .collect();
    batch(0, &points)
}

/// (id, neighbour, rank, distance's bits) of every row.
async fn found(ctx: &SessionContext, sql: &str) -> Vec<(i64, i64, i64, u64)> {
    let result = query(ctx, sql).await.unwrap();
    let whole = |column: usize| result.column(column).as_primitive::<Int64Type>();
    let distances = result.column(3).as_primitive::<Float64Type>();
    let pairs = (0..result.num_rows()).map(|row| {
        let [id, neighbor, rank] = [0, 1, 2].map(|column| whole(column).value(row));
        (id, neighbor, rank, distances.value(row).to_bits())
    });
    let mut pairs: Vec<_> = pairs.collect();
    // The left rows of a join come as they come.
    pairs.sort_by_key(|pair| (pair.0, pair.2));
    pairs
}

/// How many pairs of two answers are the same.
fn agreement(found: &[(i64, i64, i64, u64)], exact: &[(i64, i64, i64, u64)]) -> f64 {
    assert_eq!(found.len(), exact.len());
    let known: std::collections::HashSet<_> = exact.iter().map(|p| (p.0, p.1, p.3)).collect();
    let same = found.iter().filter(|p| known.contains(&(p.0, p.1, p.3)));
    same.count() as f64 / exact.len() as f64
}

async fn analyzed(ctx: &SessionContext, sql: &str) -> String {
    let batches = ctx.sql(&format!("EXPLAIN ANALYZE {sql}")).await.unwrap();
    pretty_format_batches(&batches.collect().await.unwrap())
        .unwrap()
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn most_neighbours_are_the_nearest_with_the_very_distances() {
    for number_type in [DataType::Float32, DataType::Float64] {
        let ctx = session_with(with_number_type(&clusters(3000), &number_type));
        for metric in ["l2", "cosine", "ip"] {
            let own = |method| {
                format!(
                    "SELECT * FROM knn(t, id, x, k => 8, metric => '{metric}', method => '{method}')"
                )
            };
            let exact = found(&ctx, &own("exact")).await;
            let ids = query(&ctx, &own("hnsw")).await.unwrap();
            let ids = ids.column(0).as_primitive::<Int64Type>().values().clone();
            assert!(ids.is_sorted() && ids.len() == 3000 * 8);
            let hnsw = found(&ctx, &own("hnsw")).await;
            let recall = agreement(&hnsw, &exact);
            assert!(recall > 0.95, "{metric} {number_type}: {recall}");
            let order = hnsw.iter().map(|pair| (pair.0, pair.2));
            assert!(order.eq((0..3000).flat_map(|id| (1..=8).map(move |rank| (id, rank)))));
            let across = |method| {
                format!(
                    "SELECT * FROM knn_join((SELECT * FROM t WHERE id % 9 = 0), id, x, t, id, x, k => 8,
                        metric => '{metric}', method => '{method}', ef_search => 200)"
                )
            };
            let exact = found(&ctx, &across("exact")).await;
            let recall = agreement(&found(&ctx, &across("hnsw")).await, &exact);
            assert!(recall > 0.97, "{metric} {number_type}: {recall}");
        }
    }
}

/// Doubles that differ by less than a float tells, far from the origin, and numbers whose squares no float holds.
#[tokio::test(flavor = "multi_thread")]
async fn the_graphs_floats_do_not_decide() {
    let ctx = session_with(clusters(1000));
    for expression in [
        "1e6 + v",
        "1e-30 * v",
        "1e30 * v",
        "1e-120 * v",
        "1e120 * v",
    ] {
        for number in ["DOUBLE", "FLOAT"] {
            if number == "FLOAT" && (expression.contains("120") || expression.contains("1e6")) {
                continue;
            }
            let columns: Vec<String> = (1..=DIMENSIONS)
                .map(|place| {
                    format!(
                        "({})::{number}",
                        expression.replace('v', &format!("x[{place}]"))
                    )
                })
                .collect();
            let table = format!(
                "(SELECT id, make_array({}) AS x FROM t)",
                columns.join(", ")
            );
            let own =
                |method| format!("SELECT * FROM knn({table}, id, x, k => 5, method => '{method}')");
            let exact = found(&ctx, &own("exact")).await;
            let recall = agreement(&found(&ctx, &own("hnsw")).await, &exact);
            assert!(recall > 0.95, "{expression} {number}: {recall}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn order_partitions_and_batches_change_nothing() {
    let rows = clusters(4000);
    let own = "SELECT * FROM knn(t, id, x, k => 6, method => 'hnsw', ef_search => 10)";
    let across = "SELECT * FROM knn_join((SELECT * FROM t WHERE id % 5 = 0), id, x,
        t, id, x, k => 6, method => 'hnsw', m => 8, ef_construction => 40)";
    let attention =
        "SELECT id, attention FROM attention_topk((SELECT * FROM t WHERE id % 5 = 0), id, x,
        t, x, x, k => 6, method => 'hnsw', ef_search => 10)";
    let whole = session_with(rows.clone());
    let expected = (found(&whole, own).await, found(&whole, across).await);
    let attended = bits(&query(&whole, attention).await.unwrap());
    assert_eq!(attended.len(), 800);
    let ctx = session(
        SessionConfig::new()
            .with_target_partitions(3)
            .with_batch_size(100),
    );
    let parts = vec![
        vec![rows.slice(2511, 1489)],
        vec![rows.slice(2510, 1)],
        vec![rows.slice(10, 2500), rows.slice(0, 10)],
    ];
    register(&ctx, parts);
    assert_eq!(found(&ctx, own).await, expected.0);
    assert_eq!(found(&ctx, across).await, expected.1);
    assert_eq!(bits(&query(&ctx, attention).await.unwrap()), attended);
    // A graph with so few rows in view misses some, or the comparison would show nothing.
    let exact = found(
        &whole,
        "SELECT * FROM knn(t, id, x, k => 6, method => 'exact')",
    )
    .await;
    assert_ne!(expected.0, exact);
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_by_the_thousand_and_nulls() {
    let ctx = session_with(clusters(500));
    let rows = "(SELECT a.id * 100 + b.id AS id,
            CASE WHEN a.id = 7 THEN NULL WHEN a.id < 30 THEN make_array(1.0, 2.0) ELSE make_array(a.id, b.id) END AS x
        FROM t AS a CROSS JOIN (SELECT id FROM t WHERE id < 100) AS b WHERE a.id < 40)";
    let own = |method| format!("SELECT * FROM knn({rows}, id, x, k => 4, method => '{method}')");
    let (hnsw, exact) = (
        found(&ctx, &own("hnsw")).await,
        found(&ctx, &own("exact")).await,
    );
    assert_eq!(hnsw.len(), 39 * 100 * 4);
    let distances = |pairs: &[(i64, i64, i64, u64)]| pairs.iter().map(|p| p.3).collect::<Vec<_>>();
    let (hnsw, exact) = (distances(&hnsw), distances(&exact));
    let same = hnsw.iter().zip(&exact).filter(|(h, e)| h == e).count();
    assert!(
        same as f64 > 0.98 * exact.len() as f64,
        "{same} of {}",
        exact.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_and_their_analysis_tell_the_method_and_its_recall() {
    let ctx = session_with(clusters(3000));
    let fixed = "(SELECT id, arrow_cast(x, 'FixedSizeList(16, Float32)') AS x FROM t)";
    let text = plan(&ctx, &format!("SELECT * FROM knn({fixed}, id, x)")).await;
    assert!(text.contains("method=auto: exact)"), "{text}");
    let text = plan(
        &ctx,
        &format!("SELECT * FROM knn({fixed}, id, x, method => 'hnsw', m => 12)"),
    )
    .await;
    let expected = "method=hnsw (m=12, ef_construction=200, ef_search=64, expected recall 0.9";
    assert!(text.contains(expected), "{text}");

    let text = analyzed(&ctx, "SELECT * FROM knn(t, id, x, method => 'hnsw')").await;
    assert!(text.contains("hnsw_queries=3.00 K"), "{text}");
    let recall = text.split("sampled_recall=").nth(1).unwrap();
    let recall: f64 = recall.split('%').next().unwrap().parse().unwrap();
    // 23 of as many queries as rows, of 12 neighbours each.
    assert!(text.contains("/276)"), "{text}");
    assert!((90.0..=100.0).contains(&recall), "{recall}");
    let text = analyzed(&ctx, "SELECT * FROM knn(t, id, x)").await;
    assert!(text.contains("exact_queries=3.00 K"), "{text}");
    assert!(!text.contains("sampled_recall"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_has_its_memory_from_the_pool_and_gives_it_back() {
    let limited = |bytes| {
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(bytes, 1.0);
        let runtime = runtime.build_arc().unwrap();
        let ctx = SessionContext::new_with_config_rt(SessionConfig::new(), runtime);
        register_all(&ctx).unwrap();
        register(&ctx, vec![vec![clusters(5000)]]);
        ctx
    };
    // Rows alone are 640 KB.
    let ctx = limited(1600 << 10);
    let message = error(&ctx, "SELECT * FROM knn(t, id, x, method => 'hnsw')").await;
    let expected =
        "knn of column x: no memory for an HNSW index of the features, which takes about";
    assert!(message.contains(expected), "{message}");
    assert_eq!(ctx.runtime_env().memory_pool.reserved(), 0);
    let ctx = limited(64 << 20);
    let pool = Arc::clone(&ctx.runtime_env().memory_pool);
    let sql = "SELECT * FROM knn_join(t, id, x, t, id, x, k => 3, method => 'hnsw')";
    assert_eq!(found(&ctx, sql).await.len(), 15_000);
    assert_eq!(pool.reserved(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fit_takes_its_neighbours_from_a_graph_when_told_to() {
    let rows = clusters(2000);
    let fit = |algorithm: &str| {
        format!(
            "SELECT id, embedding FROM lle(t, x, n_components => 2, n_neighbors => 10, reg => 0.1,
                solver => 'landmarks', n_landmarks => 200, neighbors_algorithm => '{algorithm}')"
        )
    };
    let quality = |algorithm: &str| {
        format!(
            "SELECT trustworthiness FROM embedding_quality(({}), x, embedding)",
            fit(algorithm).replace("id, embedding", "*")
        )
    };
    let whole = session_with(rows.clone());
    let hnsw = bits(&embedded(&whole, &fit("hnsw")).await);
    let ctx = session(SessionConfig::new().with_target_partitions(2));
    register(
        &ctx,
        vec![vec![rows.slice(900, 1100)], vec![rows.slice(0, 900)]],
    );
    assert_eq!(bits(&embedded(&ctx, &fit("hnsw")).await), hnsw);
    let mut scores = vec![];
    for algorithm in ["exact", "hnsw", "auto"] {
        let result = query(&whole, &quality(algorithm)).await.unwrap();
        scores.push(result.column(0).as_primitive::<Float64Type>().value(0));
    }
    assert!((scores[0] - scores[1]).abs() < 0.01, "{scores:?}");
    // So few rows are compared with one another.
    assert_eq!(scores[0].to_bits(), scores[2].to_bits());

    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("m.parquet");
    let sql = format!(
        "SELECT neighbors_algorithm, neighbors_recall FROM lle_fit(t, x, n_components => 2, n_neighbors => 10,
            neighbors_algorithm => 'hnsw', model => '{}')",
        model.display()
    );
    let row = query(&whole, &sql).await.unwrap();
    assert_eq!(row.column(0).as_string::<i32>().value(0), "hnsw");
    let recall = row.column(1).as_primitive::<Float64Type>().value(0);
    assert!((0.9..=1.0).contains(&recall), "{recall}");
}

/// Embeddings as lists of any length.
async fn embedded(ctx: &SessionContext, sql: &str) -> RecordBatch {
    let sql =
        format!("SELECT id, arrow_cast(embedding, 'List(Float64)') AS embedding FROM ({sql})");
    query(ctx, &sql).await.unwrap()
}
