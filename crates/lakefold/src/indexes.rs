//! Indexes of a session's tables.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{TableReference, exec_err, plan_datafusion_err, plan_err};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::listing::ListingTable;
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::LogicalPlan;
use lakefold_functions::manifold::{HnswOptions, Metric};
use lakefold_functions::{
    BuiltIndex, FoundIndex, INDEX_EXTENSION, IndexCatalog, IndexCheck, IndexDefinition, IndexEntry,
    IndexPlace, IndexedTable, LakefoldOptions, OpenIndex, TableDirectory, build_index, index_state,
    search_index, verify_index,
};
use lakefold_lake::{FilesTable, Location};
use object_store::path::Path;

use crate::errors::error_message;
use crate::index_syntax::IndexStatement;
use crate::session::Session;

/// The table of an index.
#[derive(Debug, Clone)]
pub enum IndexTable {
    /// As SQL names it, paths in quotes included.
    Named(TableReference),
    /// A file, directory, glob or URL.
    Path(String),
}

impl std::fmt::Display for IndexTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named(table) => f.write_str(table.table()),
            Self::Path(path) => f.write_str(path),
        }
    }
}

/// An index that is to be built.
#[derive(Debug, Clone)]
pub struct IndexRequest {
    /// Of Parquet files.
    pub table: IndexTable,
    /// The column of vectors.
    pub column: String,
    /// The index's name; the column's if there is none.
    pub name: Option<String>,
    /// A column that names the rows in results of [`Session::search_index`].
    pub id_column: Option<String>,
    /// What is nearest.
    pub metric: Metric,
    /// How the graph is built.
    pub options: HnswOptions,
    /// A path or URL for the file, elsewhere than beside the table. Queries do not look there.
    pub path: Option<String>,
    /// Whether one that is there already will do.
    pub if_not_exists: bool,
    /// Whether one that is there already is built again.
    pub replace: bool,
}

impl IndexRequest {
    /// With defaults: `l2`, named as the column.
    pub fn new(table: IndexTable, column: impl Into<String>) -> Self {
        Self {
            table,
            column: column.into(),
            name: None,
            id_column: None,
            metric: Metric::default(),
            options: HnswOptions::default(),
            path: None,
            if_not_exists: false,
            replace: false,
        }
    }
}

impl Session {
    /// The indexes that this session knows.
    ///
    /// # Errors
    /// For a session whose functions were taken away.
    pub fn index_catalog(&self) -> Result<Arc<IndexCatalog>> {
        let catalog = self.context().state().config().get_extension();
        catalog.ok_or_else(|| {
            plan_datafusion_err!("the session has no indexes: register Lakefold's functions first")
        })
    }

    /// Builds an index. `None` where there is one and `if_not_exists` was asked for.
    ///
    /// # Errors
    /// See [`build_index`]; and for an index that is there already.
    pub async fn build_index(&self, request: &IndexRequest) -> Result<Option<BuiltIndex>> {
        let table = self.indexed_table(&request.table).await?;
        self.build_index_of(&table, request).await
    }

    async fn build_index_of(
        &self,
        table: &IndexedTable,
        request: &IndexRequest,
    ) -> Result<Option<BuiltIndex>> {
        let catalog = self.index_catalog()?;
        let name = request.name.as_ref().unwrap_or(&request.column).clone();
        let place = match &request.path {
            Some(path) => index_place(path)?,
            None => IndexPlace::named(&table.directory, &name)?,
        };
        let env = self.context().runtime_env();
        if let Ok(known) = catalog.find(&place, &env).await {
            let of = match known.header.table.as_str() {
                "" => "the directory".to_owned(),
                table => format!("'{table}'"),
            };
            let is_of_table = known.header.table == table.below;
            if request.if_not_exists && is_of_table {
                return Ok(None);
            }
            if !request.replace || !is_of_table {
                let remedy = if is_of_table {
                    format!(
                        ", DROP INDEX {name}, or rebuild it with REINDEX TABLE or `lakefold index build --replace`"
                    )
                } else {
                    String::new()
                };
                return plan_err!(
                    "there is an index '{name}' already, of column '{}' of {of} ('{}'): choose another name{remedy}",
                    known.header.column,
                    place.text()
                );
            }
        }
        let definition = IndexDefinition {
            name,
            place: place.clone(),
            column: request.column.clone(),
            id_column: request.id_column.clone(),
            metric: request.metric,
            options: request.options,
        };
        let built = build_index(&self.context().state(), table, &definition).await?;
        catalog.refresh(&table.directory, &env).await?;
        if request.path.is_none() {
            catalog.note(&table.directory);
        }
        tracing::info!(
            index = built.header.name,
            rows = built.header.rows,
            bytes = built.file_bytes,
            "index built"
        );
        Ok(Some(built))
    }

