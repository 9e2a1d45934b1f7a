//! Data that cannot be embedded: errors name column, row, value and remedy.

use datafusion::prelude::{SessionConfig, SessionContext};

use crate::support::{batch, error, query, register, session, swiss_roll};

type Row = Option<Vec<Option<f64>>>;

fn roll(rows: usize) -> Vec<Row> {
    swiss_roll(rows)
        .iter()
        .map(|point| Some(point.iter().copied().map(Some).collect()))
        .collect()
}

/// A roll whose row 1 is NULL and whose row 40 is `bad`, in batches of 7.
fn table_with(bad: &[Option<f64>]) -> SessionContext {
    let mut points = roll(60);
    points[1] = None;
    points[40] = Some(bad.to_vec());
    let batches = points
        .chunks(7)
        .enumerate()
        .map(|(index, chunk)| batch(7 * index as i64, chunk))
        .collect();
    let ctx = session(SessionConfig::new().with_target_partitions(1));
    register(&ctx, vec![batches]);
    ctx
}

const WHOLE: &str = "SELECT id, lle_embed(x, 2) OVER () FROM t";
const GROUPS: &str = "SELECT id, lle_embed(x, 2) OVER (PARTITION BY grp) FROM t";

#[tokio::test]
async fn bad_values_are_named_by_the_callers_row() {
    for (bad, what, remedy) in [
        (
            vec![Some(1.0), Some(f64::NAN), Some(2.0)],
            "has NaN in dimension 1 (counted from 0)",
            "filter the row out or replace",
        ),
        (
            vec![Some(f64::INFINITY), Some(1.0), Some(2.0)],
            "has inf in dimension 0",
            "filter the row out or replace",
        ),
        (
            vec![Some(1.0), Some(2.0), Some(-1e300)],
            "has -1e300 in dimension 2",
            "scale the features down",
        ),
        (
            vec![Some(1.0), None, Some(2.0)],
            "has NULL in dimension 1",
            "make the whole list NULL",
        ),
        (
            vec![Some(1.0), Some(2.0)],
            "has 2 dimensions, but row 0 has 3",
            "pad the list",
        ),
        (vec![], "has an empty list", "filter the row out"),
    ] {
        let ctx = table_with(&bad);
        let message = error(&ctx, WHOLE).await;
        let expected = format!("lle_embed of column x: row 40 (counted from 0, id = 40) {what}");
        assert!(
            message.contains(&expected) && message.contains(remedy),
            "{message}"
        );
        let message = error(&ctx, GROUPS).await;
        assert!(
            message.contains("lle_embed of column x where grp = 'b': row "),
            "{message}"
        );
        // The sort by key may put the odd list first, and then the next one is the odd one.
        let expected = format!(
            "of the partition as sorted by its key (counted from 0, id = 40, grp = 'b') {what}"
        );
        assert!(
            message.contains(&expected) || what.contains("but row 0 has"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn too_few_rows() {
    for (rows, expected) in [
        (
            1,
            "lle_embed of column x: n_components = 2 needs at least 4 distinct rows, found 1",
        ),
        (
            3,
            "n_components = 2 needs at least 4 distinct rows, found 3",
        ),
    ] {
        let ctx = session(SessionConfig::new());
        register(&ctx, vec![vec![batch(0, &roll(rows))]]);
        let message = error(&ctx, WHOLE).await;
        assert!(message.contains(expected), "{message}");
    }
    let ctx = session(SessionConfig::new());
    register(&ctx, vec![vec![batch(0, &roll(8))]]);
    let message = error(&ctx, "SELECT lle_embed(x, 2, 12) OVER () FROM t").await;
    let expected = "n_neighbors = 12 needs at least 13 distinct rows, found 8";
    assert!(message.contains(expected), "{message}");
    // What is left to the data is what the data can give.
    let result = query(&ctx, WHOLE).await.unwrap();
    assert_eq!(result.num_rows(), 8);
    assert_eq!(result.column(1).null_count(), 0);
}

#[tokio::test]
async fn constant_column_and_too_many_components() {
    let ctx = session(SessionConfig::new());
    register(
        &ctx,
        vec![vec![batch(0, &vec![Some(vec![Some(1.0), Some(2.0)]); 20])]],
    );
    let message = error(&ctx, WHOLE).await;
    assert!(
        message.contains("needs at least 4 distinct rows, found 1 (20 rows with duplicates)"),
        "{message}"
    );
    register(&ctx, vec![vec![batch(0, &roll(60))]]);
    let message = error(&ctx, "SELECT lle_embed(x, 4) OVER () FROM t").await;
    assert!(
        message.contains("n_components = 4 needs features of at least 4 dimensions, found 3"),
        "{message}"
    );
}

#[tokio::test]
async fn a_group_that_is_too_small_is_named() {
    let ctx = session(SessionConfig::new());
    register(&ctx, vec![vec![batch(0, &roll(60))]]);
    let sql = "SELECT lle_embed(x, 2) OVER (PARTITION BY id >= 58, grp = 'b') FROM t";
    let message = error(&ctx, sql).await;
    assert!(
        message.contains("lle_embed of column x where id >= 58 = true, grp = b = "),
        "{message}"
    );
}
