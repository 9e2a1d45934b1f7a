//! `lakefold embed`.

use std::path::Path;
use std::process::{Command, Stdio};

use super::support::{contents, done, fails, lake, rows, value, visible, wait_until, write_table};
use crate::common::lakefold;

fn embed(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = lakefold();
    command
        .current_dir(directory)
        .args(["embed", "lake", "out", "--column=v", "--chunk-rows=250"])
        .args([
            "--n-neighbors=8",
            "--reg=0.1",
            "--solver=landmarks",
            "--n-landmarks=100",
        ])
        .args(arguments);
    command
}

#[test]
fn rows_get_the_embedding_of_the_fit_that_is_kept_beside_them() {
    let directory = lake();
    let out = directory.path().join("out");
    let text = done(embed(directory.path(), &["--n-components=2"]));
    assert!(text.contains("5,000 rows in 20 chunks"), "{text}");
    let wrong = value(&format!(
        "SELECT count(*) FROM '{0}/' WHERE
         embedding IS DISTINCT FROM lle_transform(v, '{0}/_lakefold/model.parquet')",
        out.display()
    ));
    assert_eq!(wrong, "0");
    // A landmarks fit places its rows as the fit itself does.
    let fitted = value(&format!(
        "SELECT count(*) FROM '{}/' o JOIN lle((SELECT id, v FROM '{}'), v, n_neighbors => 8,
         reg => 0.1, solver => 'landmarks', n_landmarks => 100) f ON o.id = f.id
         WHERE o.embedding IS DISTINCT FROM f.embedding",
        out.display(),
        directory.path().join("lake/a.parquet").display()
    ));
    assert_eq!(fitted, "0");
    // More rows do not move those that are there.
    let model = std::fs::read(out.join("_lakefold/model.parquet")).unwrap();
    write_table(&directory.path().join("lake/b.parquet"), &rows(6001, 6250));
    let text = done(embed(directory.path(), &["--n-components=2"]));
    assert!(text.contains("250 rows in 1 chunk "), "{text}");
    assert_eq!(
        std::fs::read(out.join("_lakefold/model.parquet")).unwrap(),
        model
    );
    let text = fails(embed(directory.path(), &["--n-components=1"]));
    assert!(text.contains("was fitted otherwise (fit was"), "{text}");
    done(embed(
        directory.path(),
        &["--n-components=1", "--overwrite"],
    ));
    assert_ne!(
        std::fs::read(out.join("_lakefold/model.parquet")).unwrap(),
        model
    );
}

#[test]
fn killed_while_it_fits_or_embeds_it_goes_on() {
    let directory = lake();
    let out = directory.path().join("out");
    done(embed(directory.path(), &[]));
    let reference = contents(&out);
    for chunks in [0, 1, 7] {
        std::fs::remove_dir_all(&out).unwrap();
        let mut child = embed(directory.path(), &[])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = || out.join("_lakefold/lock").exists() && visible(&out).len() >= chunks;
        assert!(wait_until(&mut child, begun));
        child.kill().unwrap();
        child.wait().unwrap();
        done(embed(directory.path(), &[]));
        assert_eq!(contents(&out), reference);
    }
}

#[test]
fn the_model_can_be_kept_elsewhere_and_must_not_change() {
    let directory = lake();
    let model = directory.path().join("m.parquet");
    done(embed(directory.path(), &["--model=m.parquet"]));
    assert!(model.exists());
    assert!(
        !directory
            .path()
            .join("out/_lakefold/model.parquet")
            .exists()
    );
    super::support::fit(&directory.path().join("lake/a.parquet"), &model, "--seed=5");
    let text = fails(embed(directory.path(), &["--model=m.parquet"]));
    assert!(
        text.contains("is not the one that 'out' was written with"),
        "{text}"
    );
    std::fs::remove_file(&model).unwrap();
    let text = fails(embed(directory.path(), &["--model=m.parquet"]));
    assert!(text.contains("no model file 'm.parquet'"), "{text}");
}

#[test]
fn invalid_rows_are_left_out_of_the_fit() {
    let directory = lake();
    let query = "SELECT value AS id, CASE WHEN value % 100 = 3 THEN make_array(1.0)
        WHEN value % 100 = 4 THEN make_array('inf'::double, 1.0, 1.0)
        ELSE make_array(cos(value * 0.013) * value, sin(value * 0.013) * value, 1.0) END AS v
        FROM generate_series(1, 2000)";
    write_table(&directory.path().join("lake/a.parquet"), query);
    let text = fails(embed(directory.path(), &[]));
    assert!(text.contains("row"), "{text}");
    let text = done(embed(directory.path(), &["--on-invalid=null"]));
    assert!(
        text.contains("40 rows with invalid vectors got NULL"),
        "{text}"
    );
}
