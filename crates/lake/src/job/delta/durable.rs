//! The log on a local disk, written so that it survives a loss of power.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::job::output::LocalOutput;

/// The output's directory as a store. What is created only if nothing has its name, as commits are, is
/// on the disk before it is shown, and what a kill leaves of it is among the chunks that are aside.
#[derive(Debug)]
pub(super) struct DurableLog {
    store: PrefixStore<Arc<dyn ObjectStore>>,
    output: LocalOutput,
}

impl DurableLog {
    pub(super) fn new(store: PrefixStore<Arc<dyn ObjectStore>>, output: LocalOutput) -> Self {
        Self { store, output }
    }
}

impl fmt::Display for DurableLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, durably", LocalFileSystem::new())
    }
}

#[async_trait]
impl ObjectStore for DurableLog {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if options.mode != PutMode::Create {
            return self.store.put_opts(location, payload, options).await;
        }
        let content: Vec<u8> = payload.iter().flatten().copied().collect();
        match self.output.create(location.as_ref(), &content) {
            Ok(true) => Ok(PutResult {
                e_tag: None,
                version: None,
            }),
            Ok(false) => Err(Error::AlreadyExists {
                path: location.to_string(),
                source: "another writer has created it".into(),
            }),
            Err(error) => Err(Error::Generic {
                store: "LocalFileSystem",
                source: error.to_string().into(),
            }),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.store.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}
