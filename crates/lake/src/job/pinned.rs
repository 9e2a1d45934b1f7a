//! Reading the files that were planned with, and no others.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::not_impl_err;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use url::Url;

/// A store in which a known object is read only as long as it is the version that is known: a reader
/// that has one version's footer and another's pages may fail in any way, or give wrong rows.
#[derive(Debug)]
pub(crate) struct Pinned {
    store: Arc<dyn ObjectStore>,
    /// ETags by path.
    tags: HashMap<Path, String>,
}

impl Pinned {
    pub(crate) fn new<'a>(
        store: Arc<dyn ObjectStore>,
        known: impl Iterator<Item = &'a ObjectMeta>,
    ) -> Self {
        let tags = known.filter_map(|meta| Some((meta.location.clone(), meta.e_tag.clone()?)));
        Self {
            store,
            tags: tags.collect(),
        }
    }

    /// The environment with this in place of the store at `url`.
    pub(crate) fn within(self, env: &RuntimeEnv, url: &Url) -> RuntimeEnv {
        let registry = PinnedAt {
            url: url.clone(),
            store: Arc::new(self),
            others: Arc::clone(&env.object_store_registry),
        };
        RuntimeEnv {
            object_store_registry: Arc::new(registry),
            ..env.clone()
        }
    }
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Pinned {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.store.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let options = match self.tags.get(location) {
            Some(tag) => options.with_if_match(Some(tag)),
            None => options,
        };
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

#[derive(Debug)]
struct PinnedAt {
    url: Url,
    store: Arc<Pinned>,
    others: Arc<dyn ObjectStoreRegistry>,
}

impl ObjectStoreRegistry for PinnedAt {
    fn register_store(
        &self,
        _url: &Url,
        _store: Arc<dyn ObjectStore>,
    ) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn deregister_store(&self, url: &Url) -> datafusion::error::Result<Arc<dyn ObjectStore>> {
        not_impl_err!("a job cannot take away the store of {url}")
    }

    fn get_store(&self, url: &Url) -> datafusion::error::Result<Arc<dyn ObjectStore>> {
        let same = url.scheme() == self.url.scheme()
            && url.host() == self.url.host()
            && url.port() == self.url.port();
        if same {
            return Ok(Arc::clone(&self.store) as _);
        }
        self.others.get_store(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn another_version_is_not_read() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let (known, other) = (Path::from("a"), Path::from("b"));
        store.put(&known, "first".into()).await.unwrap();
        let meta = store.head(&known).await.unwrap();
        let pinned = Pinned::new(Arc::clone(&store), std::iter::once(&meta));
        let range = pinned.get_range(&known, 1..3).await.unwrap();
        assert_eq!(range, "ir");
        store.put(&known, "other".into()).await.unwrap();
        let error = pinned.get_ranges(&known, &[0..1, 2..3]).await.unwrap_err();
        assert!(
            matches!(error, object_store::Error::Precondition { .. }),
            "{error}"
        );
        store.put(&other, "any".into()).await.unwrap();
        assert!(pinned.get(&other).await.is_ok());
    }
}
