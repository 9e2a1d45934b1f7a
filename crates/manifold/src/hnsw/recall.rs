//! How much a graph finds of what is there.

use std::time::Instant;

use rayon::prelude::*;

use super::beam::Seen;
use super::search::{distance, push_rows, sort};
use super::{Hnsw, search};
use crate::control::stop_if_cancelled;
use crate::sample::row_hash;
use crate::{Control, ManifoldError, Result};

/// How many of the k nearest rows a search finds, on average over a sample of queries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recall {
    /// `ef_search`
    pub ef: usize,
    /// From 0 to 1.
    pub recall: f64,
    /// With the threads that were there.
    pub queries_per_second: f64,
}

/// Rows of an index that its recall is measured on, and what exact search finds for them: see
/// [`Hnsw::recall_sample`].
#[derive(Debug, Clone, PartialEq)]
pub struct RecallSample {
    rows: Vec<u32>,
    k: usize,
    /// Of each row, the exact key of its k-th nearest other row.
    exact: Vec<f64>,
}

/// See [`Hnsw::recall_sample`].
pub(super) fn draw(
    index: &Hnsw,
    queries: usize,
    k: usize,
    seed: u64,
    control: &dyn Control,
) -> Result<RecallSample> {
    let rows = sample(index, queries, seed);
    let k = k.min(index.len().saturating_sub(1));
    let exact: Result<Vec<Vec<f64>>> = rows
        .par_chunks(QUERIES)
        .map(|rows| {
            stop_if_cancelled(control)?;
            Ok(farthest(index, rows, k))
        })
        .collect();
    let exact = exact?.concat();
    Ok(RecallSample { rows, k, exact })
}

/// See [`Hnsw::recall`]. A row that was found counts if it is as near as the k-th exact one: of rows as near
/// as one another any will do.
pub(super) fn recall(
    index: &Hnsw,
    sample: &RecallSample,
    ef_values: &[usize],
    control: &dyn Control,
) -> Result<Vec<Recall>> {
    let RecallSample { rows, k, exact } = sample;
    let k = *k;
    if rows.iter().any(|&row| row as usize >= index.len()) {
        return Err(ManifoldError::InvalidParameter {
            name: "sample",
            value: "rows of another index".to_owned(),
            requirement: format!("drawn from the index's {} rows", index.len()),
        });
    }
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
            .map(|(&key, found)| {
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

/// Queries that are compared with all rows together, and rows that stay near the processor meanwhile.
const QUERIES: usize = 16;
const ROWS: usize = 256;

/// The exact key of the k-th nearest other row of each of `rows`. Sums in `f32` propose some more than k.
fn farthest(index: &Hnsw, rows: &[u32], k: usize) -> Vec<f64> {
    let space = index.space();
    let most = k + 1 + k / 4 + 8;
    let mut paddings = vec![Vec::new(); rows.len()];
    let vectors = rows.iter().map(|&row| index.vector(row as usize));
    let queries: Vec<_> = vectors
        .zip(&mut paddings)
        .map(|(vector, padded)| search::prepare(space, vector, padded))
        .collect();
    let mut pools = vec![Vec::new(); rows.len()];
    let all: Vec<u32> = (0..index.vertices.len() as u32).collect();
    let mut distances = [0.0; ROWS];
    for ids in all.chunks(ROWS) {
        let distances = &mut distances[..ids.len()];
        for ((space, query), pool) in queries.iter().zip(&mut pools) {
            space.distances(*query, ids, distances);
            for (&id, &distance) in ids.iter().zip(&*distances) {
                keep(pool, Seen::new(distance, id), most);
            }
        }
    }
    let kth = |(&row, pool): (&u32, &Vec<Seen>)| {
        let (query, mut ranked) = (index.vector(row as usize), Vec::new());
        for seen in pool {
            let others = |other: u32| other != row;
            push_rows(index, &space, query, seen.vertex(), k, &others, &mut ranked);
        }
        sort(&mut ranked);
        let last = k.checked_sub(1).and_then(|last| ranked.get(last));
        last.map_or(f64::INFINITY, |&(key, _)| key)
    };
    rows.iter().zip(&pools).map(kth).collect()
}

/// The `most` nearest, nearest first.
fn keep(pool: &mut Vec<Seen>, seen: Seen, most: usize) {
    if pool.len() == most && pool[most - 1] < seen {
        return;
    }
    pool.truncate(most - 1);
    let place = pool.partition_point(|&other| other < seen);
    pool.insert(place, seen);
}

/// The rows with the smallest hashes.
fn sample(index: &Hnsw, count: usize, seed: u64) -> Vec<u32> {
    let hash = |row: u32| (row_hash(seed, index.vector(row as usize)), row);
    let rows = 0..index.len() as u32;
    let mut hashed: Vec<(u64, u32)> = rows.into_par_iter().map(hash).collect();
    hashed.par_sort_unstable();
    hashed.into_iter().take(count).map(|(_, row)| row).collect()
}
