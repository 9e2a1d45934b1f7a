//! Codes of eight bits in the place of vectors.

use super::*;

/// `id`, and vectors of 32 dimensions around 50 centres.
async fn clusters(session: &Session) -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("clusters.parquet");
    let numbers: Vec<String> = (0..32)
        .map(|j| {
            format!(
                "sin(id % 50 * {}.7) + 0.1 * sin(id * {}.13 + {j})",
                j + 1,
                j + 2
            )
        })
        .collect();
    let sql = format!(
        "COPY (SELECT id, arrow_cast(make_array({}), 'FixedSizeList(32, Float32)') AS v
         FROM (SELECT value AS id FROM generate_series(1, {ROWS}) AS s (value))) TO '{}'",
        numbers.join(", "),
        path.display()
    );
    run(session, &sql).await;
    (directory, format!("'{}'", path.display()))
}

/// As what the indexes of a table keep its vectors.
async fn storages(session: &Session, table: &str) -> Vec<String> {
    let rows = session.sql(&format!("SHOW INDEXES FROM {table}")).await;
    let rows = rows.unwrap().select_columns(&["storage"]).unwrap();
    let rows = rows.collect().await.unwrap();
    let column = rows[0].column(0).clone();
    let texts = datafusion::arrow::array::AsArray::as_string::<i32>(&column);
    texts.iter().map(|text| text.unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_are_kept_where_they_find_as_much() {
    let session = session();
    let (_directory, table) = clusters(&session).await;
    for metric in ["l2", "cosine", "inner_product"] {
        let sql =
            format!("CREATE INDEX {metric} ON {table} USING hnsw (v) WITH (metric = {metric})");
        run(&session, &sql).await;
    }
    assert_eq!(
        storages(&session, &table).await,
        ["int8", "int8", "int8"].map(String::from)
    );
    run(&session, "SET hnsw.ef_search = 100").await;
    let query: Vec<String> = (0..32)
        .map(|j| format!("{}", f64::from(j % 5) / 8.0))
        .collect();
    let query = format!("arrow_cast([{}], 'List(Float32)')", query.join(", "));
    for order in [
        "array_distance(v, {q})",
        "cosine_distance(v, {q})",
        "inner_product(v, {q}) DESC NULLS LAST",
    ] {
        let order = order.replace("{q}", &query);
        let sql = format!("SELECT id FROM {table} ORDER BY {order} LIMIT 10");
        let plan = run(&session, &format!("EXPLAIN {sql}")).await;
        assert!(plan.contains(", storage=int8"), "{plan}");
        let found = run(&session, &sql).await;
        run(&session, "SET hnsw.enabled = false").await;
        assert_eq!(found, run(&session, &sql).await);
        run(&session, "SET hnsw.enabled = true").await;
    }
    let found = session
        .find_index(table.trim_matches('\''), Some("l2"))
        .await
        .unwrap();
    let recall = found.header.storage_recall.unwrap();
    assert_eq!(
        (found.header.storage_option.as_str(), recall.ef_search),
        ("auto", 64)
    );
    assert!(recall.int8 >= recall.f32 - 0.002, "{recall:?}");
    let checks = session.verify_index(&found).await.unwrap();
    assert!(checks.iter().all(|check| check.passed), "{checks:?}");
    assert!(checks.iter().any(|check| check.name == "codes"));
    // Pairs have exact distances, and are those of any other order of the rows.
    let pairs = |id: &str| {
        format!(
            "SELECT * FROM knn_join((SELECT id, v FROM {table} WHERE id % 20 = 0), id, v, {table}, {id}, v,
             k => 5, method => 'hnsw', ef_search => 100) ORDER BY id, rank"
        )
    };
    let planned = run(&session, &format!("EXPLAIN {}", pairs("id"))).await;
    assert!(planned.contains("index=l2"), "{planned}");
    let exact = pairs("id").replace("method => 'hnsw', ef_search => 100", "method => 'exact'");
    assert_eq!(
        run(&session, &pairs("id")).await,
        run(&session, &exact).await
    );
    let shuffled = "(id * 7919) % 3001";
    let distances = |pairs: String| format!("SELECT id, rank, distance FROM ({pairs})");
    assert_eq!(
        run(&session, &distances(pairs(shuffled))).await,
        run(&session, &distances(pairs("id"))).await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_for_is_kept_when_an_index_is_built_again() {
    let session = session();
    let (directory, table) = clusters(&session).await;
    for storage in ["auto", "f32", "int8"] {
        let sql = format!(
            "CREATE INDEX by_{storage} ON {table} USING hnsw (v) WITH (storage = '{storage}', m = 8, ef_construction = 60)"
        );
        run(&session, &sql).await;
    }
    let before = storages(&session, &table).await;
    assert_eq!(before[1..], ["f32", "int8"].map(String::from));
    // Vectors that codes cannot tell apart: one dimension is a thousand times as wide as the others.
    let path = table.trim_matches('\'');
    let wide = "make_array(id * 1000, sin(id), cos(id), sin(2 * id), cos(2 * id), sin(3 * id), cos(3 * id), sin(4 * id),
         cos(4 * id), sin(5 * id), cos(5 * id), sin(6 * id), cos(6 * id), sin(7 * id), cos(7 * id), sin(8 * id), cos(8 * id))";
    run(
        &session,
        &format!(
            "COPY (SELECT id, arrow_cast({wide}, 'FixedSizeList(17, Float32)') AS v FROM
         (SELECT value AS id FROM generate_series(1, {ROWS}) AS s (value))) TO '{path}'"
        ),
    )
    .await;
    run(&session, &format!("REINDEX TABLE {table}")).await;
    assert_eq!(
        storages(&session, &table).await,
        ["f32", "f32", "int8"].map(String::from)
    );
    for (name, option, has_recall) in [
        ("by_auto", "auto", true),
        ("by_f32", "f32", false),
        ("by_int8", "int8", true),
    ] {
        let header = session.find_index(path, Some(name)).await.unwrap().header;
        assert_eq!(header.storage_option, option);
        assert_eq!(header.storage_recall.is_some(), has_recall);
        // Only codes make a newer version.
        let file = directory.path().join(format!(".lakefold/{name}.hnsw"));
        let version = std::fs::read(file).unwrap()[8];
        assert_eq!(version, if option == "int8" { 2 } else { 1 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_dimensions_than_codes_can_have_are_an_error_or_without_codes() {
    let session = session();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("long.parquet").display().to_string();
    run(
        &session,
        &format!(
        "COPY (SELECT arrow_cast(array_repeat(CAST(value AS FLOAT), 33026), 'List(Float32)') AS v
         FROM generate_series(1, 3) AS s (value)) TO '{path}'"
    ),
    )
    .await;
    let create = |storage: &str| {
        format!("CREATE INDEX i ON '{path}' USING hnsw (v) WITH (storage = '{storage}')")
    };
    let message = failure(&session, &create("int8")).await;
    assert!(
        message.contains(
            "column 'v': storage must be 'f32' or 'auto' for vectors of more than 33025 dimensions"
        ),
        "{message}"
    );
    run(&session, &create("auto")).await;
    assert_eq!(storages(&session, &format!("'{path}'")).await, ["f32"]);
}
