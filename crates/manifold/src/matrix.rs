//! The operator A of local blocks, and M = AᵀA as a sparse matrix.

use rayon::prelude::*;

use crate::control::stop_if_cancelled;
use crate::neighbors::Neighbors;
use crate::panel::Panel;
use crate::solver::Operator;
use crate::{Control, Result};

/// Points handled by one thread at a time; fixed, so that sums do not depend on the number of threads.
const CHUNK: usize = 1024;

/// Where the rows and weights of every point's block lie.
pub(crate) struct Layout {
    k: usize,
    /// Whether the block's base is the point itself; otherwise it is the point's nearest neighbour.
    own: Vec<bool>,
    row_start: Vec<usize>,
    weight_start: Vec<usize>,
}

impl Layout {
    /// `blocks` gives each point's (whether the base is the point itself, rows).
    pub(crate) fn new(k: usize, blocks: impl Iterator<Item = (bool, usize)>) -> Self {
        let mut layout = Self {
            k,
            own: Vec::new(),
            row_start: vec![0],
            weight_start: vec![0],
        };
        let (mut rows, mut weights) = (0, 0);
        for (own, count) in blocks {
            rows += count;
            weights += count * (k - usize::from(!own));
            layout.own.push(own);
            layout.row_start.push(rows);
            layout.weight_start.push(weights);
        }
        layout
    }

    pub(crate) fn len(&self) -> usize {
        self.own.len()
    }

    pub(crate) fn k(&self) -> usize {
        self.k
    }

    pub(crate) fn rows(&self) -> usize {
        self.row_start[self.len()]
    }

    pub(crate) fn weights(&self) -> usize {
        self.weight_start[self.len()]
    }

    pub(crate) fn is_own(&self, point: usize) -> bool {
        self.own[point]
    }

    pub(crate) fn weight_start(&self) -> &[usize] {
        &self.weight_start
    }

    pub(crate) fn rows_of(&self, point: usize) -> std::ops::Range<usize> {
        self.row_start[point]..self.row_start[point + 1]
    }

    pub(crate) fn weights_of(&self, point: usize) -> std::ops::Range<usize> {
        self.weight_start[point]..self.weight_start[point + 1]
    }

    /// What [`Deviation`] holds for this layout, without the neighbours themselves.
    pub(crate) fn bytes(&self) -> usize {
        let points = self.len() * (self.k * size_of::<usize>() + 3 * size_of::<usize>() + 1);
        points + (self.weights() + self.rows()) * size_of::<f64>()
    }
}

/// The operator A, a block of rows for every point. A block reaches over the point's neighbours and, unless
/// one of them is its base, over the point itself.
///
/// Every row of A sums to zero, and (A v) is computed as Σⱼ aⱼ (vⱼ − v_base) over the others of the block.
/// The constant vector is then mapped to exact zeros, and a smooth v loses no digits to cancellation:
/// eigenvalues far below the precision of M stay accurate.
///
/// Standard LLE's A is W − I: one row a point, the point its base, W's weights those of the others.
pub(crate) struct Deviation {
    graph: Neighbors,
    layout: Layout,
    /// A block's weights lie others by others, the rows of each together.
    weights: Vec<f64>,
    /// Each row's weight of its base: minus the sum of the others'.
    base_weights: Vec<f64>,
    /// The places in the graph at which each point is somebody's neighbour, ascending.
    column_start: Vec<usize>,
    column_places: Vec<usize>,
}

struct Block<'a> {
    base: usize,
    others: &'a [u32],
    rows: usize,
    weights: &'a [f64],
    base_weights: &'a [f64],
}

