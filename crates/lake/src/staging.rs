//! An object store that keeps what is written aside until it may be seen.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart,
};
use tokio::sync::RwLock;

/// What a writer has been given is shown under its name by [`Staging::publish`], or removed by
/// [`Staging::discard`]. Reading, listing and deleting go straight to the store below.
#[derive(Debug)]
pub(crate) struct Staging {
    store: Arc<dyn ObjectStore>,
    /// Show each object as soon as it is whole.
    at_once: bool,
    /// Number chunks with leading zeros.
    padded: bool,
    uploads: Arc<Uploads>,
}

impl Staging {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, at_once: bool, padded: bool) -> Self {
        Self {
            store,
            at_once,
            padded,
            uploads: Arc::default(),
        }
    }

    /// Shows everything written.
    pub(crate) async fn publish(&self) -> Result<()> {
        for mut upload in self.uploads.take() {
            self.uploads.counted(upload.complete()).await?;
        }
        Ok(())
    }

    /// Removes what is not shown yet. Writers that are still at work get errors from now on.
    pub(crate) async fn discard(&self) {
        self.close();
        // Whoever is at it finishes first, so that nothing appears or is begun after this.
        let _alone = self.uploads.at_work.write().await;
        for mut upload in self.uploads.take() {
            // Nobody would see what is left, so the query's own error is the better one to report.
            let _ = upload.abort().await;
        }
    }

    /// As [`Self::discard`], for those who cannot wait. Local files are gone when this returns; an
    /// object store keeps parts of unfinished uploads until its lifecycle rules remove them.
    pub(crate) fn abandon(&self) {
        self.close();
        drop_at_once(self.uploads.take());
    }

    fn close(&self) {
        self.uploads.lock().closed = true;
    }

    /// Objects shown so far.
    pub(crate) fn published(&self) -> usize {
        self.uploads.lock().published
    }

    fn name(&self, location: &Path) -> Path {
        if self.padded {
            with_leading_zeros(location)
        } else {
            location.clone()
        }
    }
}

/// Every upload that has begun.
#[derive(Debug, Default)]
struct Uploads {
    state: Mutex<State>,
    /// Read by whoever begins or finishes an object.
    at_work: RwLock<()>,
}

#[derive(Debug, Default)]
struct State {
    slots: Vec<Slot>,
    published: usize,
    closed: bool,
}

/// Shared by the writer and [`Uploads`]; empty once shown or removed.
type Slot = Arc<Mutex<Option<Box<dyn MultipartUpload>>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves nothing half-done in here.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Refuses an upload that began while another thread closed the store, which nobody would end.
    fn add(&self, upload: Box<dyn MultipartUpload>) -> Result<Slot> {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            drop_at_once(vec![upload]);
            return Err(stopped());
        }
        let slot = Arc::new(Mutex::new(Some(upload)));
        state.slots.push(Arc::clone(&slot));
        Ok(slot)
    }

    fn check_open(&self) -> Result<()> {
        if self.lock().closed {
            Err(stopped())
        } else {
            Ok(())
        }
    }

    /// Counts an object that `publish` makes appear, from the start: where nobody waits for the end
    /// any more it appears all the same.
    async fn counted(&self, publish: impl Future<Output = Result<PutResult>>) -> Result<PutResult> {
        self.lock().published += 1;
        let result = publish.await;
        if result.is_err() {
            self.lock().published -= 1;
        }
        result
    }

    fn take(&self) -> Vec<Box<dyn MultipartUpload>> {
        let slots = std::mem::take(&mut self.lock().slots);
        slots.iter().filter_map(|slot| lock(slot).take()).collect()
    }
}

/// A local upload removes its file when it is dropped, but on a runtime's thread it only asks the
/// runtime to, and one that is about to shut down no longer does it.
fn drop_at_once(uploads: Vec<Box<dyn MultipartUpload>>) {
    if !uploads.is_empty() {
        // A panic in there is a file that stays; there is nobody left to tell.
        let _ = std::thread::spawn(move || drop(uploads)).join();
    }
}

fn stopped() -> Error {
    Error::Generic {
        store: "COPY",
        source: "the query that is written has failed".into(),
    }
}

/// Nothing is known of an object that nobody can see yet.
fn unseen() -> PutResult {
    PutResult {
        e_tag: None,
        version: None,
    }
}

/// One object, for its writer.
#[derive(Debug)]
struct StagedUpload {
    slot: Slot,
    at_once: bool,
    uploads: Arc<Uploads>,
}

#[async_trait]
impl MultipartUpload for StagedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match lock(&self.slot).as_mut() {
            Some(upload) => upload.put_part(data),
            None => Box::pin(std::future::ready(Err(stopped()))),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let _at_work = self.uploads.at_work.read().await;
        self.uploads.check_open()?;
        if !self.at_once {
            return Ok(unseen());
        }
        let mut upload = lock(&self.slot).take().ok_or_else(stopped)?;
        self.uploads.counted(upload.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        let upload = lock(&self.slot).take();
        match upload {
            Some(mut upload) => upload.abort().await,
            None => Ok(()),
        }
    }
}

