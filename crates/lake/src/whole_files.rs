//! Files appear whole or not at all.
//!
//! `DataFusion`'s file sinks take the end of their input for success: when a query fails, the files
//! that they have open are finished and put in place, over whatever was there. Here the sink's input
//! never ends when the query fails, and its output goes through a [`Staging`] store.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{config::ConfigOptions, not_impl_err};
use datafusion::datasource::file_format::csv::CsvSink;
use datafusion::datasource::file_format::json::JsonSink;
use datafusion::datasource::file_format::parquet::ParquetSink;
use datafusion::datasource::physical_plan::{FileSink, FileSinkConfig};
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use futures::StreamExt;
use futures::channel::oneshot;
use futures::future::{Either, select};
use object_store::ObjectStore;
use url::Url;

use crate::staging::Staging;

/// Makes COPY and INSERT write Parquet, CSV and JSON files whole or not at all: a statement that
/// fails or is cancelled leaves a single file as it was and no unfinished chunk in a directory.
/// Chunks of Parquet appear one by one, and those that were finished stay; chunks of CSV and JSON
/// appear together at the end. Chunks are numbered with leading zeros.
///
/// It belongs at the end of the physical optimizer rules.
#[derive(Debug, Default, Clone, Copy)]
pub struct WriteWholeFiles;

impl PhysicalOptimizerRule for WriteWholeFiles {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some((plan, config)) = node
                .downcast_ref::<DataSinkExec>()
                .and_then(|plan| Some((plan, file_config(plan.sink())?)))
            else {
                return Ok(Transformed::no(node));
            };
            let sink = WholeFileSink {
                config: config.clone(),
                plan: plan.clone(),
            };
            Ok(Transformed::yes(Arc::new(DataSinkExec::new(
                Arc::clone(plan.input()),
                Arc::new(sink),
                plan.sort_order().clone(),
            ))))
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "write_whole_files"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// `None` for what writes no files, or not through a sink that is known here.
fn file_config(sink: &dyn DataSink) -> Option<&FileSinkConfig> {
    let parquet = || sink.downcast_ref::<ParquetSink>().map(FileSink::config);
    let csv = || sink.downcast_ref::<CsvSink>().map(FileSink::config);
    let json = || sink.downcast_ref::<JsonSink>().map(FileSink::config);
    parquet().or_else(csv).or_else(json)
}

struct WholeFileSink {
    config: FileSinkConfig,
    /// Its sink does the writing, and is to be had in no other way.
    plan: DataSinkExec,
}

impl WholeFileSink {
    fn staging(&self, context: &TaskContext) -> Result<Staging> {
        let store = context
            .runtime_env()
            .object_store(&self.config.object_store_url)?;
        let target = self.config.table_paths.first();
        let is_one_file = self.config.table_partition_cols.is_empty()
            && target.is_some_and(|path| self.config.file_output_mode.single_file_output(path));
        // The other sinks hold all their files open until the end, and finish them even if one fails.
        let at_once = !is_one_file && self.plan.sink().is::<ParquetSink>();
        Ok(Staging::new(store, at_once, !is_one_file))
    }
}

impl fmt::Debug for WholeFileSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.plan.sink(), f)
    }
}

impl DisplayAs for WholeFileSink {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.sink().fmt_as(format, f)
    }
}

#[async_trait]
impl DataSink for WholeFileSink {
    fn metrics(&self) -> Option<MetricsSet> {
        self.plan.sink().metrics()
    }

    fn schema(&self) -> &SchemaRef {
        self.plan.sink().schema()
    }

    async fn write_all(
        &self,
        data: SendableRecordBatchStream,
        context: &Arc<TaskContext>,
    ) -> Result<u64> {
        let staging = Arc::new(self.staging(context)?);
        let context = Arc::new(with_store(context, staging.clone()));
        let (data, failure) = endless_on_failure(data);
        let write = pin!(self.plan.sink().write_all(data, &context));
        // Dropped before the write, whose tasks could otherwise take the end of their input for
        // success when the statement is cancelled.
        let mut guard = AbandonOnDrop {
            staging: &staging,
            target: &self.config.original_url,
            done: false,
        };
        let result = match select(write, failure).await {
            Either::Left((result, _)) => result,
            Either::Right((Ok(error), _)) => Err(error),
            Either::Right((Err(oneshot::Canceled), write)) => write.await,
        };
        match result {
            Ok(rows) => {
                staging.publish().await?;
                guard.done = true;
                Ok(rows)
            }
            Err(error) => {
                staging.discard().await;
                Err(error)
            }
        }
    }
}

struct AbandonOnDrop<'a> {
    staging: &'a Staging,
    target: &'a str,
    done: bool,
}

impl Drop for AbandonOnDrop<'_> {
    fn drop(&mut self) {
        self.staging.abandon();
        let files = self.staging.published();
        if !self.done && files > 0 {
            tracing::warn!(
                "writing to '{}' stopped early: {files} file(s) that were finished are still there",
                self.target
            );
        }
    }
}

/// The same batches, but after an error nothing more comes, not even the end; the error goes to the
/// receiver.
fn endless_on_failure(
    data: SendableRecordBatchStream,
) -> (
    SendableRecordBatchStream,
    oneshot::Receiver<DataFusionError>,
) {
    let (sender, failure) = oneshot::channel();
    let schema = data.schema();
    let mut sender = Some(sender);
    let batches = data.then(move |batch| match batch {
        Ok(batch) => Either::Left(std::future::ready(Ok(batch))),
        Err(error) => {
            // Fails only when nobody waits for the result any more.
            let _ = sender.take().map(|sender| sender.send(error));
            Either::Right(std::future::pending())
        }
    });
    (
        Box::pin(RecordBatchStreamAdapter::new(schema, batches)),
        failure,
    )
}

/// The context with `store` in place of every store: a sink writes to one.
fn with_store(context: &TaskContext, store: Arc<dyn ObjectStore>) -> TaskContext {
    let runtime = RuntimeEnv {
        object_store_registry: Arc::new(OnlyStore(store)),
        ..context.runtime_env().as_ref().clone()
    };
    TaskContext::new(
        context.task_id(),
        context.session_id(),
        context.session_config().clone(),
        context.scalar_functions().clone(),
        context.higher_order_functions().clone(),
        context.aggregate_functions().clone(),
        context.window_functions().clone(),
        Arc::new(runtime),
    )
}

#[derive(Debug)]
struct OnlyStore(Arc<dyn ObjectStore>);

impl ObjectStoreRegistry for OnlyStore {
    fn register_store(
        &self,
        _url: &Url,
        _store: Arc<dyn ObjectStore>,
    ) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn deregister_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        not_impl_err!("a sink cannot take away the store of {url}")
    }

    fn get_store(&self, _url: &Url) -> Result<Arc<dyn ObjectStore>> {
        Ok(Arc::clone(&self.0))
    }
}
