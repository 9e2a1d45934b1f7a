//! What `EXPLAIN ANALYZE` shows of fits: the seconds of each phase only at its level `dev`.

use std::time::Duration;

use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, Gauge, MetricBuilder, MetricType, MetricValue,
    RatioMetrics, SpillMetrics, Time,
};
use lakefold_manifold::{Diagnostics, Phase};

/// Metrics of one output partition.
#[derive(Debug, Clone)]
pub(crate) struct LleMetrics {
    pub(crate) baseline: BaselineMetrics,
    pub(crate) spill: SpillMetrics,
    fits: Count,
    rows: Count,
    distinct_rows: Count,
    closed_components: Count,
    bridged_edges: Count,
    landmarks: Count,
    /// Of fits whose neighbours were found through a graph, the share that was.
    neighbors_recall: RatioMetrics,
    peak_reserved_bytes: Gauge,
    phases: Vec<(Phase, Time)>,
}

impl LleMetrics {
    pub(crate) fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let summary = || MetricBuilder::new(metrics).with_type(MetricType::Summary);
        let count = |name: &'static str| summary().counter(name, partition);
        let time = |phase: Phase| {
            let time = MetricBuilder::new(metrics).subset_time(format!("{phase}_time"), partition);
            (phase, time)
        };
        let neighbors_recall = RatioMetrics::new().with_display_raw_values(false);
        summary()
            .with_partition(partition)
            .build(MetricValue::Ratio {
                name: "neighbors_recall".into(),
                ratio_metrics: neighbors_recall.clone(),
            });
        Self {
            baseline: BaselineMetrics::new(metrics, partition),
            spill: SpillMetrics::new(metrics, partition),
            fits: count("fits"),
            rows: count("fitted_rows"),
            distinct_rows: count("distinct_rows"),
            closed_components: count("closed_components"),
            bridged_edges: count("bridged_edges"),
            landmarks: count("landmarks"),
            neighbors_recall,
            peak_reserved_bytes: summary().gauge("peak_reserved_bytes", partition),
            phases: Phase::ALL.into_iter().map(time).collect(),
        }
    }

    pub(crate) fn record(&self, diagnostics: &Diagnostics) {
        self.fits.add(1);
        self.rows.add(diagnostics.rows);
        self.distinct_rows.add(diagnostics.distinct_rows);
        self.closed_components.add(diagnostics.closed_components);
        self.bridged_edges.add(diagnostics.bridged_edges);
        self.landmarks.add(diagnostics.landmarks);
        let recall = diagnostics.neighbors_recall.unwrap_or(1.0);
        self.neighbors_recall
            .add_part((recall * 1e6).round() as usize);
        self.neighbors_recall.add_total(1_000_000);
        self.peak_reserved_bytes
            .set_max(diagnostics.peak_reserved_bytes);
        for (phase, seconds) in &diagnostics.seconds {
            let duration = Duration::try_from_secs_f64(*seconds).unwrap_or_default();
            for (_, time) in self.phases.iter().filter(|(known, _)| known == phase) {
                time.add_duration(duration);
            }
        }
    }
}
