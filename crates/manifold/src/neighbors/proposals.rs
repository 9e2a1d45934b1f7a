//! Which points a block of matrix products proposes as neighbours.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// Points a block: the products of two blocks fit the second-level cache.
pub(super) const BLOCK: usize = 512;

/// Candidates kept for k neighbours. More of them make a second search rarer.
pub(super) fn kept(k: usize, points: usize) -> usize {
    (k + (k / 2).max(8)).min(points)
}

/// A proposed neighbour. `closeness` is x·y less the point's offset: the larger, the nearer.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    pub(super) closeness: f32,
    pub(super) id: u32,
}

/// The best `keep` candidates of each point of a block, found so far.
pub(super) struct Block {
    keep: usize,
    /// No candidate at or below this is kept any more.
    pub(super) thresholds: Vec<f32>,
    lengths: Vec<u32>,
    candidates: Vec<Candidate>,
}

impl Block {
    pub(super) fn new(points: usize, keep: usize) -> Self {
        let empty = Candidate {
            closeness: 0.0,
            id: 0,
        };
        Self {
            keep,
            thresholds: vec![f32::NEG_INFINITY; points],
            lengths: vec![0; points],
            candidates: vec![empty; points * 2 * keep],
        }
    }

    /// Room for twice as many as are kept makes an insertion cost O(1) on average.
    #[cold]
    fn insert(&mut self, point: usize, candidate: Candidate) {
        let room = 2 * self.keep;
        let own = &mut self.candidates[point * room..(point + 1) * room];
        let length = self.lengths[point] as usize;
        own[length] = candidate;
        self.lengths[point] += 1;
        if length + 1 == room {
            own.select_nth_unstable_by(self.keep - 1, |a, b| b.closeness.total_cmp(&a.closeness));
            self.thresholds[point] = own[self.keep - 1].closeness;
            self.lengths[point] = self.keep as u32;
        }
    }

    /// A first threshold from the products of a point with `offsets.len()` others, all of which may be
    /// proposed: the maxima of as many groups as are at least `keep` bound the best `keep` from below. The
    /// few that are inserted then come past it, and not hundreds that the next ones drive out.
    #[inline(always)]
    fn prime(&mut self, point: usize, products: &[f32], offsets: &[f32], maxima: &mut Vec<f32>) {
        // Twice as many groups make it likely that the best are in groups of their own.
        let groups = (2 * self.keep).next_multiple_of(LANES);
        if self.lengths[point] > 0 || 2 * groups > products.len() {
            return;
        }
        maxima.clear();
        maxima.resize(groups, f32::NEG_INFINITY);
        for (products, offsets) in products.chunks(groups).zip(offsets.chunks(groups)) {
            for ((largest, p), h) in maxima.iter_mut().zip(products).zip(offsets) {
                let closeness = p - h;
                *largest = if closeness > *largest {
                    closeness
                } else {
                    *largest
                };
            }
        }
        let (_, bound, _) = maxima.select_nth_unstable_by(self.keep - 1, |a, b| b.total_cmp(a));
        // Those equal to the bound belong to the best.
        self.thresholds[point] = bound.next_down();
    }

    /// The candidates of a point, closest first.
    pub(super) fn sorted(&mut self, point: usize) -> &[Candidate] {
        let start = point * 2 * self.keep;
        let own = &mut self.candidates[start..start + self.lengths[point] as usize];
        own.sort_unstable_by(|a, b| b.closeness.total_cmp(&a.closeness));
        own
    }
}

/// `products` (row by row) = `rows` · `columns`ᵀ.
pub(super) fn multiply(products: &mut [f32], rows: MatRef<'_, f32>, columns: MatRef<'_, f32>) {
    let out = MatMut::from_row_major_slice_mut(products, rows.nrows(), columns.nrows());
    matmul(
        out,
        Accum::Replace,
        rows,
        columns.transpose(),
        1.0,
        Par::Seq,
    );
}

/// The points along one side of a block of products.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    /// Id of the first.
    pub(super) start: usize,
    pub(super) offsets: &'a [f32],
}

/// `f32` numbers of the widest registers.
const LANES: usize = 16;
/// Comparisons made at once; a group is looked at closely only if one of them succeeds.
const GROUP: usize = 32;

/// With `all`, nothing is skipped.
#[inline(always)]
pub(super) fn propose_rows(
    products: &[f32],
    rows: &mut Block,
    columns: Side<'_>,
    all: bool,
    skip: impl Fn(usize, usize) -> bool,
) {
    let width = columns.offsets.len();
    let mut maxima = Vec::new();
    for (query, products) in products.chunks(width).enumerate() {
        if all {
            rows.prime(query, products, columns.offsets, &mut maxima);
        }
        let groups = products.chunks(GROUP).zip(columns.offsets.chunks(GROUP));
        for (number, (products, offsets)) in groups.enumerate() {
            let threshold = rows.thresholds[query];
            let mut any = false;
            for (p, h) in products.iter().zip(offsets) {
                any |= p - h > threshold;
            }
            if !any {
                continue;
            }
            for (offset, (p, h)) in products.iter().zip(offsets).enumerate() {
                let id = columns.start + number * GROUP + offset;
                let closeness = p - h;
                if closeness > rows.thresholds[query] && !skip(query, id) {
                    rows.insert(
                        query,
                        Candidate {
                            closeness,
                            id: id as u32,
                        },
                    );
                }
            }
        }
    }
}

#[inline(always)]
pub(super) fn propose_both(
    products: &[f32],
    rows: &mut Block,
    row_side: Side<'_>,
    columns: &mut Block,
    column_side: Side<'_>,
) {
    let width = column_side.offsets.len();
    for (query, products) in products.chunks(width).enumerate() {
        let own_offset = row_side.offsets[query];
        let groups = products
            .chunks(GROUP)
            .zip(column_side.offsets.chunks(GROUP));
        for (number, (products, offsets)) in groups.enumerate() {
            let first = number * GROUP;
            let threshold = rows.thresholds[query];
            let thresholds = &columns.thresholds[first..first + products.len()];
            let mut any = false;
            for ((p, h), t) in products.iter().zip(offsets).zip(thresholds) {
                any |= (p - h > threshold) | (p - own_offset > *t);
            }
            if !any {
                continue;
            }
            for (offset, (p, h)) in products.iter().zip(offsets).enumerate() {
                let column = first + offset;
                let (to_row, to_column) = (p - h, p - own_offset);
                if to_row > rows.thresholds[query] {
                    let id = (column_side.start + column) as u32;
                    rows.insert(
                        query,
                        Candidate {
                            closeness: to_row,
                            id,
                        },
                    );
                }
                if to_column > columns.thresholds[column] {
                    let id = (row_side.start + query) as u32;
                    columns.insert(
                        column,
                        Candidate {
                            closeness: to_column,
                            id,
                        },
                    );
                }
            }
        }
    }
}
