//! From rows to an index.

use ndarray::ArrayView2;
use rayon::prelude::*;

use super::graph::Graph;
use super::part::Part;
use super::{
    Hnsw, HnswAudit, HnswOptions, LARGEST_COUNT, audit, build, graph, padded, search, space,
    vertices,
};
use crate::control::{Budget, Meter, stop_if_cancelled};
use crate::points::check;
use crate::{Control, ManifoldError, Metric, Phase, Result};

impl Hnsw {
    /// Bytes that building takes, with the index that it gives; without the caller's rows.
    #[must_use]
    pub fn predicted_bytes(rows: usize, dimensions: usize, options: &HnswOptions) -> usize {
        let vectors = padded(dimensions) * size_of::<f32>();
        let lists = (graph::stride(2 * options.m)
            + graph::stride(options.m) / (options.m - 1).max(1))
            * size_of::<u32>();
        let maps = 3 * size_of::<u32>() + size_of::<f32>();
        // The edges of a batch, three times, with the lists that they change.
        let batch = options.m * 4 * 16 / 50 + 4 * 2 * options.m * size_of::<u32>() / 50;
        let threads = rayon::current_num_threads();
        rows * (vectors + lists + maps + batch + vertices::BYTES_PER_ROW + threads)
            + threads * options.ef_construction * 64
    }

    /// An index of the rows of `features`, shape (n, D), and what was mended in it. The same rows, options
    /// and metric give the same bits, whatever the number of threads; another order of the rows gives
    /// the same graph.
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] for options out of range and rows without dimensions;
    /// [`ManifoldError::NonFinite`] for unusable values; [`ManifoldError::ZeroVector`] under
    /// [`Metric::Cosine`]; [`ManifoldError::Memory`] and [`ManifoldError::Cancelled`].
    pub fn build(
        features: ArrayView2<'_, f32>,
        metric: Metric,
        options: &HnswOptions,
        control: &dyn Control,
    ) -> Result<(Self, HnswAudit)> {
        options.check()?;
        check(features)?;
        search::check_directions(metric, features)?;
        let budget = Budget::new(control);
        budget.reserve(
            "a neighbour index",
            Self::predicted_bytes(features.nrows(), features.ncols(), options),
        )?;
        stop_if_cancelled(control)?;
        let mut index = Self::without_edges(features, metric, options)?;
        let mut graph = std::mem::replace(&mut index.graph, Graph::empty(options.m));
        let count = index.vertices.len() as u64;
        let meter = Meter::new(control, Phase::Index, count);
        build::insert_all(&mut graph, &index.space(), options.ef_construction, &meter)?;
        let meter = Meter::new(control, Phase::Audit, count);
        let audit = audit::mend(&mut graph, &index.space(), &meter)?;
        index.graph = graph;
        Ok((index, audit))
    }

    fn without_edges(
        features: ArrayView2<'_, f32>,
        metric: Metric,
        options: &HnswOptions,
    ) -> Result<Self> {
        let dimensions = features.ncols();
        let (vertices, counts) = vertices::vertices(features, options.m, options.seed);
        if vertices.len() > LARGEST_COUNT {
            return Err(ManifoldError::InvalidParameter {
                name: "features",
                value: format!("{} distinct rows", vertices.len()),
                requirement: format!("at most {LARGEST_COUNT} distinct rows for an index"),
            });
        }
        let stride = padded(dimensions);
        let mut vectors = Part::zeros(vertices.len() * stride);
        let rows = vectors.as_mut_slice().par_chunks_mut(stride).enumerate();
        rows.for_each(|(vertex, padded)| {
            let row = features.row(vertices.rows(vertex as u32)[0] as usize);
            padded.iter_mut().zip(row).for_each(|(out, v)| *out = *v);
        });
        let (scale, factors) = space::factors(metric, vectors.as_slice(), stride);
        Ok(Self {
            options: *options,
            metric,
            dimensions,
            vertices,
            vectors,
            factors: factors.as_slice().into(),
            scale,
            graph: Graph::new(options.m, &counts),
            codes: None,
        })
    }
}
