//! What EXPLAIN ANALYZE shows of a search, and the measuring for it.

use std::sync::{Arc, Mutex, MutexGuard};

use datafusion::common::{Result, internal_datafusion_err};
use datafusion::physical_plan::metrics::{
    Count, ExecutionPlanMetricsSet, MetricBuilder, MetricType, RatioMetrics, Time,
};
use lakefold_manifold::{ApproximateIndex, Control, Nearest, NeighborMethod};
use ndarray::{Array2, Axis, concatenate};

use super::measured::Chosen;
use crate::features::Matrix;
use crate::indexed_rows::HeldRows;

/// Queries that wait until they are measured together: all rows are looked at once for so many.
const TOGETHER: usize = ApproximateIndex::<f32>::MEASURED_TOGETHER;
/// Numbers of queries and their answers that wait, about: very wide ones wait for fewer others.
const WAITING: usize = 1 << 18;

/// Of one search.
#[derive(Debug, Clone)]
pub(super) struct SearchMetrics {
    /// Queries that were answered by the method that was chosen.
    queries: Count,
    /// Rows that the graph did not find before it was mended.
    pub(super) repairs: Count,
    pub(super) index_time: Time,
    recall: Option<Arc<Recall>>,
}

#[derive(Debug)]
struct Recall {
    ratio: RatioMetrics,
    sample: Mutex<Sample>,
}

#[derive(Debug, Default)]
struct Sample {
    chosen: Chosen,
    waiting: Waiting,
}

/// Some of the answers, and what they are answers to.
#[derive(Debug, Default)]
struct Waiting {
    /// Of rows that are searched themselves, among the others.
    rows: Vec<usize>,
    /// Of other rows.
    queries: Vec<Matrix<'static>>,
    /// Distances.
    found: Vec<Array2<f64>>,
}

impl SearchMetrics {
    pub(super) fn new(metrics: &ExecutionPlanMetricsSet, method: NeighborMethod) -> Self {
        let summary = || MetricBuilder::new(metrics).with_type(MetricType::Summary);
        let is_hnsw = method == NeighborMethod::Hnsw;
        let queries = format!("{}_queries", method.name());
        Self {
            queries: summary().counter(queries, 0),
            repairs: if is_hnsw {
                summary().counter("index_repairs", 0)
            } else {
                Count::new()
            },
            index_time: MetricBuilder::new(metrics).subset_time("index_time", 0),
            recall: is_hnsw.then(|| {
                Arc::new(Recall {
                    ratio: summary().ratio_metrics("sampled_recall", 0),
                    sample: Mutex::default(),
                })
            }),
        }
    }

    /// Another part of the queries was answered, `first` of them before these. They are rows of `held` themselves,
    /// searched among the others, where no `queries` are given.
    pub(super) fn answered(
        &self,
        first: usize,
        queries: Option<&Matrix<'_>>,
        nearest: &Nearest,
        held: &HeldRows,
        control: &dyn Control,
    ) -> Result<()> {
        let count = nearest.distances.nrows();
        self.queries.add(count);
        let Some(recall) = &self.recall else {
            return Ok(());
        };
        let mut sample = recall.sample()?;
        let numbers = sample.chosen.of(first..first + count, held);
        if numbers.is_empty() {
            return Ok(());
        }
        let waiting = &mut sample.waiting;
        let places: Vec<usize> = numbers.iter().map(|number| number - first).collect();
        waiting
            .found
            .push(nearest.distances.select(Axis(0), &places));
        match queries {
            Some(queries) => waiting.queries.push(queries.select(&places)),
            None => waiting.rows.extend(numbers),
        }
        if waiting.queries() < TOGETHER && waiting.numbers() < WAITING {
            return Ok(());
        }
        let waiting = std::mem::take(waiting);
        drop(sample);
        recall.measure(waiting, held, control)
    }

    /// Whether [`SearchMetrics::finish`] has anything to do.
    pub(super) fn is_unfinished(&self) -> bool {
        let waiting = |recall: &Arc<Recall>| recall.sample().map(|sample| sample.waiting.queries());
        let waiting = self.recall.as_ref().map(waiting);
        waiting.is_some_and(|waiting| waiting.unwrap_or(0) > 0)
    }

    /// Compares what still waits with all rows: to be called when the last query has its answer.
    pub(super) fn finish(&self, held: &HeldRows, control: &dyn Control) -> Result<()> {
        let Some(recall) = &self.recall else {
            return Ok(());
        };
        let waiting = std::mem::take(&mut recall.sample()?.waiting);
        recall.measure(waiting, held, control)
    }
}

impl Recall {
    fn sample(&self) -> Result<MutexGuard<'_, Sample>> {
        (self.sample.lock()).map_err(|_| internal_datafusion_err!("a search ended in a panic"))
    }

    fn measure(&self, waiting: Waiting, held: &HeldRows, control: &dyn Control) -> Result<()> {
        let Waiting {
            rows,
            queries,
            found,
        } = waiting;
        if found.is_empty() {
            return Ok(());
        }
        let found: Vec<_> = found.iter().map(|found| found.view()).collect();
        let found = concatenate(Axis(0), &found)
            .map_err(|error| internal_datafusion_err!("answers differ in length: {error}"))?;
        let hits = if queries.is_empty() {
            held.other_hits(&rows, found.view(), control)?
        } else {
            held.hits(&Matrix::concatenate(&queries)?, found.view(), control)?
        };
        self.ratio.add_part(hits);
        self.ratio.add_total(found.len());
        Ok(())
    }
}

impl Waiting {
    fn queries(&self) -> usize {
        self.found.iter().map(Array2::nrows).sum()
    }

    fn numbers(&self) -> usize {
        let found: usize = self.found.iter().map(Array2::len).sum();
        let queries = self.queries.iter().map(Matrix::dim);
        found + queries.map(|(rows, width)| rows * width).sum::<usize>()
    }
}