    /// The index at a path or URL, or the only one of the table that is there, or its one of that name.
    ///
    /// # Errors
    /// When there is none or, without a name, several.
    pub async fn find_index(&self, path: &str, name: Option<&str>) -> Result<FoundIndex> {
        let catalog = self.index_catalog()?;
        let env = self.context().runtime_env();
        if std::path::Path::new(path)
            .extension()
            .is_some_and(|e| e == INDEX_EXTENSION)
        {
            return catalog.find(&index_place(path)?, &env).await;
        }
        let table = self
            .indexed_table(&IndexTable::Path(path.to_owned()))
            .await?;
        if let Some(name) = name {
            let place = IndexPlace::named(&table.directory, name)?;
            return catalog.find(&place, &env).await;
        }
        catalog.refresh(&table.directory, &env).await?;
        let found = catalog.of_directory(&table.directory)?;
        let of_table = found.into_iter().filter(|entry| match entry {
            Ok(index) => index.header.table == table.below,
            Err(_) => true,
        });
        let mut of_table: Vec<IndexEntry> = of_table.collect();
        match (of_table.pop(), of_table.len()) {
            (Some(index), 0) => index.map_err(datafusion::error::DataFusionError::Execution),
            (None, _) => plan_err!(
                "'{path}' has no index: build one with `lakefold index build`, or name an index file"
            ),
            (Some(_), others) => {
                plan_err!("'{path}' has {} indexes: name one with --name", others + 1)
            }
        }
    }

    /// The table that an index was built from, as it is now.
    ///
    /// # Errors
    /// When its files are gone.
    pub async fn table_of_index(&self, index: &FoundIndex) -> Result<IndexedTable> {
        let directory = index.place.directory();
        let header = &index.header;
        let text = match (&header.table_directory, header.table.as_str()) {
            (None, "") => format!("{}/", directory.name_of(&directory.path)),
            (None, below) => {
                let root = directory.name_of(&directory.path);
                format!("{}/{below}", root.trim_end_matches('/'))
            }
            (Some(directory), "") => format!("{directory}/"),
            (Some(directory), below) => format!("{}/{below}", directory.trim_end_matches('/')),
        };
        self.indexed_table(&IndexTable::Path(text)).await
    }

    /// What is the matter with an index whose table has changed; `None` for one that fits.
    ///
    /// # Errors
    /// Never for a table that is gone: that is a reason.
    pub async fn why_stale(&self, index: &FoundIndex) -> Option<String> {
        match self.table_of_index(index).await {
            Ok(table) => index_state(index, &table),
            Err(error) => Some(error_message(&error)),
        }
    }

    /// Opens an index and checks all of its bytes.
    ///
    /// # Errors
    /// For one that is gone, cannot be read, or is damaged anywhere.
    pub async fn open_index(&self, index: &FoundIndex) -> Result<Arc<OpenIndex>> {
        let env = self.context().runtime_env();
        self.index_catalog()?.open(&index.place, &env).await
    }

    /// Looks at everything that an index claims.
    ///
    /// # Errors
    /// See [`verify_index`]; and for an index that is damaged.
    pub async fn verify_index(&self, index: &FoundIndex) -> Result<Vec<IndexCheck>> {
        let open = self.open_index(index).await?;
        let table = self.table_of_index(index).await;
        let table = match &table {
            Ok(table) => Ok(table),
            Err(error) => Err(error_message(error)),
        };
        verify_index(&self.context().state(), index, &open, table).await
    }

    /// The `k` nearest rows of each query, see [`search_index`].
    ///
    /// # Errors
    /// See [`search_index`].
    pub async fn search_index(
        &self,
        index: &Arc<OpenIndex>,
        queries: &RecordBatch,
        k: usize,
        ef_search: usize,
    ) -> Result<RecordBatch> {
        let context = self.context().task_ctx();
        search_index(index, queries, k, ef_search, &context).await
    }

