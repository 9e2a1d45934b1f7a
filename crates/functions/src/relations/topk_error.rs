//! What attention over few keys misses of attention over all.

use std::sync::{Arc, Mutex};

use datafusion::common::{Result, internal_datafusion_err};
use datafusion::physical_plan::metrics::{
    Count, ExecutionPlanMetricsSet, MetricBuilder, MetricType, MetricValue, RatioMetrics,
};
use lakefold_manifold::Nearest;

use super::measured::Chosen;
use super::topk_keys::{Attended, TopKeys};
use crate::features::Matrix;

/// Metrics count whole numbers: shares are counted in billionths.
const UNIT: f64 = 1e9;

/// What EXPLAIN ANALYZE shows of it.
#[derive(Debug, Clone)]
pub(super) struct ErrorMetrics {
    measured: Count,
    chosen: Arc<Mutex<Chosen>>,
    /// The mean of ‖found − exact‖ / ‖exact‖.
    error: RatioMetrics,
    largest: RatioMetrics,
    /// The mean share of all weight.
    covered: RatioMetrics,
}

impl ErrorMetrics {
    pub(super) fn new(metrics: &ExecutionPlanMetricsSet) -> Self {
        let builder = || {
            MetricBuilder::new(metrics)
                .with_type(MetricType::Summary)
                .with_partition(0)
        };
        let ratio = |name: &'static str| {
            let ratio_metrics = RatioMetrics::new().with_display_raw_values(false);
            builder().build(MetricValue::Ratio {
                name: name.into(),
                ratio_metrics: ratio_metrics.clone(),
            });
            ratio_metrics
        };
        Self {
            measured: builder().counter("measured_queries", 0),
            chosen: Arc::default(),
            error: ratio("sampled_error"),
            largest: ratio("largest_sampled_error"),
            covered: ratio("sampled_weight_covered"),
        }
    }

    /// Compares some of the queries, `first` of which came before these, with attention over all keys.
    pub(super) fn measure(
        &self,
        first: usize,
        keys: &TopKeys,
        (queries, nearest): (&Matrix<'_>, &Nearest),
        attended: &Attended,
    ) -> Result<()> {
        let (width, count) = (keys.width(), nearest.ids.nrows());
        let chosen = self.chosen.lock();
        let mut chosen =
            chosen.map_err(|_| internal_datafusion_err!("a search ended in a panic"))?;
        let numbers = chosen.of(first..first + count, keys.held());
        drop(chosen);
        for number in numbers {
            let place = number - first;
            let found = &attended.means[place * width..][..width];
            let all = keys.held().all_distances(queries, place)?;
            let missed = keys.missed(&all, nearest, place, found)?;
            let billionths = |share: f64| (share.min(1e3) * UNIT).round() as usize;
            self.measured.add(1);
            for (ratio, share) in [(&self.error, missed.error), (&self.covered, missed.covered)] {
                ratio.add_part(billionths(share));
                ratio.add_total(UNIT as usize);
            }
            let largest = self.largest.part().max(billionths(missed.error));
            self.largest.set_part(largest);
            self.largest.set_total(UNIT as usize);
        }
        Ok(())
    }
}
