//! Attention of many queries, in tiles of scores that never leave the cache.
//!
//! Dao et al., *FlashAttention* (2022), algorithm 1, with the loops exchanged as in *FlashAttention-2*
//! (2023): a tile of queries passes over its keys once, products are done by a matrix kernel, and the
//! softmax is rescaled as the maximum rises. A tile is computed by one thread and tiles do not depend on
//! the threads, so neither do the results.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use ndarray::{ArrayView2, ArrayViewMut2, Axis, s};
use rayon::prelude::*;

use crate::exact_row::exact_row;
use crate::mask::Mask;
use crate::packed::{Packed, VECTOR};
use crate::prepared::Prepared;
use crate::product::{add_product, set_product};
use crate::real::Real;
use crate::simd::widest;
use crate::tile_softmax::TileSoftmax;
use crate::tiles::{KEYS, Tile, clipped, tiles, union};
use crate::{AttentionError, Result, Similarity};

/// Queries, keys and values of one head, and how scores are made of them.
///
/// Views may have any strides: heads that lie side by side in a row are read in place.
#[derive(Debug, Clone)]
pub struct Blocked<'a, T> {
    queries: ArrayView2<'a, T>,
    keys: ArrayView2<'a, T>,
    values: ArrayView2<'a, T>,
    similarity: Similarity,
    scale: Option<f64>,
    softcap: f64,
    mask: Mask<'a, T>,
}

impl<'a, T: Real> Blocked<'a, T> {
    /// `queries` L × d_k, `keys` S × d_k, `values` S × d_v; scores are products with the
    /// default scale, there is no softcap and no mask.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] where the sizes do not fit each other.
    pub fn new(
        queries: ArrayView2<'a, T>,
        keys: ArrayView2<'a, T>,
        values: ArrayView2<'a, T>,
    ) -> Result<Self> {
        AttentionError::check_size("key", "numbers wide", queries.ncols(), keys.ncols())?;
        AttentionError::check_size("value", "rows", keys.nrows(), values.nrows())?;
        Ok(Self {
            similarity: Similarity::Dot,
            scale: None,
            queries,
            keys,
            values,
            softcap: 0.0,
            mask: Mask::None,
        })
    }

    /// What scores are made of; its default scale applies unless one is set. Cosine and distance copy the
    /// queries and keys.
    pub fn similarity(mut self, similarity: Similarity) -> Self {
        self.similarity = similarity;
        self
    }

    /// Scores are multiplied by it.
    ///
    /// # Errors
    /// [`AttentionError::InvalidParameter`] unless it is finite.
    pub fn scale(mut self, scale: f64) -> Result<Self> {
        self.scale = Some(Similarity::Dot.scale(Some(scale), self.queries.ncols())?);
        Ok(self)
    }

    /// Scores s, scaled, become softcap·tanh(s / softcap); 0 means no cap.
    ///
    /// # Errors
    /// [`AttentionError::InvalidParameter`] unless it is finite and not negative.
    pub fn softcap(mut self, softcap: f64) -> Result<Self> {
        self.softcap = check_softcap(softcap)?;
        Ok(self)
    }

    /// Applied to the scores after scale and softcap.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] unless it is queries × keys.
    pub fn mask(mut self, mask: Mask<'a, T>) -> Result<Self> {
        mask.check(self.queries.nrows(), self.keys.nrows())?;
        self.mask = mask;
        Ok(self)
    }

