//! `lle`, `lle_fit` and `lle_transform`: fitted once, applied to any row.

use std::path::{Path, PathBuf};

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::support::{bits, error, plan_error, query, roll_batch, session_with, with_type};

struct Models(tempfile::TempDir);

impl Models {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    async fn fit(&self, ctx: &SessionContext, name: &str, parameters: &str) -> PathBuf {
        let path = self.path(name);
        let sql = format!(
            "SELECT * FROM lle_fit(t, x, n_components => 2, {parameters}, model => '{}')",
            path.display()
        );
        assert_eq!(query(ctx, &sql).await.unwrap().num_rows(), 1);
        path
    }
}

fn transform(path: &Path) -> String {
    format!(
        "SELECT id, lle_transform(x, '{}') AS y FROM t",
        path.display()
    )
}

/// Fixed-size lists as `List`, for [`bits`].
fn as_list(sql: &str) -> String {
    format!("SELECT id, arrow_cast(y, 'List(Float64)') FROM ({sql})")
}

const LANDMARKS: &str = "n_neighbors => 12, reg => 0.001, solver => 'landmarks', n_landmarks => 150, landmark_neighbors => 8";
const OPTIONS: &str = "reg=0.001, solver=landmarks, n_landmarks=150, landmark_neighbors=8";

#[tokio::test]
async fn a_relation_a_function_and_a_model_agree_to_the_bit() {
    let ctx = session_with(roll_batch(1000));
    let models = Models::new();
    let model = models.fit(&ctx, "m.parquet", LANDMARKS).await;
    let called = format!("SELECT id, lle_embed(x, 2, 12, '{OPTIONS}') OVER () FROM t");
    let called = bits(&query(&ctx, &called).await.unwrap());
    let placed = query(&ctx, &as_list(&transform(&model))).await.unwrap();
    assert_eq!(bits(&placed), called);
    for input in ["t", "(SELECT * FROM t)", "datafusion.public.t"] {
        let relation = format!(
            "SELECT id, embedding AS y FROM lle({input}, x, n_components => 2, {LANDMARKS})"
        );
        let fixed = query(&ctx, &relation).await.unwrap();
        let DataType::FixedSizeList(_, 2) = fixed.column(1).data_type() else {
            panic!("{}", fixed.column(1).data_type());
        };
        let relation = query(&ctx, &as_list(&relation)).await.unwrap();
        assert_eq!(bits(&relation), called, "{input}");
    }
}

#[tokio::test]
async fn an_exact_fit_places_its_own_rows_where_they_were() {
    let ctx = session_with(roll_batch(600));
    let models = Models::new();
    let model = models
        .fit(
            &ctx,
            "m.parquet",
            "n_neighbors => 10, reg => 0.001, solver => 'exact'",
        )
        .await;
    let called = "SELECT id, lle_embed(x, 2, 10, 'reg=0.001, solver=exact') OVER () FROM t";
    let placed = query(&ctx, &as_list(&transform(&model))).await.unwrap();
    assert_eq!(bits(&placed), bits(&query(&ctx, called).await.unwrap()));
}

#[tokio::test]
async fn diagnostics_tell_what_was_fitted() {
    let ctx = session_with(roll_batch(1000));
    let models = Models::new();
    let sql = format!(
        "SELECT rows, distinct_rows, dimensions, n_neighbors, landmarks, trustworthiness, \
         array_length(eigenvalues), seconds[1]['phase'] \
         FROM lle_fit(t, x, n_components => 2, model => '{}')",
        models.path("m.parquet").display()
    );
    let row = query(&ctx, &sql).await.unwrap();
    let int = |column: usize| row.column(column).as_primitive::<Int64Type>().value(0);
    assert_eq!([int(0), int(1), int(2)], [1000, 1000, 3]);
    let trustworthiness = row.column(5).as_primitive::<Float64Type>().value(0);
    assert!((0.98..=1.0).contains(&trustworthiness), "{trustworthiness}");
    assert_eq!(row.column(7).as_string::<i32>().value(0), "parameters");
}

