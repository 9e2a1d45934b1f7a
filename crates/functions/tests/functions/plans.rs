//! Which physical plan `lle_embed` gets.

use datafusion::prelude::SessionConfig;

use crate::support::{plan, query, register, roll_batch, session, session_with};

#[tokio::test]
async fn over_nothing_gathers_no_partitions() {
    let ctx = session(SessionConfig::new().with_target_partitions(3));
    register(
        &ctx,
        vec![
            vec![roll_batch(20)],
            vec![roll_batch(20)],
            vec![roll_batch(20)],
        ],
    );
    let plan = plan(
        &ctx,
        "SELECT id, lle_embed(x, 2, NULL, 'seed=3') OVER () AS e FROM t",
    )
    .await;
    let operators: Vec<&str> = plan.lines().map(str::trim).collect();
    assert!(operators[0].starts_with("ProjectionExec"), "{plan}");
    assert_eq!(
        operators[1],
        "LleExec: lle_embed(x, n_components=2, n_neighbors=auto, reg=auto, method=standard, solver=auto, seed=3), partition_by=[]"
    );
    assert!(
        operators[2].starts_with("DataSourceExec: partitions=3"),
        "{plan}"
    );
    assert_eq!(operators.len(), 3, "{plan}");
}

#[tokio::test]
async fn partition_by_gets_hash_partitions_sorted_by_key() {
    let ctx = session(SessionConfig::new().with_target_partitions(3));
    register(&ctx, vec![vec![roll_batch(20)], vec![roll_batch(20)]]);
    let sql = "SELECT id, lle_embed(x, 2) OVER (PARTITION BY grp) AS e FROM t";
    let partitioned = plan(&ctx, sql).await;
    let operators: Vec<&str> = partitioned.lines().map(str::trim).collect();
    assert!(
        operators[1].starts_with("LleExec: lle_embed(x, n_components=2"),
        "{partitioned}"
    );
    assert!(
        operators[1].ends_with("partition_by=[grp]"),
        "{partitioned}"
    );
    assert!(
        operators[2].starts_with("SortExec: expr=[grp@1 ASC"),
        "{partitioned}"
    );
    assert!(
        operators[3].starts_with("RepartitionExec: partitioning=Hash([grp@1], 3)"),
        "{partitioned}"
    );

    for config in [
        SessionConfig::new().with_target_partitions(1),
        SessionConfig::new()
            .with_target_partitions(3)
            .with_repartition_windows(false),
    ] {
        let ctx = session(config);
        register(&ctx, vec![vec![roll_batch(20)], vec![roll_batch(20)]]);
        let single = plan(&ctx, sql).await;
        assert!(!single.contains("Hash("), "{single}");
        assert!(single.contains("LleExec"), "{single}");
    }
}

/// A limit below the fit would change what is fitted, and a sort below it would move the features.
#[tokio::test]
async fn later_limits_and_sorts_stay_above_the_fit() {
    for partitions in [1, 3] {
        let ctx = session(SessionConfig::new().with_target_partitions(3));
        register(&ctx, vec![vec![roll_batch(20)]; partitions]);
        for (over, clause, sorts_below) in [
            ("", "LIMIT 5", 0),
            ("", "ORDER BY id", 0),
            ("", "ORDER BY id LIMIT 5", 0),
            ("PARTITION BY grp", "LIMIT 5", 1),
            ("PARTITION BY grp", "ORDER BY id LIMIT 5", 1),
            ("PARTITION BY grp", "ORDER BY grp LIMIT 5", 1),
            ("PARTITION BY grp", "ORDER BY grp, id LIMIT 5", 1),
        ] {
            let sql = format!("SELECT id, grp, lle_embed(x, 2) OVER ({over}) AS e FROM t {clause}");
            let plan = plan(&ctx, &sql).await;
            let (_, below) = plan.split_once("LleExec").unwrap();
            assert!(
                !below.contains("fetch=") && !below.contains("Limit"),
                "{sql}: {plan}"
            );
            assert_eq!(
                below.matches("SortExec").count(),
                sorts_below,
                "{sql}: {plan}"
            );
        }
    }
}

#[tokio::test]
async fn other_functions_keep_a_window_operator() {
    let ctx = session_with(roll_batch(20));
    let mixed = plan(
        &ctx,
        "SELECT lle_embed(x, 2) OVER () AS e, count(*) OVER () AS c, lle_embed(x, 1) OVER () AS f FROM t",
    )
    .await;
    assert!(mixed.contains("LleExec: lle_embed(x, n_components=2, n_neighbors=auto, reg=auto, method=standard, solver=auto), lle_embed(x, n_components=1"), "{mixed}");
    assert_eq!(mixed.matches("WindowAggExec").count(), 1, "{mixed}");
    assert_eq!(mixed.matches("LleExec").count(), 1, "{mixed}");
    let none = plan(&ctx, "SELECT count(*) OVER () FROM t").await;
    assert!(!none.contains("LleExec"), "{none}");
}

#[tokio::test]
async fn explain_analyze_shows_the_fit() {
    let ctx = session_with(roll_batch(300));
    let sql = "EXPLAIN ANALYZE SELECT id, lle_embed(x, 2) OVER (PARTITION BY grp) AS e FROM t";
    let result = query(&ctx, sql).await.unwrap();
    let text = format!(
        "{}",
        datafusion::arrow::util::pretty::pretty_format_batches(&[result]).unwrap()
    );
    for metric in [
        "fits=3",
        "fitted_rows=300",
        "distinct_rows=300",
        "closed_components=",
        "bridged_edges=",
        "neighbours_time=",
        "output_rows=300",
        "peak_reserved_bytes=",
    ] {
        assert!(text.contains(metric), "{metric} is missing in {text}");
    }
}
