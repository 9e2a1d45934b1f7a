//! What goes wrong around a job: disks, permissions, other jobs, altered files.

use std::path::Path;
use std::process::{Command, Output};

use super::support::{
    CHUNKS, contents, done, fails, lake, model, rows, transform, visible, wait_until, write_table,
};
use crate::common::stderr;

/// Runs a shell script with mounts of its own; `None` where that is not permitted.
fn with_mounts(directory: &Path, script: &str) -> Option<Output> {
    let permitted = Command::new("unshare").args(["-m", "true"]).status();
    if !permitted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: `unshare -m` is not permitted here");
        return None;
    }
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script])
        .current_dir(directory)
        .env("LAKEFOLD", env!("CARGO_BIN_EXE_lakefold"))
        .env("MODEL", model())
        .env_remove("LAKEFOLD_LOG")
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    Some(output)
}

const JOB: &str = "\"$LAKEFOLD\" transform lake out --chunk-rows 250 --column v --model \"$MODEL\"";

/// Whatever the disk has no room for: a chunk, its record, or the manifest.
#[test]
fn a_full_disk_stops_the_job_and_room_lets_it_go_on() {
    let directory = lake();
    done(transform(directory.path(), &[]));
    let reference = contents(&directory.path().join("out"));
    std::fs::remove_dir_all(directory.path().join("out")).unwrap();
    // Too small for all chunks; what is visible meanwhile is copied out.
    let sizes = ["104k", "108k", "112k", "116k", "120k"];
    for size in sizes {
        let script = format!(
            "set -e; mkdir out full-{size}; mount -t tmpfs -o size={size} tmpfs out
             code=0; {JOB} || code=$?; echo \"code $code\" >&2
             cp -r out/. full-{size}/
             mount -o remount,size=8m out; {JOB}
             mkdir whole-{size}; cp -r out/. whole-{size}/; umount out; rmdir out"
        );
        let Some(output) = with_mounts(directory.path(), &script) else {
            return;
        };
        let text = stderr(&output);
        assert!(output.status.success(), "{size}: {text}");
        assert!(
            text.contains("code 1") && text.contains("make room and run the same job again"),
            "{size}: {text}"
        );
        let partial = directory.path().join(format!("full-{size}"));
        let names = visible(&partial);
        assert!(names.len() < CHUNKS, "{size}: {names:?}");
        for name in names {
            let content = std::fs::read(partial.join(&name)).unwrap();
            assert_eq!(Some(&content), reference.get(&name), "{size}: {name}");
        }
        let aside = contents(&partial.join("_lakefold/tmp"));
        assert!(aside.is_empty(), "{size}: {:?}", aside.keys());
        let whole = directory.path().join(format!("whole-{size}"));
        assert_eq!(contents(&whole), reference, "{size}");
    }
}

#[test]
fn no_permission_to_write_says_so() {
    let directory = lake();
    let script = format!("mkdir out; mount -t tmpfs -o ro tmpfs out; {JOB}");
    let Some(output) = with_mounts(directory.path(), &script) else {
        return;
    };
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("error: cannot create '") && text.contains("Read-only"),
        "{text}"
    );
}

#[test]
fn an_output_that_is_a_file_is_refused() {
    let directory = lake();
    std::fs::write(directory.path().join("out"), "precious").unwrap();
    let text = fails(transform(directory.path(), &[]));
    assert!(text.contains("'out' is a file"), "{text}");
    assert_eq!(
        std::fs::read(directory.path().join("out")).unwrap(),
        b"precious"
    );
}

#[test]
fn two_jobs_on_one_output_are_kept_apart() {
    let directory = lake();
    let out = directory.path().join("out");
    let mut first = transform(directory.path(), &["--threads=1"])
        .spawn()
        .unwrap();
    assert!(wait_until(&mut first, || !visible(&out).is_empty()));
    let text = fails(transform(directory.path(), &[]));
    assert!(
        text.contains(&format!(
            "another job (process {}) is writing to 'out'",
            first.id()
        )),
        "{text}"
    );
    let output = first.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = done(transform(directory.path(), &[]));
    assert!(text.contains("20 chunks were written before"), "{text}");
}

