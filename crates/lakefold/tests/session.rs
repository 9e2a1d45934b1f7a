//! The session as a library user sees it.

mod common;

use common::session;
use datafusion::arrow::util::pretty::pretty_format_batches;
use lakefold::{Session, SessionBuilder, error_message};

async fn names(session: &Session, sql: &str) -> Vec<String> {
    let frame = session.sql(sql).await.unwrap();
    frame
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect()
}

async fn points(session: &Session) {
    let sql = "CREATE TABLE points AS SELECT value AS id, value % 2 AS side,
        make_array(cos(value * 0.11) * value, sin(value * 0.11) * value, (value * 37) % 50) AS position
        FROM generate_series(1, 120)";
    session.sql(sql).await.unwrap();
}

#[tokio::test]
async fn bare_calls_work_in_views_tables_and_subqueries() {
    let session = session();
    points(&session).await;
    session
        .sql("CREATE VIEW embedded AS SELECT id, lle_embed(position, 2, 8) AS y FROM points")
        .await
        .unwrap();
    session
        .sql("CREATE TABLE kept AS SELECT id, lle_embed(position, 2, 8) AS y FROM points")
        .await
        .unwrap();
    let same = "SELECT count(*) AS n FROM embedded JOIN kept USING (id) WHERE embedded.y = kept.y";
    let rows = session.sql(same).await.unwrap().collect().await.unwrap();
    assert!(
        pretty_format_batches(&rows)
            .unwrap()
            .to_string()
            .contains("| 120 |")
    );
    let errors =
        "SELECT count(*) AS n FROM (SELECT lle_reconstruction_error(position, reg => 0.1) AS e
        FROM points) WHERE e > 0";
    let rows = session.sql(errors).await.unwrap().collect().await.unwrap();
    let rows = pretty_format_batches(&rows).unwrap().to_string();
    assert!(rows.contains("| 120 |"), "{rows}");
    let unnamed = "WITH c AS (SELECT lle_embed(position, 2, 8) FROM points) SELECT * FROM c";
    assert_eq!(
        names(&session, unnamed).await,
        ["lle_embed(position, 2, 8)"]
    );
    let groups = "SELECT lle_embed(position, n_components => 1, options => 'reg=0.1')
        OVER (PARTITION BY side) AS y FROM points";
    assert_eq!(
        session.sql(groups).await.unwrap().count().await.unwrap(),
        120
    );
}

#[tokio::test]
async fn one_statement_at_a_time() {
    let session = session();
    let none = session.sql("; -- nothing").await.unwrap_err();
    assert_eq!(error_message(&none), "no SQL statement was given");
    let two = session.sql("SELECT 1; SELECT 2").await.unwrap_err();
    assert!(error_message(&two).contains("one SQL statement was expected, got 2"));
    let mut rows = 0;
    for statement in session.statements("SELECT 1; SELECT 2;").unwrap() {
        rows += session
            .execute(statement)
            .await
            .unwrap()
            .count()
            .await
            .unwrap();
    }
    assert_eq!(rows, 2);
}

#[tokio::test]
async fn settings_are_checked_and_can_be_changed() {
    assert!(SessionBuilder::new().threads(0).build().is_err());
    assert!(SessionBuilder::new().memory_limit(0).build().is_err());
    assert!(SessionBuilder::new().memory_limit(None).build().is_ok());
    let session = session();
    session
        .sql("SET datafusion.execution.soft_max_rows_per_output_file = 5")
        .await
        .unwrap();
    let options = session.copied_config();
    assert_eq!(
        options
            .options()
            .execution
            .soft_max_rows_per_output_file
            .get(),
        5
    );
    assert_eq!(options.target_partitions(), 2);
}

#[tokio::test]
async fn files_are_read_by_path() {
    let directory = tempfile::tempdir().unwrap();
    let target = format!("{}/out/", directory.path().display());
    let session = session();
    let copy = format!("COPY (SELECT value FROM generate_series(1, 10)) TO '{target}'");
    session.sql(&copy).await.unwrap().collect().await.unwrap();
    let read = session
        .sql(&format!("SELECT value FROM '{target}'"))
        .await
        .unwrap();
    assert_eq!(read.count().await.unwrap(), 10);
    let insert = session
        .sql(&format!("INSERT INTO '{target}' SELECT 1"))
        .await;
    let error = match insert {
        Ok(frame) => frame.collect().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(
        error_message(&error).contains("add files with COPY"),
        "{error}"
    );
}

#[tokio::test]
async fn explain_analyze_is_short_unless_asked() {
    let session = session();
    points(&session).await;
    let explain = "EXPLAIN ANALYZE SELECT lle_embed(position, 2, 8) AS y FROM points";
    let text = async || {
        let rows = session.sql(explain).await.unwrap().collect().await.unwrap();
        pretty_format_batches(&rows).unwrap().to_string()
    };
    let short = text().await;
    assert!(
        short.contains("distinct_rows=120") && short.contains("peak_reserved_bytes="),
        "{short}"
    );
    assert!(!short.contains("neighbours_time="), "{short}");
    let level = "SET datafusion.explain.analyze_level = 'dev'";
    session.sql(level).await.unwrap();
    assert!(text().await.contains("neighbours_time="));
}
