//! Killed at any moment, a job goes on where it stopped.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::support::{CHUNKS, contents, done, lake, transform, visible, wait_until};
use crate::common::stderr;

/// Every visible file is one of the uninterrupted run's, byte for byte.
fn assert_whole(out: &Path, reference: &BTreeMap<String, Vec<u8>>) -> usize {
    let files = contents(out);
    let visible = files.iter().filter(|(name, _)| !name.starts_with('_'));
    let mut count = 0;
    for (name, content) in visible {
        assert_eq!(Some(content), reference.get(name), "{name}");
        count += 1;
    }
    count
}

#[test]
fn killed_at_twenty_random_moments() {
    let directory = lake();
    let out = directory.path().join("out");
    let start = Instant::now();
    done(transform(directory.path(), &[]));
    let whole_run = start.elapsed();
    let reference = contents(&out);
    assert_eq!(visible(&out).len(), CHUNKS);
    // A linear congruential generator (Knuth's MMIX constants): moments differ, failures repeat.
    let mut random: u64 = 20_261_123;
    let (mut killed, mut between) = (0, 0);
    while killed < 20 {
        std::fs::remove_dir_all(&out).unwrap();
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let share = (random >> 11) as f64 / (1u64 << 53) as f64;
        let mut child = transform(directory.path(), &[])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(whole_run.mul_f64(share));
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            // It was faster than the first run; this one does not count.
            random = random.rotate_left(7);
            continue;
        }
        killed += 1;
        let done_before = assert_whole(&out, &reference);
        between += usize::from(done_before > 0 && done_before < CHUNKS);
        let text = done(transform(directory.path(), &[]));
        if done_before > 0 {
            assert!(text.contains(" written before"), "{text}");
        }
        assert_eq!(contents(&out), reference, "killed after {share} of the run");
    }
    assert!(
        between >= 3,
        "only {between} of 20 were killed amid the chunks"
    );
}

#[test]
fn killed_again_and_again_it_still_ends() {
    let directory = lake();
    let out = directory.path().join("out");
    done(transform(directory.path(), &[]));
    let reference = contents(&out);
    std::fs::remove_dir_all(&out).unwrap();
    let mut written = 0;
    while written < 15 {
        let mut child = transform(directory.path(), &[])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let goal = written + 3;
        wait_until(&mut child, || visible(&out).len() >= goal);
        child.kill().unwrap();
        child.wait().unwrap();
        written = assert_whole(&out, &reference);
    }
    done(transform(directory.path(), &[]));
    assert_eq!(contents(&out), reference);
}

#[test]
fn signals_leave_whole_chunks_and_nothing_aside() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let directory = lake();
        let out = directory.path().join("out");
        let mut child = transform(directory.path(), &["--threads", "1"])
            .spawn()
            .unwrap();
        assert!(wait_until(&mut child, || visible(&out).len() >= 2));
        let id = child.id().to_string();
        let kill = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(kill.success());
        let since = Instant::now();
        let output = child.wait_with_output().unwrap();
        assert!(since.elapsed() < Duration::from_secs(20));
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(
            text.contains("of 20 chunks of 'out' are written; the same command goes on"),
            "{text}"
        );
        let aside = contents(&out.join("_lakefold/tmp"));
        assert!(aside.is_empty(), "{:?}", aside.keys());
        let written = visible(&out).len();
        let text = done(transform(directory.path(), &[]));
        assert!(
            text.contains(&format!("{written} chunks were written before")),
            "{written}: {text}"
        );
        assert_eq!(visible(&out).len(), CHUNKS);
    }
}
