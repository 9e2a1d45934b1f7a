//! A word before COPY adds files to a directory that has some.

use datafusion::datasource::listing::ListingTableUrl;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::CopyToStatement;
use futures::StreamExt;

/// COPY names its files anew each time and deletes nothing, so writing twice into one directory
/// leaves the rows in it twice. That is `DataFusion`'s contract and is kept, but not silently.
pub(crate) async fn warn_of_existing_files(context: &SessionContext, copy: &CopyToStatement) {
    let Ok(target) = ListingTableUrl::parse(&copy.target) else {
        return;
    };
    let Ok(store) = context.runtime_env().object_store(&target) else {
        return;
    };
    // A name without an extension is a directory as well.
    if !target.is_collection() && target.file_extension().is_some() {
        return;
    }
    let existing = store
        .list(Some(target.prefix()))
        .filter(|file| std::future::ready(file.is_ok()));
    let existing = existing.count().await;
    if existing > 0 {
        tracing::warn!(
            "'{}' already holds {existing} file(s): COPY adds to them and replaces none, so reading \
             the directory will give old and new rows",
            copy.target
        );
    }
}