/// Does something to the input while a job reads it; its error.
fn meddled(change: impl FnOnce(&Path)) -> String {
    let directory = lake();
    let out = directory.path().join("out");
    let mut child = transform(directory.path(), &["--threads=1"])
        .spawn()
        .unwrap();
    assert!(wait_until(&mut child, || visible(&out).len() >= 2));
    change(&directory.path().join("lake/a.parquet"));
    let output = child.wait_with_output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(visible(&out).len() < CHUNKS);
    assert!(contents(&out.join("_lakefold/tmp")).is_empty());
    text
}

#[test]
fn an_input_that_changes_during_the_run_is_noticed() {
    let text = meddled(|file| {
        let other = file.with_file_name("other");
        write_table(&other.with_extension("parquet"), &rows(7, 5006));
        std::fs::rename(other.with_extension("parquet"), file).unwrap();
    });
    assert!(
        text.contains("a.parquet' changed while the job read it"),
        "{text}"
    );
    let text = meddled(|file| {
        let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
        file.set_len(1000).unwrap();
    });
    assert!(
        text.contains("a.parquet' changed while the job read it") && text.contains("now has 1000"),
        "{text}"
    );
    let text = meddled(|file| std::fs::remove_file(file).unwrap());
    assert!(
        text.contains("a.parquet' was removed while the job read it"),
        "{text}"
    );
}

#[test]
fn an_altered_manifest_is_not_trusted() {
    let directory = lake();
    let out = directory.path().join("out");
    done(transform(directory.path(), &[]));
    let reference = contents(&out);
    let manifest = out.join("_lakefold/manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    for altered in [
        text.replacen("\"rows\": 250", "\"rows\": 251", 1),
        text[..text.len() / 2].to_owned(),
        String::new(),
    ] {
        assert_ne!(altered, text);
        std::fs::write(&manifest, altered).unwrap();
        let message = fails(transform(directory.path(), &[]));
        assert!(
            message.contains("manifest.json' of the output was altered or damaged"),
            "{message}"
        );
    }
    done(transform(directory.path(), &["--overwrite"]));
    assert_eq!(contents(&out), reference);
}

#[test]
fn altered_and_lost_output_is_found() {
    let directory = lake();
    let out = directory.path().join("out");
    done(transform(directory.path(), &[]));
    let reference = contents(&out);
    let name = "a.00003-00003.parquet";
    let lost = out.join(name);
    std::fs::remove_file(&lost).unwrap();
    let text = done(transform(directory.path(), &[]));
    assert!(text.contains("250 rows in 1 chunk"), "{text}");
    assert_eq!(contents(&out), reference);
    // The size tells at once, a changed byte only on request.
    let mut bytes = reference[name].clone();
    bytes[100] ^= 1;
    std::fs::write(&lost, &bytes).unwrap();
    let message = fails(transform(directory.path(), &["--verify"]));
    assert!(
        message.contains("was altered after the job wrote it"),
        "{message}"
    );
    bytes.push(0);
    std::fs::write(&lost, &bytes).unwrap();
    let message = fails(transform(directory.path(), &[]));
    assert!(message.contains(name), "{message}");
    done(transform(directory.path(), &["--overwrite"]));
    assert_eq!(contents(&out), reference);
}

#[test]
fn files_of_others_are_not_mixed_in() {
    let directory = lake();
    let out = directory.path().join("out");
    write_table(&out.join("theirs.parquet"), "SELECT 1 AS a");
    let text = fails(transform(directory.path(), &[]));
    assert!(
        text.contains("no job wrote") && text.contains("'theirs.parquet'"),
        "{text}"
    );
    assert_eq!(visible(&out), ["theirs.parquet"]);
}
