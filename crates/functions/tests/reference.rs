//! `docs/reference.md` is what the functions say of themselves, and its examples run.

use std::path::PathBuf;

use datafusion::prelude::SessionContext;
use lakefold_functions::{reference_markdown, register_all};

fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_page_is_up_to_date() {
    let path = workspace().join("docs/reference.md");
    let page = reference_markdown();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::create_dir_all(workspace().join("docs")).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/reference.md is out of date: run `make docs-reference`"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_run() {
    // Examples name files as a user at the top of the repository would.
    std::env::set_current_dir(workspace()).unwrap();
    let ctx = SessionContext::new().enable_url_table();
    register_all(&ctx).unwrap();
    let page = reference_markdown();
    let examples: Vec<&str> = page
        .split("```sql\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(examples.len() >= 8, "{} examples", examples.len());
    let statements = examples.iter().flat_map(|example| example.split(';'));
    for example in statements.filter(|statement| !statement.trim().is_empty()) {
        let batches = ctx
            .sql(example)
            .await
            .unwrap_or_else(|error| panic!("{example}\n{error}"));
        let batches = batches
            .collect()
            .await
            .unwrap_or_else(|error| panic!("{example}\n{error}"));
        assert!(
            batches.iter().any(|batch| batch.num_rows() > 0),
            "no rows: {example}"
        );
    }
}
