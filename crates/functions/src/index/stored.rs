//! An index in the place of one that would be built for a call.

use std::sync::Arc;

use datafusion::arrow::array::{Array, BooleanArray, UInt32Array};
use datafusion::arrow::compute::{filter, take};
use datafusion::catalog::Session;
use datafusion::common::{DataFusionError, Result, exec_err};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder};
use datafusion::datasource::source::{DataSource, DataSourceExec};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;
use lakefold_manifold::{Hnsw, Metric};

use super::at_scan::at_scan;
use super::catalog::{FoundIndex, IndexCatalog};
use super::choose::{Wanted, choose};
use super::header::IndexHeader;
use super::open::OpenIndex;
use super::options::HnswSettings;
use crate::evaluator::off_the_async_threads;
use crate::held_ids::HeldIds;
use crate::held_rows::{Prepare, Source};
use crate::indexed_rows::HeldRows;
use crate::memory::Budget;
use crate::row_order::{self, By};

const OTHERWISE: &str = "neighbours are sought without it";

/// The index of a column of Parquet files, and what its rows are called.
#[derive(Debug)]
pub(crate) struct StoredIndex {
    catalog: Arc<IndexCatalog>,
    found: FoundIndex,
    /// The id of every row of the files, in one partition, in the order in which the index counts them.
    ids: Arc<dyn ExecutionPlan>,
}

impl StoredIndex {
    /// The best index that suits of the features in `input`, a plan of ids and features. `None` where there is none,
    /// or `input` is anything but all rows of Parquet files, with a column of them as features.
    pub(crate) fn find(
        session: &dyn Session,
        input: &Arc<dyn ExecutionPlan>,
        (metric, ef_search): (Metric, usize),
        suits: &dyn Fn(&IndexHeader) -> bool,
    ) -> Result<Option<Self>> {
        let catalog = session.config().get_extension::<IndexCatalog>();
        let is_enabled = HnswSettings::of(session.config_options()).enabled;
        let Some(catalog) = catalog.filter(|_| is_enabled) else {
            return Ok(None);
        };
        let at_scan = |place: usize| {
            let column = Column::new(input.schema().field(place).name(), place);
            let found = at_scan(Arc::new(column), input)?;
            Ok::<_, DataFusionError>(found.filter(|found| !found.is_filtered))
        };
        let (Some(ids), Some(features)) = (at_scan(0)?, at_scan(1)?) else {
            return Ok(None);
        };
        let features_expr = features.over_table()?;
        let column = features_expr.downcast_ref::<Column>();
        let Some(column) = column.filter(|column| features.is_in_files(column)) else {
            return Ok(None);
        };
        let wanted = Wanted {
            column: column.name(),
            metric,
            ef_search,
            suits,
            may_have_more: false,
            otherwise: OTHERWISE,
        };
        let store = &features.scan.object_store_url;
        let Some((found, files)) = choose(&catalog, store, &features.files, &wanted) else {
            return Ok(None);
        };
        let files = FileGroup::new(files.into_iter().flatten().collect());
        Ok(in_order(ids.scan, ids.expr, files)?.map(|ids| Self {
            catalog,
            found,
            ids,
        }))
    }

    pub(crate) fn header(&self) -> &Arc<IndexHeader> {
        &self.found.header
    }

    /// Opens the index; `None` where it cannot be used after all.
    pub(crate) async fn open(&self, context: &TaskContext) -> Option<Arc<OpenIndex>> {
        let env = context.runtime_env();
        self.catalog.open_chosen(&self.found, &env, OTHERWISE).await
    }

    /// Reads the ids of the rows of the index, in batches of these alone that go through `prepare`; `source` is what
    /// errors name. `None` if there are rows that are not to be found, because they lack what they should carry in the
    /// place of ids.
    pub(crate) async fn read(
        &self,
        index: Arc<OpenIndex>,
        (source, by, budget): (Source, By, Budget),
        prepare: &mut Prepare<'_>,
        context: &Arc<TaskContext>,
    ) -> Result<Option<StoredRows>> {
        let mut batches = self.ids.execute(0, Arc::clone(context))?;
        let (mut ids, mut next) = (HeldIds::default(), 0);
        while let Some(batch) = batches.next().await.transpose()? {
            let rows = next..next + batch.num_rows() as u64;
            next = rows.end;
            let batch = off_the_async_threads(|| prepare(&batch))?;
            let present = BooleanArray::new(index.positions.with_vector(rows), None);
            let found = filter(batch.column(0), &present)?;
            if by == By::Features && found.null_count() > 0 {
                return Ok(None);
            }
            ids.push(found, &budget)
                .map_err(|error| source.exhausted(&error))?;
        }
        let expected = index.header.table_rows();
        if next != expected {
            return exec_err!(
                "the files of the index '{}' of column '{}' have {next} rows and had {expected} when it was built: a \
                 file has changed meanwhile, run the query again",
                index.header.name,
                source.column
            );
        }
        Ok(Some(StoredRows {
            index,
            ids,
            by,
            source,
            budget,
        }))
    }
}

/// A plan of an expression over a scan's columns, for the rows of all `files`, one after the other. `None` where it
/// has to be evaluated above the scan.
fn in_order(
    scan: &FileScanConfig,
    expr: Arc<dyn PhysicalExpr>,
    files: FileGroup,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let alias = "id".to_owned();
    let expr = ProjectionExprs::from(vec![ProjectionExpr { expr, alias }]);
    let scan = FileScanConfigBuilder::from(scan.clone())
        .with_file_groups(vec![files])
        .with_output_partitioning(None)
        .with_output_ordering(vec![])
        .with_preserve_order(true)
        .build();
    let source = scan.try_swapping_with_projection(&expr)?;
    Ok(source.map(|source| Arc::new(DataSourceExec::new(source)) as _))
}

/// The rows of an index, before they are searched.
pub(crate) struct StoredRows {
    index: Arc<OpenIndex>,
    /// By row of the index.
    ids: HeldIds,
    by: By,
    source: Source,
    /// Of all that is held.
    budget: Budget,
}

impl StoredRows {
    pub(crate) fn len(&self) -> usize {
        self.index.graph.len()
    }

    pub(crate) fn dimensions(&self) -> usize {
        self.index.graph.dimensions()
    }

    /// Rows that were mended when the index was built.
    pub(crate) fn repairs(&self) -> usize {
        let header = &self.index.header;
        header.unreachable_repaired + header.not_self_found_repaired
    }

    /// Brings the rows into the order in which rows that are searched are held, see [`row_order`]. The graph has the
    /// rows of each vertex in that order then, so that ties are broken as in a graph that was built.
    pub(crate) fn in_order(self, ef_search: usize) -> Result<HeldRows> {
        let Self {
            index,
            ids,
            by,
            source,
            budget,
        } = self;
        let mut graph = Hnsw::clone(&index.graph);
        let (rows, id_bytes) = (ids.len(), ids.bytes());
        let mut ids = ids.concat(&source, &budget)?;
        let sorting = row_order::reserve(&source, &budget, rows, id_bytes)?;
        let order = row_order::order(by, &ids, |row| index.graph.vector(row as usize))?;
        if !order.is_sorted() {
            budget
                .reserve("the order of the rows to search", graph.reordered_bytes())
                .map_err(|error| source.exhausted(&error))?;
            graph = graph
                .reordered(&order)
                .map_err(|error| source.failed(&error))?;
            ids = take(&ids, &UInt32Array::from(order), None)?;
        }
        drop(sorting);
        Ok(HeldRows::of_graph(graph, ef_search, ids, source, budget))
    }
}
