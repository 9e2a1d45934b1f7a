//! The ladder of crates: dependencies point down only, and the kernels know nothing of Arrow, DataFusion or tokio.

use std::process::Command;

use serde_json::Value;

/// From the ground up. A crate may depend on crates of lower rungs only, for its tests too.
const LADDER: [&[&str]; 6] = [
    &["lakefold-manifold", "lakefold-attention"],
    &["lakefold-functions"],
    &["lakefold-lake"],
    &["lakefold"],
    &["lakefold-cli"],
    &["lakefold-tests", "lakefold-benches"],
];

/// Whoever depends on one of these, directly or not, is no kernel.
const HOSTS: [&str; 5] = ["arrow", "datafusion", "object_store", "parquet", "tokio"];

fn rung(name: &str) -> Option<usize> {
    LADDER.iter().position(|rung| rung.contains(&name))
}

fn cargo(arguments: &[&str]) -> String {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(program)
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

#[test]
fn dependencies_point_down_the_ladder() {
    let metadata: Value = serde_json::from_str(&cargo(&[
        "metadata",
        "--no-deps",
        "--format-version=1",
        "--locked",
    ]))
    .expect("cargo metadata writes JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    assert!(packages.len() >= 8, "only {} packages", packages.len());
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let own =
            rung(name).unwrap_or_else(|| panic!("give the crate {name} a rung in tests/ladder.rs"));
        for dependency in package["dependencies"].as_array().expect("a list") {
            let below = dependency["name"].as_str().expect("a name");
            if let Some(other) = rung(below) {
                assert!(
                    other < own,
                    "{name} must not depend on {below}: the ladder points down only"
                );
            }
        }
    }
}

#[test]
fn kernels_know_nothing_of_their_hosts() {
    for kernel in LADDER[0] {
        // Normal and build dependencies, however far down; `--prefix none` prints a crate a line.
        let tree = cargo(&[
            "tree",
            "--locked",
            "--package",
            kernel,
            "--edges",
            "normal,build",
            "--prefix",
            "none",
        ]);
        assert!(
            tree.contains("thiserror"),
            "unexpected output of cargo tree: {tree}"
        );
        for line in tree.lines() {
            let name = line.split(' ').next().unwrap_or_default();
            let host = HOSTS
                .iter()
                .find(|host| name == **host || name.starts_with(&format!("{host}-")));
            assert!(host.is_none(), "{kernel} depends on {name}");
        }
    }
}
