//! Indexes in object stores.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};

use super::knn::{AS_SMALL, planned};
use super::*;

const TABLE: &str = "'memory://bucket/t/'";

/// A store with files of the table [`TABLE`].
struct Remote {
    lake: TempDir,
    store: Arc<dyn ObjectStore>,
}

impl Remote {
    async fn with(files: &[&str]) -> Self {
        Self::of(Arc::new(InMemory::new()), files).await
    }

    async fn of(store: Arc<dyn ObjectStore>, files: &[&str]) -> Self {
        let (lake, _) = lake(&session()).await;
        let remote = Self { lake, store };
        for name in files {
            remote.put(name).await;
        }
        remote
    }

    /// Adds a file of the local lake.
    async fn put(&self, name: &str) {
        let bytes = std::fs::read(self.lake.path().join(name)).unwrap();
        let path = Path::from(format!("t/{name}"));
        self.store.put(&path, bytes.into()).await.unwrap();
    }

    /// The names of the files in the directory of indexes.
    async fn indexes(&self) -> Vec<String> {
        let directory = Path::from("t/.lakefold");
        let found: Vec<_> = self
            .store
            .list(Some(&directory))
            .try_collect()
            .await
            .unwrap();
        let names = found.iter().filter_map(|file| file.location.filename());
        names.map(str::to_owned).collect()
    }

    /// A session that knows the store.
    fn session(&self) -> Session {
        let session = session();
        let url = ObjectStoreUrl::parse("memory://bucket").unwrap();
        let env = session.runtime_env();
        env.register_object_store(url.as_ref(), Arc::clone(&self.store));
        session
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_is_put_beside_its_table() {
    let remote = Remote::with(&["a.parquet", "b.parquet"]).await;
    let session = remote.session();
    run(
        &session,
        &format!("CREATE INDEX i ON {TABLE} USING hnsw (v) INCLUDE (id)"),
    )
    .await;
    let sql = format!(
        "SELECT id FROM {TABLE} WHERE grp <> 2 ORDER BY array_distance(v, [0.25, -0.5, 0.125, 1.5]) LIMIT 4"
    );
    assert!(answer(&session, &sql).await.1);
    let fresh = remote.session();
    assert!(answer(&fresh, &sql).await.1);
    assert!(run(&fresh, "SHOW INDEXES").await.contains("valid"));
    remote.put("c.parquet").await;
    assert!(!answer(&session, &sql).await.1);
    assert!(
        run(&session, "SHOW INDEXES")
            .await
            .contains("c.parquet' was added")
    );
    run(&session, &format!("REINDEX TABLE {TABLE}")).await;
    assert!(answer(&session, &sql).await.1);
    run(&session, "DROP INDEX i").await;
    assert!(!answer(&session, &sql).await.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pairs_are_found_through_an_index() {
    let remote = Remote::with(&["a.parquet"]).await;
    index(&remote.session(), "i", TABLE, SMALL).await;
    for call in [
        format!("knn({TABLE}, id, v, {AS_SMALL})"),
        format!("knn_join({TABLE}, id, v, (SELECT id, v FROM {TABLE}), id, v, {AS_SMALL})"),
    ] {
        let sql = format!("SELECT * FROM {call} WHERE id < 20");
        let plan = planned(&remote.session(), &sql).await;
        assert!(plan.contains("(index=i, "), "{plan}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_builder_at_a_time_and_no_lock_left() {
    let remote = Remote::with(&["a.parquet", "b.parquet"]).await;
    let session = remote.session();
    let create = format!("CREATE INDEX i ON {TABLE} USING hnsw (v) WITH ({SMALL})");
    let lock = Path::from("t/.lakefold/i.hnsw.lock");
    let held = "process 7 of another, since 1";
    remote.store.put(&lock, held.into()).await.unwrap();
    let message = failure(&session, &create).await;
    assert!(
        message.contains("another builder (process 7 of another, since 1) is writing the index")
            && message.contains(
                "remove the lock that it left, 'memory://bucket/t/.lakefold/i.hnsw.lock'"
            ),
        "{message}"
    );
    assert_eq!(remote.indexes().await, ["i.hnsw.lock"]);
    remote.store.delete(&lock).await.unwrap();
    run(&session, &create).await;
    assert_eq!(remote.indexes().await, ["i.hnsw"]);

    let (first, second) = (remote.session(), remote.session());
    let reindex = format!("REINDEX TABLE {TABLE}");
    let both = tokio::join!(first.sql(&reindex), second.sql(&reindex));
    assert!(both.0.is_ok() || both.1.is_ok());
    for error in [both.0.err(), both.1.err()].into_iter().flatten() {
        assert!(error_message(&error).contains("another builder"), "{error}");
    }
    assert_eq!(remote.indexes().await, ["i.hnsw"]);

    // A build that fails leaves none, and nobody drops what is being built.
    let bad = format!("CREATE INDEX bad ON {TABLE} USING hnsw (grp)");
    failure(&session, &bad).await;
    assert_eq!(remote.indexes().await, ["i.hnsw"]);
    remote.store.put(&lock, held.into()).await.unwrap();
    let removal = "DROP INDEX i";
    assert!(
        failure(&session, removal)
            .await
            .contains("another builder (process 7")
    );
    remote.store.delete(&lock).await.unwrap();
    run(&session, removal).await;
    assert!(remote.indexes().await.is_empty());
}

/// Without conditional puts, as some servers are.
#[derive(Debug)]
struct Plain(InMemory);

impl std::fmt::Display for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Plain {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if options.mode != PutMode::Overwrite {
            return Err(Error::NotImplemented {
                operation: format!("{:?}", options.mode),
                implementer: self.to_string(),
            });
        }
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_conditional_puts_has_indexes_without_locks() {
    let remote = Remote::of(Arc::new(Plain(InMemory::new())), &["a.parquet"]).await;
    let session = remote.session();
    index(&session, "i", TABLE, SMALL).await;
    assert_eq!(remote.indexes().await, ["i.hnsw"]);
    run(&session, "DROP INDEX i").await;
    assert!(remote.indexes().await.is_empty());
}
