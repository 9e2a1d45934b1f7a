//! Heads and tiles in parallel.
//!
//! A tile is computed by one thread and tiles do not depend on the threads, so neither do the results.

use std::mem::replace;
use std::ops::Range;

use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::*;

use crate::Result;
use crate::mask::Mask;
use crate::packed::{Packed, VECTOR};
use crate::real::Real;
use crate::tile::attend_tile;
use crate::tiles::{Tile, tiles, union};
use crate::workspace::{TileMemory, Workspace};

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
pub(crate) fn attend_heads<'a, T: Real>(
    heads: Vec<(Head<'a, T>, usize, ArrayViewMut2<'a, T>)>,
    visible: &(dyn Fn(usize) -> Range<usize> + Sync),
) -> Result<Vec<Vec<bool>>> {
    let Some((first, ..)) = heads.first() else {
        return Ok(Vec::new());
    };
    let count = heads.len();
    let tiles = tiles(first.queries.nrows(), first.keys.nrows(), visible);
    let packed = range_to_pack(first, &tiles);
    let attend = |sharing: HeadsOfKeys<'a, T>| {
        let Some((first, _)) = sharing.first() else {
            return Vec::new();
        };
        let panels = packed.clone().map(|range| Packed::new(first.keys, &range));
        let mut tasks = Vec::with_capacity(sharing.len() * tiles.len());
        for (head, mut rest) in sharing {
            for tile in &tiles {
                let (output, below) = rest.split_at(Axis(0), tile.queries.len());
                tasks.push((head.clone(), tile, output));
                rest = below;
            }
        }
        let attend = |(head, tile, output)| {
            let kept =
                |workspace: &mut Workspace<T>| replace(&mut workspace.tile, TileMemory::new());
            let mut memory = T::workspace().with_borrow_mut(kept);
            let attended = attend_tile(&head, panels.as_ref(), tile, visible, output, &mut memory);
            T::workspace().with_borrow_mut(|workspace| workspace.tile = memory);
            attended
        };
        let attended = in_parallel(tasks, attend);
        if let Some(panels) = panels {
            panels.give_back();
        }
        attended
    };
    // One error after the other: the first head's is the one that is told.
    let mut attended = in_parallel(by_keys(heads), attend).into_iter().flatten();
    let of_head = |_| {
        let tiles = attended.by_ref().take(tiles.len());
        Ok(tiles.collect::<Result<Vec<_>>>()?.concat())
    };
    (0..count).map(of_head).collect()
}

/// Heads of queries that read the same keys, and their outputs.
type HeadsOfKeys<'a, T> = Vec<(Head<'a, T>, ArrayViewMut2<'a, T>)>;

fn by_keys<'a, T: Real>(
    heads: Vec<(Head<'a, T>, usize, ArrayViewMut2<'a, T>)>,
) -> Vec<HeadsOfKeys<'a, T>> {
    let mut groups: Vec<HeadsOfKeys<'a, T>> = Vec::with_capacity(heads.len());
    let mut last = None;
    for (head, kv_head, output) in heads {
        match groups.last_mut() {
            Some(group) if last == Some(kv_head) => group.push((head, output)),
            _ => groups.push(vec![(head, output)]),
        }
        last = Some(kv_head);
    }
    groups
}

/// The results in the order of the tasks. One task stays on this thread.
fn in_parallel<I: Send, O: Send>(tasks: Vec<I>, work: impl Fn(I) -> O + Sync + Send) -> Vec<O> {
    if tasks.len() == 1 {
        tasks.into_iter().map(work).collect()
    } else {
        tasks.into_par_iter().map(work).collect()
    }
}

/// The keys that tiles read, unless so few of them are read that a copy would not pay.
fn range_to_pack<T>(head: &Head<'_, T>, tiles: &[Tile]) -> Option<Range<usize>> {
    let range = tiles.iter().fold(0..0, |all, tile| union(&all, &tile.keys));
    let many = tiles.iter().filter(|tile| tile.queries.len() >= VECTOR);
    let read: usize = many.map(|tile| tile.keys.len()).sum();
    (read >= range.len() && !head.keys.is_empty()).then_some(range)
}
