//! Memory limits and progress.

use std::sync::{Arc, Mutex};

use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use lakefold_functions::manifold::{Diagnostics, Phase};
use lakefold_functions::{FitReporter, FitReporterHandle, register_all};

use crate::support::{error, query, register, roll_batch};

fn limited(bytes: usize, config: SessionConfig) -> SessionContext {
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_limit(bytes, 1.0)
        .build_arc()
        .unwrap();
    let ctx = SessionContext::new_with_config_rt(config, runtime);
    register_all(&ctx).unwrap();
    ctx
}

#[tokio::test]
async fn a_limit_too_small_names_need_limit_and_remedy() {
    for (kib, subject, remedy) in [
        // The input alone is 5,000 rows of 3 numbers and more.
        (
            20,
            "lle_embed: no memory for one more batch of the input",
            "fewer columns in the query",
        ),
        (
            700,
            "lle_embed of column x on 5000 rows x 3: no memory for ",
            "fewer n_neighbors",
        ),
    ] {
        let ctx = limited(kib << 10, SessionConfig::new());
        register(&ctx, vec![vec![roll_batch(5000)]]);
        let message = error(&ctx, "SELECT id, lle_embed(x, 2) OVER () FROM t").await;
        for part in [
            "Resources exhausted",
            subject,
            " already held: it needs at least ",
            " in all, the limit is ",
            "try a higher memory limit, fewer rows (WHERE or a sample), or ",
            remedy,
        ] {
            assert!(message.contains(part), "{kib} KiB: {part}: {message}");
        }
        assert_eq!(ctx.runtime_env().memory_pool.reserved(), 0);
    }
}

#[tokio::test]
async fn measuring_needs_its_sample_in_memory_and_no_more() {
    let sql = "SELECT measured_rows FROM embedding_quality(t, x, x, sample_size => 1000)";
    let ctx = limited(30 << 10, SessionConfig::new());
    register(&ctx, vec![vec![roll_batch(5000)]]);
    let message = error(&ctx, sql).await;
    for part in [
        "embedding_quality: no memory for the sample of features to measure, which takes about ",
        "features of fewer dimensions",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(ctx.runtime_env().memory_pool.reserved(), 0);

    // The limit is less than the rows take, and than distances between all of them would.
    let ctx = limited(2 << 20, SessionConfig::new());
    let batches = (0..100).map(|_| roll_batch(5000)).collect();
    register(&ctx, vec![batches]);
    query(&ctx, sql).await.unwrap();
    assert_eq!(ctx.runtime_env().memory_pool.reserved(), 0);
}

#[tokio::test]
async fn memory_is_given_back() {
    let ctx = limited(256 << 20, SessionConfig::new().with_batch_size(100));
    register(&ctx, vec![vec![roll_batch(1000)]]);
    for over in ["", "PARTITION BY grp"] {
        let sql = format!("SELECT id, lle_embed(x, 2) OVER ({over}) FROM t");
        assert_eq!(query(&ctx, &sql).await.unwrap().num_rows(), 1000);
        assert_eq!(ctx.runtime_env().memory_pool.reserved(), 0);
    }
}

#[derive(Debug, Default)]
struct Record(Mutex<Vec<String>>);

impl Record {
    fn note(&self, event: String) {
        self.0.lock().unwrap().push(event);
    }
}

impl FitReporter for Record {
    fn started(&self, rows: usize) {
        self.note(format!("started {rows}"));
    }
    fn progress(&self, phase: Phase, done: u64, total: u64) {
        if done == total {
            self.note(phase.to_string());
        }
    }
    fn finished(&self, diagnostics: &Diagnostics) {
        self.note(format!("finished {}", diagnostics.distinct_rows));
    }
    fn ended(&self) {
        self.note("failed".to_owned());
    }
}

#[tokio::test]
async fn a_reporter_hears_of_every_fit() {
    let record = Arc::new(Record::default());
    let handle = FitReporterHandle(Arc::clone(&record) as Arc<dyn FitReporter>);
    let ctx = limited(
        256 << 20,
        SessionConfig::new().with_extension(Arc::new(handle)),
    );
    register(&ctx, vec![vec![roll_batch(200)]]);
    query(&ctx, "SELECT lle_embed(x, 2) OVER () FROM t")
        .await
        .unwrap();
    let events = std::mem::take(&mut *record.0.lock().unwrap());
    assert_eq!(events.first().unwrap(), "started 200");
    assert_eq!(events.last().unwrap(), "finished 200");
    assert!(
        events.iter().any(|event| event == Phase::Neighbors.name()),
        "{events:?}"
    );

    error(&ctx, "SELECT lle_embed(x, 2, 500) OVER () FROM t").await;
    let events = std::mem::take(&mut *record.0.lock().unwrap());
    assert_eq!(
        (events[0].as_str(), events.last().unwrap().as_str()),
        ("started 200", "failed")
    );

    query(&ctx, "SELECT lle_embed(x, 2) OVER () FROM t WHERE id < 0")
        .await
        .unwrap();
    assert!(record.0.lock().unwrap().is_empty());
}