impl<'a> Block<'a> {
    /// (point, its weight in every row) of the others.
    fn others(&self) -> impl Iterator<Item = (usize, &'a [f64])> + use<'a> {
        let points = self.others.iter().map(|&j| j as usize);
        // A block without rows has no weights, and nobody looks at its others.
        points.zip(self.weights.chunks_exact(self.rows.max(1)))
    }
}

impl Deviation {
    pub(crate) fn new(graph: Neighbors, layout: Layout, weights: Vec<f64>) -> Self {
        let n = graph.len();
        let mut column_start = vec![0; n + 1];
        for &id in &graph.ids {
            column_start[id as usize + 1] += 1;
        }
        for i in 0..n {
            column_start[i + 1] += column_start[i];
        }
        let mut next = column_start.clone();
        let mut column_places = vec![0; graph.ids.len()];
        for (place, &id) in graph.ids.iter().enumerate() {
            column_places[next[id as usize]] = place;
            next[id as usize] += 1;
        }
        let mut base_weights = vec![0.0; layout.rows()];
        for point in 0..n {
            let sums = &mut base_weights[layout.rows_of(point)];
            for weights in weights[layout.weights_of(point)].chunks_exact(sums.len().max(1)) {
                sums.iter_mut().zip(weights).for_each(|(s, w)| *s -= w);
            }
        }
        Self {
            graph,
            layout,
            weights,
            base_weights,
            column_start,
            column_places,
        }
    }

    fn block(&self, point: usize) -> Block<'_> {
        let neighbors = self.graph.row(point);
        let (base, others) = if self.layout.own[point] {
            (point, neighbors)
        } else {
            (neighbors[0] as usize, &neighbors[1..])
        };
        let rows = self.layout.rows_of(point);
        Block {
            base,
            others,
            rows: rows.len(),
            weights: &self.weights[self.layout.weights_of(point)],
            base_weights: &self.base_weights[rows],
        }
    }

    /// Rows of A.
    pub(crate) fn rows_of(&self, point: usize) -> std::ops::Range<usize> {
        self.layout.rows_of(point)
    }

    /// (point, its weight in each row of the block of `point`) of all that the block reaches over.
    pub(crate) fn entries(&self, point: usize) -> impl Iterator<Item = (usize, &[f64])> + '_ {
        let block = self.block(point);
        std::iter::once((block.base, block.base_weights)).chain(block.others())
    }

    /// (block, the point's weight in each of its rows) of every block that reaches over `point`.
    fn column(&self, point: usize) -> impl Iterator<Item = (usize, &[f64])> + '_ {
        let own = self.layout.own[point].then(|| (point, self.block(point).base_weights));
        let places = &self.column_places[self.column_start[point]..self.column_start[point + 1]];
        own.into_iter().chain(places.iter().map(|&place| {
            let k = self.graph.k;
            let (block, position) = (place / k, place % k);
            let rows = self.layout.rows_of(block);
            let Some(other) = position.checked_sub(usize::from(!self.layout.own[block])) else {
                return (block, &self.base_weights[rows]);
            };
            let start = self.layout.weight_start[block] + other * rows.len();
            (block, &self.weights[start..start + rows.len()])
        }))
    }

    /// Column `a` of the lower triangle of M, diagonal first, rows ascending. `sums` holds n zeros and is
    /// left so.
    fn lower_column(
        &self,
        a: usize,
        sums: &mut [f64],
        seen: &mut [bool],
        column: &mut Vec<(usize, f64)>,
    ) {
        column.clear();
        let mut add = |b: usize, value: f64| {
            if !seen[b] {
                seen[b] = true;
                column.push((b, 0.0));
            }
            sums[b] += value;
        };
        // The diagonal is there even where no block reaches over the point.
        add(a, 0.0);
        for (block, own) in self.column(a) {
            let block = self.block(block);
            if block.base >= a {
                add(block.base, plain_dot(own, block.base_weights));
            }
            for (b, other) in block.others().filter(|&(b, _)| b >= a) {
                add(b, plain_dot(own, other));
            }
        }
        column.sort_unstable_by_key(|&(b, _)| b);
        for (b, value) in column.iter_mut() {
            *value = std::mem::take(&mut sums[*b]);
            seen[*b] = false;
        }
    }
}

impl Operator for Deviation {
    fn len(&self) -> usize {
        self.layout.len()
    }

    fn rows(&self) -> usize {
        self.layout.rows()
    }

    fn null_vector(&self) -> Panel {
        Panel::constant(self.len())
    }

