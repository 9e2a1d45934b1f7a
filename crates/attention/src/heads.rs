//! Heads and tiles in parallel.
//!
//! A tile is computed by one thread and tiles do not depend on the threads, so neither do the results.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::*;

use crate::Result;
use crate::mask::Mask;
use crate::packed::{Packed, VECTOR};
use crate::real::Real;
use crate::tile::{Workspace, attend_tile};
use crate::tiles::{Tile, tiles, union};

/// One head, its shapes checked.
#[derive(Clone)]
pub(crate) struct Head<'a, T> {
    pub(crate) queries: ArrayView2<'a, T>,
    pub(crate) keys: ArrayView2<'a, T>,
    pub(crate) values: ArrayView2<'a, T>,
    /// Added to the scaled scores of each key
    pub(crate) bias: Option<&'a [T]>,
    pub(crate) mask: Mask<'a, T>,
    pub(crate) scale: f64,
    pub(crate) softcap: f64,
    /// Whether scores that are all −∞, although no mask asked for it, are an error. Else they are no weight, which
    /// only a caller may ask for who tells zeros from a mean.
    pub(crate) refuses_minus_infinity: bool,
    /// For errors
    pub(crate) number: Option<usize>,
}

/// All heads, each with the number of its keys' head (they ascend) and its output, in parallel over heads
/// and tiles; every head has as many queries and keys. Returns for each head and query whether any key has
/// a weight.
pub(crate) fn attend_heads<T: Real>(
    heads: Vec<(Head<'_, T>, usize, ArrayViewMut2<'_, T>)>,
    visible: &(dyn Fn(usize) -> Range<usize> + Sync),
) -> Result<Vec<Vec<bool>>> {
    let Some((first, ..)) = heads.first() else {
        return Ok(Vec::new());
    };
    let (queries, count) = (first.queries.nrows(), heads.len());
    let tiles = tiles(queries, first.keys.nrows(), visible);
    let packed = pack(&heads, &tiles);
    let mut tasks = Vec::with_capacity(count * tiles.len());
    for (head, kv_head, mut rest) in heads {
        for tile in &tiles {
            let (output, below) = rest.split_at(Axis(0), tile.queries.len());
            tasks.push((head.clone(), packed.get(kv_head), tile, output));
            rest = below;
        }
    }
    let workspaces = Mutex::new(Vec::new());
    let attend = |(head, packed, tile, output)| {
        // Handed on from tile to tile: rayon's own per-job state would be allocated far more often.
        let spare = lock(&workspaces).pop();
        let mut workspace = spare.unwrap_or_else(Workspace::new);
        let attended = attend_tile(&head, packed, tile, visible, output, &mut workspace);
        lock(&workspaces).push(workspace);
        attended
    };
    let attended: Vec<Result<Vec<bool>>> = if tasks.len() == 1 {
        tasks.into_iter().map(attend).collect()
    } else {
        tasks.into_par_iter().map(attend).collect()
    };
    let mut attended = attended.into_iter();
    let of_head = |_| {
        let tiles = attended.by_ref().take(tiles.len());
        Ok(tiles.collect::<Result<Vec<_>>>()?.concat())
    };
    (0..count).map(of_head).collect()
}

/// The keys of every head of keys, unless so few of them are read that a copy would not pay.
fn pack<T: Real>(
    heads: &[(Head<'_, T>, usize, ArrayViewMut2<'_, T>)],
    tiles: &[Tile],
) -> Vec<Packed<T>> {
    let range = tiles.iter().fold(0..0, |all, tile| union(&all, &tile.keys));
    let many = tiles.iter().filter(|tile| tile.queries.len() >= VECTOR);
    let read: usize = many.map(|tile| tile.keys.len()).sum();
    let empty = heads.iter().any(|(head, ..)| head.keys.is_empty());
    if read < range.len() || empty {
        return Vec::new();
    }
    let mut packed = Vec::new();
    for (head, kv_head, _) in heads {
        if *kv_head == packed.len() {
            packed.push(Packed::new(head.keys, &range));
        }
    }
    packed
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
