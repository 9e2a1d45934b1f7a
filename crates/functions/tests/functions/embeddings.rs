//! What `lle_embed` returns.

use datafusion::arrow::array::PrimitiveArray;
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, UInt32Type};
use datafusion::logical_expr::WindowUDF;
use datafusion::prelude::{SessionConfig, SessionContext};
use lakefold_functions::LleEmbed;
use std::sync::Arc;

use crate::support::{
    Bits, batch, bits, lists, plan, query, register, roll_batch, session, session_with, swiss_roll,
    with_number_type, with_type,
};

const WHOLE: &str = "SELECT id, lle_embed(x, 2) OVER () AS e FROM t";

fn config(target_partitions: usize, batch_size: usize) -> SessionConfig {
    SessionConfig::new()
        .with_target_partitions(target_partitions)
        .with_batch_size(batch_size)
}

fn slices(batch: &RecordBatch, rows: usize) -> Vec<RecordBatch> {
    (0..batch.num_rows())
        .step_by(rows)
        .map(|start| batch.slice(start, rows.min(batch.num_rows() - start)))
        .collect()
}

async fn embed(ctx: &SessionContext, sql: &str) -> Bits {
    bits(&query(ctx, sql).await.unwrap())
}

#[tokio::test]
async fn columns_have_mean_zero_and_variance_one() {
    let ctx = session_with(roll_batch(400));
    let result = query(&ctx, WHOLE).await.unwrap();
    let lists = lists(result.column(1));
    for component in 0..2 {
        let values: Vec<f64> = lists
            .iter()
            .map(|list| list.as_ref().unwrap()[component])
            .collect();
        let mean = values.iter().sum::<f64>() / 400.0;
        let variance = values.iter().map(|value| value * value).sum::<f64>() / 400.0;
        assert!(
            mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-6,
            "{mean} {variance}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_partitions_and_row_order_do_not_change_a_bit() {
    let table = roll_batch(500);
    let expected = embed(&session_with(table.clone()), WHOLE).await;
    assert_eq!(expected.len(), 500);

    let reversed = PrimitiveArray::<UInt32Type>::from_iter_values((0..500).rev());
    let reversed = take_record_batch(&table, &reversed).unwrap();
    for (target, batch_size, rows) in [(1, 8192, 500), (1, 3, 500), (4, 64, 50), (3, 8192, 7)] {
        for table in [&table, &reversed] {
            let ctx = session(config(target, batch_size));
            register(&ctx, vec![slices(table, rows)]);
            assert_eq!(
                embed(&ctx, WHOLE).await,
                expected,
                "{target} {batch_size} {rows}"
            );
            let halves = slices(table, 250)
                .into_iter()
                .map(|half| slices(&half, rows))
                .collect();
            register(&ctx, halves);
            assert_eq!(
                embed(&ctx, WHOLE).await,
                expected,
                "{target} {batch_size} {rows}, two partitions"
            );
        }
    }
}

#[tokio::test]
async fn rows_keep_their_order_and_other_columns() {
    let table = roll_batch(300);
    let ctx = session(config(4, 64));
    register(
        &ctx,
        slices(&table, 75)
            .iter()
            .map(|part| slices(part, 25))
            .collect(),
    );
    let result = query(&ctx, "SELECT *, lle_embed(x, 2) OVER () AS e FROM t")
        .await
        .unwrap();
    let untouched = result.project(&[0, 1, 2]).unwrap();
    let table = concat_batches(&untouched.schema(), [&table]).unwrap();
    assert_eq!(untouched, table);
}

#[tokio::test]
async fn null_rows_get_null_and_take_no_part() {
    let mut points: Vec<_> = swiss_roll(200)
        .iter()
        .map(|point| Some(point.iter().copied().map(Some).collect::<Vec<_>>()))
        .collect();
    for null in [0, 3, 77, 199] {
        points[null] = None;
    }
    let ctx = session_with(batch(0, &points));
    let with_nulls = embed(&ctx, WHOLE).await;
    let without = embed(&ctx, &format!("{WHOLE} WHERE x IS NOT NULL")).await;
    assert_eq!(with_nulls.len(), 200);
    let nulls: Vec<i64> = with_nulls
        .iter()
        .filter(|(_, e)| e.is_none())
        .map(|(id, _)| *id)
        .collect();
    assert_eq!(nulls, [0, 3, 77, 199]);
    assert!(
        without
            .iter()
            .all(|(id, embedding)| with_nulls[id] == *embedding)
    );
}

#[tokio::test]
async fn nothing_to_fit_is_no_error() {
    let ctx = session_with(batch(0, &[None, None]));
    for sql in [
        WHOLE,
        "SELECT id, lle_embed(x, 2) OVER (PARTITION BY grp) FROM t",
        "SELECT id, lle_embed(NULL, 2) OVER () FROM t",
    ] {
        let result = query(&ctx, sql).await.unwrap();
        assert_eq!(
            (result.num_rows(), result.column(1).null_count()),
            (2, 2),
            "{sql}"
        );
    }
    for sql in [
        "SELECT id, lle_embed(x, 2) OVER () FROM t WHERE id > 5",
        "SELECT id, lle_embed(x, 2) OVER (PARTITION BY grp) FROM t WHERE id > 5",
    ] {
        assert_eq!(query(&ctx, sql).await.unwrap().num_rows(), 0, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_partition_is_a_fit_of_its_own() {
    let table = roll_batch(300);
    let mut expected = Bits::new();
    let ctx = session_with(table.clone());
    for group in ["a", "b", "c"] {
        expected.extend(embed(&ctx, &format!("{WHOLE} WHERE grp = '{group}'")).await);
    }
    let grouped = "SELECT id, lle_embed(x, 2) OVER (PARTITION BY grp) AS e FROM t";
    for (target, batch_size) in [(1, 8192), (1, 11), (4, 16)] {
        let ctx = session(config(target, batch_size));
        register(
            &ctx,
            slices(&table, 100)
                .iter()
                .map(|part| slices(part, 13))
                .collect(),
        );
        assert_eq!(
            embed(&ctx, grouped).await,
            expected,
            "{target} {batch_size}"
        );
        // A filter on the key is pushed below the fits and must change none of those left.
        let filtered = format!(
            "SELECT * FROM ({}) WHERE grp = 'b'",
            grouped.replace("id,", "id, grp,")
        );
        let filtered = query(&ctx, &filtered)
            .await
            .unwrap()
            .project(&[0, 2])
            .unwrap();
        let filtered = bits(&filtered);
        assert_eq!(filtered.len(), 100);
        assert!(
            filtered
                .iter()
                .all(|(id, embedding)| expected[id] == *embedding)
        );
    }
}

#[tokio::test]
async fn every_number_and_list_type() {
    let table = roll_batch(200);
    let item = |number| Arc::new(Field::new_list_field(number, true));
    let expected = embed(&session_with(table.clone()), WHOLE).await;
    for (features, result_type) in [
        (
            DataType::FixedSizeList(item(DataType::Float64), 3),
            DataType::Float64,
        ),
        (
            DataType::LargeList(item(DataType::Float64)),
            DataType::Float64,
        ),
    ] {
        let ctx = session_with(with_type(&table, &features));
        let result = query(&ctx, WHOLE).await.unwrap();
        assert_eq!(result.column(1).as_list::<i32>().value_type(), result_type);
        assert_eq!(bits(&result), expected, "{features}");
    }
    for (number, result_type) in [
        (DataType::Float16, DataType::Float32),
        (DataType::Float32, DataType::Float32),
        (DataType::Int8, DataType::Float32),
        (DataType::Int16, DataType::Float32),
        (DataType::Int32, DataType::Float64),
        (DataType::Int64, DataType::Float64),
        (DataType::Decimal128(12, 4), DataType::Float64),
    ] {
        let ctx = session_with(with_number_type(&table, &number));
        let result = query(&ctx, WHOLE).await.unwrap();
        assert_eq!(
            result.column(1).as_list::<i32>().value_type(),
            result_type,
            "{number}"
        );
        assert_eq!(result.column(1).null_count(), 0);
    }
}

#[tokio::test]
async fn scalar_columns_and_named_arguments() {
    let ctx = session_with(roll_batch(200));
    let expected = embed(
        &ctx,
        "SELECT id, lle_embed(x, 2, 10, 'reg=0.01') OVER () FROM t",
    )
    .await;
    for call in [
        "lle_embed(make_array(x[1], x[2], x[3]), 1 + 1, 10, 'reg=0.01') OVER ()",
        "lle_embed(x, n_components => 2, n_neighbors => 10, options => ' reg = 1e-2 ') OVER ()",
        "lle_embed(x, n_neighbors => 10, n_components => 2, options => 'reg=0.01') OVER ()",
        "lle_embed(x, 2, NULL, 'n_neighbors=10, reg=0.01') OVER ()",
        "lle_embed(x, 2.0, arrow_cast(10, 'UInt8'), arrow_cast('reg=0.01', 'Utf8View')) OVER ()",
        "lle_embed(x, 2, 10, 'reg=0.01') OVER (ORDER BY id DESC)",
        "lle_embed(x, 2, 10, 'reg=0.01') OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)",
        "lle_embed(x, 2, 10, 'reg=0.01') OVER (PARTITION BY 1)",
    ] {
        assert_eq!(
            embed(&ctx, &format!("SELECT id, {call} FROM t")).await,
            expected,
            "{call}"
        );
    }
    let defaults = embed(&ctx, WHOLE).await;
    assert_ne!(defaults, expected);
    let spelled = "SELECT id, lle_embed(x, 2, 'auto', 'reg=auto, method=standard, solver=auto, seed=0') OVER () FROM t";
    assert_eq!(embed(&ctx, spelled).await, defaults);
    assert_eq!(
        embed(
            &ctx,
            "SELECT id, lle_embed(x, 2, NULL, NULL) OVER () FROM t"
        )
        .await,
        defaults
    );
}

#[tokio::test]
async fn beside_other_window_functions() {
    let ctx = session_with(roll_batch(120));
    let sql = "SELECT id, lle_embed(x, 2) OVER () AS e, row_number() OVER () AS n, \
               lle_embed(x, 1, 8) OVER () AS f, count(*) OVER () AS c, \
               lle_embed(x, 2) OVER (PARTITION BY grp) AS g, sum(id) OVER (PARTITION BY grp ORDER BY id) AS s \
               FROM t ORDER BY id";
    let result = query(&ctx, sql).await.unwrap();
    let column = |name: &str| result.column_by_name(name).unwrap();
    let pair = |name: &str| {
        let index = result.schema().index_of(name).unwrap();
        bits(&result.project(&[0, index]).unwrap())
    };
    assert_eq!(pair("e"), embed(&ctx, WHOLE).await);
    assert_eq!(
        pair("f"),
        embed(&ctx, "SELECT id, lle_embed(x, 1, 8) OVER () FROM t").await
    );
    assert_eq!(
        pair("g"),
        embed(
            &ctx,
            "SELECT id, lle_embed(x, 2) OVER (PARTITION BY grp) FROM t"
        )
        .await
    );
    assert!(
        column("c")
            .as_primitive::<Int64Type>()
            .values()
            .iter()
            .all(|&count| count == 120)
    );
    // 0 + 3 + … + 117 of group a.
    let sums = column("s").as_primitive::<Int64Type>();
    assert_eq!(
        (sums.value(0), sums.value(1), sums.value(117)),
        (0, 1, (0..=117).step_by(3).sum::<i64>())
    );
}

#[tokio::test]
async fn limits_do_not_reach_the_fit() {
    let ctx = session_with(roll_batch(300));
    let whole = embed(&ctx, WHOLE).await;
    let limited = embed(&ctx, &format!("{WHOLE} ORDER BY id LIMIT 5")).await;
    assert_eq!(limited.len(), 5);
    assert!(
        limited
            .iter()
            .all(|(id, embedding)| whole[id] == *embedding)
    );
}

/// For people who register the window function and not the optimizer rule.
async fn without_the_rule() -> (Bits, Bits) {
    let ctx = SessionContext::new();
    ctx.register_udwf(WindowUDF::from(LleEmbed::try_new().unwrap()));
    register(&ctx, vec![vec![roll_batch(300)]]);
    assert!(plan(&ctx, WHOLE).await.contains("WindowAggExec"));
    (
        embed(&ctx, WHOLE).await,
        embed(&session_with(roll_batch(300)), WHOLE).await,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_rule_on_many_threads() {
    let (without, with) = without_the_rule().await;
    assert_eq!(without, with);
}

#[tokio::test(flavor = "current_thread")]
async fn without_the_rule_on_one_thread() {
    let (without, with) = without_the_rule().await;
    assert_eq!(without, with);
}