    fn apply(&self, v: &Panel, out: &mut Panel) {
        for j in 0..v.columns() {
            let v = v.column(j);
            let out = by_chunks(out.column_mut(j), &self.layout.row_start, CHUNK);
            out.into_par_iter().enumerate().for_each(|(chunk, out)| {
                let points = chunk * CHUNK..((chunk + 1) * CHUNK).min(self.len());
                let mut rest = out;
                for block in points.map(|point| self.block(point)) {
                    let base = v[block.base];
                    let (out, behind) = rest.split_at_mut(block.rows);
                    rest = behind;
                    if let [out] = out {
                        let others = block.others.iter().zip(block.weights);
                        *out = others.map(|(&j, w)| w * (v[j as usize] - base)).sum();
                        continue;
                    }
                    out.fill(0.0);
                    for (j, weights) in block.others() {
                        let difference = v[j] - base;
                        let rows = out.iter_mut().zip(weights);
                        rows.for_each(|(out, w)| *out += w * difference);
                    }
                }
            });
        }
    }

    fn apply_transposed(&self, u: &Panel, out: &mut Panel) {
        for j in 0..u.columns() {
            let u = u.column(j);
            let out = out.column_mut(j).par_chunks_mut(CHUNK).enumerate();
            out.for_each(|(chunk, out)| {
                for (offset, out) in out.iter_mut().enumerate() {
                    *out = self
                        .column(chunk * CHUNK + offset)
                        .map(|(block, weights)| plain_dot(weights, &u[self.layout.rows_of(block)]))
                        .sum();
                }
            });
        }
    }

    fn largest_diagonal(&self) -> f64 {
        (0..self.len())
            .map(|point| self.column(point).map(|(_, w)| plain_dot(w, w)).sum())
            .fold(0.0, f64::max)
    }

    fn lower_entries_at_most(&self) -> usize {
        let n = self.len();
        let blocks = |a: usize| self.column_start[a + 1] - self.column_start[a] + 1;
        (0..n)
            .map(|a| (blocks(a) * (self.graph.k + 1)).min(n - a))
            .sum()
    }

    fn lower(&self, control: &dyn Control) -> Result<Lower> {
        let n = self.len();
        let chunks: Vec<(Vec<usize>, Vec<u32>, Vec<f64>)> = (0..n.div_ceil(CHUNK))
            .into_par_iter()
            .map_init(
                || (vec![0.0; n], vec![false; n], Vec::new()),
                |(sums, seen, column), chunk| {
                    stop_if_cancelled(control)?;
                    let (mut counts, mut rows, mut values) = (Vec::new(), Vec::new(), Vec::new());
                    for a in chunk * CHUNK..((chunk + 1) * CHUNK).min(n) {
                        self.lower_column(a, sums, seen, column);
                        counts.push(column.len());
                        rows.extend(column.iter().map(|&(b, _)| b as u32));
                        values.extend(column.iter().map(|&(_, value)| value));
                    }
                    Ok((counts, rows, values))
                },
            )
            .collect::<Result<_>>()?;
        let entries = chunks.iter().map(|(_, rows, _)| rows.len()).sum();
        let mut lower = Lower {
            column_start: Vec::with_capacity(n + 1),
            rows: Vec::with_capacity(entries),
            values: Vec::with_capacity(entries),
        };
        lower.column_start.push(0);
        for (counts, rows, values) in chunks {
            for count in counts {
                let last = lower.column_start[lower.column_start.len() - 1];
                lower.column_start.push(last + count);
            }
            lower.rows.extend(rows.into_iter().map(|row| row as usize));
            lower.values.extend(values);
        }
        Ok(lower)
    }
}

/// Cuts `values`, of which those of a point and all behind it begin at `start[point]`, into the parts of
/// `chunk` points each.
pub(crate) fn by_chunks<'a>(
    values: &'a mut [f64],
    start: &[usize],
    chunk: usize,
) -> Vec<&'a mut [f64]> {
    let points = start.len() - 1;
    let mut rest = values;
    (0..points)
        .step_by(chunk)
        .map(|first| {
            let behind = (first + chunk).min(points);
            let (part, others) =
                std::mem::take(&mut rest).split_at_mut(start[behind] - start[first]);
            rest = others;
            part
        })
        .collect()
}

/// A few products, summed in order.
fn plain_dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The lower triangle of a symmetric matrix, column by column, diagonal first.
pub(crate) struct Lower {
    pub(crate) column_start: Vec<usize>,
    pub(crate) rows: Vec<usize>,
    pub(crate) values: Vec<f64>,
}

impl Lower {
    pub(crate) fn len(&self) -> usize {
        self.column_start.len() - 1
    }
}