    /// Runs a statement about indexes.
    pub(crate) async fn execute_index(&self, statement: IndexStatement) -> Result<DataFrame> {
        match statement {
            IndexStatement::Create(request) => {
                self.build_index(&request).await?;
            }
            IndexStatement::Drop {
                names,
                table,
                if_exists,
            } => {
                for name in names {
                    self.drop_index(&name, table.as_ref(), if_exists).await?;
                }
            }
            IndexStatement::Show(table) => {
                let indexes = self.show_indexes(table.as_ref()).await?;
                return self.context().read_batch(indexes);
            }
            IndexStatement::Rebuild(table) => self.rebuild_indexes(&table).await?,
        }
        self.context().read_empty()
    }

    async fn drop_index(
        &self,
        name: &str,
        table: Option<&IndexTable>,
        if_exists: bool,
    ) -> Result<()> {
        let catalog = self.index_catalog()?;
        let directories = self.directories(table).await?;
        let mut places = Vec::new();
        for directory in &directories {
            for entry in catalog.of_directory(directory)? {
                match entry {
                    Ok(index) if index.header.name == name => places.push(index.place),
                    _ => {}
                }
            }
            // One that is damaged has a name by its file only.
            let place = IndexPlace::named(directory, name)?;
            let is_there = place.is_local_file();
            if is_there && !places.contains(&place) {
                places.push(place);
            }
        }
        match places.as_slice() {
            [place] => catalog.remove(place, &self.context().runtime_env()).await,
            [] if if_exists => Ok(()),
            [] => plan_err!(
                "no index '{name}': SHOW INDEXES lists those of tables that this session knows; of any other write \
                 DROP INDEX {name} ON 'path'"
            ),
            [..] => {
                let texts: Vec<String> = places.iter().map(IndexPlace::text).collect();
                plan_err!(
                    "there are {} indexes '{name}' ({}): name the table, DROP INDEX {name} ON …",
                    places.len(),
                    texts.join(", ")
                )
            }
        }
    }

    async fn rebuild_indexes(&self, table: &IndexTable) -> Result<()> {
        let table = self.indexed_table(table).await?;
        let catalog = self.index_catalog()?;
        catalog
            .refresh(&table.directory, &self.context().runtime_env())
            .await?;
        let mut rebuilt = 0;
        for entry in catalog.of_directory(&table.directory)? {
            let header = match entry {
                Ok(index) if index.header.table == table.below => index.header,
                Ok(_) => continue,
                Err(error) => return exec_err!("{error}"),
            };
            let request = IndexRequest {
                name: Some(header.name.clone()),
                id_column: header.id_column.clone(),
                metric: Metric::parse(&header.metric)
                    .map_err(|error| plan_datafusion_err!("{error}"))?,
                options: HnswOptions {
                    m: header.m,
                    ef_construction: header.ef_construction,
                    seed: header.seed,
                },
                replace: true,
                ..IndexRequest::new(IndexTable::Path(String::new()), header.column.clone())
            };
            self.build_index_of(&table, &request).await?;
            rebuilt += 1;
        }
        if rebuilt == 0 {
            return plan_err!(
                "'{}' has no index to build again: CREATE INDEX builds the first",
                table.name
            );
        }
        Ok(())
    }

