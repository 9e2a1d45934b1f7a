//! Indexes of vectors: statements, queries answered from them, and what can go wrong.

#[path = "../common/mod.rs"]
mod common;
mod knn;
mod remote;
mod several;
mod storage;

use std::path::Path;

use common::session;
use datafusion::arrow::util::pretty::pretty_format_batches;
use lakefold::{IndexCatalog, Session, SessionBuilder, error_message};
use tempfile::TempDir;

/// Rows of the table, in three files.
const ROWS: usize = 3000;

/// Names of indexes, and their metrics.
const METRICS: [(&str, &str); 3] = [("l2", "l2"), ("cos", "cosine"), ("ip", "inner_product")];
/// Of indexes with small lists.
const SMALL: &str = "m = 8, ef_construction = 100";

async fn index(session: &Session, name: &str, table: &str, with: &str) {
    let sql = format!("CREATE INDEX {name} ON {table} USING hnsw (v) WITH ({with})");
    run(session, &sql).await;
}

/// One of each of [`METRICS`].
async fn indexes(session: &Session, table: &str) {
    for (name, metric) in METRICS {
        let with = format!("metric = '{metric}', {SMALL}");
        index(session, name, table, &with).await;
    }
}

async fn run(session: &Session, sql: &str) -> String {
    let frame = session.sql(sql).await;
    let frame = frame.unwrap_or_else(|error| panic!("{sql}: {}", error_message(&error)));
    let rows = frame.collect().await;
    let rows = rows.unwrap_or_else(|error| panic!("{sql}: {}", error_message(&error)));
    pretty_format_batches(&rows).unwrap().to_string()
}

async fn failure(session: &Session, sql: &str) -> String {
    let result = async { session.sql(sql).await?.collect().await };
    match result.await {
        Ok(rows) => panic!("{sql} gave {}", pretty_format_batches(&rows).unwrap()),
        Err(error) => error_message(&error),
    }
}

/// `vector` is of four dimensions; every 13th is NULL.
async fn write(session: &Session, path: &Path, from: usize, to: usize, vector: &str) {
    let sql = format!(
        "COPY (SELECT value AS id, value % 7 AS grp, value % 500 = 0 AS rare,
            CASE WHEN value % 13 <> 0 THEN arrow_cast({vector}, 'FixedSizeList(4, Float32)') END AS v,
            make_array(CAST(value AS DOUBLE) / 7, 1.0 / value) AS w
         FROM generate_series({from}, {to}) AS s (value)) TO '{}'",
        path.display()
    );
    run(session, &sql).await;
}

const VECTOR: &str = "make_array(sin(value * 1.7), cos(value * 0.9), sin(value * value * 0.013), cos(value * 0.37) * 2)";

async fn lake(session: &Session) -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    for (name, from) in [("a", 1), ("b", 1001), ("c", 2001)] {
        let path = directory.path().join(format!("{name}.parquet"));
        write(session, &path, from, from + 999, VECTOR).await;
    }
    let table = format!("'{}/'", directory.path().display());
    (directory, table)
}

