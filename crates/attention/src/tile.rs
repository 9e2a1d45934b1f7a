//! Attention of a tile of queries, whose scores never leave the cache.
//!
//! Dao et al., *FlashAttention* (2022), algorithm 1, with the loops exchanged as in *FlashAttention-2*
//! (2023): a tile of queries passes over its keys once, products are done by a matrix kernel, and the sums
//! are rescaled as the maximum rises.

use std::ops::Range;

use ndarray::{ArrayView2, ArrayViewMut2, s};

use crate::Result;
use crate::exact_row::exact_row;
use crate::heads::Head;
use crate::packed::Packed;
use crate::product::{add_product, set_product};
use crate::real::Real;
use crate::simd::widest;
use crate::tile_rows::{Normalize, Rescale};
use crate::tile_softmax::TileSoftmax;
use crate::tiles::{KEYS, Tile, clipped};
use crate::workspace::TileMemory;

/// Writes the rows of the tile's queries and returns for each whether any key has a weight.
pub(crate) fn attend_tile<T: Real>(
    head: &Head<'_, T>,
    packed: Option<&Packed<T>>,
    tile: &Tile,
    visible: &(dyn Fn(usize) -> Range<usize> + Sync),
    mut output: ArrayViewMut2<'_, T>,
    workspace: &mut TileMemory<T>,
) -> Result<Vec<bool>> {
    let rows = tile.queries.len();
    let visible: Vec<Range<usize>> = tile
        .queries
        .clone()
        .map(|query| clipped(visible(query), head.keys.nrows()))
        .collect();
    let refill = |values: &mut Vec<T>, value| {
        values.clear();
        values.resize(rows, value);
    };
    refill(&mut workspace.maxima, T::NEG_INFINITY);
    refill(&mut workspace.sums, T::zero());
    refill(&mut workspace.corrections, T::one());
    if tile.keys.is_empty() {
        output.fill(T::zero());
    }
    let queries = head.queries.slice(s![tile.queries.clone(), ..]);
    let mask = head.mask.rows(tile.queries.clone());
    let scale = T::from_f64(head.scale);
    let mut next = tile.keys.start;
    while next < tile.keys.end {
        // Up to the end of a panel.
        let keys = next..((next / KEYS + 1) * KEYS).min(tile.keys.end);
        let first = keys.start == tile.keys.start;
        next = keys.end;
        let block = match packed {
            Some(packed) => packed.block(&keys),
            None => head.keys.slice(s![keys.clone(), ..]).reversed_axes(),
        };
        let shape = (rows, block.ncols());
        let size = shape.0 * shape.1;
        if workspace.scores.len() < size {
            workspace.scores.resize(size, T::zero());
        }
        let scores = ArrayViewMut2::from_shape(shape, &mut workspace.scores[..size])
            .unwrap_or_else(|_| unreachable!("just cut"));
        set_product(scores, scale, queries, block);
        widest(TileSoftmax {
            scores: &mut workspace.scores[..size],
            stride: shape.1,
            keys: keys.clone(),
            visible: &visible,
            bias: head.bias,
            softcap: head.softcap,
            mask,
            maxima: &mut workspace.maxima,
            sums: &mut workspace.sums,
            corrections: &mut workspace.corrections,
        });
        let scores = ArrayView2::from_shape(shape, &workspace.scores[..size])
            .unwrap_or_else(|_| unreachable!("just cut"));
        let weights = scores.slice_move(s![.., ..keys.len()]);
        let values = head.values.slice(s![keys, ..]);
        if first {
            set_product(output.view_mut(), T::one(), weights, values);
        } else {
            let corrections = &workspace.corrections;
            widest(Rescale {
                output: &mut output,
                corrections,
            });
            add_product(output.view_mut(), weights, values);
        }
    }
    let mut attended = Vec::with_capacity(rows);
    let finite = widest(Normalize {
        output: &mut output,
        sums: &workspace.sums,
    });
    for (place, row) in output.rows_mut().into_iter().enumerate() {
        let sum = workspace.sums[place];
        let (query, visible) = (tile.queries.start + place, visible[place].clone());
        let finite = sum >= T::zero() && finite[place];
        // No weight although the mask takes not every key out: each score has overflowed to −∞.
        let lost = || sum == T::zero() && head.mask.allows_any(query, visible.clone());
        attended.push(if finite && !lost() {
            sum > T::zero()
        } else {
            exact_row(head, query, visible, row)?
        });
    }
    Ok(attended)
}