    /// One row an index.
    async fn show_indexes(&self, table: Option<&IndexTable>) -> Result<RecordBatch> {
        let catalog = self.index_catalog()?;
        let env = self.context().runtime_env();
        let options = LakefoldOptions::of(self.context().state().config_options());
        let mut found = Vec::new();
        for directory in self.directories(table).await? {
            catalog.refresh(&directory, &env).await?;
            for entry in catalog.of_directory(&directory)? {
                match entry {
                    Ok(index) => found.push(index),
                    Err(error) => tracing::warn!("{error}"),
                }
            }
        }
        let mut states = Vec::with_capacity(found.len());
        for index in &found {
            states.push(match self.why_stale(index).await {
                None => "valid".to_owned(),
                Some(why) => format!("stale: {why}"),
            });
        }
        let texts = |of: fn(&FoundIndex) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(found.iter().map(of)))
        };
        let counts = |of: fn(&FoundIndex) -> u64| -> ArrayRef {
            let values = found.iter().map(|index| of(index) as i64);
            Arc::new(Int64Array::from_iter_values(values))
        };
        let recall = found
            .iter()
            .map(|index| index.header.expected_recall(options.hnsw_ef_search));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("name", texts(|index| index.header.name.clone())),
            (
                "table",
                texts(|index| {
                    let directory = index.place.directory();
                    let below = &index.header.table;
                    let root = directory.name_of(&directory.path);
                    match (&index.header.table_directory, below.as_str()) {
                        (None, "") => root,
                        (None, below) => format!("{}/{below}", root.trim_end_matches('/')),
                        (Some(elsewhere), "") => elsewhere.clone(),
                        (Some(elsewhere), below) => format!("{elsewhere}/{below}"),
                    }
                }),
            ),
            ("column", texts(|index| index.header.column.clone())),
            ("metric", texts(|index| index.header.metric.clone())),
            ("rows", counts(|index| index.header.rows)),
            ("dimensions", counts(|index| index.header.dimensions as u64)),
            ("m", counts(|index| index.header.m as u64)),
            (
                "ef_construction",
                counts(|index| index.header.ef_construction as u64),
            ),
            (
                "expected_recall",
                Arc::new(recall.collect::<Float64Array>()),
            ),
            ("bytes", counts(|index| index.file_bytes)),
            ("state", Arc::new(StringArray::from(states))),
        ];
        Ok(RecordBatch::try_from_iter(columns)?)
    }

    /// Of one table; or those of all tables that the session knows, those it found indexes in, and the working
    /// directory.
    async fn directories(&self, table: Option<&IndexTable>) -> Result<Vec<TableDirectory>> {
        if let Some(table) = table {
            let table = self.indexed_table(table).await?;
            let env = self.context().runtime_env();
            self.index_catalog()?
                .refresh(&table.directory, &env)
                .await?;
            return Ok(vec![table.directory]);
        }
        let mut found = self.index_catalog()?.directories();
        let state = self.context().state();
        let catalogs = state.catalog_list();
        for catalog in catalogs.catalog_names() {
            let Some(catalog) = catalogs.catalog(&catalog) else {
                continue;
            };
            for schema in catalog.schema_names() {
                let Some(schema) = catalog
                    .schema(&schema)
                    .filter(|_| schema != "information_schema")
                else {
                    continue;
                };
                for table in schema.table_names() {
                    if let Some(provider) = schema.table(&table).await?
                        && let Some((directory, _)) = directory_of(provider.as_ref())
                    {
                        found.push(directory);
                    }
                }
            }
        }
        if let Ok(here) = Location::parse("./") {
            found.push(TableDirectory {
                store: here.object_store_url(),
                path: here.prefix().clone(),
            });
        }
        let mut distinct: Vec<TableDirectory> = Vec::new();
        for directory in found {
            if !distinct.contains(&directory) {
                distinct.push(directory);
            }
        }
        Ok(distinct)
    }

    async fn indexed_table(&self, table: &IndexTable) -> Result<IndexedTable> {
        let state = self.context().state();
        let provider: Arc<dyn TableProvider> = match table {
            IndexTable::Named(name) => self.context().table_provider(name.clone()).await?,
            IndexTable::Path(path) => {
                Arc::new(FilesTable::open(&state, &Location::parse(path)?).await?)
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

    /// Looks for indexes beside the remote tables of a plan; local ones are found when they are needed.
    pub(crate) async fn find_remote_indexes(&self, plan: &LogicalPlan) -> Result<()> {
        let mut directories = Vec::new();
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node
                && let Ok(provider) = source_as_provider(&scan.source)
                && let Some((directory, _)) = directory_of(provider.as_ref())
                && !directory.is_local()
            {
                directories.push(directory);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
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

/// The place that a path or URL of an index file means.
fn index_place(path: &str) -> Result<IndexPlace> {
    let location = Location::parse(path)?;
    let has_extension = location.prefix().extension() == Some(INDEX_EXTENSION);
    if location.glob().is_some() || !has_extension {
        return plan_err!("an index file is named something.{INDEX_EXTENSION}, got '{path}'");
    }
    Ok(IndexPlace {
        store: location.object_store_url(),
        file: location.prefix().clone(),
    })
}

/// The directory of a table of files, and what of it the table is.
fn directory_of(provider: &dyn TableProvider) -> Option<(TableDirectory, String)> {
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
