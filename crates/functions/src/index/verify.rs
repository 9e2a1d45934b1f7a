//! Whether an index still tells the truth.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::common::{Result, exec_datafusion_err};
use datafusion::execution::SessionState;
use futures::StreamExt;
use lakefold_manifold::{HnswOptions, ManifoldError, Metric};

use super::catalog::FoundIndex;
use super::fit::index_state;
use super::open::OpenIndex;
use super::table::IndexedTable;
use crate::features::{Matrix, check_dimensions};
use crate::fit_task::{CancelOnDrop, FitControl, blocking};
use crate::float_lists::FloatType;
use crate::held_rows::Source;
use crate::memory::{Budget, resources_exhausted};

const SUBJECT: &str = "the index";
/// How far below the recall of the day it was built an index may be found, because other rows are drawn.
const RECALL_TOLERANCE: f64 = 0.02;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexCheck {
    /// What.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub passed: bool,
    /// What was found.
    pub detail: String,
}

/// Looks at the files that an index was built from, at its graph, at its codes, at the recall of its searches, and at every
/// vector. Its checksums were looked at when it was opened. `table` is what is there now, or why there is nothing.
///
/// # Errors
/// For a table that cannot be read, too little memory, and when it is cancelled. What is wrong with the index is
/// no error.
pub async fn verify_index(
    state: &SessionState,
    found: &FoundIndex,
    index: &Arc<OpenIndex>,
    table: std::result::Result<&IndexedTable, String>,
) -> Result<Vec<IndexCheck>> {
    let mut checks = vec![IndexCheck {
        name: "checksums",
        passed: true,
        detail: format!("all {} bytes are as they were written", found.file_bytes),
    }];
    let stale = match &table {
        Ok(table) => index_state(found, table),
        Err(error) => Some(error.clone()),
    };
    let is_valid = stale.is_none();
    checks.push(IndexCheck {
        name: "sources",
        passed: is_valid,
        detail: stale.unwrap_or_else(|| {
            let count = index.header.sources.len();
            format!("{count} file(s), unchanged since the index was built")
        }),
    });
    let context = state.task_ctx();
    let cancelled = CancelOnDrop(Arc::new(AtomicBool::new(false)));
    let budget = Budget::new(context.memory_pool(), SUBJECT);
    let control = FitControl::new(&context, &budget, &cancelled);
    let searched = Arc::clone(index);
    let graph = blocking(move || {
        let reporter = control.reporter.clone();
        if let Some(reporter) = &reporter {
            reporter.started(searched.graph.len());
        }
        let checks = check_graph(&searched, &control);
        if let Some(reporter) = &reporter {
            reporter.ended();
        }
        checks.map_err(|error| match error {
            ManifoldError::Memory(refusal) => resources_exhausted(SUBJECT, &refusal),
            other => exec_datafusion_err!("{SUBJECT}: {other}"),
        })
    });
    checks.extend(graph.await?);
    if let (true, Ok(table)) = (is_valid, table) {
        checks.push(check_vectors(state, index, table).await?);
    }
    Ok(checks)
}

fn check_graph(
    index: &OpenIndex,
    control: &FitControl,
) -> std::result::Result<Vec<IndexCheck>, ManifoldError> {
    let graph = &index.graph;
    let header = &index.header;
    let unreachable = graph.unreachable();
    let ef_search = HnswOptions::DEFAULT_EF_SEARCH;
    let self_recall = graph.self_recall(ef_search, control)?;
    let mut checks = vec![
        IndexCheck {
            name: "reachability",
            passed: unreachable == 0,
            detail: format!("{unreachable} of {} rows cannot be reached", header.rows),
        },
        IndexCheck {
            name: "self-recall",
            passed: self_recall >= 1.0,
            detail: format!("{self_recall:.6} of rows find themselves with ef_search {ef_search}"),
        },
    ];
    if let Some(miscoded) = graph.miscoded(control)? {
        checks.push(IndexCheck {
            name: "codes",
            passed: miscoded == 0,
            detail: format!(
                "{miscoded} of {} rows have other codes than their vectors",
                header.rows
            ),
        });
    }
    if header.recall.is_empty() {
        return Ok(checks);
    }
    let ef: Vec<usize> = header.recall.iter().map(|point| point.ef_search).collect();
    // Other rows than those that were drawn when it was built.
    let seed = header.seed.wrapping_add(1);
    let measured = graph.recall(header.recall_sample, header.recall_k, &ef, seed, control)?;
    let as_before = measured
        .iter()
        .zip(&header.recall)
        .all(|(now, then)| now.recall >= then.recall - RECALL_TOLERANCE);
    let points: Vec<String> = measured
        .iter()
        .zip(&header.recall)
        .map(|(now, then)| format!("{:.4} (was {:.4}) at {}", now.recall, then.recall, now.ef))
        .collect();
    checks.push(IndexCheck {
        name: "recall",
        passed: as_before,
        detail: format!("@{}: {}", header.recall_k, points.join(", ")),
    });
    Ok(checks)
}

/// Compares every vector with the one in the table.
async fn check_vectors(
    state: &SessionState,
    index: &Arc<OpenIndex>,
    table: &IndexedTable,
) -> Result<IndexCheck> {
    let header = &index.header;
    let failed = |detail: String| IndexCheck {
        name: "vectors",
        passed: false,
        detail,
    };
    // The rows of the table in the order of the index's sources, which is the order of its files.
    let plan = table.rows_of(&[&header.column])?;
    let mut batches = plan.execute(0, state.task_ctx())?;
    let source = Source {
        function: SUBJECT,
        column: header.column.clone(),
        float: FloatType::Float32,
        metric: Metric::parse(&header.metric).unwrap_or_default(),
    };
    let (mut next, mut compared) = (0_u64, 0_u32);
    let mut dimensions = Some(header.dimensions);
    while let Some(batch) = batches.next().await.transpose()? {
        let list = std::slice::from_ref(batch.column(0));
        let site = source.site(&batch);
        let extent = crate::features::measure(list, &site)?;
        check_dimensions(&mut dimensions, &extent, &site)?;
        let features = crate::features::extract(list, extent, FloatType::Float32)?;
        let Matrix::Float32(vectors) = &features.matrix else {
            return Ok(failed("they are of another type".to_owned()));
        };
        for (place, vector) in features.present.set_indices().zip(vectors.rows()) {
            let number = next + place as u64;
            if index.positions.table_row(compared) != Some(number) {
                return Ok(failed(format!(
                    "row {number} of the table (counted from 0) is not in the index"
                )));
            }
            let same = index
                .graph
                .vector(compared as usize)
                .iter()
                .zip(vector)
                .all(|(a, b)| a.to_bits() == b.to_bits() || a == b);
            if !same {
                return Ok(failed(format!(
                    "row {number} of the table (counted from 0) has another vector in the index"
                )));
            }
            compared += 1;
        }
        next += batch.num_rows() as u64;
    }
    if u64::from(compared) != header.rows {
        return Ok(failed(format!(
            "the index has {} rows, the table {compared}",
            header.rows
        )));
    }
    Ok(IndexCheck {
        name: "vectors",
        passed: true,
        detail: format!("{compared} are those of the table"),
    })
}