impl fmt::Display for Staging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Staging {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if self.at_once {
            let _at_work = self.uploads.at_work.read().await;
            self.uploads.check_open()?;
            let name = self.name(location);
            let put = self.store.put_opts(&name, payload, options);
            return self.uploads.counted(put).await;
        }
        if options.mode != PutMode::Overwrite {
            return Err(Error::NotImplemented {
                operation: format!("{:?}", options.mode),
                implementer: self.to_string(),
            });
        }
        let options = PutMultipartOptions {
            tags: options.tags,
            attributes: options.attributes,
            extensions: options.extensions,
        };
        let mut upload = self.put_multipart_opts(location, options).await?;
        upload.put_part(payload).await?;
        upload.complete().await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let _at_work = self.uploads.at_work.read().await;
        self.uploads.check_open()?;
        let name = self.name(location);
        let upload = self.store.put_multipart_opts(&name, options).await?;
        Ok(Box::new(StagedUpload {
            slot: self.uploads.add(upload)?,
            at_once: self.at_once,
            uploads: Arc::clone(&self.uploads),
        }))
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

/// `DataFusion` names the chunks of a directory `{id}_{number}.{extension}`, so that by name chunk
/// 10 comes before chunk 2 for every reader but ours. With five digits it does not before there are
/// 100,000 of them.
fn with_leading_zeros(location: &Path) -> Path {
    padded(location.as_ref())
        .and_then(|name| Path::parse(name).ok())
        .unwrap_or_else(|| location.clone())
}

fn padded(path: &str) -> Option<String> {
    const DIGITS: usize = 5;
    let name = path.rsplit('/').next()?;
    let (id, rest) = name.split_once('_')?;
    let (number, extension) = rest.split_once('.')?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let directory = path.strip_suffix(name)?;
    Some(format!("{directory}{id}_{number:0>DIGITS$}.{extension}"))
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;
    use object_store::local::LocalFileSystem;
    use object_store::memory::InMemory;

    use super::*;

    async fn names(store: &dyn ObjectStore) -> Vec<String> {
        let objects: Vec<_> = store.list(None).try_collect().await.unwrap();
        let mut names: Vec<_> = objects.iter().map(|o| o.location.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn chunks_sort_by_name_as_by_number() {
        for (name, expected) in [
            ("a/b_c/x1_7.parquet", "a/b_c/x1_00007.parquet"),
            ("x1_123456.csv.gz", "x1_123456.csv.gz"),
            ("x1_0.json", "x1_00000.json"),
            ("year=2026/x1.parquet", "year=2026/x1.parquet"),
            ("x1_a.parquet", "x1_a.parquet"),
        ] {
            assert_eq!(
                with_leading_zeros(&Path::from(name)).as_ref(),
                expected,
                "{name}"
            );
        }
    }

    #[tokio::test]
    async fn nothing_is_seen_before_it_is_published() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        store.put(&"x".into(), "old".into()).await.unwrap();
        let staging = Staging::new(Arc::clone(&store), false, false);
        staging.put(&"x".into(), "new".into()).await.unwrap();
        let mut upload = staging.put_multipart(&"y".into()).await.unwrap();
        upload.put_part("more".into()).await.unwrap();
        upload.complete().await.unwrap();
        assert_eq!(
            (names(&store).await, staging.published()),
            (vec!["x".into()], 0)
        );
        let content = |name: &'static str| {
            let store = Arc::clone(&store);
            async move {
                store
                    .get(&name.into())
                    .await
                    .unwrap()
                    .bytes()
                    .await
                    .unwrap()
            }
        };
        assert_eq!(content("x").await, "old");
        staging.publish().await.unwrap();
        assert_eq!(
            (content("x").await, content("y").await),
            ("new".into(), "more".into())
        );
        assert_eq!(staging.published(), 2);
    }

    #[tokio::test]
    async fn files_of_abandoned_uploads_are_gone_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let local = LocalFileSystem::new_with_prefix(directory.path()).unwrap();
        let left = || std::fs::read_dir(directory.path()).unwrap().count();
        let staging = Staging::new(Arc::new(local), false, false);
        let mut upload = staging.put_multipart(&"x.csv".into()).await.unwrap();
        upload.put_part("part".into()).await.unwrap();
        assert_eq!(left(), 1);
        staging.abandon();
        assert_eq!(left(), 0);
        assert!(upload.put_part("late".into()).await.is_err());
        // One that began before the store was closed and arrives after it.
        let late = staging.store.put_multipart(&"y.csv".into()).await.unwrap();
        assert!(staging.uploads.add(late).is_err());
        assert_eq!(left(), 0);
    }

    #[tokio::test]
    async fn what_is_discarded_never_appears() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        for at_once in [false, true] {
            let staging = Staging::new(Arc::clone(&store), at_once, true);
            let mut upload = staging.put_multipart(&"x_1.csv".into()).await.unwrap();
            upload.put_part("part".into()).await.unwrap();
            staging.discard().await;
            assert!(upload.put_part("late".into()).await.is_err());
            assert!(upload.complete().await.is_err());
            assert!(staging.put(&"y".into(), "late".into()).await.is_err());
            staging.publish().await.unwrap();
            assert!(names(&store).await.is_empty());
        }
        let staging = Staging::new(Arc::clone(&store), true, true);
        staging
            .put(&"x_1.csv".into(), "whole".into())
            .await
            .unwrap();
        staging.discard().await;
        assert_eq!(names(&store).await, ["x_00001.csv"]);
    }
}
