//! Solves with a supernodal Cholesky factor for a few right-hand sides at once.
//!
//! Right-hand sides are interleaved, [`WIDTH`] numbers a row, so that every entry of the factor is read
//! once and used for all of them. Large supernodes are split over threads by rows or by columns, never
//! inside a sum: the result does not depend on the number of threads.

use faer::sparse::linalg::cholesky::supernodal::SupernodalLltRef;
use rayon::prelude::*;

use crate::panel::Panel;

/// Right-hand sides solved at once.
pub(super) const WIDTH: usize = 8;
/// Columns of a supernode that are eliminated before the rows below them are updated.
const PANEL: usize = 32;
/// Entries from which a panel is worth several threads.
const LARGE: usize = 1 << 16;

type Row = [f64; WIDTH];

/// block ← (L Lᵀ)⁻¹ block, with row i of the factor standing for row `order[i]` of the block.
pub(super) fn solve_in_place(
    factor: SupernodalLltRef<'_, usize, f64>,
    order: &[usize],
    block: &mut Panel,
) {
    let supernodes = factor.symbolic().n_supernodes();
    let mut rows = vec![[0.0; WIDTH]; order.len()];
    let mut local = Vec::new();
    for first in (0..block.columns()).step_by(WIDTH) {
        let columns = first..(first + WIDTH).min(block.columns());
        rows.fill([0.0; WIDTH]);
        for (lane, column) in columns.clone().enumerate() {
            let column = block.column(column);
            rows.iter_mut()
                .zip(order)
                .for_each(|(row, &i)| row[lane] = column[i]);
        }
        crate::simd::widest(
            #[inline(always)]
            || {
                for s in 0..supernodes {
                    Supernode::of(factor, s).forward(&mut rows, &mut local);
                }
                for s in (0..supernodes).rev() {
                    Supernode::of(factor, s).backward(&mut rows, &mut local);
                }
            },
        );
        for (lane, column) in columns.enumerate() {
            let column = block.column_mut(column);
            rows.iter()
                .zip(order)
                .for_each(|(row, &i)| column[i] = row[lane]);
        }
    }
}

/// Adjacent columns of L that share their rows below: a dense triangle on top of a dense rectangle.
struct Supernode<'a> {
    start: usize,
    columns: usize,
    pattern: &'a [usize],
    /// Column-major, `columns + pattern.len()` rows.
    values: &'a [f64],
}

impl<'a> Supernode<'a> {
    #[inline(always)]
    fn of(factor: SupernodalLltRef<'a, usize, f64>, s: usize) -> Self {
        let symbolic = factor.symbolic();
        let start = symbolic.supernode_begin()[s];
        let columns = symbolic.supernode_end()[s] - start;
        let pattern_start = symbolic.col_ptr_for_row_idx()[s];
        let below = symbolic.nnz_per_super()[s];
        let values =
            &factor.values()[symbolic.col_ptr_for_val()[s]..symbolic.col_ptr_for_val()[s + 1]];
        Self {
            start,
            columns,
            pattern: &symbolic.row_idx()[pattern_start..pattern_start + below],
            values,
        }
    }

    fn height(&self) -> usize {
        self.columns + self.pattern.len()
    }