    /// Writes to `output`, L × d_v, the softmax-weighted mean of the values of the keys that `visible` gives
    /// for each query (clipped to the keys that there are), and returns for each query whether any key has
    /// a weight: where none has, the row is zeros. A score of −∞ weighs nothing.
    ///
    /// The time is in proportion to the sum of the ranges' widths (and to L), not to S. Ranges may come in
    /// any order; neighbouring queries are computed together where their ranges overlap.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] for an output of another shape; [`AttentionError::InvalidScore`] and
    /// [`AttentionError::InvalidValue`] for NaN (and a score of +∞) among what a query sees, the first one
    /// in the order of the queries; [`AttentionError::InvalidParameter`] for a softcap of distances, which
    /// are known up to a constant of the query only. The output is then unspecified.
    pub fn attend(
        self,
        visible: impl Fn(usize) -> Range<usize> + Sync,
        output: ArrayViewMut2<'_, T>,
    ) -> Result<Vec<bool>> {
        let expected = (self.queries.nrows(), self.values.ncols());
        if output.dim() != expected {
            return Err(AttentionError::Shape {
                name: "output",
                expected: format!("{} × {}", expected.0, expected.1),
                found: format!("{} × {}", output.nrows(), output.ncols()),
            });
        }
        if self.similarity == Similarity::L2 && self.softcap > 0.0 {
            return Err(AttentionError::InvalidParameter {
                name: "softcap",
                requirement: "0 where similarity is 'l2'".into(),
                found: self.softcap.to_string(),
            });
        }
        let scale = self.similarity.scale(self.scale, self.queries.ncols())?;
        let prepared = Prepared::new(self.similarity, self.queries, self.keys, scale);
        let head = Head {
            queries: prepared.queries.view(),
            keys: prepared.keys.view(),
            values: self.values.view(),
            bias: prepared.bias.as_deref(),
            mask: self.mask.view(),
            scale: prepared.scale,
            softcap: self.softcap,
            number: None,
        };
        let mut attended = attend_heads(vec![(head, 0, output)], &visible)?;
        Ok(attended.pop().unwrap_or_default())
    }
}

/// [`AttentionError::InvalidParameter`] for what no softcap can be.
pub(crate) fn check_softcap(softcap: f64) -> Result<f64> {
    if softcap.is_finite() && softcap >= 0.0 {
        return Ok(softcap);
    }
    Err(AttentionError::InvalidParameter {
        name: "softcap",
        requirement: "a finite number, at least 0 (0: no cap)".into(),
        found: softcap.to_string(),
    })
}

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

/// What a tile needs beside its output.
struct Workspace<T> {
    scores: Vec<T>,
    maxima: Vec<T>,
    sums: Vec<T>,
    corrections: Vec<T>,
}

impl<T> Workspace<T> {
    fn new() -> Self {
        Self {
            scores: Vec::new(),
            maxima: Vec::new(),
            sums: Vec::new(),
            corrections: Vec::new(),
        }
    }
}

fn attend_tile<T: Real>(
    head: &Head<'_, T>,
    packed: Option<&Packed<T>>,
    tile: &Tile,
    visible: &(dyn Fn(usize) -> Range<usize> + Sync),
    mut output: ArrayViewMut2<'_, T>,
    workspace: &mut Workspace<T>,
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
    output.fill(T::zero());
    let queries = head.queries.slice(s![tile.queries.clone(), ..]);
    let mask = head.mask.rows(tile.queries.clone());
    let scale = T::from_f64(head.scale);
    let mut next = tile.keys.start;
    while next < tile.keys.end {
        // Up to the end of a panel.
        let keys = next..((next / KEYS + 1) * KEYS).min(tile.keys.end);
        next = keys.end;
        let block = match packed {
            Some(packed) => packed.block(&keys),
            None => head.keys.slice(s![keys.clone(), ..]).reversed_axes(),
        };
        let shape = (rows, block.ncols());
        workspace.scores.resize(shape.0 * shape.1, T::zero());
        let scores = ArrayViewMut2::from_shape(shape, &mut workspace.scores[..])
            .unwrap_or_else(|_| unreachable!("just resized"));
        set_product(scores, scale, queries, block);
        widest(TileSoftmax {
            scores: &mut workspace.scores,
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
        for (mut row, &correction) in output.rows_mut().into_iter().zip(&workspace.corrections) {
            if correction != T::one() {
                row.map_inplace(|total| *total *= correction);
            }
        }
        let scores = ArrayView2::from_shape(shape, &workspace.scores[..])
            .unwrap_or_else(|_| unreachable!("just resized"));
        let weights = scores.slice_move(s![.., ..keys.len()]);
        let values = head.values.slice(s![keys, ..]);
        add_product(output.view_mut(), weights, values);
    }
    let mut attended = Vec::with_capacity(rows);
    for (place, mut row) in output.rows_mut().into_iter().enumerate() {
        let sum = workspace.sums[place];
        if sum > T::zero() {
            let factor = T::one() / sum;
            row.map_inplace(|total| *total *= factor);
        }
        let finite = sum >= T::zero() && row.iter().all(|value| value.to_f64().is_finite());
        attended.push(if finite {
            sum > T::zero()
        } else {
            let query = tile.queries.start + place;
            exact_row(head, query, visible[place].clone(), row)?
        });
    }
    Ok(attended)
}
