//! Running statements about indexes.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::common::{exec_err, plan_datafusion_err, plan_err};
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use lakefold_functions::manifold::{HnswOptions, Metric, VectorStorage};
use lakefold_functions::{FoundIndex, HnswSettings, IndexPlace, TableDirectory};
use lakefold_lake::Location;

use crate::index_syntax::IndexStatement;
use crate::index_tables::directory_of;
use crate::indexes::{IndexRequest, IndexTable};
use crate::session::Session;

impl Session {
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
        let (directories, below) = self.directories(table).await?;
        let mut places = Vec::new();
        for directory in &directories {
            let mut is_known = false;
            for index in catalog.of_directory(directory)?.into_iter().flatten() {
                if index.header.name == name {
                    is_known = true;
                    if is_of(&index, below.as_deref()) {
                        places.push(index.place);
                    }
                }
            }
            // One that is damaged has a name by its file only.
            let place = IndexPlace::named(directory, name)?;
            if !is_known && place.is_local_file() {
                places.push(place);
            }
        }
        match places.as_slice() {
            [place] => catalog.remove(place, &self.context().runtime_env()).await,
            [] if if_exists => Ok(()),
            [] if table.is_some() => plan_err!(
                "no index '{name}' of that table: SHOW INDEXES FROM the table lists those that there are"
            ),
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
        let (mut rebuilt, mut damaged) = (0, Vec::new());
        for entry in catalog.of_directory(&table.directory)? {
            let header = match entry {
                Ok(index) if index.header.table == table.below => index.header,
                Ok(_) => continue,
                // Nobody can tell what it was of.
                Err(error) => {
                    damaged.push(error);
                    continue;
                }
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
                storage: VectorStorage::parse(&header.storage_option)
                    .map_err(|error| plan_datafusion_err!("{error}"))?,
                replace: true,
                ..IndexRequest::new(IndexTable::Path(String::new()), header.column.clone())
            };
            self.build_index_of(&table, &request).await?;
            rebuilt += 1;
        }
        if let (0, Some(error)) = (rebuilt, damaged.first()) {
            return exec_err!("{error}");
        }
        for error in damaged {
            tracing::warn!("{error}");
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
        let options = HnswSettings::of(self.context().state().config_options());
        let mut found = Vec::new();
        let (directories, below) = self.directories(table).await?;
        for directory in directories {
            catalog.refresh(&directory, &env).await?;
            for entry in catalog.of_directory(&directory)? {
                match entry {
                    Ok(index) if !is_of(&index, below.as_deref()) => {}
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
            .map(|index| index.header.expected_recall(options.ef_search));
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
            ("storage", texts(|index| index.header.storage.clone())),
            (
                "expected_recall",
                Arc::new(recall.collect::<Float64Array>()),
            ),
            ("bytes", counts(|index| index.file_bytes)),
            ("state", Arc::new(StringArray::from(states))),
        ];
        Ok(RecordBatch::try_from_iter(columns)?)
    }

    /// Of one table, which is there at this place in it; or those of all tables that the session knows, those it found
    /// indexes in, and the working directory.
    async fn directories(
        &self,
        table: Option<&IndexTable>,
    ) -> Result<(Vec<TableDirectory>, Option<String>)> {
        if let Some(table) = table {
            let table = self.indexed_table(table).await?;
            let env = self.context().runtime_env();
            self.index_catalog()?
                .refresh(&table.directory, &env)
                .await?;
            return Ok((vec![table.directory], Some(table.below)));
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
        Ok((distinct, None))
    }
}

/// Whether an index is of the table at a place in its directory. A table that is the whole directory has those of all its
/// files; where none is named, every one counts.
fn is_of(index: &FoundIndex, below: Option<&str>) -> bool {
    below.is_none_or(|below| below.is_empty() || index.header.table == below)
}
