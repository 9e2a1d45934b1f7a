//! Object stores that a session makes when a URL first asks for one.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry};
use object_store::ObjectStore;
use url::Url;

use crate::job::store;

/// Knows local files, the stores that were registered, and those of any URL of a scheme that
/// [`register_store`](crate::register_store) knows: with credentials from the environment, made when they are first
/// asked for.
///
/// ```
/// use std::sync::Arc;
///
/// use datafusion::execution::runtime_env::RuntimeEnvBuilder;
/// use lakefold_lake::StoresFromEnvironment;
///
/// # fn main() -> datafusion::error::Result<()> {
/// let env = RuntimeEnvBuilder::new()
///     .with_object_store_registry(Arc::new(StoresFromEnvironment::default()))
///     .build_arc()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct StoresFromEnvironment {
    known: DefaultObjectStoreRegistry,
}

impl ObjectStoreRegistry for StoresFromEnvironment {
    fn register_store(
        &self,
        url: &Url,
        store: Arc<dyn ObjectStore>,
    ) -> Option<Arc<dyn ObjectStore>> {
        self.known.register_store(url, store)
    }

    fn deregister_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        self.known.deregister_store(url)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        if let Ok(known) = self.known.get_store(url) {
            return Ok(known);
        }
        // Kept, so that its connections are.
        let mut root = url.clone();
        root.set_path("/");
        let made = store(&root, &BTreeMap::new())?;
        self.known.register_store(&root, Arc::clone(&made));
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn stores_are_made_once_and_what_was_registered_stays() {
        let stores = StoresFromEnvironment::default();
        let made = stores.get_store(&url("s3://bucket/a/b.parquet")).unwrap();
        assert!(made.to_string().contains("bucket"), "{made}");
        let again = stores.get_store(&url("s3://bucket/c")).unwrap();
        assert!(Arc::ptr_eq(&made, &again));
        let own: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        stores.register_store(&url("s3://own"), Arc::clone(&own));
        let found = stores.get_store(&url("s3://own/x")).unwrap();
        assert!(Arc::ptr_eq(&own, &found));
        assert!(stores.get_store(&url("file:///tmp/x")).is_ok());
    }

    #[test]
    fn a_scheme_that_is_not_known_is_an_error_that_says_which_are() {
        let error = StoresFromEnvironment::default().get_store(&url("ftp://host/x"));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("no store is known for 'ftp://'"), "{error}");
    }
}
