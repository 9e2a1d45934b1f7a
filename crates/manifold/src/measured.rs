//! The generic code of neighbours, quality, samples, intrinsic dimension and PCA, compiled in this crate, where it is
//! optimised in every profile.

use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2};

use crate::auto::{Choice, ChoiceOptions};
use crate::intrinsic_dimension::{DimensionOptions, IntrinsicDimension};
use crate::neighbors::{
    ApproximateIndex, ExactIndex, Metric, Nearest, approximate, exact, measure,
};
use crate::pca::{Pca, PcaAccumulator, PcaModel};
use crate::quality::{Quality, QualityOptions};
use crate::{Control, Hnsw, HnswOptions, Lle, Result};

/// Part of what keeps [`crate::Feature`] closed.
pub trait Measured: Sized {
    fn hash_row(seed: u64, row: ArrayView1<'_, Self>) -> u64;
    fn smallest_hashes(features: ArrayView2<'_, Self>, seed: u64, count: usize) -> Vec<usize>;
    fn nearest_rows(
        features: ArrayView2<'_, Self>,
        k: usize,
        metric: Metric,
        control: &dyn Control,
    ) -> Result<Nearest>;
    fn exact_index(features: Array2<Self>, metric: Metric) -> Result<ExactIndex<Self>>;
    fn index_nearest(
        index: &ExactIndex<Self>,
        queries: ArrayView2<'_, Self>,
        k: usize,
        control: &dyn Control,
    ) -> Result<Nearest>;
    fn index_nearest_others(
        index: &ExactIndex<Self>,
        rows: Range<usize>,
        k: usize,
        control: &dyn Control,
    ) -> Result<Nearest>;
    fn index_all_distances(
        index: &ExactIndex<Self>,
        query: ArrayView1<'_, Self>,
    ) -> Result<Vec<f64>>;
    fn approximate_index(
        features: Array2<Self>,
        metric: Metric,
        options: &HnswOptions,
        ef_search: usize,
        control: &dyn Control,
    ) -> Result<ApproximateIndex<Self>>;
    fn approximate_nearest(
        index: &ApproximateIndex<Self>,
        queries: ArrayView2<'_, Self>,
        k: usize,
        control: &dyn Control,
    ) -> Result<Nearest>;
    fn approximate_nearest_others(
        index: &ApproximateIndex<Self>,
        rows: Range<usize>,
        k: usize,
        control: &dyn Control,
    ) -> Result<Nearest>;
    fn approximate_all_distances(
        index: &ApproximateIndex<Self>,
        query: ArrayView1<'_, Self>,
    ) -> Result<Vec<f64>>;
    fn approximate_hits(
        index: &ApproximateIndex<Self>,
        queries: ArrayView2<'_, Self>,
        found: ArrayView2<'_, f64>,
        control: &dyn Control,
    ) -> Result<usize>;
    fn approximate_other_hits(
        index: &ApproximateIndex<Self>,
        rows: &[usize],
        found: ArrayView2<'_, f64>,
        control: &dyn Control,
    ) -> Result<usize>;
    /// The values, if they are of the type that graphs hold.
    fn as_f32(values: &[Self]) -> Option<&[f32]>;
    /// A row of a graph that holds rows of this type, nothing of another.
    fn of_graph(graph: &Hnsw, row: usize) -> &[Self];
    fn quality(
        features: ArrayView2<'_, Self>,
        embedding: ArrayView2<'_, f64>,
        options: &QualityOptions,
        control: &dyn Control,
    ) -> Result<Quality>;
    fn reconstruction_error(
        features: ArrayView2<'_, Self>,
        n_neighbors: usize,
        reg: f64,
        control: &dyn Control,
    ) -> Result<Vec<f64>>;
    fn choose(
        features: ArrayView2<'_, Self>,
        candidates: &[Lle],
        options: &ChoiceOptions,
        control: &dyn Control,
    ) -> Result<Choice>;
    fn intrinsic_dimension(
        features: ArrayView2<'_, Self>,
        options: &DimensionOptions,
        control: &dyn Control,
    ) -> Result<IntrinsicDimension>;
    fn pca_fit(
        pca: &Pca,
        features: ArrayView2<'_, Self>,
        control: &dyn Control,
    ) -> Result<PcaModel>;
    fn pca_add(
        accumulator: &mut PcaAccumulator,
        features: ArrayView2<'_, Self>,
        control: &dyn Control,
    ) -> Result<()>;
    fn pca_transform(
        model: &PcaModel,
        features: ArrayView2<'_, Self>,
        control: &dyn Control,
    ) -> Result<Array2<f64>>;
}

macro_rules! compile_for {
    ($number:ty, $as_f32:expr, $of_graph:expr) => {
        impl Measured for $number {
            fn hash_row(seed: u64, row: ArrayView1<'_, Self>) -> u64 {
                crate::sample::hash_values(seed, row)
            }

            fn smallest_hashes(
                features: ArrayView2<'_, Self>,
                seed: u64,
                count: usize,
            ) -> Vec<usize> {
                crate::sample::smallest_by(features, seed, count, |a, b| a.cmp(&b))
            }

            fn nearest_rows(
                features: ArrayView2<'_, Self>,
                k: usize,
                metric: Metric,
                control: &dyn Control,
            ) -> Result<Nearest> {
                exact::rows(features, k, metric, control)
            }

            fn exact_index(features: Array2<Self>, metric: Metric) -> Result<ExactIndex<Self>> {
                exact::index(features, metric)
            }

            fn index_nearest(
                index: &ExactIndex<Self>,
                queries: ArrayView2<'_, Self>,
                k: usize,
                control: &dyn Control,
            ) -> Result<Nearest> {
                exact::search(index, queries, k, control)
            }

            fn index_nearest_others(
                index: &ExactIndex<Self>,
                rows: Range<usize>,
                k: usize,
                control: &dyn Control,
            ) -> Result<Nearest> {
                exact::search_others(index, rows, k, control)
            }

            fn index_all_distances(
                index: &ExactIndex<Self>,
                query: ArrayView1<'_, Self>,
            ) -> Result<Vec<f64>> {
                exact::all_distances(index, query)
            }

            fn approximate_index(
                features: Array2<Self>,
                metric: Metric,
                options: &HnswOptions,
                ef_search: usize,
                control: &dyn Control,
            ) -> Result<ApproximateIndex<Self>> {
                approximate::index(features, metric, options, ef_search, control)
            }

            fn approximate_nearest(
                index: &ApproximateIndex<Self>,
                queries: ArrayView2<'_, Self>,
                k: usize,
                control: &dyn Control,
            ) -> Result<Nearest> {
                approximate::search(index, queries, k, control)
            }

            fn approximate_nearest_others(
                index: &ApproximateIndex<Self>,
                rows: Range<usize>,
                k: usize,
                control: &dyn Control,
            ) -> Result<Nearest> {
                approximate::search_others(index, rows, k, control)
            }

            fn approximate_all_distances(
                index: &ApproximateIndex<Self>,
                query: ArrayView1<'_, Self>,
            ) -> Result<Vec<f64>> {
                approximate::all_distances(index, query)
            }

            fn approximate_hits(
                index: &ApproximateIndex<Self>,
                queries: ArrayView2<'_, Self>,
                found: ArrayView2<'_, f64>,
                control: &dyn Control,
            ) -> Result<usize> {
                measure::hits(index, queries, found, control)
            }

            fn approximate_other_hits(
                index: &ApproximateIndex<Self>,
                rows: &[usize],
                found: ArrayView2<'_, f64>,
                control: &dyn Control,
            ) -> Result<usize> {
                measure::other_hits(index, rows, found, control)
            }

            fn as_f32(values: &[Self]) -> Option<&[f32]> {
                $as_f32(values)
            }

            fn of_graph(graph: &Hnsw, row: usize) -> &[Self] {
                $of_graph(graph, row)
            }

            fn quality(
                features: ArrayView2<'_, Self>,
                embedding: ArrayView2<'_, f64>,
                options: &QualityOptions,
                control: &dyn Control,
            ) -> Result<Quality> {
                crate::quality::measure(features, embedding, options, control)
            }

            fn reconstruction_error(
                features: ArrayView2<'_, Self>,
                n_neighbors: usize,
                reg: f64,
                control: &dyn Control,
            ) -> Result<Vec<f64>> {
                crate::quality::reconstruction::errors(features, n_neighbors, reg, control)
            }

            fn choose(
                features: ArrayView2<'_, Self>,
                candidates: &[Lle],
                options: &ChoiceOptions,
                control: &dyn Control,
            ) -> Result<Choice> {
                crate::auto::choose(features, candidates, options, control)
            }

            fn intrinsic_dimension(
                features: ArrayView2<'_, Self>,
                options: &DimensionOptions,
                control: &dyn Control,
            ) -> Result<IntrinsicDimension> {
                crate::intrinsic_dimension::estimate(features, options, control)
            }

            fn pca_fit(
                pca: &Pca,
                features: ArrayView2<'_, Self>,
                control: &dyn Control,
            ) -> Result<PcaModel> {
                crate::pca::fit(pca, features, control)
            }

            fn pca_add(
                accumulator: &mut PcaAccumulator,
                features: ArrayView2<'_, Self>,
                control: &dyn Control,
            ) -> Result<()> {
                crate::pca::add(accumulator, features, control)
            }

            fn pca_transform(
                model: &PcaModel,
                features: ArrayView2<'_, Self>,
                control: &dyn Control,
            ) -> Result<Array2<f64>> {
                crate::pca::transform(model, features, control)
            }
        }
    };
}
compile_for!(f32, Some, Hnsw::vector);
compile_for!(f64, |_| None, |_, _| &[]);
