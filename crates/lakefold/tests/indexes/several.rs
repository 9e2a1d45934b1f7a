//! Indexes of several files that share a directory.

use super::*;

/// Two files with an index each, `of_a` and `of_b`, and their paths as SQL names them.
async fn two_files(session: &Session) -> (TempDir, [String; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let mut tables = Vec::new();
    for name in ["a", "b"] {
        let path = directory.path().join(format!("{name}.parquet"));
        write(session, &path, 1, 300, VECTOR).await;
        let table = format!("'{}'", path.display());
        index(session, &format!("of_{name}"), &table, SMALL).await;
        tables.push(table);
    }
    (directory, tables.try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_about_a_file_are_about_its_own_indexes() {
    let session = session();
    let (directory, [a, b]) = two_files(&session).await;
    let shown = run(&session, &format!("SHOW INDEXES FROM {a}")).await;
    assert!(shown.contains("of_a") && !shown.contains("of_b"), "{shown}");
    let whole = format!("SHOW INDEXES FROM '{}/'", directory.path().display());
    let all = run(&session, &whole).await;
    assert!(all.contains("of_a") && all.contains("of_b"), "{all}");
    let error = failure(&session, &format!("DROP INDEX of_b ON {a}")).await;
    assert!(error.contains("no index 'of_b' of that table"), "{error}");
    run(&session, &format!("DROP INDEX IF EXISTS of_b ON {a}")).await;
    let shown = run(&session, &format!("SHOW INDEXES FROM {b}")).await;
    assert!(shown.contains("of_b"), "{shown}");
    run(&session, &format!("DROP INDEX of_b ON {b}")).await;
    let shown = run(&session, &format!("SHOW INDEXES FROM {b}")).await;
    assert!(!shown.contains("of_b"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_index_does_not_stand_in_the_way_of_others() {
    let session = session();
    let (directory, [a, _]) = two_files(&session).await;
    let damaged = directory.path().join(".lakefold/broken.hnsw");
    std::fs::write(&damaged, "nothing that an index begins with").unwrap();
    run(&session, &format!("REINDEX TABLE {a}")).await;
    let path = a.trim_matches('\'');
    let found = session.find_index(path, None).await.unwrap();
    assert_eq!(found.header.name, "of_a");
    index(&session, "another", &a, "m = 4, ef_construction = 20").await;
    let error = session.find_index(path, None).await.unwrap_err();
    let error = error_message(&error);
    assert!(error.contains("2 indexes (another, of_a)"), "{error}");
    run(&session, &format!("DROP INDEX another ON {a}")).await;
    run(&session, &format!("DROP INDEX of_a ON {a}")).await;
    // It may have been of this file.
    let error = failure(&session, &format!("REINDEX TABLE {a}")).await;
    assert!(error.contains("broken.hnsw"), "{error}");
    run(&session, &format!("DROP INDEX broken ON {a}")).await;
    assert!(!damaged.exists());
    let error = failure(&session, &format!("REINDEX TABLE {a}")).await;
    assert!(error.contains("has no index to build again"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_indexed_is_named_by_file_and_id() {
    let session = session();
    let directory = tempfile::tempdir().unwrap();
    let odd =
        format!("CASE WHEN value = 450 THEN make_array('NaN'::DOUBLE, 0, 0, 0) ELSE {VECTOR} END");
    for (name, from) in [("a", 1), ("b", 301)] {
        let path = directory.path().join(format!("{name}.parquet"));
        write(&session, &path, from, from + 299, &odd).await;
    }
    let table = format!("'{}/'", directory.path().display());
    let sql = format!("CREATE INDEX i ON {table} USING hnsw (v)");
    let error = failure(&session, &sql).await;
    let place =
        "row 149 of its batch (counted from 0, row of the table = 449, file = 'b.parquet') has NaN";
    assert!(error.contains(place), "{error}");
    let sql = format!("CREATE INDEX i ON {table} USING hnsw (v) INCLUDE (id)");
    let error = failure(&session, &sql).await;
    assert!(
        error.contains("file = 'b.parquet', id = 450) has NaN"),
        "{error}"
    );
}
