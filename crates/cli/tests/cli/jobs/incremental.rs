//! Later runs over other input, other parameters, another model.

use super::support::{
    CHUNKS, contents, done, fails, fit, lake, rows, transform, value, visible, write_table,
};
use crate::common::lakefold;

#[test]
fn a_grown_input_gets_only_its_new_files_embedded() {
    let directory = lake();
    let out = directory.path().join("out");
    done(transform(directory.path(), &[]));
    let before = contents(&out);
    write_table(&directory.path().join("lake/b.parquet"), &rows(6001, 6500));
    let text = done(transform(directory.path(), &[]));
    assert!(
        text.contains("500 rows in 2 chunks") && text.contains("20 chunks were written before"),
        "{text}"
    );
    let after = contents(&out);
    for (name, content) in &before {
        assert!(
            name.starts_with('_') || after.get(name) == Some(content),
            "{name}"
        );
    }
    // As if both had been there from the start.
    std::fs::remove_dir_all(&out).unwrap();
    done(transform(directory.path(), &[]));
    assert_eq!(contents(&out), after);
}

#[test]
fn a_changed_file_is_refused_or_written_anew() {
    let directory = lake();
    let out = directory.path().join("out");
    write_table(&directory.path().join("lake/b.parquet"), &rows(6001, 6500));
    done(transform(directory.path(), &[]));
    let before = contents(&out);
    // Fewer row groups: a chunk of the old file has no successor.
    write_table(&directory.path().join("lake/b.parquet"), &rows(7001, 7100));
    let text = fails(transform(directory.path(), &[]));
    assert!(
        text.contains("'b.parquet' has changed since it was written")
            && text.contains("--incremental"),
        "{text}"
    );
    assert_eq!(contents(&out), before);
    let text = done(transform(directory.path(), &["--incremental"]));
    assert!(text.contains("100 rows in 1 chunk"), "{text}");
    assert_eq!(visible(&out).len(), CHUNKS + 1);
    let ids = format!(
        "SELECT count(*) || ' ' || max(id) FROM '{}/'",
        out.display()
    );
    assert_eq!(value(&ids), "5100 7100");
    // Gone from the input is not gone from the output, unless it is to be.
    std::fs::remove_file(directory.path().join("lake/b.parquet")).unwrap();
    let text = done(transform(directory.path(), &[]));
    assert!(
        text.contains("no longer there, such as 'b.parquet'"),
        "{text}"
    );
    assert_eq!(value(&ids), "5100 7100");
    done(transform(directory.path(), &["--overwrite"]));
    assert_eq!(value(&ids), "5000 5000");
}

#[test]
fn another_model_or_parameter_is_refused() {
    let directory = lake();
    let out = directory.path().join("out");
    done(transform(directory.path(), &[]));
    let before = contents(&out);
    for (arguments, wanted) in [
        (
            &["--compression=snappy"][..],
            "compression was \"zstd(1)\" and is \"snappy\"",
        ),
        (&["--where=id > 5"], "where was none and is \"id > 5\""),
        (
            &["--row-group-rows=10"],
            "row_group_rows was 1048576 and is 10",
        ),
        (
            &["--on-invalid=null"],
            "on_invalid was \"error\" and is \"null\"",
        ),
        (&["--output-column=e"], "AS \\\"e\\\""),
    ] {
        let text = fails(transform(directory.path(), arguments));
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    // The same model under another name is the same.
    let copy = directory.path().join("copy.parquet");
    std::fs::copy(super::support::model(), &copy).unwrap();
    let with_model = |more: &[&str]| {
        let mut command = lakefold();
        command
            .current_dir(directory.path())
            .args(["transform", "lake", "out", "--chunk-rows=250", "--column=v"])
            .args(["--model", "copy.parquet"])
            .args(more);
        command
    };
    assert!(done(with_model(&[])).contains("20 chunks were written before"));
    fit(&directory.path().join("lake/a.parquet"), &copy, "--seed=7");
    let text = fails(with_model(&[]));
    assert!(
        text.contains("models was [") && text.contains("--overwrite"),
        "{text}"
    );
    assert_eq!(contents(&out), before);
    let text = done(with_model(&["--overwrite"]));
    assert!(text.contains("5,000 rows in 20 chunks"), "{text}");
    assert_ne!(contents(&out), before);
    // The same command again has nothing to do: it can stand in a crontab.
    let text = done(with_model(&["--overwrite"]));
    assert!(text.contains("0 rows in 0 chunks"), "{text}");
}
