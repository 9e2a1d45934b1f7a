//! Sessions, tables and readers shared by the tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray,
};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::MemTable;
use datafusion::physical_plan::displayable;
use datafusion::prelude::{SessionConfig, SessionContext};

/// A session with the functions registered.
pub(crate) fn session(config: SessionConfig) -> SessionContext {
    let ctx = SessionContext::new_with_config(config);
    lakefold_functions::register_all(&ctx).unwrap();
    ctx
}

/// The points of a swiss roll: even, deterministic and without ties.
pub(crate) fn swiss_roll(rows: usize) -> Vec<[f64; 3]> {
    (0..rows)
        .map(|row| {
            // Kronecker's low-discrepancy sequence of the plastic number.
            let along = ((row as f64 + 0.5) * 0.754_877_666_246_693).fract();
            let height = ((row as f64 + 0.5) * 0.569_840_290_998_053).fract();
            let t = 4.7 + 9.4 * along;
            [t * t.cos(), 21.0 * height, t * t.sin()]
        })
        .collect()
}

/// Columns id, grp (a, b or c), x (`List<Float64>`, NULL where `points` is).
pub(crate) fn batch(first_id: i64, points: &[Option<Vec<Option<f64>>>]) -> RecordBatch {
    let ids = first_id..first_id + points.len() as i64;
    let groups = ids
        .clone()
        .map(|id| ["a", "b", "c"][id.rem_euclid(3) as usize]);
    let features = ListArray::from_iter_primitive::<Float64Type, _, _>(points.iter().cloned());
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from_iter_values(ids.clone()))),
        ("grp", Arc::new(StringArray::from_iter_values(groups))),
        ("x", Arc::new(features)),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// A swiss roll in one batch, with columns as of [`batch`].
pub(crate) fn roll_batch(rows: usize) -> RecordBatch {
    let points: Vec<_> = swiss_roll(rows)
        .iter()
        .map(|point| Some(point.iter().copied().map(Some).collect()))
        .collect();
    batch(0, &points)
}

/// The same batch with column x as a list of `number`s.
pub(crate) fn with_number_type(batch: &RecordBatch, number: &DataType) -> RecordBatch {
    let list = DataType::List(Arc::new(Field::new_list_field(number.clone(), true)));
    with_type(batch, &list)
}

/// The same batch with column x cast to `features`.
pub(crate) fn with_type(batch: &RecordBatch, features: &DataType) -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::clone(batch.column(0))),
        ("grp", Arc::clone(batch.column(1))),
        ("x", cast(batch.column(2), features).unwrap()),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Registers `partitions` as table t.
pub(crate) fn register(ctx: &SessionContext, partitions: Vec<Vec<RecordBatch>>) {
    let schema = partitions[0][0].schema();
    let table = MemTable::try_new(schema, partitions).unwrap();
    ctx.deregister_table("t").unwrap();
    ctx.register_table("t", Arc::new(table)).unwrap();
}

/// A session with one batch as table t.
pub(crate) fn session_with(batch: RecordBatch) -> SessionContext {
    let ctx = session(SessionConfig::new());
    register(&ctx, vec![vec![batch]]);
    ctx
}

/// All rows in one batch.
pub(crate) async fn query(ctx: &SessionContext, sql: &str) -> Result<RecordBatch> {
    let frame = ctx.sql(sql).await?;
    let schema = Arc::clone(frame.schema().inner());
    let batches = frame.collect().await?;
    let schema = batches.first().map_or(schema, RecordBatch::schema);
    Ok(concat_batches(&schema, &batches)?)
}

/// The message of the error that `sql` must end in.
pub(crate) async fn error(ctx: &SessionContext, sql: &str) -> String {
    match query(ctx, sql).await {
        Ok(batch) => panic!("{sql} returned {} rows", batch.num_rows()),
        Err(error) => error.to_string(),
    }
}

/// As [`error`], and it must come before any row is read.
pub(crate) async fn plan_error(ctx: &SessionContext, sql: &str) -> String {
    let planned = async { ctx.sql(sql).await?.create_physical_plan().await };
    match planned.await {
        Ok(plan) => panic!(
            "{sql} was planned: {}",
            displayable(plan.as_ref()).indent(false)
        ),
        Err(error) => {
            let root = error.find_root();
            assert!(
                matches!(root, DataFusionError::Plan(_)),
                "{sql}: not a plan error: {root:?}"
            );
            error.to_string()
        }
    }
}

/// The physical plan of `sql`, one operator a line.
pub(crate) async fn plan(ctx: &SessionContext, sql: &str) -> String {
    let plan = ctx
        .sql(sql)
        .await
        .unwrap()
        .create_physical_plan()
        .await
        .unwrap();
    displayable(plan.as_ref()).indent(false).to_string()
}

/// The bits of each row's embedding.
pub(crate) type Bits = BTreeMap<i64, Option<Vec<u64>>>;

/// Embeddings of `SELECT id, embedding`, by id.
pub(crate) fn bits(result: &RecordBatch) -> Bits {
    let ids = result.column(0).as_primitive::<Int64Type>();
    let lists = lists(result.column(1));
    let bits = |list: Vec<f64>| list.into_iter().map(f64::to_bits).collect();
    ids.values()
        .iter()
        .copied()
        .zip(lists.into_iter().map(|list| list.map(bits)))
        .collect()
}

/// A list column of floats as vectors.
pub(crate) fn lists(column: &ArrayRef) -> Vec<Option<Vec<f64>>> {
    let list = column.as_list::<i32>();
    (0..list.len())
        .map(|row| {
            list.is_valid(row).then(|| {
                let values = cast(&list.value(row), &DataType::Float64).unwrap();
                let values: &Float64Array = values.as_primitive();
                values.values().to_vec()
            })
        })
        .collect()
}
