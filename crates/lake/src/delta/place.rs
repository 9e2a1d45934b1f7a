//! Where a table is, or will be.

use std::sync::Arc;

use datafusion::common::{exec_datafusion_err, plan_datafusion_err};
use datafusion::error::{DataFusionError, Result};
use deltalake::DeltaTableError;
use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake::table::state::DeltaTableState;
use object_store::ObjectStore;
use object_store::prefix::PrefixStore;
use url::Url;

use crate::Location;

/// A directory with a Delta Lake table, or for one.
#[derive(Clone)]
pub(crate) struct DeltaPlace {
    pub(crate) log: LogStoreRef,
    text: String,
}

impl std::fmt::Debug for DeltaPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeltaPlace")
            .field("text", &self.text)
            .finish_non_exhaustive()
    }
}

impl DeltaPlace {
    /// In a store that is rooted where the location's URLs are.
    ///
    /// # Errors
    /// When the location has no URL.
    pub(crate) fn new(location: &Location, store: &Arc<dyn ObjectStore>) -> Result<Self> {
        let prefixed = PrefixStore::new(Arc::clone(store), location.prefix().clone());
        Self::with_writer(location, store, Arc::new(prefixed))
    }

    /// The same; the log is written through `prefixed`, which is rooted at the table.
    ///
    /// # Errors
    /// When the location has no URL.
    pub(crate) fn with_writer(
        location: &Location,
        store: &Arc<dyn ObjectStore>,
        prefixed: Arc<dyn ObjectStore>,
    ) -> Result<Self> {
        let url = table_url(location).ok_or_else(|| {
            plan_datafusion_err!("'{}' is no place for a Delta Lake table", location.text())
        })?;
        let options = StorageConfig::default();
        Ok(Self {
            log: default_logstore(prefixed, Arc::clone(store), &url, &options),
            text: location.text().to_owned(),
        })
    }

    /// As the user wrote it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The table in one of its versions, by default the newest; `None` if there is no table.
    ///
    /// # Errors
    /// When the log cannot be read, is damaged, has not that version, or needs a newer reader.
    pub(crate) async fn load(&self, version: Option<u64>) -> Result<Option<DeltaTableState>> {
        let is_table = self.log.is_delta_table_location().await;
        if !is_table.map_err(|error| self.unreadable(error, version))? {
            return Ok(None);
        }
        DeltaTableState::try_new(self.log.as_ref(), version)
            .await
            .map(Some)
            .map_err(|error| self.unreadable(error, version))
    }

    fn unreadable(&self, error: DeltaTableError, version: Option<u64>) -> DataFusionError {
        let what = match version {
            Some(version) => format!("cannot read version {version} of the Delta Lake table"),
            None => "cannot read the log of the Delta Lake table".to_owned(),
        };
        failed(&format!("{what} '{}'", self.text), error)
    }
}

/// The error of the log with what was tried.
pub(crate) fn failed(what: &str, error: DeltaTableError) -> DataFusionError {
    match error {
        DeltaTableError::ObjectStore { source } => {
            DataFusionError::from(source).context(what.to_owned())
        }
        other => exec_datafusion_err!("{what}: {other}"),
    }
}

/// Ends with a slash, as what is below it is joined to it.
fn table_url(location: &Location) -> Option<Url> {
    let mut url: Url = Url::parse(location.object_store_url().as_str()).ok()?;
    url.path_segments_mut()
        .ok()?
        .pop_if_empty()
        .extend(location.prefix().parts())
        .push("");
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_keep_every_letter_of_a_path() {
        for (text, wanted) in [
            ("/lake/my table", "file:///lake/my%20table/"),
            ("/lake/100%/", "file:///lake/100%25/"),
            ("s3://bucket/out", "s3://bucket/out/"),
            ("s3://bucket", "s3://bucket/"),
        ] {
            let location = Location::parse(text).unwrap();
            assert_eq!(table_url(&location).unwrap().as_str(), wanted);
        }
    }
}
