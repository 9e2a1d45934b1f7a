//! Fits that see a sample, while the rows wait on disk.

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::support::{
    batch, bits, error, lists, query, register, roll_batch, session, swiss_roll, with_number_type,
};

const SAMPLED: &str = "SELECT id, lle_embed(x, 2, 12, 'reg=0.001, sample_size=500, n_landmarks=200, \
                       landmark_neighbors=8') OVER () AS y FROM t";

/// `rows` of a swiss roll, cut at these places, in one partition each.
fn session_cut(rows: usize, cuts: &[usize], config: SessionConfig) -> SessionContext {
    let ctx = session(config);
    let whole = roll_batch(rows);
    let ends = cuts.iter().copied().chain([rows]);
    let starts = [0].into_iter().chain(cuts.iter().copied());
    let parts = starts.zip(ends);
    let parts = parts.map(|(start, end)| vec![whole.slice(start, end - start)]);
    register(&ctx, parts.collect());
    ctx
}

#[tokio::test]
async fn batches_and_partitions_do_not_change_a_bit_and_rows_keep_their_order() {
    let one = session_cut(3000, &[], SessionConfig::new());
    let expected = query(&one, SAMPLED).await.unwrap();
    assert_eq!(expected.num_rows(), 3000);
    assert_eq!(expected.column(1).null_count(), 0);
    for (cuts, batch_size) in [(vec![7, 1500], 8192), (vec![2999], 100)] {
        let config = SessionConfig::new()
            .with_batch_size(batch_size)
            .with_target_partitions(3);
        let ctx = session_cut(3000, &cuts, config);
        let result = query(&ctx, SAMPLED).await.unwrap();
        assert_eq!(bits(&result), bits(&expected), "{cuts:?}");
        let ids = result.column(0).as_primitive::<Int64Type>();
        assert!(ids.values().iter().copied().eq(0..3000), "{cuts:?}");
    }
    let backwards = "SELECT id, lle_embed(x, 2, 12, 'reg=0.001, sample_size=500, n_landmarks=200, \
                     landmark_neighbors=8') OVER () AS y FROM (SELECT * FROM t ORDER BY id DESC)";
    assert_eq!(
        bits(&query(&one, backwards).await.unwrap()),
        bits(&expected)
    );
}

#[tokio::test]
async fn a_sample_of_everything_is_the_fit_of_everything() {
    let ctx = session_cut(900, &[], SessionConfig::new());
    let call = |sample| {
        format!(
            "SELECT id, lle_embed(x, 2, 12, 'reg=0.001, solver=landmarks, n_landmarks=200, \
             landmark_neighbors=8, sample_size={sample}') OVER () FROM (SELECT * FROM t UNION ALL \
             SELECT id + 900, grp, x FROM t)"
        )
    };
    // 1,800 rows, of which 900 are distinct: more than a sample holds, and yet all of them.
    let streamed = query(&ctx, &call(1000)).await.unwrap();
    let whole = query(&ctx, &call(2000)).await.unwrap();
    assert_eq!(bits(&streamed), bits(&whole));
}

#[tokio::test]
async fn each_partition_has_its_own_sample_and_null_rows_stay_null() {
    let ctx = session(SessionConfig::new().with_target_partitions(2));
    let mut points: Vec<Option<Vec<Option<f64>>>> = swiss_roll(3000)
        .iter()
        .map(|point| Some(point.iter().copied().map(Some).collect()))
        .collect();
    points
        .iter_mut()
        .step_by(10)
        .for_each(|point| *point = None);
    register(&ctx, vec![vec![batch(0, &points)]]);
    let sql = SAMPLED.replace("OVER ()", "OVER (PARTITION BY grp)");
    let result = query(&ctx, &sql).await.unwrap();
    assert_eq!(result.num_rows(), 3000);
    assert_eq!(result.column(1).null_count(), 300);
    let by_id = bits(&result);
    for group in ["a", "b", "c"] {
        let alone = SAMPLED.replace("FROM t", &format!("FROM t WHERE grp = '{group}'"));
        for (id, embedding) in bits(&query(&ctx, &alone).await.unwrap()) {
            assert_eq!(by_id[&id], embedding, "{group} {id}");
        }
    }
    let nothing =
        "SELECT id, lle_embed(x, 2, 12, 'sample_size=50') OVER () FROM t WHERE id % 10 = 0";
    let result = query(&ctx, nothing).await.unwrap();
    assert_eq!(
        (result.num_rows(), result.column(1).null_count()),
        (300, 300)
    );
}

