//! How much a graph finds of what is there.

use std::time::Instant;

use rayon::prelude::*;

use super::search::{Ranked, Searcher, distance};
use super::{Hnsw, Recall, search};
use crate::control::stop_if_cancelled;
use crate::sample::row_hash;
use crate::{Control, Result};

/// See [`Hnsw::recall`]. A row that was found counts if it is as near as the k-th exact one: of rows as near
/// as one another any will do.
pub(super) fn recall(
    index: &Hnsw,
    queries: usize,
    k: usize,
    ef_values: &[usize],
    seed: u64,
    control: &dyn Control,
) -> Result<Vec<Recall>> {
    let rows = sample(index, queries, seed);
    let k = k.min(index.len().saturating_sub(1));
    let exact: Result<Vec<Vec<Ranked>>> = rows
        .par_iter()
        .map_init(
            || Searcher::new(index),
            |searcher, &row| {
                stop_if_cancelled(control)?;
                let query = index.vector(row as usize);
                searcher.scan(query, k, &|other| other != row);
                Ok(searcher.ranked().to_vec())
            },
        )
        .collect();
    let exact = exact?;
    let query = |place: usize| {
        let row = rows[place];
        (index.vector(row as usize).into(), Some(row))
    };
    let metric = index.metric();
    let measure = |&ef: &usize| {
        let started = Instant::now();
        let found = search::search_all(index, rows.len(), &query, (k, ef), control)?;
        let seconds = started.elapsed().as_secs_f64();
        let pairs = exact.iter().zip(found.distances.rows());
        let right: usize = pairs
            .map(|(exact, found)| {
                let Some(&(key, _)) = exact.last() else {
                    return 0;
                };
                let farthest = distance(metric, key);
                let near = |&&found: &&f64| match metric {
                    crate::Metric::InnerProduct => found >= farthest,
                    _ => found <= farthest,
                };
                found.iter().filter(near).count()
            })
            .sum();
        Ok(Recall {
            ef,
            recall: if k == 0 {
                1.0
            } else {
                right as f64 / (rows.len() * k) as f64
            },
            queries_per_second: rows.len() as f64 / seconds,
        })
    };
    ef_values.iter().map(measure).collect()
}

/// The rows with the smallest hashes.
fn sample(index: &Hnsw, count: usize, seed: u64) -> Vec<u32> {
    let hash = |row: u32| (row_hash(seed, index.vector(row as usize)), row);
    let rows = 0..index.len() as u32;
    let mut hashed: Vec<(u64, u32)> = rows.into_par_iter().map(hash).collect();
    hashed.par_sort_unstable();
    hashed.into_iter().take(count).map(|(_, row)| row).collect()
}
