//! Outputs that are Delta Lake tables.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use super::delta_log::Log;
use super::support::{
    CHUNKS, ROWS, contents, done, fails, json, lake, rows, transform, value, visible, wait_until,
    write_table,
};

const DELTA: &str = "--format=delta";

/// Data files, which are those that are not of the log or the job.
fn data(table: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = contents(table).into_iter();
    files.filter(|(name, _)| !name.starts_with('_')).collect()
}

/// Rows and largest id, by the log.
fn ids(table: &Path) -> String {
    value(&format!(
        "SELECT count(*) || ' ' || max(id) FROM '{}/'",
        table.display()
    ))
}

#[test]
fn a_run_is_one_transaction() {
    let directory = lake();
    let table = directory.path().join("out");
    let mut run = transform(directory.path(), &[DELTA, "--summary=json"]);
    let summary = json(&run.output().unwrap());
    assert_eq!(summary["table_version"], 0);
    let log = Log::read(&table);
    assert_eq!(log.versions(), 1);
    let adds = log.actions(0, "add");
    assert_eq!(adds.len(), CHUNKS);
    for add in &adds {
        let name = add["path"].as_str().unwrap();
        let size = std::fs::metadata(table.join(name)).unwrap().len();
        assert_eq!(add["size"], size);
        assert_eq!(add["dataChange"], true);
        let stats: serde_json::Value =
            serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
        assert_eq!(stats["numRecords"], 250);
        assert_eq!(stats["nullCount"]["id"], 0);
        let (least, most) = (&stats["minValues"]["id"], &stats["maxValues"]["id"]);
        assert_eq!(most.as_i64().unwrap() - least.as_i64().unwrap(), 249);
        // A vector's smallest number says nothing.
        assert!(stats["minValues"].get("v").is_none(), "{stats}");
    }
    let metadata = log.actions(0, "metaData")[0];
    let schema: serde_json::Value =
        serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
    let fields = schema["fields"].as_array().unwrap();
    let names: Vec<&str> = fields.iter().map(|f| f["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["id", "name", "v", "embedding"]);
    assert_eq!(fields[3]["type"]["type"], "array");
    assert_eq!(fields[3]["type"]["elementType"], "float");
    let protocol = log.actions(0, "protocol")[0];
    assert_eq!(protocol["minReaderVersion"], 1);
    assert_eq!(log.actions(0, "txn")[0]["appId"], "lakefold");
    let info = log.actions(0, "commitInfo")[0]["userMetadata"].as_str();
    assert!(info.unwrap().contains("lakefold.models"), "{info:?}");
    // Nothing new is no version.
    let text = done(transform(directory.path(), &[DELTA]));
    assert!(
        text.contains("0 rows in 0 chunks") && text.contains("version 0 of the Delta Lake table"),
        "{text}"
    );
    assert_eq!(Log::read(&table).versions(), 1);
    assert_eq!(ids(&table), "5000 5000");
}

#[test]
fn the_files_are_those_of_a_plain_output() {
    let directory = lake();
    done(transform(directory.path(), &[DELTA]));
    let table: Vec<Vec<u8>> = data(&directory.path().join("out")).into_values().collect();
    std::fs::remove_dir_all(directory.path().join("out")).unwrap();
    done(transform(directory.path(), &[]));
    let plain: Vec<Vec<u8>> = data(&directory.path().join("out")).into_values().collect();
    assert!(table == plain);
    // One is not taken for the other.
    let text = fails(transform(directory.path(), &[DELTA]));
    assert!(text.contains("format was none and is \"delta\""), "{text}");
    done(transform(directory.path(), &[DELTA, "--overwrite"]));
    assert_eq!(visible(&directory.path().join("out")).len(), CHUNKS);
    for arguments in [&[][..], &["--overwrite"]] {
        let text = fails(transform(directory.path(), arguments));
        assert!(
            text.contains("is a Delta Lake table: write to it with --format delta"),
            "{text}"
        );
    }
}

#[test]
fn killed_at_any_moment_it_commits_once() {
    let directory = lake();
    let table = directory.path().join("out");
    let start = Instant::now();
    done(transform(directory.path(), &[DELTA]));
    let whole_run = start.elapsed();
    let reference = data(&table);
    let log = Log::read(&table).files(0);
    let delta = table.join("_lakefold/delta.json");
    let commit = table.join("_delta_log/00000000000000000000.json");
    let begun = || {
        let text = std::fs::read_to_string(&delta).unwrap_or_default();
        text.contains("\"begun\": [")
    };
    // A linear congruential generator (Knuth's MMIX constants): moments differ, failures repeat.
    let mut random: u64 = 20_261_124;
    let (mut killed, mut before, mut after) = (0, 0, 0);
    while killed < 24 {
        std::fs::remove_dir_all(&table).unwrap();
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let share = (random >> 11) as f64 / (1u64 << 53) as f64;
        let mut child = transform(directory.path(), &[DELTA])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        match killed % 3 {
            0 => std::thread::sleep(whole_run.mul_f64(share)),
            1 => spin_until(begun),
            _ => spin_until(|| commit.exists()),
        }
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            random = random.rotate_left(7);
            continue;
        }
        killed += 1;
        let versions = Log::read(&table).versions();
        before += usize::from(begun() && versions == 0);
        after += usize::from(begun() && versions == 1);
        let text = done(transform(directory.path(), &[DELTA]));
        assert!(text.contains("version 0 of the Delta Lake table"), "{text}");
        let found = Log::read(&table);
        assert_eq!((found.versions(), found.files(0)), (1, log.clone()));
        assert!(data(&table) == reference, "killed after {share} of the run");
        let aside = contents(&table.join("_lakefold/tmp"));
        assert!(aside.is_empty(), "{:?}", aside.keys());
        assert_eq!(contents(&table.join("_delta_log")).len(), 1);
    }
    assert!(after > 0, "no kill came between the commit and its note");
    eprintln!("{before} kills came between the note and the commit, {after} after the commit");
}

/// A commit takes a millisecond: to look every five would be too late.
fn spin_until(ready: impl Fn() -> bool) {
    let since = Instant::now();
    while !ready() && since.elapsed().as_secs() < 60 {
        std::thread::yield_now();
    }
}

#[test]
fn later_runs_add_what_is_new_and_exchange_what_has_changed() {
    let directory = lake();
    let table = directory.path().join("out");
    let b = directory.path().join("lake/b.parquet");
    done(transform(directory.path(), &[DELTA]));
    write_table(&b, &rows(6001, 6500));
    done(transform(directory.path(), &[DELTA]));
    let log = Log::read(&table);
    assert_eq!(log.versions(), 2);
    let of_b = log.paths(1, "add");
    assert_eq!(of_b.len(), 2);
    assert!(of_b.iter().all(|path| path.starts_with("b.0")), "{of_b:?}");
    assert_eq!(log.actions(1, "commitInfo")[0]["isBlindAppend"], true);
    assert_eq!(ids(&table), "5500 6500");
    // As many row groups as before: only the version of the input tells the names apart.
    write_table(&b, &rows(7001, 7500));
    let text = fails(transform(directory.path(), &[DELTA]));
    assert!(text.contains("'b.parquet' has changed since"), "{text}");
    let text = done(transform(directory.path(), &[DELTA, "--incremental"]));
    assert!(text.contains("500 rows in 2 chunks"), "{text}");
    let log = Log::read(&table);
    assert_eq!(log.versions(), 3);
    assert_eq!(log.paths(2, "remove"), of_b);
    assert_eq!(log.paths(2, "add").len(), 2);
    assert!(log.paths(2, "add").is_disjoint(&of_b));
    assert_eq!(ids(&table), "5500 7500");
    // The version before is still there to be read.
    for path in &of_b {
        assert!(table.join(path).exists());
    }
    std::fs::remove_file(&b).unwrap();
    let text = done(transform(directory.path(), &[DELTA]));
    assert!(
        text.contains("no longer there, such as 'b.parquet'"),
        "{text}"
    );
    assert_eq!(Log::read(&table).versions(), 3);
    done(transform(directory.path(), &[DELTA, "--overwrite"]));
    let log = Log::read(&table);
    assert_eq!((log.versions(), log.newest().len()), (4, CHUNKS));
    assert_eq!(ids(&table), "5000 5000");
    done(transform(directory.path(), &[DELTA, "--overwrite"]));
    assert_eq!(Log::read(&table).versions(), 4);
}

#[test]
fn an_exchange_that_was_cut_short_is_finished_by_any_later_run() {
    let directory = lake();
    let table = directory.path().join("out");
    let select = "--select=id, name";
    done(transform(directory.path(), &[DELTA]));
    let old = Log::read(&table).newest();
    let delta = table.join("_lakefold/delta.json");
    let mut child = transform(
        directory.path(),
        &[DELTA, select, "--overwrite", "--threads=1"],
    )
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    let replaces = || {
        let text = std::fs::read_to_string(&delta).unwrap();
        text.contains("\"replace\": true") && visible(&table).len() > CHUNKS + 2
    };
    assert!(wait_until(&mut child, replaces));
    child.kill().unwrap();
    child.wait().unwrap();
    // Until the commit, the table is what it was.
    assert_eq!(Log::read(&table).newest(), old);
    assert_eq!(ids(&table), "5000 5000");
    assert_eq!(
        value(&format!(
            "SELECT count(embedding) FROM '{}/'",
            table.display()
        )),
        "5000"
    );
    // Without --overwrite: it was said once.
    done(transform(directory.path(), &[DELTA, select]));
    let log = Log::read(&table);
    assert_eq!(log.versions(), 2);
    assert_eq!(log.paths(1, "remove"), old);
    assert_eq!(log.actions(1, "metaData").len(), 1);
    assert_eq!(log.newest().len(), CHUNKS);
    let columns = format!("SELECT * FROM '{}/' LIMIT 1", table.display());
    let header = crate::common::stdout(&["-q", "--format", "csv", "-c", &columns]);
    assert_eq!(header.lines().next(), Some("id,name"));
}

#[test]
fn another_table_in_its_place_is_refused() {
    let directory = lake();
    let table = directory.path().join("out");
    done(transform(directory.path(), &[DELTA, "--select=id, name"]));
    // Its control files gone, it is a table of others: the columns decide.
    std::fs::remove_dir_all(table.join("_lakefold")).unwrap();
    let text = fails(transform(
        directory.path(),
        &[DELTA, "--select=id, upper(name) AS n"],
    ));
    for wanted in [
        "'n' is not in the table",
        "'name' is not in the output",
        "--overwrite",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let text = fails(transform(
        directory.path(),
        &[DELTA, "--select=CAST(id AS INT) AS id, name"],
    ));
    assert!(
        text.contains("'id' is long in the table and integer in the output"),
        "{text}"
    );
    assert_eq!(Log::read(&table).versions(), 1);
    // Another id, as of a table that was created anew.
    done(transform(
        directory.path(),
        &[DELTA, "--select=id, name", "--overwrite"],
    ));
    let commit = table.join("_delta_log/00000000000000000000.json");
    let text = std::fs::read_to_string(&commit).unwrap();
    let id = Log::read(&table).actions(0, "metaData")[0]["id"].clone();
    let id = id.as_str().unwrap().to_owned();
    std::fs::write(&commit, text.replace(&id, &id.replace('-', "0"))).unwrap();
    let text = fails(transform(directory.path(), &[DELTA, "--select=id, name"]));
    assert!(
        text.contains("is not the one that this job has written"),
        "{text}"
    );
}

#[test]
fn what_others_took_out_of_the_table_stays_out() {
    let directory = lake();
    let table = directory.path().join("out");
    let b = directory.path().join("lake/b.parquet");
    write_table(&b, &rows(6001, 6100));
    done(transform(directory.path(), &[DELTA]));
    let log = Log::read(&table);
    let gone = log
        .newest()
        .into_iter()
        .find(|p| p.starts_with("b."))
        .unwrap();
    let add = log
        .actions(0, "add")
        .into_iter()
        .find(|a| a["path"] == *gone);
    let size = add.unwrap()["size"].clone();
    let remove = serde_json::json!({"remove": {
        "path": gone, "dataChange": true, "deletionTimestamp": 1, "extendedFileMetadata": true,
        "partitionValues": {}, "size": size,
    }});
    let commit = table.join("_delta_log/00000000000000000001.json");
    std::fs::write(commit, remove.to_string()).unwrap();
    std::fs::remove_file(table.join(&gone)).unwrap();
    assert_eq!(ids(&table), "5000 5000");
    // Its rows were deleted: a run that has nothing new does not bring them back.
    done(transform(directory.path(), &[DELTA]));
    assert_eq!(Log::read(&table).versions(), 2);
    write_table(&b, &rows(7001, 7100));
    let text = fails(transform(directory.path(), &[DELTA, "--incremental"]));
    assert!(
        text.contains("no longer in the Delta Lake table") && text.contains("--overwrite"),
        "{text}"
    );
    done(transform(directory.path(), &[DELTA, "--overwrite"]));
    assert_eq!(ids(&table), "5100 7100");
}

#[test]
fn another_writer_at_the_same_time_is_no_conflict() {
    let directory = lake();
    let table = directory.path().join("out");
    done(transform(directory.path(), &[DELTA]));
    write_table(
        &directory.path().join("lake/b.parquet"),
        &rows(6001, 6000 + ROWS),
    );
    let mut child = transform(directory.path(), &[DELTA, "--threads=1"])
        .spawn()
        .unwrap();
    assert!(wait_until(&mut child, || visible(&table).len() > CHUNKS + 2));
    // Theirs is version 1, before the job's commit.
    let commit = table.join("_delta_log/00000000000000000001.json");
    let info = serde_json::json!({"commitInfo": {"operation": "WRITE", "isBlindAppend": true}});
    std::fs::write(commit, info.to_string()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        crate::common::stderr(&output)
    );
    let log = Log::read(&table);
    assert_eq!((log.versions(), log.newest().len()), (3, 2 * CHUNKS));
    assert_eq!(ids(&table), format!("10000 {}", 6000 + ROWS));
}

#[test]
fn partitions_are_values_of_the_log() {
    let directory = lake();
    std::fs::remove_file(directory.path().join("lake/a.parquet")).unwrap();
    for (name, first) in [
        ("lang=de/day=__HIVE_DEFAULT_PARTITION__", 1),
        ("lang=a%2Fb c/day=1", 1001),
    ] {
        let file = directory.path().join(format!("lake/{name}/x.parquet"));
        write_table(&file, &rows(first, first + 499));
    }
    let table = directory.path().join("out");
    done(transform(directory.path(), &[DELTA]));
    let log = Log::read(&table);
    let metadata = log.actions(0, "metaData")[0];
    assert_eq!(
        metadata["partitionColumns"],
        serde_json::json!(["lang", "day"])
    );
    let adds = log.actions(0, "add");
    assert_eq!(adds.len(), 4);
    let encoded = adds.iter().filter(|add| {
        let path = add["path"].as_str().unwrap();
        path.starts_with("lang=a%252Fb%20c/day=1/x.00000-00000.")
            && add["partitionValues"] == serde_json::json!({"lang": "a/b c", "day": "1"})
    });
    assert_eq!(encoded.count(), 1, "{adds:?}");
    let nulls = adds.iter();
    let nulls = nulls.filter(|add| add["partitionValues"]["day"].is_null());
    assert_eq!(nulls.count(), 2);
    let counts = format!(
        "SELECT string_agg(lang || ' ' || coalesce(day, 'none') || ' ' || n, ', ' ORDER BY lang)
         FROM (SELECT lang, day, count(*) AS n FROM '{}/' GROUP BY lang, day)",
        table.display()
    );
    assert_eq!(value(&counts), "\"a/b c 1 500, de none 500\"");
}

#[test]
fn what_delta_lake_has_not_is_refused_before_anything_is_written() {
    let directory = lake();
    for (select, wanted) in [
        ("*, arrow_cast(id, 'UInt32') AS u", "CAST(u AS BIGINT) AS u"),
        ("*, id + 1", "name it in --select"),
        ("*, name AS \"NAME\"", "'name' and 'NAME' are one"),
    ] {
        let text = fails(transform(
            directory.path(),
            &[DELTA, &format!("--select={select}")],
        ));
        assert!(text.contains(wanted), "{wanted}: {text}");
        assert!(!directory.path().join("out").exists());
    }
}

#[test]
fn tampered_notes_are_refused() {
    let directory = lake();
    let table = directory.path().join("out");
    done(transform(directory.path(), &[DELTA]));
    let delta = table.join("_lakefold/delta.json");
    let text = std::fs::read_to_string(&delta).unwrap();
    std::fs::write(
        &delta,
        text.replace("\"transaction\": 1", "\"transaction\": 2"),
    )
    .unwrap();
    let text = fails(transform(directory.path(), &[DELTA]));
    assert!(
        text.contains("'_lakefold/delta.json' of the output was altered"),
        "{text}"
    );
    done(transform(directory.path(), &[DELTA, "--overwrite"]));
    assert_eq!(ids(&table), "5000 5000");
}
