//! What a commit does to the table.

use std::collections::BTreeSet;

use datafusion::common::{exec_datafusion_err, exec_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::parquet::file::metadata::ParquetMetaDataReader;
use deltalake::kernel::{Action, Add, Metadata, Protocol, StructType, new_metadata};
use deltalake::table::state::DeltaTableState;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::{Value, json};

use super::DeltaOutput;
use super::stats::statistics;
use crate::job::footers::footer_bytes;
use crate::job::manifest::{Manifest, Record};
use crate::job::plan::JobPlan;
use crate::partitions::key_values;

/// Footers read at the same time.
const CONCURRENT: usize = 16;

/// The actions of a commit, and the job's files afterwards.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) actions: Vec<Action>,
    pub(super) added: usize,
    pub(super) removed: usize,
    pub(super) rows: usize,
    pub(super) replaces: bool,
    pub(super) after: BTreeSet<String>,
    /// Of the table, if the commit creates it or says its columns anew.
    pub(super) id: Option<String>,
}

impl DeltaOutput {
    /// What is to be done so that the table, as it was last looked at, has the files of the manifest.
    ///
    /// # Errors
    /// When the table does not take them, others have rewritten what is to be removed, or a file is not
    /// there as it was written.
    pub(super) async fn change(&self, plan: &JobPlan, manifest: &Manifest) -> Result<Change> {
        self.check(plan)?;
        let wanted = &manifest.records;
        let replaces = self.replaces(plan);
        let added: Vec<&Record> = wanted
            .values()
            .filter(|record| !self.active.contains_key(&record.file))
            .filter(|record| replaces || !self.state.committed.contains(&record.file))
            .collect();
        let mut removed = Vec::new();
        if replaces {
            let names = self.active.keys();
            removed.extend(names.filter(|name| !wanted.contains_key(*name)));
        } else {
            for name in &self.state.committed {
                if !wanted.contains_key(name) {
                    if !self.active.contains_key(name) {
                        return self.rewritten(name, "of an earlier run");
                    }
                    removed.push(name);
                }
            }
        }
        removed.sort();
        let (mut actions, id) = self.table_actions(plan)?;
        let removes = removed
            .iter()
            .filter_map(|name| self.active.get(*name))
            .map(|view| Action::Remove(view.remove_action(true)));
        actions.extend(removes);
        let adds: Vec<Add> = futures::stream::iter(&added)
            .map(|record| self.add(plan, record))
            .boxed()
            .buffered(CONCURRENT)
            .try_collect()
            .await?;
        actions.extend(adds.into_iter().map(Action::Add));
        Ok(Change {
            actions,
            added: added.len(),
            removed: removed.len(),
            rows: added.iter().map(|record| record.rows).sum(),
            replaces,
            after: wanted.keys().cloned().collect(),
            id,
        })
    }

    /// Of a table that is created, or has other columns from now on.
    fn table_actions(&self, plan: &JobPlan) -> Result<(Vec<Action>, Option<String>)> {
        let columns = plan.delta_columns()?;
        let partitions = &plan.input.partitions.columns;
        let Some(table) = &self.table else {
            let mut metadata =
                as_json(&new_metadata(&columns, partitions, NO_SETTINGS).map_err(unmade)?)?;
            // If a commit of a process that died is still on its way, it is the same table.
            if let Some(id) = &self.state.table {
                metadata["id"] = id.clone().into();
            }
            let metadata: Metadata = from_json(metadata)?;
            let id = metadata.id().to_owned();
            let actions = vec![
                Action::Protocol(protocol(&columns)?),
                Action::Metadata(metadata),
            ];
            return Ok((actions, Some(id)));
        };
        if self.check_columns(table, plan).is_ok() {
            return Ok((Vec::new(), None));
        }
        check_times(table, &columns, self.place.text())?;
        let mut metadata = as_json(table.metadata())?;
        metadata["schemaString"] = as_json(&columns)?.to_string().into();
        metadata["partitionColumns"] = json!(partitions);
        let metadata: Metadata = from_json(metadata)?;
        let id = metadata.id().to_owned();
        Ok((vec![Action::Metadata(metadata)], Some(id)))
    }

    /// The action that adds a file, with what its footer says.
    async fn add(&self, plan: &JobPlan, record: &Record) -> Result<Add> {
        let name = &record.file;
        let text = self.place.text().trim_end_matches('/');
        let path = match self.location.prefix().as_ref() {
            "" => name.clone(),
            prefix => format!("{prefix}/{name}"),
        };
        let path = Path::parse(path).map_err(unmade)?;
        let failed = |error: DataFusionError| error.context(format!("cannot read '{text}/{name}'"));
        let meta = match self.store.head(&path).await {
            Ok(meta) if meta.size == record.bytes => meta,
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {
                return exec_err!(
                    "'{text}/{name}' was altered or removed before the table took it in, as a VACUUM with a \
                     short retention does: run the job again"
                );
            }
            Err(error) => return Err(failed(error.into())),
        };
        let footer = footer_bytes(self.store.as_ref(), &meta).await;
        let footer = ParquetMetaDataReader::decode_metadata(&footer.map_err(failed)?)
            .map_err(|error| failed(error.into()))?;
        let pairs = key_values(&Path::default(), &Path::parse(name).map_err(unmade)?);
        let columns = &plan.input.partitions.columns;
        let pairs = pairs.into_iter().filter(|(name, _)| columns.contains(name));
        Ok(Add {
            path: name.clone(),
            partition_values: pairs.collect(),
            size: i64::try_from(meta.size).unwrap_or(i64::MAX),
            modification_time: meta.last_modified.timestamp_millis(),
            data_change: true,
            stats: Some(statistics(&footer)?),
            ..Add::default()
        })
    }
}

const NO_SETTINGS: [(&str, &str); 0] = [];

/// What readers and writers of the table must know: as little as its columns allow.
fn protocol(columns: &StructType) -> Result<Protocol> {
    from_json(if has_local_times(columns) {
        json!({
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": [LOCAL_TIMES],
            "writerFeatures": [LOCAL_TIMES],
        })
    } else {
        json!({"minReaderVersion": 1, "minWriterVersion": 2})
    })
}

const LOCAL_TIMES: &str = "timestampNtz";

fn has_local_times(columns: &StructType) -> bool {
    deltalake::kernel::contains_timestampntz(columns.fields())
}

fn check_times(table: &DeltaTableState, columns: &StructType, text: &str) -> Result<()> {
    let features = table.protocol().writer_features().unwrap_or_default();
    let known = features
        .iter()
        .any(|feature| feature.to_string() == LOCAL_TIMES);
    if !has_local_times(columns) || known {
        return Ok(());
    }
    exec_err!(
        "the output has times without a zone, for which the Delta Lake table '{text}' lacks the feature \
         '{LOCAL_TIMES}': choose another output, or give them a zone in --select with \
         arrow_cast(…, 'Timestamp(Microsecond, Some(\"UTC\"))')"
    )
}

fn as_json(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(unmade)
}

fn from_json<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(unmade)
}

fn unmade(error: impl std::fmt::Display) -> DataFusionError {
    exec_datafusion_err!("the entry for the Delta Lake log cannot be made: {error}")
}
