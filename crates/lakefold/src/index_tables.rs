//! The tables that indexes are built on.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::plan_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::listing::ListingTable;
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::LogicalPlan;
use lakefold_functions::{
    INDEX_EXTENSION, IndexPlace, IndexedTable, TableDirectory, relation_inputs,
};
use lakefold_lake::{FilesTable, Location, register_store};
use object_store::path::Path;

use crate::errors::error_message;
use crate::indexes::IndexTable;
use crate::session::Session;

impl Session {
    /// Lists the files of a table.
    pub(crate) async fn indexed_table(&self, table: &IndexTable) -> Result<IndexedTable> {
        let state = self.context().state();
        let provider: Arc<dyn TableProvider> = match table {
            IndexTable::Named(name) => self.context().table_provider(name.clone()).await?,
            IndexTable::Path(path) => {
                let location = self.store_of(path)?;
                Arc::new(FilesTable::open(&state, &location).await?)
            }
        };
        let Some((directory, below)) = directory_of(provider.as_ref()) else {
            return plan_err!(
                "an index is built on Parquet files, which '{table}' is not: write it once with COPY (SELECT * FROM \
                 {table}) TO 'directory/', and index that"
            );
        };
        let name = table.to_string();
        IndexedTable::open(&state, provider.as_ref(), &name, directory, below).await
    }

    /// The place that a path or URL of an index file means.
    pub(crate) fn index_place(&self, path: &str) -> Result<IndexPlace> {
        let location = self.store_of(path)?;
        let has_extension = location.prefix().extension() == Some(INDEX_EXTENSION);
        if location.glob().is_some() || !has_extension {
            return plan_err!("an index file is named something.{INDEX_EXTENSION}, got '{path}'");
        }
        Ok(IndexPlace {
            store: location.object_store_url(),
            file: location.prefix().clone(),
        })
    }

    /// Where a path or URL leads, in a store that the session knows from now on, by the environment's credentials.
    fn store_of(&self, path: &str) -> Result<Location> {
        let location = Location::parse(path)?;
        register_store(self.context(), &location, &BTreeMap::new())?;
        Ok(location)
    }

    /// Looks for indexes beside the remote tables of a plan; local ones are found when they are needed.
    pub(crate) async fn find_remote_indexes(&self, plan: &LogicalPlan) -> Result<()> {
        let mut directories = Vec::new();
        add_remote_directories(plan, &mut directories)?;
        if directories.is_empty() {
            return Ok(());
        }
        let (catalog, env) = (self.index_catalog()?, self.context().runtime_env());
        for directory in directories {
            if let Err(error) = catalog.refresh(&directory, &env).await {
                tracing::debug!("no indexes were looked for: {}", error_message(&error));
            }
        }
        Ok(())
    }
}

/// Those of tables in the arguments of functions in FROM included.
fn add_remote_directories(plan: &LogicalPlan, found: &mut Vec<TableDirectory>) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
        {
            for input in relation_inputs(provider.as_ref()) {
                add_remote_directories(input, found)?;
            }
            let directory = directory_of(provider.as_ref());
            let remote = directory.filter(|(directory, _)| !directory.is_local());
            found.extend(remote.map(|(directory, _)| directory));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// The directory of a table of files, and what of it the table is.
pub(crate) fn directory_of(provider: &dyn TableProvider) -> Option<(TableDirectory, String)> {
    if let Some(table) = provider.downcast_ref::<FilesTable>() {
        let location = table.location();
        let glob = location.glob().map(|glob| glob.as_str().to_owned());
        return Some(split(
            location.object_store_url(),
            location.prefix(),
            location.is_directory(),
            glob,
        ));
    }
    let table = provider.downcast_ref::<ListingTable>()?;
    let [url] = table.table_paths().as_slice() else {
        return None;
    };
    let glob = url.get_glob().as_ref().map(|glob| glob.as_str().to_owned());
    // What CREATE EXTERNAL TABLE makes of a directory's name.
    let glob = glob.filter(|glob| glob != "*.parquet");
    let is_directory = url.is_collection() || url.get_glob().is_some();
    Some(split(url.object_store(), url.prefix(), is_directory, glob))
}

fn split(
    store: ObjectStoreUrl,
    prefix: &Path,
    is_directory: bool,
    glob: Option<String>,
) -> (TableDirectory, String) {
    if let Some(glob) = glob {
        let path = prefix.clone();
        return (TableDirectory { store, path }, glob);
    }
    // A directory of an object store may be written without its slash; a file of Parquet has an extension.
    let is_remote = store != ObjectStoreUrl::local_filesystem();
    if is_directory || (is_remote && prefix.extension().is_none()) {
        let path = prefix.clone();
        return (TableDirectory { store, path }, String::new());
    }
    let mut parts: Vec<_> = prefix.parts().collect();
    let name = parts.pop().map(|name| name.as_ref().to_owned());
    let path = parts.into_iter().collect();
    (TableDirectory { store, path }, name.unwrap_or_default())
}
