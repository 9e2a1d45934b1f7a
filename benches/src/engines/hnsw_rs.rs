//! The crate `hnsw_rs`.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use hnsw_rs::prelude::{DistL2, Distance, Hnsw, Neighbour};
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use super::squared::Squared;
use super::{Engine, EngineOptions, check_finite};

/// Whose distance is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum DistanceOf {
    /// `DistL2`, by simdeez.
    #[default]
    Crate,
    /// Squared, in fused lanes.
    Own,
}

/// Options of this engine alone.
#[derive(Debug, Clone, Copy, PartialEq, clap::Args)]
pub struct HnswRsOptions {
    /// hnsw_rs: whose distance
    #[arg(long, value_enum, default_value_t)]
    pub distance: DistanceOf,
    /// hnsw_rs: scale of the levels, from 0.2 to 1
    #[arg(long, default_value_t = 1.0)]
    pub level_scale: f64,
    /// hnsw_rs: look at candidates' neighbours too
    #[arg(long)]
    pub extend_candidates: bool,
    /// hnsw_rs: fill lists with what was pruned
    #[arg(long)]
    pub keep_pruned: bool,
    /// hnsw_rs: insert row after row in one thread
    #[arg(long)]
    pub one_by_one: bool,
}

impl Default for HnswRsOptions {
    fn default() -> Self {
        Self {
            distance: DistanceOf::Crate,
            level_scale: 1.0,
            extend_candidates: false,
            keep_pruned: false,
            one_by_one: false,
        }
    }
}

/// The crate's own limit, so that levels are not cut.
const LEVELS: usize = 16;
/// 256 ends the process or, read as a byte, means no edges at all.
const LARGEST_M: usize = 255;

/// `hnsw_rs::Hnsw` under Euclidean distance.
struct HnswRs<D: Distance<f32> + Send + Sync> {
    index: Hnsw<'static, f32, D>,
    dimensions: usize,
    options: HnswRsOptions,
}

/// An index of the rows, shape (n, D).
///
/// # Errors
/// For no rows, values that are not finite (the crate would panic) and options out of range (it would end
/// the process, or go on with others).
pub fn build(
    rows: ArrayView2<'_, f32>,
    options: &EngineOptions,
    own: &HnswRsOptions,
) -> Result<Box<dyn Engine>> {
    let EngineOptions {
        m, ef_construction, ..
    } = *options;
    ensure!(!rows.is_empty(), "hnsw_rs: no rows to build an index of");
    ensure!(
        (2..=LARGEST_M).contains(&m),
        "hnsw_rs: m must be from 2 to {LARGEST_M}, got {m}"
    );
    ensure!(
        ef_construction >= m,
        "hnsw_rs: ef_construction must be at least m ({m}), got {ef_construction}"
    );
    ensure!(
        (0.2..=1.0).contains(&own.level_scale),
        "hnsw_rs: level_scale must be from 0.2 to 1, got {}",
        own.level_scale
    );
    check_finite("rows", rows)?;
    Ok(match own.distance {
        DistanceOf::Crate => Box::new(HnswRs::insert_all(rows, options, own, DistL2)),
        DistanceOf::Own => Box::new(HnswRs::insert_all(rows, options, own, Squared::new())),
    })
}

impl<D: Distance<f32> + Send + Sync> HnswRs<D> {
    fn insert_all(
        rows: ArrayView2<'_, f32>,
        options: &EngineOptions,
        own: &HnswRsOptions,
        distance: D,
    ) -> Self {
        let (m, ef) = (options.m, options.ef_construction);
        let mut index = Hnsw::new(m, rows.nrows(), LEVELS, ef, distance);
        // The crate prints about it, so only when asked to.
        if own.level_scale < 1.0 {
            index.modify_level_scale(own.level_scale);
        }
        index.set_extend_candidates(own.extend_candidates);
        index.set_keeping_pruned(own.keep_pruned);
        let rows_in_order = rows.as_standard_layout();
        let numbered: Vec<(&[f32], usize)> = rows_in_order
            .as_slice()
            .unwrap_or_default()
            .chunks_exact(rows.ncols())
            .zip(0..)
            .collect();
        // Rows that are inserted at the same time as the first one would begin without an entry point.
        let (first, others) = numbered.split_at(1);
        index.insert_slice(first[0]);
        if own.one_by_one {
            others.iter().for_each(|&row| index.insert_slice(row));
        } else {
            index.parallel_insert_slice(&others.to_vec());
        }
        index.set_searching_mode(true);
        Self {
            index,
            dimensions: rows.ncols(),
            options: *own,
        }
    }
}

impl<D: Distance<f32> + Send + Sync> Engine for HnswRs<D> {
    fn search(&self, queries: ArrayView2<'_, f32>, k: usize, ef: usize) -> Result<Array2<i64>> {
        ensure!(k > 0 && ef > 0, "k and ef must be at least 1");
        ensure!(
            queries.ncols() == self.dimensions,
            "queries have {} dimensions, the index {}",
            queries.ncols(),
            self.dimensions
        );
        check_finite("queries", queries)?;
        let queries = queries.as_standard_layout();
        let rows = queries.as_slice().unwrap_or_default();
        let found: Vec<Vec<_>> = rows
            .par_chunks_exact(self.dimensions)
            .map(|query| self.index.search(query, k, ef))
            .collect();
        for (query, found) in found.iter().enumerate() {
            ensure!(
                found.len() == k,
                "query {query}: {} rows found instead of {k}; raise ef or lower k",
                found.len()
            );
        }
        let id = |query: usize, place: usize| found[query][place].get_origin_id() as i64;
        Ok(Array2::from_shape_fn((found.len(), k), |(i, j)| id(i, j)))
    }

    /// From any vertex of the highest level, because the crate does not tell which one it enters by; lists
    /// of one level lead on within it, and every vertex leads to itself one level below. What this does not
    /// reach no search can reach.
    fn unreachable(&self) -> usize {
        let points = self.index.get_point_indexation();
        let lists: HashMap<usize, Vec<Vec<usize>>> = points
            .into_iter()
            .map(|point| {
                let levels = point.get_neighborhood_id();
                let ids =
                    |level: &Vec<Neighbour>| level.iter().map(Neighbour::get_origin_id).collect();
                (point.get_origin_id(), levels.iter().map(ids).collect())
            })
            .collect();
        let top = usize::from(self.index.get_max_level_observed());
        let mut reached: Vec<usize> = points
            .get_layer_iterator(top)
            .map(|point| point.get_origin_id())
            .collect();
        for level in (0..=top).rev() {
            let mut seen = vec![false; self.index.get_nb_point()];
            reached.iter().for_each(|&id| seen[id] = true);
            let mut next = 0;
            while next < reached.len() {
                for &id in &lists[&reached[next]][level] {
                    if !std::mem::replace(&mut seen[id], true) {
                        reached.push(id);
                    }
                }
                next += 1;
            }
        }
        self.index.get_nb_point() - reached.len()
    }

    fn account(&self) -> String {
        let levels = usize::from(self.index.get_max_level_observed()) + 1;
        format!("{:?}, levels: {levels}", self.options)
    }
}
