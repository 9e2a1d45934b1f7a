//! `attention` and `self_attention` against their definition.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, Int64Array, LargeListArray,
    RecordBatch,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int64Type};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::WindowUDF;
use datafusion::prelude::{SessionConfig, SessionContext};
use lakefold_functions::SelfAttention;

use crate::support::{lists, plan, query, register, session};

const D: usize = 3;

/// Numbers between −2 and 2, spread evenly.
fn number(seed: usize) -> f64 {
    ((seed as f64 + 0.5) * 0.618_033_988_749_895).fract() * 4.0 - 2.0
}

fn vector(row: usize, salt: usize) -> Vec<f64> {
    let place = |i: usize| number(row * 7919 + i * 104_729 + salt * 1_299_709);
    (0..D).map(place).collect()
}

/// Columns id, g (partitions of 40, 40, …), p (position with ties), q, k, v: lists of `DOUBLE`.
/// `nulls`: every 11th q, 13th k and 17th v is NULL.
fn rows(count: usize, nulls: bool) -> RecordBatch {
    let ints = |f: fn(usize) -> i64| Arc::new(Int64Array::from_iter_values((0..count).map(f)));
    let list = |salt: usize, every: usize| {
        let lists = (0..count).map(|row| {
            let null = nulls && row % every == every - 1;
            (!null).then(|| vector(row, salt).into_iter().map(Some).collect::<Vec<_>>())
        });
        Arc::new(datafusion::arrow::array::ListArray::from_iter_primitive::<
            Float64Type,
            _,
            _,
        >(lists))
    };
    RecordBatch::try_from_iter([
        ("id", ints(|row| row as i64) as ArrayRef),
        ("g", ints(|row| (row / 40) as i64)),
        ("p", ints(|row| (row % 40 / 3) as i64)),
        ("q", list(1, 11)),
        ("k", list(2, 13)),
        ("v", list(3, 17)),
    ])
    .unwrap()
}

fn column(batch: &RecordBatch, name: &str) -> Vec<Option<Vec<f64>>> {
    lists(batch.column_by_name(name).unwrap())
}

fn similarity(name: &str, q: &[f64], k: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    match name {
        "dot" => dot(q, k),
        "cosine" => dot(q, k) / (dot(q, q) * dot(k, k)).sqrt(),
        _ => -q.iter().zip(k).map(|(a, b)| (a - b) * (a - b)).sum::<f64>(),
    }
}

/// By the definition, over the rows that `sees` lets a row see.
fn expected(
    batch: &RecordBatch,
    name: &str,
    scale: f64,
    sees: impl Fn(usize, usize) -> bool,
) -> Vec<Option<Vec<f64>>> {
    let (q, k, v) = (column(batch, "q"), column(batch, "k"), column(batch, "v"));
    let rows = batch.num_rows();
    let one = |row: usize| {
        let query = q[row].as_ref()?;
        let pairs: Vec<(f64, &Vec<f64>)> = (0..rows)
            .filter(|&other| sees(row, other))
            .filter_map(|other| {
                let (key, value) = (k[other].as_ref()?, v[other].as_ref()?);
                Some(((similarity(name, query, key) * scale).exp(), value))
            })
            .collect();
        let sum: f64 = pairs.iter().map(|(weight, _)| weight).sum();
        let mean = |i: usize| pairs.iter().map(|(w, value)| w * value[i]).sum::<f64>() / sum;
        (!pairs.is_empty()).then(|| (0..D).map(mean).collect())
    };
    (0..rows).map(one).collect()
}

fn assert_near(
    found: &[Option<Vec<f64>>],
    expected: &[Option<Vec<f64>>],
    tolerance: f64,
    what: &str,
) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (row, (found, expected)) in found.iter().zip(expected).enumerate() {
        match (found, expected) {
            (None, None) => {}
            (Some(found), Some(expected)) => {
                assert_eq!(found.len(), expected.len(), "{what}, row {row}");
                for (found, expected) in found.iter().zip(expected) {
                    let error = (found - expected).abs();
                    assert!(
                        error <= tolerance,
                        "{what}, row {row}: {found} and {expected}"
                    );
                }
            }
            _ => panic!("{what}, row {row}: {found:?} and {expected:?}"),
        }
    }
}

