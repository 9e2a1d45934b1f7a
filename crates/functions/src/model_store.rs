//! Where model files are: paths and URLs, read once and kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, plan_err};
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt, PutPayload};

use crate::model_file::{StoredModel, decode};

/// A file in an object store.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    store: ObjectStoreUrl,
    path: Path,
    /// As the user wrote it.
    text: String,
}

impl Location {
    /// Of a model's path or URL.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Self::parse_kind(text, StoredModel::KIND)
    }

    /// Of a path or URL of a `kind` of file.
    fn parse_kind(text: &str, kind: &str) -> Result<Self> {
        if text.is_empty() || text.ends_with('/') {
            return plan_err!("{kind} must be the path or URL of a file, got '{text}'");
        }
        let url = ListingTableUrl::parse(text)?;
        if url.get_glob().is_some() {
            return plan_err!("{kind} must be one file, got the pattern '{text}'");
        }
        Ok(Self {
            store: url.object_store(),
            path: url.prefix().clone(),
            text: text.to_owned(),
        })
    }
}

/// Puts a model file in place, whole or not at all.
pub(crate) async fn write(
    location: &Location,
    payload: PutPayload,
    env: &RuntimeEnv,
) -> Result<()> {
    let store = env.object_store(&location.store)?;
    store.put(&location.path, payload).await.map_err(|error| {
        exec_datafusion_err!(
            "the model cannot be written to '{}': {error}",
            location.text
        )
    })?;
    Ok(())
}

/// What is kept of a file that a function reads whole: a model, or weights.
pub(crate) trait StoredFile: Sized {
    /// What such a file is, for errors.
    const KIND: &'static str;

    /// Several of them.
    const KINDS: &'static str;

    /// The error for a file that is not there.
    fn missing(text: &str) -> DataFusionError;

    /// Reads the file's bytes; `source` is its path or URL, for errors.
    fn decode(bytes: Bytes, source: &str) -> Result<Self>;
}

impl StoredFile for StoredModel {
    const KIND: &'static str = "model";
    const KINDS: &'static str = "models";

    fn missing(text: &str) -> DataFusionError {
        exec_datafusion_err!(
            "no model file '{text}': write it with lle_fit(…, model => '{text}') or `lakefold fit`"
        )
    }

    fn decode(bytes: Bytes, source: &str) -> Result<Self> {
        decode(bytes, source)
    }
}

/// Files by the text that names them, for as long as they do not change.
#[derive(Debug)]
pub(crate) struct FileCache<F> {
    files: Mutex<HashMap<String, Cached<F>>>,
}

#[derive(Debug)]
struct Cached<F> {
    meta: ObjectMeta,
    file: Arc<F>,
}

impl<F> Default for FileCache<F> {
    fn default() -> Self {
        Self {
            files: Mutex::default(),
        }
    }
}

impl<F: StoredFile> FileCache<F> {
    /// What was last loaded from `text`.
    pub(crate) fn get(&self, text: &str) -> Option<Arc<F>> {
        self.lock().get(text).map(|cached| Arc::clone(&cached.file))
    }

    /// Reads the file that `text`, a path or URL, names, unless it is known and unchanged by its ETag, size
    /// and time of modification.
    pub(crate) async fn load(&self, text: &str, env: &RuntimeEnv) -> Result<()> {
        let location = Location::parse_kind(text, F::KIND)?;
        let store = env.object_store(&location.store)?;
        let unreadable = |error: object_store::Error| match error {
            object_store::Error::NotFound { .. } => F::missing(text),
            other => exec_datafusion_err!("the {} '{text}' cannot be read: {other}", F::KIND),
        };
        let meta = store.head(&location.path).await.map_err(unreadable)?;
        if self
            .lock()
            .get(text)
            .is_some_and(|cached| cached.meta == meta)
        {
            return Ok(());
        }
        let found = store.get(&location.path).await.map_err(unreadable)?;
        let meta = found.meta.clone();
        let bytes = found.bytes().await.map_err(unreadable)?;
        let file = Arc::new(F::decode(bytes, text)?);
        self.lock().insert(text.to_owned(), Cached { meta, file });
        Ok(())
    }

    /// What was last loaded from `text`; if there is nothing, it is read from a local file.
    pub(crate) fn get_or_read(&self, text: &str) -> Result<Arc<F>> {
        if let Some(file) = self.get(text) {
            return Ok(file);
        }
        let kind = F::KIND;
        let location = Location::parse_kind(text, kind)?;
        if location.store != ObjectStoreUrl::local_filesystem() {
            return plan_err!(
                "the {kind} '{text}' was not loaded: only Lakefold's own session reads {} by URL while \
                 it plans a statement, elsewhere name a local file",
                F::KINDS
            );
        }
        let path = format!("/{}", location.path);
        let bytes = std::fs::read(path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                F::missing(text)
            } else {
                exec_datafusion_err!("the {kind} '{text}' cannot be read: {error}")
            }
        })?;
        // Not kept: nobody would notice when the file changes.
        Ok(Arc::new(F::decode(bytes.into(), text)?))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Cached<F>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Models by the text that names them, for as long as their files do not change.
#[derive(Debug, Default)]
pub struct ModelCache(FileCache<StoredModel>);

impl ModelCache {
    /// The SHA-256 of the contents of the model last loaded from `text`, which is its name.
    pub fn id(&self, text: &str) -> Option<String> {
        self.0.get(text).map(|model| model.id.clone())
    }

    /// Dimensions of the features that the model last loaded from `text` takes.
    pub fn dimensions(&self, text: &str) -> Option<usize> {
        self.0.get(text).map(|model| model.typed.dimensions())
    }

    /// Reads the model file that `text`, a path or URL, names, unless it is known and unchanged by its
    /// ETag, size and time of modification.
    ///
    /// # Errors
    /// For a file that is missing, truncated, altered, newer than this program, or no model at all.
    pub async fn load(&self, text: &str, env: &RuntimeEnv) -> Result<()> {
        self.0.load(text, env).await
    }

    /// The model last loaded from `text`; if there is none, it is read from a local file.
    pub(crate) fn get_or_read(&self, text: &str) -> Result<Arc<StoredModel>> {
        self.0.get_or_read(text)
    }
}