#[tokio::test]
async fn the_same_fit_writes_the_same_bytes() {
    let ctx = session_with(roll_batch(800));
    let models = Models::new();
    let read = |path: PathBuf| std::fs::read(path).unwrap();
    let first = read(models.fit(&ctx, "a.parquet", LANDMARKS).await);
    assert_eq!(first, read(models.fit(&ctx, "b.parquet", LANDMARKS).await));
    let other = models
        .fit(&ctx, "c.parquet", "seed => 5, solver => 'landmarks'")
        .await;
    assert_ne!(first, read(other));
}

#[tokio::test]
async fn rows_that_cannot_be_placed_are_named() {
    let ctx = session_with(roll_batch(800));
    let models = Models::new();
    let model = models.fit(&ctx, "m.parquet", LANDMARKS).await;
    let model = model.display();
    let call = |features: &str| format!("SELECT id, lle_transform({features}, '{model}') FROM t");
    for (features, expected) in [
        (
            "CASE WHEN id = 7 THEN make_array(1.0, 'NaN'::double, 2.0) ELSE x END",
            "row 7 of its batch (counted from 0) has NaN in dimension 1",
        ),
        (
            "make_array(1.0, 2.0)",
            "features must be of the model's 3 dimensions, got 2 dimensions",
        ),
        (
            "CASE WHEN id = 7 THEN make_array(1.0, 2.0) ELSE x END",
            "row 7 of its batch (counted from 0) has 2 dimensions, but row 0 has 3",
        ),
    ] {
        let message = error(&ctx, &call(features)).await;
        assert!(message.contains(expected), "{message}");
    }
    let nulls = query(&ctx, &call("CASE WHEN id % 2 = 0 THEN x END"))
        .await
        .unwrap();
    assert_eq!(nulls.column(1).null_count(), 400);
    let fixed = session_with(with_type(
        &roll_batch(10),
        &DataType::new_fixed_size_list(DataType::Float64, 3, true),
    ));
    let two = models
        .fit(&session_with(flat()), "two.parquet", "n_neighbors => 6")
        .await;
    let message = plan_error(&fixed, &transform(&two)).await;
    assert!(
        message.contains("the features have 3 dimensions, the model was fitted to 2"),
        "{message}"
    );
}

/// Rows of two dimensions.
fn flat() -> datafusion::arrow::array::RecordBatch {
    let points: Vec<_> = crate::support::swiss_roll(60)
        .iter()
        .map(|point| Some(vec![Some(point[0]), Some(point[1])]))
        .collect();
    crate::support::batch(0, &points)
}

#[tokio::test]
async fn files_that_are_no_models_say_so() {
    let ctx = session_with(roll_batch(800));
    let models = Models::new();
    let model = models.fit(&ctx, "m.parquet", LANDMARKS).await;
    let bytes = std::fs::read(&model).unwrap();

    let message = plan_error_of(&ctx, &models.path("missing.parquet")).await;
    assert!(message.contains("no model file '"), "{message}");
    assert!(message.contains("write it with lle_fit("), "{message}");

    let truncated = models.path("truncated.parquet");
    std::fs::write(&truncated, &bytes[..bytes.len() / 2]).unwrap();
    let message = plan_error_of(&ctx, &truncated).await;
    assert!(message.contains("is not a whole model file"), "{message}");

    // A flipped bit in the data that the page still decodes with, or a page that does not decode.
    for place in [bytes.len() / 4, bytes.len() / 2] {
        let mut altered = bytes.clone();
        altered[place] ^= 4;
        let path = models.path("altered.parquet");
        std::fs::write(&path, &altered).unwrap();
        let message = plan_error_of(&ctx, &path).await;
        assert!(message.contains("is not a whole model file"), "{message}");
    }

    let newer = models.path("newer.parquet");
    std::fs::write(
        &newer,
        replaced(&bytes, b"model.version\x18\x011", b"model.version\x18\x019"),
    )
    .unwrap();
    let message = plan_error_of(&ctx, &newer).await;
    assert!(
        message.contains("is a model of version 9, this program reads up to 1"),
        "{message}"
    );

    let table = models.path("table.parquet");
    let copy = format!("COPY t TO '{}'", table.display());
    query(&ctx, &copy).await.unwrap();
    let message = plan_error_of(&ctx, &table).await;
    assert!(
        message.contains("is a Parquet file but not a model"),
        "{message}"
    );
}

