//! Dropping a query's stream stops the fit that runs for it.

use std::sync::Arc;
use std::time::Duration;

use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use futures::StreamExt;
use lakefold_functions::manifold::{Diagnostics, Phase};
use lakefold_functions::{FitReporter, FitReporterHandle};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::support::{register, roll_batch, session};

#[derive(Debug, PartialEq)]
enum Event {
    Started,
    Finished,
    Failed,
}

#[derive(Debug)]
struct Announce(UnboundedSender<Event>);

impl FitReporter for Announce {
    fn started(&self, _rows: usize) {
        let _ = self.0.send(Event::Started);
    }
    fn progress(&self, _phase: Phase, _done: u64, _total: u64) {}
    fn finished(&self, _diagnostics: &Diagnostics) {
        let _ = self.0.send(Event::Finished);
    }
    fn ended(&self) {
        let _ = self.0.send(Event::Failed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_stream_stops_the_fit() {
    dropping_the_stream_stops("SELECT lle_embed(x, 2, 30) OVER () FROM t").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_stream_stops_the_measurement() {
    dropping_the_stream_stops("SELECT * FROM embedding_quality(t, x, x, sample_size => 60000)")
        .await;
}

async fn dropping_the_stream_stops(sql: &str) {
    let (sender, mut events) = unbounded_channel();
    let handle = FitReporterHandle(Arc::new(Announce(sender)));
    let ctx = session(SessionConfig::new().with_extension(Arc::new(handle)));
    // Seconds of work in any build, if nothing stopped it.
    register(&ctx, vec![vec![roll_batch(60_000)]]);
    let frame = ctx.sql(sql).await.unwrap();
    let plan = frame.create_physical_plan().await.unwrap();
    let pool = Arc::clone(&ctx.runtime_env().memory_pool);

    let mut stream = execute_stream(plan, ctx.task_ctx()).unwrap();
    tokio::select! {
        _ = stream.next() => panic!("{sql} ended before it could be cancelled"),
        event = events.recv() => assert_eq!(event, Some(Event::Started)),
    }
    drop(stream);
    let end = tokio::time::timeout(Duration::from_mins(1), events.recv())
        .await
        .unwrap();
    assert_eq!(end, Some(Event::Failed));
    // The blocking task gives its memory back as it ends, a moment after it reports.
    for _ in 0..100 {
        if pool.reserved() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} bytes are still reserved", pool.reserved());
}
