//! `lle_embed` from the command line.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{failure, lakefold, sql, stderr, stdout};

const DIGITS: &str = "(SELECT * FROM 'sample_data/digits.parquet' LIMIT 400)";

#[test]
fn a_bare_call_is_over_all_rows_and_named_by_its_text() {
    let text = stdout(&[
        "-q",
        "--format",
        "csv",
        "-c",
        &format!("SELECT id, lle_embed(pixels,2) FROM {DIGITS}"),
    ]);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("id,\"lle_embed(pixels, 2)\""));
    assert_eq!(lines.count(), 400);
    let over = format!("SELECT id, lle_embed(pixels, 2) OVER () AS y FROM {DIGITS}");
    let over = stdout(&["-q", "--format", "csv", "-c", &over]);
    assert!(over.lines().skip(1).eq(text.lines().skip(1)));
}

#[test]
fn rows_stay_in_order_whatever_the_threads() {
    let statement = format!("SELECT id, lle_embed(pixels, 2) AS y FROM {DIGITS}");
    let one = stdout(&["-q", "--format", "csv", "--threads", "1", "-c", &statement]);
    let four = stdout(&["-q", "--format", "csv", "--threads", "4", "-c", &statement]);
    assert!(one == four, "the bytes differ");
    let ids: Vec<_> = one
        .lines()
        .skip(1)
        .map(|line| line.split(',').next().unwrap().to_owned())
        .collect();
    let plain = stdout(&[
        "-q",
        "--format",
        "csv",
        "-c",
        &format!("SELECT id FROM {DIGITS}"),
    ]);
    assert!(ids.iter().map(String::as_str).eq(plain.lines().skip(1)));
}

#[test]
fn skipped_named_arguments_are_defaults() {
    let call = |arguments: &str| {
        stdout(&[
            "-q",
            "--format",
            "csv",
            "-c",
            &format!("SELECT lle_embed(pixels, {arguments}) AS y FROM {DIGITS}"),
        ])
    };
    let skipped = call("n_components => 2, options => 'reg=0.1'");
    assert_eq!(skipped, call("2, NULL, 'reg=0.1'"));
    assert_eq!(skipped, call("2, 'auto', 'reg=0.1'"));
    assert_ne!(skipped, call("2, 15, 'reg=0.1'"));
    assert_ne!(skipped, call("2"));
}

#[test]
fn diagnostics_are_for_those_who_ask() {
    let statement = format!("SELECT lle_embed(pixels, 2) FROM {DIGITS}");
    let plain = stderr(&sql(&["--format", "csv", "-c", &statement]));
    assert!(!plain.contains("solver"), "{plain}");
    let verbose = stderr(&sql(&["-v", "--format", "csv", "-c", &statement]));
    assert!(
        verbose.contains("lle_embed: 400 rows (400 distinct)") && verbose.contains("solver"),
        "{verbose}"
    );
}

#[test]
fn bridged_groups_are_news() {
    // Two clouds far apart.
    let statement = "SELECT lle_embed(make_array(sin(value * 1.7) + 1000.0 * (value % 2), cos(value * value * 0.3)), 1, 5)
        FROM generate_series(1, 100)";
    let text = stderr(&sql(&["--format", "csv", "-c", statement]));
    assert!(
        text.contains("note: 2 closed groups of rows had all neighbours among themselves"),
        "{text}"
    );
    assert_eq!(
        stderr(&sql(&["-q", "--format", "csv", "-c", statement])),
        ""
    );
}

#[test]
fn too_little_memory_is_a_clear_error() {
    let statement = "SELECT lle_embed(embedding, 2) FROM 'sample_data/debian_packages.parquet'";
    let text = failure(&["-q", "--memory-limit", "2m", "-c", statement]);
    assert!(
        text.starts_with("error: ") && text.contains("memory"),
        "{text}"
    );
    assert!(text.contains("MiB") || text.contains("MB"), "{text}");
}

#[test]
fn the_main_job() {
    let directory = tempfile::tempdir().unwrap();
    let target = format!("{}/out/", directory.path().display());
    let copy = format!(
        "COPY (SELECT package, section, lle_embed(embedding, 2) OVER () AS embedding
         FROM (SELECT * FROM 'sample_data/debian_packages.parquet' LIMIT 1000)) TO '{target}' STORED AS PARQUET"
    );
    stdout(&["-c", &copy]);
    let check = format!(
        "SELECT count(*) AS n, count(DISTINCT package) > 990 AS p, min(array_length(embedding)) AS d FROM '{target}'"
    );
    assert_eq!(
        stdout(&["--format", "csv", "-c", &check]),
        "n,p,d\n1000,true,2\n"
    );
}

#[test]
fn an_interrupt_stops_a_long_fit() {
    // Long enough for any machine: a second is spent, minutes are asked for.
    let statement = "SELECT lle_embed(make_array(random(), random(), random(), random(), random(), random()), 2, 40)
        FROM generate_series(1, 400000)";
    let mut child = lakefold()
        .args(["sql", "-c", statement])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(child.try_wait().unwrap(), None, "the fit was over too soon");
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            panic!("still running");
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    let mut text = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(status.code(), Some(130), "{text}");
    assert_eq!(text, "interrupted\n");
}
