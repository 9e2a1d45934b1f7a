//! An index described, for people and as JSON.

use std::fmt::Write;

use lakefold::{FoundIndex, IndexCheck, IndexHeader, format_bytes};
use serde_json::{Value, json};

use crate::numbers::{counted, grouped};

/// The recall of searches, in a line; nothing where it was not measured.
pub(crate) fn recall_text(header: &IndexHeader) -> Option<String> {
    if header.recall.is_empty() {
        return None;
    }
    let points: Vec<String> = header
        .recall
        .iter()
        .map(|point| format!("{:.4} at {}", point.recall, point.ef_search))
        .collect();
    Some(format!(
        "recall@{} by ef_search, of {}: {}",
        header.recall_k,
        counted(header.recall_sample, "row"),
        points.join(", ")
    ))
}

/// As what the vectors are walked through, and what codes lose.
pub(crate) fn storage_text(header: &IndexHeader) -> String {
    let IndexHeader {
        storage,
        storage_option,
        ..
    } = header;
    let asked = if storage_option == storage {
        String::new()
    } else {
        format!(" ({storage_option})")
    };
    let recall = header.storage_recall.map(|recall| {
        format!(
            ", recall@{} with ef_search {}: {:.4} through codes, {:.4} through the vectors",
            header.recall_k, recall.ef_search, recall.int8, recall.f32
        )
    });
    format!("{storage}{asked}{}", recall.unwrap_or_default())
}

/// Lines of `name: value`.
pub(crate) fn info_lines(found: &FoundIndex, stale: Option<&str>) -> String {
    let header = &found.header;
    let table = if header.table.is_empty() {
        "every file of the directory"
    } else {
        &header.table
    };
    let mut lines: Vec<(&str, String)> = vec![
        ("name", header.name.clone()),
        ("file", found.place.text()),
        ("size", format_bytes(found.file_bytes as usize)),
        ("table", table.to_owned()),
        ("column", header.column.clone()),
        ("metric", header.metric.clone()),
        ("rows", grouped(header.rows as usize)),
        ("without a vector", grouped(header.null_rows as usize)),
        ("dimensions", grouped(header.dimensions)),
        ("m", header.m.to_string()),
        ("ef_construction", header.ef_construction.to_string()),
        ("seed", header.seed.to_string()),
        ("storage", storage_text(header)),
        (
            "repaired",
            format!(
                "{} unreachable, {} not found by themselves",
                grouped(header.unreachable_repaired),
                grouped(header.not_self_found_repaired)
            ),
        ),
        ("written by", header.written_by.clone()),
        ("files", grouped(header.sources.len())),
        (
            "state",
            stale.map_or_else(|| "valid".to_owned(), |why| format!("stale: {why}")),
        ),
    ];
    if let Some(id) = &header.id_column {
        lines.insert(5, ("ids", id.clone()));
    }
    for point in &header.recall {
        lines.push((
            "recall",
            format!(
                "{:.4} @{} with ef_search {}",
                point.recall, header.recall_k, point.ef_search
            ),
        ));
    }
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in lines {
        let _ = writeln!(text, "{name:width$}  {value}");
    }
    text
}

/// One object. `stale` is the reason, `None` in it a valid index.
pub(crate) fn info_json(
    header: &IndexHeader,
    file_bytes: u64,
    stale: Option<&Option<String>>,
) -> String {
    let mut object = serde_json::to_value(header).unwrap_or_default();
    if let Value::Object(members) = &mut object {
        for internal in ["graph", "positions", "ids"] {
            members.remove(internal);
        }
        // Which the file leaves out where they are as they always were.
        members.insert("storage".to_owned(), json!(header.storage));
        members.insert("storage_option".to_owned(), json!(header.storage_option));
        members.insert("file_bytes".to_owned(), json!(file_bytes));
        if let Some(stale) = stale {
            members.insert("valid".to_owned(), json!(stale.is_none()));
            members.insert("stale_because".to_owned(), json!(stale));
        }
    }
    format!("{object}\n")
}

/// A line a check.
pub(crate) fn checks_lines(checks: &[IndexCheck]) -> String {
    let width = checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let state = if check.passed { "ok    " } else { "FAILED" };
        let _ = writeln!(text, "{state}  {:width$}  {}", check.name, check.detail);
    }
    text
}

/// One object.
pub(crate) fn checks_json(checks: &[IndexCheck]) -> String {
    let passed = checks.iter().all(|check| check.passed);
    let checks: Vec<Value> = checks
        .iter()
        .map(|check| json!({"name": check.name, "passed": check.passed, "detail": check.detail}))
        .collect();
    format!("{}\n", json!({"passed": passed, "checks": checks}))
}
