//! Indexes of a session's tables.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::{TableReference, plan_datafusion_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use lakefold_functions::manifold::{HnswOptions, Metric, VectorStorage};
use lakefold_functions::{
    BuiltIndex, FoundIndex, INDEX_EXTENSION, IndexCatalog, IndexCheck, IndexDefinition, IndexPlace,
    IndexedTable, OpenIndex, build_index, index_state, search_index, verify_index,
};

use crate::errors::error_message;
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
    /// As what its vectors are walked through.
    pub storage: VectorStorage,
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
            storage: VectorStorage::default(),
            path: None,
            if_not_exists: false,
            replace: false,
        }
    }
}

/// Whether a path or URL is that of an index, not of a table.
pub fn is_index_file(path: &str) -> bool {
    let extension = std::path::Path::new(path).extension();
    extension.is_some_and(|extension| extension == INDEX_EXTENSION)
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

    pub(crate) async fn build_index_of(
        &self,
        table: &IndexedTable,
        request: &IndexRequest,
    ) -> Result<Option<BuiltIndex>> {
        let catalog = self.index_catalog()?;
        let name = request.name.as_ref().unwrap_or(&request.column).clone();
        let place = match &request.path {
            Some(path) => self.index_place(path)?,
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
            storage: request.storage,
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
        if is_index_file(path) {
            return catalog.find(&self.index_place(path)?, &env).await;
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
        let (mut of_table, mut damaged) = (Vec::new(), Vec::new());
        for entry in found {
            match entry {
                Ok(index) if index.header.table == table.below => of_table.push(index),
                Ok(_) => {}
                Err(error) => damaged.push(error),
            }
        }
        let names: Vec<&str> = of_table.iter().map(|index| &*index.header.name).collect();
        let names = names.join(", ");
        match (of_table.pop(), of_table.len(), damaged.pop()) {
            (Some(index), 0, _) => Ok(index),
            (None, _, Some(error)) => Err(DataFusionError::Execution(error)),
            (None, _, None) => plan_err!(
                "'{path}' has no index: build one with `lakefold index build`, or name an index file"
            ),
            (Some(_), others, _) => {
                plan_err!(
                    "'{path}' has {} indexes ({names}): name one with --name",
                    others + 1
                )
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
}
