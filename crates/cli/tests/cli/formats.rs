//! Every format of results.

use crate::common::{sql, stderr, stdout};

const MIXED: &str = "SELECT id, name, v FROM (VALUES
    (1, 'a,b', [0.5, 1.25]), (2, NULL, NULL), (3, 'say \"x\"', [NULL, 2.0])) AS t (id, name, v)";

#[test]
fn csv() {
    insta::assert_snapshot!(stdout(&["--format", "csv", "-c", MIXED]), @r#"
    id,name,v
    1,"a,b","[0.5,1.25]"
    2,,
    3,"say ""x""","[null,2.0]"
    "#);
    assert_eq!(
        stdout(&["--format", "csv", "-c", "SELECT 1 AS a WHERE false"]),
        "a\n"
    );
}

#[test]
fn json_is_one_array_whatever_the_batches() {
    let text = stdout(&["--format", "json", "-c", MIXED]);
    let rows: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        rows[0],
        serde_json::json!({"id": 1, "name": "a,b", "v": [0.5, 1.25]})
    );
    assert_eq!(
        rows[1],
        serde_json::json!({"id": 2, "name": null, "v": null})
    );
    let many = "SELECT value FROM generate_series(1, 20000)";
    let rows: serde_json::Value =
        serde_json::from_str(&stdout(&["--format", "json", "-c", many])).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 20_000);
    assert_eq!(
        stdout(&["--format", "json", "-c", "SELECT 1 AS a WHERE false"]),
        "[]\n"
    );
}

#[test]
fn ndjson_is_one_object_a_line() {
    let text = stdout(&["--format", "ndjson", "-c", MIXED]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[1], r#"{"id":2,"name":null,"v":null}"#);
    assert_eq!(lines.len(), 3);
    assert_eq!(
        stdout(&["--format", "ndjson", "-c", "SELECT 1 AS a WHERE false"]),
        ""
    );
}

#[test]
fn tables_shorten_lists_and_rows() {
    insta::assert_snapshot!(stdout(&["-c", MIXED]), @r#"
    +----+---------+-------------+
    | id | name    | v           |
    +----+---------+-------------+
    | 1  | a,b     | [0.5, 1.25] |
    | 2  |         |             |
    | 3  | say "x" | [NULL, 2]   |
    +----+---------+-------------+
    "#);
    let long = "SELECT make_array(0.123456789, 1, 2, 3, 4, 5, 6, 7, 8) AS v";
    insta::assert_snapshot!(stdout(&["-c", long]), @r"
    +---------------------------------+
    | v                               |
    +---------------------------------+
    | [0.12346, 1, 2, 3, … 9 numbers] |
    +---------------------------------+
    ");

    let output = sql(&[
        "--max-rows",
        "2",
        "-c",
        "SELECT value FROM generate_series(1, 50000)",
    ]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).lines().count(),
        3 + 2 + 3 + 1
    );
    let text = stderr(&output);
    assert!(
        text.starts_with("50,000 rows in ") && text.contains("(2 shown; "),
        "{text}"
    );
    let all = stdout(&[
        "--max-rows",
        "none",
        "-c",
        "SELECT value FROM generate_series(1, 100)",
    ]);
    assert_eq!(all.lines().count(), 104);
}