async fn plan_error_of(ctx: &SessionContext, path: &Path) -> String {
    match ctx.sql(&transform(path)).await {
        Ok(_) => panic!("{} was planned", path.display()),
        Err(error) => error.to_string(),
    }
}

fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let place = bytes
        .windows(old.len())
        .position(|part| part == old)
        .unwrap();
    let mut bytes = bytes.to_vec();
    bytes[place..place + new.len()].copy_from_slice(new);
    bytes
}

#[tokio::test]
async fn impossible_calls_say_what_to_write() {
    let ctx = crate::support::session(SessionConfig::new());
    let table = roll_batch(100);
    crate::support::register(&ctx, vec![vec![table]]);
    for (call, expected) in [
        (
            "lle()",
            "lle needs input: write lle((SELECT …) or input, features, n_components => …",
        ),
        ("lle(t)", "lle needs features"),
        ("lle(t, x, k => 3)", "lle has no argument 'k': write lle("),
        (
            "lle(t, x, n_components => 2, n_components => 3)",
            "n_components of lle is given twice",
        ),
        (
            "lle(t, x, n_components => 0)",
            "n_components of lle must be 'auto' or a whole number",
        ),
        (
            "lle(t, x, n_components => 4)",
            "n_components = 4 needs features of at least 4 dimensions",
        ),
        (
            "lle(t, id, n_components => 1)",
            "features of lle_embed must be a list of numbers, got Int64",
        ),
        ("lle(t, y)", "No field named y"),
        (
            "lle(nothing, x)",
            "table 'datafusion.public.nothing' not found",
        ),
        (
            "lle(1 + 1, x)",
            "input of lle must be a table or a query in parentheses, got 1 + 1",
        ),
        (
            "lle((SELECT x AS embedding FROM t), embedding)",
            "has a column 'embedding' already",
        ),
        (
            "lle(t, x, method => 'umap')",
            "method must be one of standard, modified, hessian, ltsa",
        ),
        (
            "lle(t, x, n_neighbors => id)",
            "n_neighbors of lle must be a constant, got id",
        ),
        (
            "lle_fit(t, x)",
            "lle_fit needs model: write model => 'm.parquet'",
        ),
        (
            "lle_fit(t, x, model => 'models/')",
            "model must be the path or URL of a file, got 'models/'",
        ),
        (
            "lle_fit((SELECT arrow_cast(NULL, 'List(Float64)') AS x), x, model => '/tmp/never.parquet')",
            "all 1 rows are NULL",
        ),
    ] {
        let message = error(&ctx, &format!("SELECT * FROM {call}")).await;
        assert!(message.contains(expected), "{call}: {message}");
    }
    for (call, expected) in [
        ("lle_transform(x)", "lle_transform takes 2 arguments, got 1"),
        (
            "lle_transform(x, grp)",
            "model of lle_transform must be a constant",
        ),
        (
            "lle_transform(x, 7)",
            "model of lle_transform must be the path or URL of a model file, got Int64",
        ),
        (
            "lle_transform(id, 'm.parquet')",
            "features of lle_transform must be a list of numbers",
        ),
        (
            "lle_transform(x, 's3://bucket/m.parquet')",
            "only Lakefold's own session reads models by URL",
        ),
    ] {
        let message = error(&ctx, &format!("SELECT {call} FROM t")).await;
        assert!(message.contains(expected), "{call}: {message}");
    }
}