/// The answer with the index, and whether it was used; it must be the exact one.
async fn answer(session: &Session, sql: &str) -> (String, bool) {
    run(session, "SET hnsw.enabled = true").await;
    run(session, &format!("SET hnsw.ef_search = {ROWS}")).await;
    let plan = run(session, &format!("EXPLAIN {sql}")).await;
    let found = run(session, sql).await;
    run(session, "SET hnsw.enabled = false").await;
    assert!(
        !run(session, &format!("EXPLAIN {sql}"))
            .await
            .contains("Hnsw")
    );
    assert_eq!(found, run(session, sql).await, "{sql}");
    run(session, "SET hnsw.enabled = true").await;
    (found, plan.contains("HnswScanExec"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nearest_rows_are_answered_from_a_fitting_index() {
    let session = session();
    let (_directory, table) = lake(&session).await;
    indexes(&session, &table).await;
    let q = "[0.25, -0.5, 0.125, 1.5]";
    let served = [
        format!("SELECT id FROM {table} ORDER BY array_distance(v, {q}) LIMIT 10"),
        format!("SELECT id, array_distance(v, {q}) AS d FROM {table} ORDER BY d LIMIT 10"),
        format!(
            "SELECT grp, id + 1 AS n FROM {table} ORDER BY array_distance({q}, v) LIMIT 7 OFFSET 3"
        ),
        format!("SELECT * FROM {table} ORDER BY cosine_distance(v, {q}) ASC LIMIT 5"),
        format!("SELECT id FROM {table} ORDER BY inner_product(v, {q}) DESC NULLS LAST LIMIT 5"),
        format!(
            "SELECT count(*) FROM (SELECT v FROM {table} ORDER BY inner_product(v, {q}) DESC LIMIT 5) WHERE v IS NULL"
        ),
        format!("SELECT id FROM {table} ORDER BY array_distance(v, [0.1, 0.2, 0.3, 0.4]) LIMIT 20"),
        format!("SELECT id FROM {table} WHERE grp = 3 ORDER BY array_distance(v, {q}) LIMIT 10"),
        format!(
            "SELECT id FROM {table} WHERE id > 1500 AND grp <> 2 ORDER BY cosine_distance(v, {q}) LIMIT 10"
        ),
        // Six rows pass: exact in the end.
        format!("SELECT id FROM {table} WHERE rare ORDER BY array_distance(v, {q}) LIMIT 10"),
        format!(
            "SELECT id FROM {table} WHERE v IS NOT NULL ORDER BY array_distance(v, {q}) LIMIT 3"
        ),
        format!("SELECT id FROM {table} WHERE id < 0 ORDER BY array_distance(v, {q}) LIMIT 3"),
    ];
    for sql in &served {
        assert!(answer(&session, sql).await.1, "not from an index: {sql}");
    }
    let (nulls, _) = answer(&session, &served[5]).await;
    assert!(nulls.contains("| 5 "), "{nulls}");
    let exact = [
        format!("SELECT id FROM {table} ORDER BY array_distance(v, {q}) DESC NULLS LAST LIMIT 10"),
        format!("SELECT id FROM {table} ORDER BY inner_product(v, {q}) LIMIT 10"),
        format!("SELECT id FROM {table} ORDER BY array_distance(v, {q}), id LIMIT 10"),
        format!("SELECT id FROM {table} ORDER BY array_distance(v, {q}) + id LIMIT 10"),
        format!("SELECT id FROM {table} ORDER BY cosine_distance(v, [0, 0, 0, 0]), id LIMIT 10"),
        format!("SELECT id FROM {table} ORDER BY array_distance(v, {q}) LIMIT 2000"),
        format!(
            "SELECT min(id) AS id FROM {table} GROUP BY v ORDER BY array_distance(v, {q}), 1 LIMIT 3"
        ),
    ];
    for sql in &exact {
        assert!(!answer(&session, sql).await.1, "from an index: {sql}");
    }
    let plan = run(&session, &format!("EXPLAIN {}", served[0])).await;
    assert!(
        plan.contains(
            "HnswScanExec: index=l2, column=v, metric=l2, k=10, ef_search=3000, expected_recall="
        ),
        "{plan}"
    );
    let wrong = format!("SELECT id FROM {table} ORDER BY array_distance(v, [1.0, 2.0]) LIMIT 3");
    assert!(failure(&session, &wrong).await.contains("same length"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounded_vectors_are_ordered_by_the_numbers_themselves() {
    let session = session();
    let (_directory, table) = lake(&session).await;
    run(
        &session,
        &format!("CREATE INDEX w ON {table} USING hnsw (w)"),
    )
    .await;
    let sql = format!("SELECT id FROM {table} ORDER BY array_distance(w, [100.1, 0.01]) LIMIT 8");
    assert!(answer(&session, &sql).await.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_and_hive_partitions_use_the_index_of_their_files() {
    let session = session();
    let directory = tempfile::tempdir().unwrap();
    for (year, from) in [(2025, 1), (2026, 1001)] {
        let path = directory.path().join(format!("year={year}"));
        std::fs::create_dir(&path).unwrap();
        write(&session, &path.join("a.parquet"), from, from + 999, VECTOR).await;
    }
    let root = directory.path().display();
    run(
        &session,
        &format!(
            "CREATE EXTERNAL TABLE t STORED AS PARQUET PARTITIONED BY (year) LOCATION '{root}/'"
        ),
    )
    .await;
    run(
        &session,
        "CREATE INDEX IF NOT EXISTS by_v ON t USING hnsw (v) INCLUDE (id)",
    )
    .await;
    run(
        &session,
        "CREATE INDEX IF NOT EXISTS by_v ON t USING hnsw (v)",
    )
    .await;
    let q = "[0.25, -0.5, 0.125, 1.5]";
    for sql in [
        format!("SELECT id, year FROM t ORDER BY array_distance(v, {q}) LIMIT 5"),
        format!("SELECT id FROM t WHERE year = '2026' ORDER BY array_distance(v, {q}) LIMIT 5"),
        format!("SELECT id FROM '{root}/' ORDER BY array_distance(v, {q}) LIMIT 5"),
        format!(
            "SELECT id FROM '{root}/' WHERE year = '2025' ORDER BY array_distance(v, {q}) LIMIT 5"
        ),
    ] {
        assert!(answer(&session, &sql).await.1, "not from an index: {sql}");
    }
    let one = format!(
        "SELECT id FROM '{root}/year=2025/a.parquet' ORDER BY array_distance(v, {q}) LIMIT 5"
    );
    answer(&session, &one).await;
    let shown = run(&session, "SHOW INDEXES").await;
    assert!(shown.contains("by_v") && shown.contains("valid"), "{shown}");
    let shown = run(&session, "SHOW INDEXES FROM t").await;
    assert!(shown.contains("| 1847 | 4 "), "{shown}");
    run(&session, "DROP INDEX by_v").await;
    assert!(!run(&session, "SHOW INDEXES FROM t").await.contains("by_v"));
    run(&session, "DROP INDEX IF EXISTS by_v").await;
    assert!(
        failure(&session, "DROP INDEX by_v")
            .await
            .contains("no index 'by_v'")
    );
    let left = directory.path().join(".lakefold");
    assert_eq!(std::fs::read_dir(left).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_or_damaged_index_never_gives_wrong_rows() {
    let session = session();
    let (directory, table) = lake(&session).await;
    let create = format!("CREATE INDEX i ON {table} USING hnsw (v)");
    run(&session, &create).await;
    let sql = format!(
        "SELECT id, v FROM {table} ORDER BY array_distance(v, [0.25, -0.5, 0.125, 1.5]) LIMIT 4"
    );
    assert!(answer(&session, &sql).await.1);
    let index = directory.path().join(".lakefold/i.hnsw");
    let whole = std::fs::read(&index).unwrap();

    // Another file, then other rows, then a file less.
    let added = directory.path().join("d.parquet");
    write(&session, &added, 3001, 3100, VECTOR).await;
    assert!(!answer(&session, &sql).await.1);
    let state = run(&session, &format!("SHOW INDEXES FROM {table}")).await;
    assert!(
        state.contains("stale: ") && state.contains("d.parquet' was added"),
        "{state}"
    );
    run(&session, &format!("REINDEX TABLE {table}")).await;
    assert!(answer(&session, &sql).await.1);
    let other = "make_array(value, 1.0, 2.0, 3.0)";
    write(&session, &added, 3001, 3100, other).await;
    assert!(!answer(&session, &sql).await.1);
    std::fs::remove_file(&added).unwrap();
    assert!(!answer(&session, &sql).await.1);
    run(&session, &format!("REINDEX {table}")).await;
    assert!(answer(&session, &sql).await.1);

    // Bytes of the graph altered under a header that is whole: found when it is opened.
    let mut altered = whole.clone();
    let last = altered.len() - 9;
    altered[last] ^= 0x40;
    std::fs::write(&index, &altered).unwrap();
    let fresh = self::session();
    answer(&fresh, &sql).await;
    std::fs::write(&index, &whole[..100]).unwrap();
    assert!(!answer(&self::session(), &sql).await.1);
    // It can be built anew, and dropped.
    run(&session, &format!("DROP INDEX i ON {table}")).await;
    run(&session, &create).await;
    assert!(answer(&session, &sql).await.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_indexed_says_why() {
    let session = session();
    let (directory, table) = lake(&session).await;
    let using = |columns: &str, with: &str| {
        format!("CREATE INDEX i ON {table} USING hnsw ({columns}) WITH ({with})")
    };
    let root = directory.path().display();
    run(&session, "CREATE TABLE inside AS SELECT [1.0, 2.0] AS v").await;
    let bad = |name: &str, vectors: &str| {
        format!("COPY (SELECT * FROM (VALUES {vectors}) AS t (v)) TO '{root}/bad/{name}.parquet'")
    };
    for (name, vectors) in [
        ("nan", "([1.0, 2.0]), ([1.0, 'NaN'::DOUBLE])"),
        ("large", "([1.0, 2.0]), ([1e300, 2.0])"),
        ("zero", "([1.0, 2.0]), ([0.0, 0.0])"),
        ("ragged", "([1.0, 2.0]), ([1.0])"),
        ("nulls", "(NULL::DOUBLE[]), (NULL)"),
    ] {
        run(&session, &bad(name, vectors)).await;
    }
    run(
        &session,
        &format!("COPY (SELECT [1.0] AS v LIMIT 0) TO '{root}/bad/empty.parquet'"),
    )
    .await;
    let of = |name: &str| {
        format!(
            "CREATE INDEX {name} ON '{root}/bad/{name}.parquet' USING hnsw (v) WITH (metric = cosine)"
        )
    };
    for (sql, expected) in [
        (using("v", "m = 1"), "m"),
        (using("v", "m = 257"), "256"),
        (using("v", "m = 16, ef_construction = 3"), "ef_construction"),
        (using("v", "m = 8, m = 9"), "m is given twice"),
        (
            using("v vector_l2_ops", "metric = cosine"),
            "metric is given twice",
        ),
        (using("v DESC", "m = 8"), "has no order"),
        (
            using("v", "m = -4"),
            "m of an hnsw index must be a whole number, got -4",
        ),
        (using("v", "metric = 'hamming'"), "hamming"),
        (using("v", "lists = 100"), "unknown option 'lists'"),
        (using("nothing", "m = 8"), "has no column 'nothing'"),
        (using("id", "m = 8"), "must be a list of numbers"),
        (using("v, w", "m = 8"), "of one column, got 2"),
        (
            using("v vector_hamming_ops", "m = 8"),
            "unknown operator class",
        ),
        (format!("CREATE INDEX i ON {table} (v)"), "USING is missing"),
        (
            format!("CREATE INDEX i ON {table} USING btree (v)"),
            "no BTREE indexes",
        ),
        (
            format!("CREATE UNIQUE INDEX i ON {table} USING hnsw (v)"),
            "takes no UNIQUE",
        ),
        (
            format!("CREATE INDEX \"a/b\" ON {table} USING hnsw (v)"),
            "cannot name an index",
        ),
        (
            "CREATE INDEX i ON inside USING hnsw (v)".to_owned(),
            "built on Parquet files",
        ),
        (
            "CREATE INDEX i ON nowhere USING hnsw (v)".to_owned(),
            "nowhere",
        ),
        (of("nan"), "NaN in dimension 1"),
        (of("large"), "dimension 0"),
        (of("zero"), "zeros only"),
        (of("ragged"), "dimensions"),
        (of("nulls"), "no vectors to index"),
        (of("empty"), "no vectors to index"),
    ] {
        let message = failure(&session, &sql).await;
        assert!(message.contains(expected), "{sql}: {message}");
    }
    let left = std::fs::read_dir(directory.path().join("bad/.lakefold"));
    assert_eq!(left.map_or(0, Iterator::count), 0);
    run(&session, &using("v", "m = 8")).await;
    let again = failure(&session, &using("w", "m = 8")).await;
    assert!(
        again.contains("an index 'i' already, of column 'v'"),
        "{again}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_builder_at_a_time() {
    let session = session();
    let (directory, table) = lake(&session).await;
    let indexes = directory.path().join(".lakefold");
    std::fs::create_dir(&indexes).unwrap();
    let lock = std::fs::File::create(indexes.join("i.hnsw.lock")).unwrap();
    lock.lock().unwrap();
    let create = format!("CREATE INDEX i ON {table} USING hnsw (v)");
    let message = failure(&session, &create).await;
    assert!(message.contains("another builder"), "{message}");
    drop(lock);
    run(&session, &create).await;
    let (first, second) = (self::session(), self::session());
    let reindex = format!("REINDEX TABLE {table}");
    let both = tokio::join!(first.sql(&reindex), second.sql(&reindex));
    assert!(both.0.is_ok() || both.1.is_ok());
    for error in [both.0.err(), both.1.err()].into_iter().flatten() {
        assert!(error_message(&error).contains("another builder"), "{error}");
    }
    let sql = format!(
        "SELECT id FROM {table} ORDER BY array_distance(v, [0.25, -0.5, 0.125, 1.5]) LIMIT 4"
    );
    assert!(answer(&session, &sql).await.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_asked_for_before_everything_is_read() {
    let session = SessionBuilder::new()
        .threads(1)
        .memory_limit(200 << 10)
        .build()
        .unwrap();
    let (_directory, table) = lake(&self::session()).await;
    let create = format!("CREATE INDEX i ON {table} USING hnsw (v)");
    let message = failure(&session, &create).await;
    assert!(message.contains("no memory for"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_an_error_wherever_it_is_damaged() {
    for storage in ["f32", "int8"] {
        damaged_anywhere(storage).await;
    }
}

/// Every length, every byte.
async fn damaged_anywhere(storage: &str) {
    let session = session();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.parquet");
    write(&session, &path, 1, 14, VECTOR).await;
    let table = path.display();
    let create = format!(
        "CREATE INDEX i ON '{table}' USING hnsw (v) INCLUDE (id) WITH (m = 2, ef_construction = 4, storage = '{storage}')"
    );
    run(&session, &create).await;
    let index = directory.path().join(".lakefold/i.hnsw");
    let place = session
        .find_index(index.to_str().unwrap(), None)
        .await
        .unwrap()
        .place;
    let whole = std::fs::read(&index).unwrap();
    let env = session.runtime_env();
    let open = async |bytes: &[u8]| {
        std::fs::write(&index, bytes).unwrap();
        IndexCatalog::default().open(&place, &env).await
    };
    let opened = open(&whole).await.unwrap();
    assert_eq!(opened.header.rows, 13);
    assert_eq!(opened.header.storage, storage);
    assert_eq!(opened.ids().unwrap().unwrap().len(), 13);
    for end in 0..whole.len() {
        let error = open(&whole[..end]).await.unwrap_err();
        assert!(
            error_message(&error).contains("not a whole index file"),
            "{end}: {error}"
        );
    }
    for at in 0..whole.len() {
        let mut altered = whole.clone();
        altered[at] ^= 1 << (at % 8);
        let error = open(&altered).await.unwrap_err();
        assert!(error_message(&error).contains("ndex"), "{at}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_vectors_by_the_thousand_and_more_rows_than_there_are() {
    let session = session();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.parquet");
    let few = "make_array(CAST(value % 2 AS DOUBLE), 1.0, CASE WHEN value = 1777 THEN 0.5 ELSE 0.0 END, 2.0)";
    write(&session, &path, 1, 5000, few).await;
    let table = format!("'{}'", path.display());
    run(
        &session,
        &format!("CREATE INDEX i ON {table} USING hnsw (v)"),
    )
    .await;
    for query in [
        "[1.0, 1.0, 0.0, 2.0]",
        "[1.0, 1.0, 0.6, 2.0]",
        "[0.0, 0.0, 0.0, 0.0]",
    ] {
        let sql =
            format!("SELECT array_distance(v, {query}) AS d FROM {table} ORDER BY d LIMIT 300");
        assert!(answer(&session, &sql).await.1);
    }
    let sql = format!(
        "SELECT id FROM {table} ORDER BY array_distance(v, [1.0, 1.0, 0.0, 2.0]) LIMIT 9000"
    );
    assert!(!answer(&session, &sql).await.1);
    let small = directory.path().join("small.parquet");
    write(&session, &small, 1, 30, VECTOR).await;
    let table = format!("'{}'", small.display());
    run(
        &session,
        &format!("CREATE INDEX small ON {table} USING hnsw (v)"),
    )
    .await;
    for limit in [28, 29, 30] {
        let sql = format!(
            "SELECT id FROM {table} ORDER BY array_distance(v, [0.25, -0.5, 0.125, 1.5]) LIMIT {limit}"
        );
        answer(&session, &sql).await;
    }
    let filtered = format!(
        "SELECT id FROM {table} WHERE id > 4 ORDER BY array_distance(v, [0.25, -0.5, 0.125, 1.5]) LIMIT 25"
    );
    assert!(answer(&session, &filtered).await.1);
}