fn position(row: usize) -> usize {
    row % 40 / 3
}

type Sees = fn(usize, usize) -> bool;
type BoxedSees = Box<dyn Fn(usize, usize) -> bool>;

/// OVER clauses and what they let a row see.
const FRAMES: [(&str, Sees); 8] = [
    ("", |_, _| true),
    ("PARTITION BY g", |a, b| a / 40 == b / 40),
    (
        "PARTITION BY g ORDER BY id ROWS UNBOUNDED PRECEDING",
        |a, b| a / 40 == b / 40 && b <= a,
    ),
    (
        "ORDER BY id ROWS BETWEEN 5 PRECEDING AND 2 FOLLOWING",
        |a, b| b + 5 >= a && b <= a + 2,
    ),
    (
        "PARTITION BY g ORDER BY id ROWS BETWEEN 4 PRECEDING AND 2 PRECEDING",
        |a, b| a / 40 == b / 40 && b + 4 >= a && b + 2 <= a,
    ),
    // Peers are in the frame.
    ("PARTITION BY g ORDER BY p", |a, b| {
        a / 40 == b / 40 && position(b) <= position(a)
    }),
    (
        "PARTITION BY g ORDER BY p DESC RANGE BETWEEN 2 PRECEDING AND 1 PRECEDING",
        |a, b| a / 40 == b / 40 && position(b) <= position(a) + 2 && position(b) > position(a),
    ),
    (
        "PARTITION BY g ORDER BY p GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW",
        |a, b| a / 40 == b / 40 && position(b) <= position(a) && position(b) + 1 >= position(a),
    ),
];

