//! What a job writes.

use serde_json::Value;

use super::support::{
    CHUNKS, ROWS, contents, done, fails, json, lake, model, transform, value, visible, write_table,
};

#[test]
fn every_row_gets_the_embedding_that_sql_gives_it() {
    let directory = lake();
    let text = done(transform(directory.path(), &[]));
    assert!(text.contains("5,000 rows in 20 chunks written"), "{text}");
    let out = directory.path().join("out");
    assert_eq!(visible(&out).len(), CHUNKS);
    let out = out.display();
    let lake = directory.path().join("lake/a.parquet");
    let wrong = value(&format!(
        "SELECT count(*) FROM '{out}/' o FULL JOIN
         (SELECT *, lle_transform(v, '{}') AS e FROM '{}') i ON o.id = i.id
         WHERE (o.name IS DISTINCT FROM i.name) OR (o.v IS DISTINCT FROM i.v)
            OR (o.embedding IS DISTINCT FROM i.e)",
        model(),
        lake.display()
    ));
    assert_eq!(wrong, "0");
    // In the order of the input.
    let ordered = value(&format!(
        "SELECT count(*) FROM (SELECT id, row_number() OVER () AS place FROM '{out}/') WHERE id = place"
    ));
    assert_eq!(ordered, ROWS.to_string());
    assert_eq!(
        value(&format!(
            "SELECT arrow_typeof(embedding) || ' ' || arrow_typeof(v) FROM '{out}/' LIMIT 1"
        )),
        "FixedSizeList(2 x Float32) FixedSizeList(3 x Float32)"
    );
}

#[test]
fn bytes_do_not_depend_on_threads_memory_or_place() {
    let directory = lake();
    done(transform(directory.path(), &[]));
    let first = contents(&directory.path().join("out"));
    let other = tempfile::tempdir().unwrap();
    let input = directory.path().join("lake");
    let output = crate::common::lakefold()
        .arg("transform")
        .args([&input, &other.path().join("deep/er")])
        .args(["--chunk-rows", "250", "--column", "v", "--model", model()])
        .args(["--threads", "1", "--memory-limit", "200m", "-q"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        crate::common::stderr(&output)
    );
    assert!(output.stderr.is_empty());
    assert_eq!(contents(&other.path().join("deep/er")), first);
}

#[test]
fn the_summary_is_json_and_a_second_run_has_nothing_to_do() {
    let directory = lake();
    let run = || {
        let metrics = ["--metrics-file", "metrics.prom", "--summary", "json"];
        json(&transform(directory.path(), &metrics).output().unwrap())
    };
    let summary = run();
    assert_eq!(summary["finished"], Value::Bool(true));
    assert_eq!(summary["rows"], ROWS);
    assert_eq!(summary["chunks_written"], CHUNKS);
    assert!(summary["rows_per_second"].as_f64().unwrap() > 0.0);
    assert!(summary["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
    let metrics = std::fs::read_to_string(directory.path().join("metrics.prom")).unwrap();
    assert!(
        metrics.contains("\nlakefold_job_rows 5000\n")
            && metrics.contains("# TYPE lakefold_job_finished gauge\nlakefold_job_finished 1\n"),
        "{metrics}"
    );
    let before = contents(&directory.path().join("out"));
    let again = run();
    assert_eq!(again["chunks_skipped"], CHUNKS);
    assert_eq!(again["chunks_written"], 0);
    assert_eq!(contents(&directory.path().join("out")), before);
    // To a file, as any other.
    done(transform(directory.path(), &["--summary", "run.json"]));
    let text = std::fs::read(directory.path().join("run.json")).unwrap();
    let summary: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(summary["chunks"], CHUNKS);
}

#[test]
fn any_row_wise_expressions_and_a_filter() {
    let directory = lake();
    let select = format!(
        "--select=id * 2 AS twice, softmax(v) AS p, lle_transform(v, '{}')[1] AS x, name",
        model()
    );
    let text = done(transform(
        directory.path(),
        &[&select, "--where", "id > 4900 -- late ones"],
    ));
    assert!(text.contains("100 rows in 20 chunks"), "{text}");
    let out = directory.path().join("out").display().to_string();
    assert_eq!(
        value(&format!(
            "SELECT count(*) || ' ' || min(twice) FROM '{out}/' WHERE x IS NOT NULL"
        )),
        "100 9802"
    );
    for (select, wanted) in [
        ("count(*) AS n", "cannot do 'Aggregate'"),
        ("row_number() OVER () AS n", "cannot do 'WindowAggr'"),
        ("random() AS r", "random gives another value in each run"),
        ("now() AS t", "now gives another value in each run"),
        ("(SELECT 1) AS one", "no subqueries"),
        ("unnest(v) AS x", "cannot do 'Unnest'"),
        ("nothing AS x", "nothing"),
        ("* FROM 'lake/a.parquet' --", "syntax error"),
    ] {
        let text = fails(transform(
            directory.path(),
            &[&format!("--select={select}"), "--overwrite"],
        ));
        assert!(text.contains(wanted), "{select}: {text}");
    }
}

#[test]
fn partitions_are_kept_as_directories() {
    let directory = tempfile::tempdir().unwrap();
    for (partition, first) in [("year=2025/lang=en", 1), ("year=2026/lang=a%2Fb", 501)] {
        let file = directory
            .path()
            .join("lake")
            .join(partition)
            .join("x.parquet");
        write_table(&file, &super::support::rows(first, first + 499));
    }
    done(transform(directory.path(), &[]));
    let out = directory.path().join("out");
    assert_eq!(
        visible(&out),
        [
            "year=2025/lang=en/x.00000-00000.parquet",
            "year=2025/lang=en/x.00001-00001.parquet",
            "year=2026/lang=a%2Fb/x.00000-00000.parquet",
            "year=2026/lang=a%2Fb/x.00001-00001.parquet",
        ]
    );
    let query = |select: &str| value(&format!("SELECT {select} FROM '{}/'", out.display()));
    assert_eq!(
        query("count(*) FILTER (WHERE lang = 'a/b' AND id > 500)"),
        "500"
    );
    // The files themselves do not have the columns.
    let file = out.join("year=2025/lang=en/x.00000-00000.parquet");
    let query = format!("SELECT lang FROM '{}'", file.display());
    let text = crate::common::failure(&["-q", "-c", &query]);
    assert!(text.contains("lang"), "{text}");
    let text = fails(transform(
        directory.path(),
        &["--select=id, upper(lang) AS lang", "--overwrite"],
    ));
    assert!(text.contains("'lang' is a partition column"), "{text}");
}

#[test]
fn row_groups_are_capped_and_options_of_the_writer_hold() {
    let directory = lake();
    let text = done(transform(
        directory.path(),
        &[
            "--chunk-rows=100000",
            "--row-group-rows=2000",
            "--compression=snappy",
            "--encoding=embedding=byte-stream-split",
            "--encoding=name=plain",
        ],
    ));
    assert!(text.contains("in 1 chunk "), "{text}");
    let out = directory.path().join("out");
    let bytes = std::fs::read(out.join("a.00000-00019.parquet")).unwrap();
    assert_eq!(&bytes[..4], b"PAR1");
    let wrong = fails(transform(
        directory.path(),
        &["--encoding=nothing=plain", "--overwrite"],
    ));
    assert!(wrong.contains("the column 'nothing'"), "{wrong}");
}
