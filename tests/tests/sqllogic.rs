//! Runs tests/slt/*.slt in a Lakefold session.
//!
//! `LAKEFOLD_SLT_COMPLETE=1 cargo test --workspace --test sqllogic` writes the answers; read them before
//! you keep them.

use lakefold_tests::{Database, repository};

fn files() -> Vec<std::path::PathBuf> {
    let folder = repository().join("tests/slt");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "slt"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_give_the_recorded_answers() {
    let files = files();
    std::env::set_current_dir(repository()).unwrap();
    for file in files {
        let mut runner = sqllogictest::Runner::new(async || {
            Database::new().map_err(lakefold_tests::Message::from)
        });
        if std::env::var_os("LAKEFOLD_SLT_COMPLETE").is_some() {
            runner
                .update_test_file(
                    &file,
                    " ",
                    sqllogictest::default_validator,
                    sqllogictest::default_normalizer,
                    sqllogictest::default_column_validator,
                )
                .await
                .unwrap();
        } else if let Err(error) = runner.run_file_async(&file).await {
            panic!("{}:\n{}", file.display(), error.display(false));
        }
    }
}