async fn attended(ctx: &SessionContext, call: &str, over: &str) -> Vec<Option<Vec<f64>>> {
    let sql = format!("SELECT id, {call} OVER ({over}) AS a FROM t ORDER BY id");
    let result = query(ctx, &sql).await.unwrap();
    lists(result.column(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_frame_agrees_with_its_definition() {
    for nulls in [false, true] {
        let batch = rows(203, nulls);
        let ctx = session(
            SessionConfig::new()
                .with_target_partitions(3)
                .with_batch_size(17),
        );
        let parts = [(0, 9), (9, 0), (9, 100), (109, 94)];
        let parts = parts.map(|(start, rows)| vec![batch.slice(start, rows)]);
        register(&ctx, parts.to_vec());
        for (over, sees) in FRAMES {
            for (call, name, scale) in [
                ("self_attention(q, k, v)", "dot", 1.0 / (D as f64).sqrt()),
                ("self_attention(q, k, v, 2.5)", "dot", 2.5),
                ("self_attention(q, k, v, NULL, 'cosine')", "cosine", 1.0),
                ("self_attention(q, k, v, 0.5 + 1, 'L2')", "l2", 1.5),
            ] {
                let what = format!("{call} OVER ({over}), nulls: {nulls}");
                let expected = expected(&batch, name, scale, sees);
                assert_near(&attended(&ctx, call, over).await, &expected, 1e-13, &what);
            }
        }
    }
}

/// They travel through the sort as lists of any size, unless they are to be cast.
#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_a_fixed_size_leave_beside_the_result_as_they_came() {
    use DataType::{Float32, Float64};
    let wanted = |number: DataType| {
        DataType::FixedSizeList(Arc::new(Field::new_list_field(number, true)), 3)
    };
    for (numbers, tolerance) in [
        ([Float64, Float64, Float64], 1e-13),
        ([Float32, Float64, Float32], 1e-5),
    ] {
        let types = numbers.map(wanted);
        for (nulls, partitions, batch_size) in [
            (false, 1, 8192),
            (true, 1, 8192),
            (true, 3, 17),
            (false, 2, 100),
        ] {
            let batch = rows(203, nulls);
            // Cast before they are cut: Arrow's cast of a slice takes the numbers of the first rows.
            let vectors = ["q", "k", "v"].iter().zip(&types).map(|(name, wanted)| {
                let vectors = batch.column_by_name(name).unwrap();
                (*name, cast(vectors, wanted).unwrap())
            });
            let numbers =
                ["id", "g"].map(|name| (name, Arc::clone(batch.column_by_name(name).unwrap())));
            let fixed = RecordBatch::try_from_iter(numbers.into_iter().chain(vectors)).unwrap();
            let ctx = session(
                SessionConfig::new()
                    .with_target_partitions(partitions)
                    .with_batch_size(batch_size),
            );
            let parts = [(0, 9), (9, 100), (109, 94)];
            let parts = parts.map(|(start, rows)| vec![fixed.slice(start, rows)]);
            register(&ctx, parts.to_vec());
            let over = "PARTITION BY g ORDER BY id ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING";
            let sql = format!(
                "SELECT q, k, v, self_attention(q, k, v) OVER ({over}) AS a FROM t ORDER BY id"
            );
            let found = query(&ctx, &sql).await.unwrap();
            let what = format!(
                "{types:?}, {partitions} partitions, batches of {batch_size}, nulls: {nulls}"
            );
            let list = batch.column(3).data_type();
            for (place, (name, wanted)) in ["q", "k", "v"].into_iter().zip(&types).enumerate() {
                assert_eq!(found.column(place).data_type(), wanted);
                let came = fixed.column_by_name(name).unwrap();
                let [came, left] =
                    [came, found.column(place)].map(|side| lists(&cast(side, list).unwrap()));
                assert!(left == came, "{name}, {what}");
            }
            let scale = 1.0 / (D as f64).sqrt();
            let sees = |a: usize, b: usize| a / 40 == b / 40 && b + 2 >= a && b <= a + 1;
            let expected = expected(&batch, "dot", scale, sees);
            let found = lists(&cast(found.column(3), list).unwrap());
            assert_near(&found, &expected, tolerance, &what);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_window_operator_gives_the_same() {
    let batch = rows(90, true);
    let ctx = SessionContext::new();
    ctx.register_udwf(WindowUDF::from(SelfAttention::try_new().unwrap()));
    register(&ctx, vec![vec![batch.clone()]]);
    let text = plan(
        &ctx,
        "SELECT self_attention(q, k, v) OVER (ORDER BY id ROWS 3 PRECEDING) FROM t",
    )
    .await;
    assert!(
        text.contains("WindowAggExec") && !text.contains("SelfAttentionExec"),
        "{text}"
    );
    for (over, sees) in FRAMES {
        let expected = expected(&batch, "dot", 1.0, sees);
        let found = attended(&ctx, "self_attention(q, k, v, 1)", over).await;
        assert_near(&found, &expected, 1e-13, over);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_are_shared_and_columns_stay_in_place() {
    let batch = rows(80, false);
    let ctx = session(SessionConfig::new());
    register(&ctx, vec![vec![batch.clone()]]);
    let sql = "SELECT id, self_attention(q, k, v, 1) OVER w AS a, row_number() OVER w AS n,
            self_attention(q, k, v, 1) OVER (PARTITION BY g) AS b,
            self_attention(q, k, v, 1) OVER (PARTITION BY g ORDER BY id ROWS 2 PRECEDING) AS c
        FROM t WINDOW w AS (PARTITION BY g ORDER BY id) ORDER BY id";
    let result = query(&ctx, sql).await.unwrap();
    let text = plan(&ctx, sql).await;
    assert_eq!(text.matches("SelfAttentionExec").count(), 2, "{text}");
    assert!(
        text.contains("self_attention(q, k, v, similarity=dot, scale=1) over whole partitions"),
        "{text}"
    );
    assert!(
        text.contains("over ROWS BETWEEN 2 PRECEDING AND CURRENT ROW"),
        "{text}"
    );
    let numbers = result
        .column(2)
        .as_primitive::<datafusion::arrow::datatypes::UInt64Type>();
    assert!(
        numbers
            .values()
            .iter()
            .enumerate()
            .all(|(row, n)| *n as usize == row % 40 + 1)
    );
    let same = |a: usize, b: usize| a / 40 == b / 40;
    let frames: [(usize, BoxedSees); 3] = [
        (1, Box::new(move |a, b| same(a, b) && b <= a)),
        (3, Box::new(same)),
        (4, Box::new(move |a, b| same(a, b) && b <= a && b + 2 >= a)),
    ];
    for (place, sees) in frames {
        let expected = expected(&batch, "dot", 1.0, sees);
        assert_near(
            &lists(result.column(place)),
            &expected,
            1e-13,
            &place.to_string(),
        );
    }
}

/// Each group has the query of its first row.
const GROUPED: &str = "SELECT g, attention(f.q, t.k, t.v, 1) AS a FROM t
    JOIN (SELECT g AS h, q FROM t WHERE id % 40 = 0) f ON f.h = t.g GROUP BY g ORDER BY g";

fn grouped(batch: &RecordBatch) -> Vec<Option<Vec<f64>>> {
    let all = expected(batch, "dot", 1.0, |a, b| a / 40 == b / 40);
    all.into_iter().step_by(40).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aggregate_agrees_with_the_definition_in_any_plan() {
    for nulls in [false, true] {
        let batch = rows(203, nulls);
        for (partitions, batch_size) in [(1, 8192), (4, 8192), (4, 5), (1, 1)] {
            let config = SessionConfig::new()
                .with_target_partitions(partitions)
                .with_batch_size(batch_size);
            let ctx = session(config);
            let parts = [(0, 60), (60, 1), (61, 142)];
            let parts = parts.map(|(start, rows)| vec![batch.slice(start, rows)]);
            register(&ctx, parts.to_vec());
            let found = query(&ctx, GROUPED).await.unwrap();
            let what = format!("{partitions} partitions, batches of {batch_size}, nulls: {nulls}");
            assert_near(&lists(found.column(1)), &grouped(&batch), 1e-13, &what);
            // One group, with a filter.
            let sql = "SELECT attention([1.0, 2.0, 3.0], k, v, similarity => 'l2', scale => 0.25)
                FILTER (WHERE id % 2 = 0) AS a FROM t WHERE g > 0";
            let found = query(&ctx, sql).await.unwrap();
            let query = [1.0, 2.0, 3.0];
            let (k, v) = (column(&batch, "k"), column(&batch, "v"));
            let pairs: Vec<_> = (40..203)
                .step_by(2)
                .filter_map(|row| Some((k[row].as_ref()?, v[row].as_ref()?)))
                .map(|(k, v)| ((similarity("l2", &query, k) * 0.25).exp(), v))
                .collect();
            let sum: f64 = pairs.iter().map(|(w, _)| w).sum();
            let mean = (0..D).map(|i| pairs.iter().map(|(w, v)| w * v[i]).sum::<f64>() / sum);
            assert_near(
                &lists(found.column(0)),
                &[Some(mean.collect())],
                1e-13,
                &what,
            );
        }
    }
}

#[tokio::test]
async fn named_arguments_may_be_skipped_in_order_only() {
    let ctx = session(SessionConfig::new());
    register(&ctx, vec![vec![rows(5, false)]]);
    // DataFusion itself does not fill gaps; NULL stands for the default.
    let all =
        "SELECT attention([1, 0, 0], k, v, scale => NULL, similarity => 'cosine') AS a FROM t";
    let plain = "SELECT attention([1, 0, 0], k, v, 1.0, 'cosine') AS a FROM t";
    let (all, plain) = (
        query(&ctx, all).await.unwrap(),
        query(&ctx, plain).await.unwrap(),
    );
    assert_eq!(lists(all.column(0)), lists(plain.column(0)));
}

#[tokio::test]
async fn no_rows_give_null_and_types_are_kept() {
    let ctx = session(SessionConfig::new());
    register(&ctx, vec![vec![rows(5, false)]]);
    for nothing in [
        "SELECT attention(q, k, v) AS a FROM t WHERE id < 0",
        "SELECT attention(NULL, k, v) AS a FROM t",
        "SELECT attention(q, NULL, v) AS a FROM t",
        "SELECT attention(q, k, v) FILTER (WHERE id > 9) AS a FROM t GROUP BY id LIMIT 1",
        "SELECT self_attention(NULL, k, v) OVER () AS a FROM t LIMIT 1",
        "SELECT self_attention(q, k, v) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND 1 PRECEDING) AS a
         FROM t ORDER BY id LIMIT 1",
    ] {
        let result = query(&ctx, nothing).await.unwrap();
        assert_eq!((result.num_rows(), result.column(0).null_count()), (1, 1), "{nothing}");
    }
    let none = "SELECT self_attention(q, k, v) OVER () AS a FROM t WHERE id < 0";
    assert_eq!(query(&ctx, none).await.unwrap().num_rows(), 0);

    let numbers = || (0..4).map(|row| Some(vec![Some(row as f32), Some(1.0)]));
    let fixed = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(numbers(), 2);
    let large = LargeListArray::from_iter_primitive::<Float32Type, _, _>(numbers());
    let fixed_type = fixed.data_type().clone();
    let half = DataType::new_list(DataType::Float16, true);
    let halves = cast(&large, &half).unwrap();
    for (array, expected) in [
        (Arc::new(fixed) as ArrayRef, fixed_type),
        (
            Arc::new(large),
            DataType::new_large_list(DataType::Float32, true),
        ),
        (halves, DataType::new_list(DataType::Float32, true)),
    ] {
        let batch = RecordBatch::try_from_iter([("x", array)]).unwrap();
        register(&ctx, vec![vec![batch]]);
        for call in [
            "SELECT self_attention(x, x, x) OVER () AS a FROM t",
            "SELECT attention([1, 0]::FLOAT[], x, x) AS a FROM t",
        ] {
            let result = query(&ctx, call).await.unwrap();
            let (found, wanted) = (result.column(0).data_type(), &expected);
            let element = |list: &DataType| match list {
                DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) => {
                    f.data_type().clone()
                }
                _ => DataType::Null,
            };
            assert_eq!(element(found), element(wanted), "{call}");
            assert_eq!(
                std::mem::discriminant(found),
                std::mem::discriminant(wanted),
                "{call}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_scores_and_infinite_ones() {
    let ctx = session(SessionConfig::new());
    let table = "(VALUES (1, [1e4, 0.0], [1.0]), (2, [9.9e3, 0.0], [2.0]), (3, [-1e4, 0.0], [4.0])) AS t (id, k, v)";
    for function in [
        "attention([1.0, 0.0], k, v, 1)",
        "self_attention([1.0, 0.0], k, v, 1) OVER ()",
    ] {
        let sql = format!("SELECT {function} AS a FROM {table}");
        let found = query(&ctx, &sql).await.unwrap();
        assert_eq!(lists(found.column(0))[0], Some(vec![1.0]), "{function}");
    }
    // A score of minus infinity weighs nothing; nothing else in the frame is no mean.
    let masked =
        "(VALUES (1, [-1.0::DOUBLE / 0, 1.0], [1.0]), (2, [1.0, 0.0], [2.0])) AS t (id, k, v)";
    for function in [
        "attention([1.0, 0.0], k, v, 1)",
        "self_attention([1.0, 0.0], k, v, 1) OVER ()",
    ] {
        let sql = format!("SELECT {function} AS a FROM {masked}");
        // 0 · −∞ would be NaN: the first key has no finite product with a query that has a 0 there.
        let found = query(&ctx, &sql).await.unwrap();
        assert_eq!(lists(found.column(0))[0], Some(vec![2.0]), "{function}");
        let sql = format!("SELECT {function} AS a FROM {masked} WHERE id = 1");
        assert_eq!(
            query(&ctx, &sql).await.unwrap().column(0).null_count(),
            1,
            "{function}"
        );
    }
}

fn spills(plan: &Arc<dyn datafusion::physical_plan::ExecutionPlan>) -> usize {
    let own = plan
        .metrics()
        .and_then(|metrics| metrics.spill_count())
        .unwrap_or(0);
    own + plan.children().into_iter().map(spills).sum::<usize>()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_groups_are_spilled_and_come_out_right() {
    const GROUPS: i64 = 60_000;
    let runtime = |limit: usize| {
        RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(limit)))
            .build_arc()
            .unwrap()
    };
    let sql = format!(
        "SELECT g, attention([1.0, 0.5], [(id % 7)::DOUBLE, 1.0], [id::DOUBLE, 1.0]) AS a
         FROM (SELECT value AS id, value % {GROUPS} AS g FROM generate_series(0, {GROUPS} * 4 - 1))
         GROUP BY g"
    );
    let mut results = vec![];
    // Each partition may spill when it has half of what there is: shares do not depend on who came first.
    for limit in [12 << 20, 1 << 30] {
        let config = SessionConfig::new().with_target_partitions(2);
        let ctx = SessionContext::new_with_config_rt(config, runtime(limit));
        lakefold_functions::register_all(&ctx).unwrap();
        let frame = ctx.sql(&sql).await.unwrap();
        let plan = frame.create_physical_plan().await.unwrap();
        let batches = datafusion::physical_plan::collect(Arc::clone(&plan), ctx.task_ctx())
            .await
            .unwrap();
        let mut found: Vec<(i64, Option<Vec<f64>>)> = vec![];
        for batch in &batches {
            let groups = batch.column(0).as_primitive::<Int64Type>().values();
            found.extend(groups.iter().copied().zip(lists(batch.column(1))));
        }
        found.sort_by_key(|(group, _)| *group);
        results.push((spills(&plan), found));
    }
    assert_eq!(results[1].1.len(), GROUPS as usize);
    assert!(
        results[0].0 > 0 && results[1].0 == 0,
        "{} {}",
        results[0].0,
        results[1].0
    );
    for ((group, few), (same, many)) in results[0].1.iter().zip(&results[1].1) {
        assert_eq!(group, same);
        let (few, many) = (few.as_ref().unwrap(), many.as_ref().unwrap());
        assert!((few[0] - many[0]).abs() <= 1e-12 * many[0].abs().max(1.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn float_columns_give_float_results() {
    let values = Float32Array::from(vec![0.1, 0.2, 0.3, 0.4]);
    let element = Arc::new(Field::new_list_field(DataType::Float32, false));
    let lists = FixedSizeListArray::try_new(element, 2, Arc::new(values), None).unwrap();
    let batch = RecordBatch::try_from_iter([("x", Arc::new(lists) as ArrayRef)]).unwrap();
    let ctx = session(SessionConfig::new());
    register(&ctx, vec![vec![batch]]);
    let result = query(
        &ctx,
        "SELECT self_attention(x, x, x, 0) OVER () AS a FROM t",
    )
    .await
    .unwrap();
    let means = result.column(0).as_fixed_size_list();
    let row = means.value(0);
    let row = row.as_primitive::<Float32Type>().values();
    assert!(
        (row[0] - 0.2).abs() < 1e-7 && (row[1] - 0.3).abs() < 1e-7,
        "{row:?}"
    );
}