#[tokio::test]
async fn two_calls_see_samples_of_their_own_size() {
    let ctx = session_cut(2000, &[1000], SessionConfig::new());
    let sql = "SELECT id, lle_embed(x, 2, 10, 'reg=0.01, sample_size=400') OVER () AS small, \
               lle_embed(x, 3, 10, 'reg=0.01, sample_size=800') OVER () AS large FROM t";
    let both = query(&ctx, sql).await.unwrap();
    for (column, call) in [
        (1, "lle_embed(x, 2, 10, 'reg=0.01, sample_size=400')"),
        (2, "lle_embed(x, 3, 10, 'reg=0.01, sample_size=800')"),
    ] {
        let alone = query(&ctx, &format!("SELECT id, {call} OVER () FROM t"))
            .await
            .unwrap();
        assert_eq!(lists(both.column(column)), lists(alone.column(1)), "{call}");
    }
}

/// 40,000 rows are more than 4 MiB hold; the sample and its fit are less.
#[tokio::test]
async fn memory_follows_the_sample_and_rows_wait_on_disk() {
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use std::sync::Arc;

    let env = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(4 << 20)))
        .build_arc()
        .unwrap();
    let ctx = SessionContext::new_with_config_rt(SessionConfig::new().with_batch_size(1000), env);
    lakefold_functions::register_all(&ctx).unwrap();
    register(&ctx, vec![vec![roll_batch(40_000)]]);
    let result = query(&ctx, SAMPLED).await.unwrap();
    assert_eq!(result.num_rows(), 40_000);
    assert_eq!(ctx.runtime_env().memory_pool.reserved(), 0);
    let analyzed = query(&ctx, &format!("EXPLAIN ANALYZE {SAMPLED}"))
        .await
        .unwrap();
    let text = analyzed.column(1).as_string::<i32>().value(0).to_owned();
    assert!(
        text.contains("fitted_rows=500") && text.contains("landmarks=200"),
        "{text}"
    );
    assert!(!text.contains("spill_count=0"), "{text}");
    // An exact solution needs all rows at once.
    let exact = "SELECT lle_embed(x, 2, 12, 'solver=exact') OVER () FROM t";
    let message = error(&ctx, exact).await;
    assert!(
        message.contains("lle_embed of column x on 40000 rows x 3: no memory for"),
        "{message}"
    );
}

#[tokio::test]
async fn bad_rows_far_behind_the_sample_are_named() {
    let mut points: Vec<Option<Vec<Option<f64>>>> = swiss_roll(2000)
        .iter()
        .map(|point| Some(point.iter().copied().map(Some).collect()))
        .collect();
    // Makes the column nullable, as that of the bad batch is.
    points[0] = None;
    let whole = batch(0, &points);
    let with = |bad: Vec<Option<f64>>| -> Vec<RecordBatch> {
        vec![whole.clone(), batch(2000, &[None, Some(bad)])]
    };
    for (bad, expected) in [
        (
            vec![Some(1.0), Some(f64::NAN), Some(0.0)],
            "lle_embed of column x: row 1 of its batch (counted from 0, id = 2001) has NaN in \
             dimension 1",
        ),
        (
            vec![Some(1.0), None, Some(0.0)],
            "id = 2001) has NULL in dimension 1",
        ),
        (
            vec![Some(1.0), Some(2.0)],
            "id = 2001) has 2 dimensions, but rows before it have 3",
        ),
        (vec![], "id = 2001) has an empty list"),
    ] {
        let ctx = session(SessionConfig::new());
        register(&ctx, vec![with(bad)]);
        let message = error(&ctx, SAMPLED).await;
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test]
async fn single_precision_stays_single() {
    let ctx = session(SessionConfig::new());
    let table = with_number_type(
        &roll_batch(2000),
        &datafusion::arrow::datatypes::DataType::Float32,
    );
    register(&ctx, vec![vec![table]]);
    let result = query(&ctx, SAMPLED).await.unwrap();
    let list = result.column(1).as_list::<i32>();
    assert_eq!(
        list.value_type(),
        datafusion::arrow::datatypes::DataType::Float32
    );
    assert_eq!(list.null_count(), 0);
}
