//! `knn` and `knn_join` by means of a stored index.

use std::sync::Arc;

use futures::StreamExt;

use super::*;

/// Runs a query with the index and without, which must give the same rows; the plan with it.
pub(super) async fn planned(session: &Session, sql: &str) -> String {
    run(session, "SET hnsw.enabled = true").await;
    let plan = run(session, &format!("EXPLAIN {sql}")).await;
    let found = run(session, sql).await;
    run(session, "SET hnsw.enabled = false").await;
    let plain = run(session, &format!("EXPLAIN {sql}")).await;
    assert!(!plain.contains("index="), "{plain}");
    assert_eq!(found, run(session, sql).await, "{sql}");
    run(session, "SET hnsw.enabled = true").await;
    plan
}

/// A call that builds the graph of an index that is [`SMALL`].
pub(super) const AS_SMALL: &str = "method => 'hnsw', m => 8, ef_construction => 100";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pairs_are_those_of_a_graph_that_is_built_for_the_call() {
    let session = session();
    let (_directory, table) = lake(&session).await;
    indexes(&session, &table).await;
    // Names that are in another order than the rows.
    for id in ["id", "CAST((id * 7919) % 3001 AS VARCHAR)"] {
        let own = |how: &str| format!("SELECT * FROM knn({table}, {id}, v, k => 5, {how})");
        let across = |how: &str| {
            format!(
                "SELECT * FROM knn_join((SELECT id, v FROM {table} WHERE id % 9 < 2), id, v,
                    {table}, {id}, v, k => 5, {how})"
            )
        };
        for call in [&own as &dyn Fn(&str) -> String, &across] {
            // So few candidates that some neighbours are missed, the same ones.
            for metric in ["l2", "ip"] {
                let sql = call(&format!("metric => '{metric}', {AS_SMALL}, ef_search => 8"));
                let plan = planned(&session, &sql).await;
                let expected =
                    format!("method=hnsw (index={metric}, ef_search=8, expected recall 0.");
                assert!(plan.contains(&expected), "{plan}");
            }
            // So many that all are compared.
            for (name, metric) in METRICS {
                let how = |method: &str| {
                    format!("metric => '{metric}', method => '{method}', ef_search => {ROWS}")
                };
                let plan = planned(&session, &call(&how("hnsw"))).await;
                let expected = format!("(index={name}, ef_search={ROWS}, expected recall ");
                assert!(plan.contains(&expected), "{plan}");
                let exact = run(&session, &call(&how("exact"))).await;
                assert_eq!(run(&session, &call(&how("hnsw"))).await, exact);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_found_is_measured_and_features_are_not_read() {
    let session = session();
    let (_directory, table) = lake(&session).await;
    index(&session, "i", &table, SMALL).await;
    for call in [
        format!("knn({table}, id, v, method => 'hnsw')"),
        format!("knn_join({table}, id, v, {table}, id, v, method => 'hnsw')"),
    ] {
        let sql = format!("EXPLAIN ANALYZE SELECT * FROM {call}");
        let text = run(&session, &sql).await;
        assert!(text.contains("hnsw_queries=2.77 K"), "{text}");
        let recall = text.split("sampled_recall=").nth(1).unwrap();
        let recall: f64 = recall.split('%').next().unwrap().parse().unwrap();
        // 19 of as many queries as rows, of 12 neighbours each.
        assert!(text.contains("/228)"), "{text}");
        assert!((90.0..=100.0).contains(&recall), "{recall}");
        run(&session, "SET hnsw.enabled = false").await;
        let without = run(&session, &sql).await;
        run(&session, "SET hnsw.enabled = true").await;
        let [read, all] = [&text, &without].map(|text| {
            let bytes = text.rsplit("bytes_scanned=").next().unwrap();
            let kilobytes = bytes.split(" K").next().unwrap();
            kilobytes.parse::<f64>().unwrap()
        });
        assert!(read < all / 2.0, "{read} {all}");
    }
}

/// It would read the whole index for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recall_of_a_few_queries_is_not_measured() {
    let session = session();
    let (_directory, table) = lake(&session).await;
    index(&session, "i", &table, SMALL).await;
    let few = format!("(SELECT * FROM {table} ORDER BY id LIMIT 100)");
    let sql = format!(
        "EXPLAIN ANALYZE SELECT * FROM knn_join({few}, id, v, {table}, id, v, method => 'hnsw')"
    );
    let text = run(&session, &sql).await;
    assert!(text.contains("hnsw_queries=93,"), "{text}");
    assert!(text.contains("sampled_recall=N/A (0/0)"), "{text}");
    run(&session, "SET hnsw.enabled = false").await;
    let built = run(&session, &sql).await;
    assert!(built.contains("/24)"), "{built}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_told_apart_however_files_are_dealt_out() {
    let session = session();
    for (name, value) in [
        ("execution.parquet.max_row_group_size", "150"),
        ("execution.batch_size", "100"),
        ("execution.target_partitions", "4"),
        ("optimizer.enable_round_robin_repartition", "true"),
        ("optimizer.repartition_file_scans", "true"),
        ("optimizer.repartition_file_min_size", "1"),
    ] {
        run(&session, &format!("SET datafusion.{name} = {value}")).await;
    }
    let directory = tempfile::tempdir().unwrap();
    for (year, from) in [(2025, 1), (2026, 1001)] {
        let path = directory.path().join(format!("year={year}"));
        std::fs::create_dir(&path).unwrap();
        write(&session, &path.join("a.parquet"), from, from + 499, VECTOR).await;
        let (from, to) = (from + 500, from + 999);
        write(&session, &path.join("b.parquet"), from, to, VECTOR).await;
    }
    let root = directory.path().display();
    let create = format!(
        "CREATE EXTERNAL TABLE t STORED AS PARQUET PARTITIONED BY (year) LOCATION '{root}/'"
    );
    run(&session, &create).await;
    index(&session, "i", "t", SMALL).await;
    let from_files = format!("'{root}/'");
    for table in ["t", &from_files] {
        for id in ["id", "2000 - id", "concat(year, '-', id % 600)", "'one'"] {
            let sql = format!("SELECT * FROM knn({table}, {id}, v, k => 3, {AS_SMALL})");
            let plan = planned(&session, &sql).await;
            assert!(plan.contains("(index=i, "), "{id}: {plan}");
            let sql = format!(
                "SELECT * FROM knn_join((SELECT * FROM {table} WHERE grp = 1 ORDER BY id), id, v,
                    (SELECT v AS x, {id} AS name FROM {table}), name, x, k => 3, {AS_SMALL})"
            );
            let plan = planned(&session, &sql).await;
            assert!(plan.contains("(index=i, "), "{id}: {plan}");
            if id == "2000 - id" {
                assert!(plan.contains("a.parquet:0.."), "{plan}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ties_go_to_the_smaller_id() {
    let session = session();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.parquet");
    let few = "make_array(CAST(value % 50 AS DOUBLE), 1.0, 0.0, 2.0)";
    write(&session, &path, 1, ROWS, few).await;
    let table = format!("'{}'", path.display());
    index(&session, "i", &table, SMALL).await;
    for id in ["id", "-id", "id % 7", "NULLIF(id % 2000, 3)"] {
        let sql = format!("SELECT * FROM knn({table}, {id}, v, k => 4, {AS_SMALL})");
        assert!(planned(&session, &sql).await.contains("(index=i, "));
    }
    // 60 rows are at one place, less those that are NULL.
    let sql = format!(
        "SELECT neighbor_id FROM knn_join((SELECT 0 AS id, arrow_cast([7, 1, 0, 2], 'List(Float32)') AS x), id, x,
            {table}, -id, v, k => 3, {AS_SMALL}) ORDER BY rank"
    );
    assert!(planned(&session, &sql).await.contains("(index=i, "));
    let nearest = run(&session, &sql).await;
    assert!(nearest.contains("| -2957 "), "{nearest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_is_used_where_it_has_just_the_rows_that_are_searched() {
    let session = session();
    let (_directory, table) = lake(&session).await;
    index(&session, "i", &table, SMALL).await;
    let knn = |input: &str, features: &str, how: &str| {
        format!("SELECT * FROM knn({input}, id, {features}, k => 2, {how}) LIMIT 50")
    };
    let all = "ef_search => 3000, method => 'hnsw'";
    let of = |query: &str| format!("(SELECT {})", query.replace("lake", &table));
    let double = "(SELECT 1 AS id, [0.1, 0.2, 0.3, 0.4] AS x)";
    let float = "(SELECT 1 AS id, arrow_cast([0.1, 0.2, 0.3, 0.4], 'List(Float32)') AS x)";
    let join = |left: &str| {
        format!("SELECT * FROM knn_join({left}, id, x, {table}, id, v, k => 2, {all})")
    };
    for sql in [
        knn(&table, "v", all),
        knn(&of("* FROM lake"), "v", all),
        knn(&of("grp, v AS x, id FROM lake"), "x", all),
        knn(
            &of("v, n AS id FROM (SELECT id * 2 AS n, v FROM lake)"),
            "v",
            all,
        ),
        knn(&table, "v", &format!("{AS_SMALL}, seed => 0")),
        join(float),
        format!(
            "SELECT * FROM knn_join({table}, id, v, {table}, id, v, k => 1, {all}) WHERE id < 9"
        ),
    ] {
        let plan = planned(&session, &sql).await;
        assert!(plan.contains("(index=i, "), "{sql}: {plan}");
    }
    for sql in [
        knn(&table, "v", "method => 'exact'"),
        // Few rows of few dimensions are compared sooner than found.
        knn(&table, "v", "method => 'auto'"),
        knn(&table, "v", &format!("metric => 'cosine', {all}")),
        knn(&table, "v", &format!("m => 9, {all}")),
        knn(&table, "v", &format!("ef_construction => 99, {all}")),
        knn(&table, "v", &format!("seed => 1, {all}")),
        knn(&table, "w", all),
        knn(&table, "arrow_cast(v, 'List(Float64)')", all),
        knn(&table, "make_array(id, 1.0)", all),
        knn(&of("* FROM lake WHERE id > 100"), "v", all),
        knn(&of("* FROM lake ORDER BY id LIMIT 1000"), "v", all),
        knn(&of("max(id) AS id, v FROM lake GROUP BY v"), "v", all),
        knn(
            &of("id, v FROM lake UNION ALL SELECT -id, v FROM lake"),
            "v",
            all,
        ),
        knn(
            &of("a.id, a.v FROM lake AS a JOIN lake AS b ON a.id = b.id"),
            "v",
            all,
        ),
        knn(
            &of("id, v FROM (SELECT id, v, row_number() OVER () AS n FROM lake) WHERE n > 9"),
            "v",
            all,
        ),
        join(double),
    ] {
        let plan = planned(&session, &sql).await;
        assert!(!plan.contains("index="), "{sql}: {plan}");
    }
    let none = of("* FROM lake WHERE id < 0");
    let sql = format!("SELECT * FROM knn_join({none}, id, v, {table}, id, v, method => 'hnsw')");
    planned(&session, &sql).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auto_searches_an_index_that_is_faster_than_comparing_all() {
    let session = session();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.parquet");
    let numbers: Vec<_> = (1..17)
        .map(|place| format!("sin(value * {}.{place})", place % 5))
        .collect();
    let vector = numbers.join(", ");
    let copy = format!(
        "COPY (SELECT value AS id, arrow_cast(make_array({vector}), 'FixedSizeList(16, Float32)') AS v
         FROM generate_series(1, 6000) AS s (value)) TO '{}'",
        path.display()
    );
    run(&session, &copy).await;
    let table = format!("'{}'", path.display());
    index(&session, "i", &table, SMALL).await;
    let how = "k => 3, ef_search => 12";
    let one = format!("(SELECT * FROM {table} WHERE id = 77)");
    for (call, queries) in [
        (format!("knn({table}, id, v, {how})"), "6.00 K"),
        (
            format!("knn_join({one}, id, v, {table}, id, v, {how})"),
            "1",
        ),
    ] {
        let plan = run(&session, &format!("EXPLAIN SELECT * FROM {call}")).await;
        let expected = "method=auto: hnsw (index=i, ef_search=12, expected recall 0.";
        assert!(plan.contains(expected), "{plan}");
        let text = run(&session, &format!("EXPLAIN ANALYZE SELECT * FROM {call}")).await;
        assert!(text.contains(&format!("hnsw_queries={queries}")), "{text}");
        run(&session, "SET hnsw.enabled = false").await;
        let text = run(&session, &format!("EXPLAIN ANALYZE SELECT * FROM {call}")).await;
        assert!(text.contains(&format!("exact_queries={queries}")), "{text}");
        run(&session, "SET hnsw.enabled = true").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_or_damaged_index_gives_no_wrong_pairs() {
    let session = session();
    let (directory, table) = lake(&session).await;
    index(&session, "i", &table, SMALL).await;
    let own = format!("SELECT * FROM knn({table}, id, v, k => 3, {AS_SMALL})");
    let across = format!(
        "SELECT * FROM knn_join((SELECT * FROM {table} WHERE id < 50), id, v, {table}, id, v, k => 3, {AS_SMALL})"
    );
    let uses = async |session: &Session| {
        let plans = [
            planned(session, &own).await,
            planned(session, &across).await,
        ];
        plans.map(|plan| plan.contains("(index=i, "))
    };
    assert_eq!(uses(&session).await, [true; 2]);
    let file = directory.path().join(".lakefold/i.hnsw");
    let whole = std::fs::read(&file).unwrap();

    let added = directory.path().join("d.parquet");
    write(&session, &added, 3001, 3100, VECTOR).await;
    assert_eq!(uses(&session).await, [false; 2]);
    std::fs::remove_file(&added).unwrap();
    assert_eq!(uses(&session).await, [true; 2]);
    // A part of its files.
    let glob = format!("'{}/[ab].parquet'", directory.path().display());
    let sql = format!("SELECT * FROM knn({glob}, id, v, k => 3, {AS_SMALL})");
    assert!(!planned(&session, &sql).await.contains("index="));

    // Known to be damaged before it is opened, and only then.
    let mut altered = whole.clone();
    let last = altered.len() - 9;
    altered[last] ^= 0x40;
    std::fs::write(&file, &altered).unwrap();
    assert_eq!(uses(&self::session()).await, [true; 2]);
    std::fs::write(&file, &whole[..100]).unwrap();
    assert_eq!(uses(&self::session()).await, [false; 2]);
    std::fs::write(&file, &whole).unwrap();
    assert_eq!(uses(&session).await, [true; 2]);
    write(
        &session,
        &directory.path().join("a.parquet"),
        1,
        900,
        VECTOR,
    )
    .await;
    assert_eq!(uses(&session).await, [false; 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_those_of_rows_that_are_read() {
    let session = session();
    let (_directory, table) = lake(&session).await;
    index(&session, "i", &table, "metric = 'cosine'").await;
    let join = |x: &str, k: usize| {
        format!(
            "SELECT * FROM knn_join((SELECT 1 AS id, arrow_cast({x}, 'List(Float32)') AS x), id, x,
                {table}, id, v, k => {k}, metric => 'cosine', method => 'hnsw')"
        )
    };
    let own = format!(
        "SELECT * FROM knn({table}, id, v, k => 2770, metric => 'cosine', method => 'hnsw')"
    );
    for (sql, expected) in [
        (
            join("[1, 2]", 3),
            "left_features of knn_join, x, has 2 dimensions (row 0 of its batch (counted from 0, id = 1)) and \
             right_features, v, has 4: both need the same number",
        ),
        (join("[0, 0, 0, 0]", 3), "zeros only"),
        (
            join("[1, 2, 3, 4]", 2771),
            "k = 2771 of knn_join needs as many right rows, found 2770",
        ),
        (
            own,
            "knn of column v: k = 2770 needs at least 1 neighbour and more rows than neighbours, found 2770 rows",
        ),
    ] {
        let plan = run(&session, &format!("EXPLAIN {sql}")).await;
        assert!(plan.contains("(index=i, "), "{plan}");
        let message = failure(&session, &sql).await;
        assert!(message.contains(expected), "{sql}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_that_of_ids_and_is_given_back() {
    let (_directory, table) = lake(&self::session()).await;
    let session = SessionBuilder::new()
        .threads(1)
        .memory_limit(1 << 20)
        .build()
        .unwrap();
    let with = "m = 64, ef_construction = 100";
    index(&self::session(), "i", &table, with).await;
    let pool = Arc::clone(&session.runtime_env().memory_pool);
    let how = "k => 2, method => 'hnsw', m => 64, ef_construction => 100";
    for call in [
        format!("knn({table}, -id, v, {how})"),
        format!("knn_join({table}, id, v, {table}, -id, v, {how})"),
    ] {
        let sql = format!("SELECT * FROM {call}");
        let frame = session.sql(&sql).await.unwrap();
        let mut rows = frame.execute_stream().await.unwrap();
        rows.next().await.unwrap().unwrap();
        assert!(pool.reserved() > 2770 * 8, "{}", pool.reserved());
        drop(rows);
        assert_eq!(pool.reserved(), 0, "{sql}");
        run(&session, &sql).await;
        run(&session, "SET hnsw.enabled = false").await;
        let message = failure(&session, &sql).await;
        assert!(message.contains("no memory for an HNSW index"), "{message}");
        run(&session, "SET hnsw.enabled = true").await;
    }
    let small = SessionBuilder::new()
        .threads(1)
        .memory_limit(20 << 10)
        .build()
        .unwrap();
    let sql = format!("SELECT * FROM knn({table}, id, v, {how})");
    let message = failure(&small, &sql).await;
    assert!(
        message.contains("knn of column v: no memory for the ids of the rows to search"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attention_is_that_over_keys_from_a_graph_that_is_built() {
    let session = session();
    let (_directory, table) = lake(&session).await;
    indexes(&session, &table).await;
    let queries = format!("(SELECT id, v FROM {table} WHERE id % 50 < 2)");
    let call = |value: &str, how: &str| {
        let arguments = format!("{queries}, id, v, {table}, v, {value}, {AS_SMALL}, {how}");
        [
            format!("SELECT * FROM attention_topk({arguments})"),
            format!("SELECT * FROM attention_topk_error({arguments}, seed => 0)"),
        ]
    };
    let carried = "arrow_cast(make_array(id % 100, grp), 'List(Float32)')";
    for (similarity, name, ef_search) in
        [("dot", "ip", 8), ("l2", "l2", 8), ("cosine", "cos", ROWS)]
    {
        let how = format!("k => 4, similarity => '{similarity}', ef_search => {ef_search}");
        for sql in call("v", &how).iter().chain(&call(carried, &how)) {
            let plan = planned(&session, sql).await;
            let expected = format!("method=hnsw (index={name}, ef_search={ef_search}, ");
            assert!(plan.contains(&expected), "{plan}");
        }
    }
    let how = "k => 4, ef_search => 8";
    // Which rows have no value is seen when they are read.
    for sql in &call("CASE WHEN id % 5 <> 0 THEN v END", how) {
        assert!(planned(&session, sql).await.contains("(index=ip, "));
    }
    for sql in &call("w", how) {
        assert!(!planned(&session, sql).await.contains("index="));
    }
    let ragged = "CASE WHEN id = 1500 THEN arrow_cast([1, 2], 'List(Float32)')
        ELSE arrow_cast(v, 'List(Float32)') END";
    for sql in &call(ragged, how) {
        let message = failure(&session, sql).await;
        assert!(message.contains("row 499 of its batch"), "{message}");
    }
}