    #[inline(always)]
    fn column(&self, c: usize) -> &'a [f64] {
        &self.values[c * self.height()..(c + 1) * self.height()]
    }

    #[inline(always)]
    fn gather(&self, rows: &[Row], local: &mut Vec<Row>) {
        local.clear();
        local.extend_from_slice(&rows[self.start..self.start + self.columns]);
        local.extend(self.pattern.iter().map(|&i| rows[i]));
    }

    /// rows ← L⁻¹ rows, as far as this supernode's columns go.
    #[inline(always)]
    fn forward(&self, rows: &mut [Row], local: &mut Vec<Row>) {
        self.gather(rows, local);
        for start in (0..self.columns).step_by(PANEL) {
            let end = (start + PANEL).min(self.columns);
            for c in start..end {
                let column = self.column(c);
                let x = local[c].map(|v| v / column[c]);
                local[c] = x;
                subtract(&mut local[c + 1..end], &column[c + 1..end], x);
            }
            let (solved, below) = local.split_at_mut(end);
            if below.len() * (end - start) > LARGE {
                below
                    .par_chunks_mut(512)
                    .enumerate()
                    .for_each(|(chunk, below)| {
                        crate::simd::widest(
                            #[inline(always)]
                            || self.eliminate(start, &solved[start..], end + chunk * 512, below),
                        );
                    });
            } else {
                self.eliminate(start, &solved[start..], end, below);
            }
        }
        rows[self.start..self.start + self.columns].copy_from_slice(&local[..self.columns]);
        for (&i, row) in self.pattern.iter().zip(&local[self.columns..]) {
            rows[i] = *row;
        }
    }

    /// below −= L · solved, for the columns from `start` and the rows from `first`.
    #[inline(always)]
    fn eliminate(&self, start: usize, solved: &[Row], first: usize, below: &mut [Row]) {
        let rows = first..first + below.len();
        let (fours, rest) = solved.as_chunks::<4>();
        for (four, x) in fours.iter().enumerate() {
            let c = start + 4 * four;
            let weights = [c, c + 1, c + 2, c + 3].map(|c| &self.column(c)[rows.clone()]);
            subtract_four(below, weights, x);
        }
        for (c, x) in (start + 4 * fours.len()..).zip(rest) {
            subtract(below, &self.column(c)[rows.clone()], *x);
        }
    }

    /// x −= Lᵀ · below, for the columns from `start` and the rows from `first`.
    #[inline(always)]
    fn substitute(&self, start: usize, x: &mut [Row], first: usize, below: &[Row]) {
        let (fours, rest) = x.as_chunks_mut::<4>();
        let done = start + 4 * fours.len();
        for (four, x) in fours.iter_mut().enumerate() {
            let c = start + 4 * four;
            let weights = [c, c + 1, c + 2, c + 3].map(|c| &self.column(c)[first..]);
            let sums = weighted_sums_of_four(below, weights);
            for (x, sum) in x.iter_mut().zip(sums) {
                difference(x, sum);
            }
        }
        for (c, x) in (done..).zip(rest) {
            difference(x, weighted_sum(below, &self.column(c)[first..]));
        }
    }

    /// rows ← L⁻ᵀ rows, as far as this supernode's columns go.
    #[inline(always)]
    fn backward(&self, rows: &mut [Row], local: &mut Vec<Row>) {
        self.gather(rows, local);
        let panels = self.columns.div_ceil(PANEL);
        for start in (0..panels).rev().map(|panel| panel * PANEL) {
            let end = (start + PANEL).min(self.columns);
            let (top, below) = local.split_at_mut(end);
            let panel = &mut top[start..];
            if below.len() * (end - start) > LARGE {
                panel.par_chunks_mut(4).enumerate().for_each(|(four, x)| {
                    crate::simd::widest(
                        #[inline(always)]
                        || self.substitute(start + 4 * four, x, end, below),
                    );
                });
            } else {
                for (four, x) in panel.chunks_mut(4).enumerate() {
                    self.substitute(start + 4 * four, x, end, below);
                }
            }
            for c in (start..end).rev() {
                let column = self.column(c);
                let sum = weighted_sum(&local[c + 1..end], &column[c + 1..end]);
                difference(&mut local[c], sum);
                local[c].iter_mut().for_each(|v| *v /= column[c]);
            }
        }
        rows[self.start..self.start + self.columns].copy_from_slice(&local[..self.columns]);
    }
}

#[inline(always)]
fn difference(row: &mut Row, other: Row) {
    for lane in 0..WIDTH {
        row[lane] -= other[lane];
    }
}

/// rows −= weights · x
#[inline(always)]
fn subtract(rows: &mut [Row], weights: &[f64], x: Row) {
    for (row, weight) in rows.iter_mut().zip(weights) {
        for lane in 0..WIDTH {
            row[lane] -= weight * x[lane];
        }
    }
}

/// rows −= Σ weights · x over four columns: each row is loaded and stored once for all of them.
#[inline(always)]
fn subtract_four(rows: &mut [Row], weights: [&[f64]; 4], x: &[Row; 4]) {
    let [a, b, c, d] = weights;
    for ((((row, a), b), c), d) in rows.iter_mut().zip(a).zip(b).zip(c).zip(d) {
        for lane in 0..WIDTH {
            let first = a * x[0][lane] + b * x[1][lane];
            row[lane] -= first + (c * x[2][lane] + d * x[3][lane]);
        }
    }
}

/// Σ weightᵢ · rowᵢ
#[inline(always)]
fn weighted_sum(rows: &[Row], weights: &[f64]) -> Row {
    let mut sum = [0.0; WIDTH];
    for (row, weight) in rows.iter().zip(weights) {
        for lane in 0..WIDTH {
            sum[lane] += weight * row[lane];
        }
    }
    sum
}

/// The same for four columns: each row is loaded once for all of them.
#[inline(always)]
fn weighted_sums_of_four(rows: &[Row], weights: [&[f64]; 4]) -> [Row; 4] {
    let [a, b, c, d] = weights;
    let mut sums = [[0.0; WIDTH]; 4];
    for ((((row, a), b), c), d) in rows.iter().zip(a).zip(b).zip(c).zip(d) {
        for lane in 0..WIDTH {
            sums[0][lane] += a * row[lane];
            sums[1][lane] += b * row[lane];
            sums[2][lane] += c * row[lane];
            sums[3][lane] += d * row[lane];
        }
    }
    sums
}
