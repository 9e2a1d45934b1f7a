//! I − W as an operator, and M = (I − W)ᵀ(I − W) as a sparse matrix.

use rayon::prelude::*;

use crate::neighbors::Neighbors;
use crate::panel::Panel;

/// Rows handled by one thread at a time; fixed, so that sums do not depend on the number of threads.
const CHUNK: usize = 1024;

/// The operator A = I − W, with W's rows summing to one.
///
/// (A v)ᵢ is computed as Σⱼ wᵢⱼ (vᵢ − vⱼ). The constant vector is then mapped to exact zeros, and a
/// smooth v loses no digits to cancellation: eigenvalues far below the precision of M stay accurate.
pub(crate) struct Deviation {
    n: usize,
    k: usize,
    ids: Vec<u32>,
    weights: Vec<f64>,
    /// The places in `ids` at which each point is somebody's neighbour, ascending.
    column_start: Vec<usize>,
    column_places: Vec<usize>,
}

impl Deviation {
    pub(crate) fn new(graph: Neighbors, weights: Vec<f64>) -> Self {
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
        Self {
            n,
            k: graph.k,
            ids: graph.ids,
            weights,
            column_start,
            column_places,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.n
    }

    /// (neighbour, weight) of a row.
    pub(crate) fn entries(&self, row: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        let range = row * self.k..(row + 1) * self.k;
        self.ids[range.clone()]
            .iter()
            .map(|&j| j as usize)
            .zip(self.weights[range].iter().copied())
    }

    /// (row, weight) of every row that has `point` as a neighbour.
    fn column(&self, point: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.column_places[self.column_start[point]..self.column_start[point + 1]]
            .iter()
            .map(|&place| (place / self.k, self.weights[place]))
    }

    /// out = A v, column by column.
    pub(crate) fn apply(&self, v: &Panel, out: &mut Panel) {
        for_each_column(v, out, |v, start, out| {
            for (offset, out) in out.iter_mut().enumerate() {
                let row = start + offset;
                *out = self.entries(row).map(|(j, w)| w * (v[row] - v[j])).sum();
            }
        });
    }

    /// out = Aᵀ u, column by column.
    pub(crate) fn apply_transposed(&self, u: &Panel, out: &mut Panel) {
        for_each_column(u, out, |u, start, out| {
            for (offset, out) in out.iter_mut().enumerate() {
                let point = start + offset;
                // Σⱼ wᵢⱼ is the diagonal that `apply` uses.
                let own: f64 = self.entries(point).map(|(_, w)| w * u[point]).sum();
                let others: f64 = self.column(point).map(|(i, w)| w * u[i]).sum();
                *out = own - others;
            }
        });
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
        // M_ab = Σᵢ A_ia A_ib over the rows i that hold a: row a itself, and those with neighbour a.
        add(a, 1.0);
        for (b, w) in self.entries(a).filter(|&(b, _)| b > a) {
            add(b, -w);
        }
        for (i, w) in self.column(a) {
            if i > a {
                add(i, -w);
            }
            for (b, v) in self.entries(i).filter(|&(b, _)| b >= a) {
                add(b, w * v);
            }
        }
        column.sort_unstable_by_key(|&(b, _)| b);
        for (b, value) in column.iter_mut() {
            *value = std::mem::take(&mut sums[*b]);
            seen[*b] = false;
        }
    }

    /// The largest M_jj = 1 + Σᵢ wᵢⱼ².
    pub(crate) fn largest_diagonal(&self) -> f64 {
        (0..self.n)
            .map(|point| 1.0 + self.column(point).map(|(_, w)| w * w).sum::<f64>())
            .fold(0.0, f64::max)
    }

    /// An upper bound on the entries of [`Deviation::lower`].
    pub(crate) fn lower_entries_at_most(&self) -> usize {
        let half = |columns: usize| columns * (self.k + 1) + self.k + 1;
        (0..self.n)
            .map(|a| half(self.column_start[a + 1] - self.column_start[a]).min(self.n))
            .sum()
    }

    /// The lower triangle of M.
    pub(crate) fn lower(&self) -> Lower {
        let chunks: Vec<(Vec<usize>, Vec<u32>, Vec<f64>)> = (0..self.n.div_ceil(CHUNK))
            .into_par_iter()
            .map_init(
                || (vec![0.0; self.n], vec![false; self.n], Vec::new()),
                |(sums, seen, column), chunk| {
                    let (mut counts, mut rows, mut values) = (Vec::new(), Vec::new(), Vec::new());
                    for a in chunk * CHUNK..((chunk + 1) * CHUNK).min(self.n) {
                        self.lower_column(a, sums, seen, column);
                        counts.push(column.len());
                        rows.extend(column.iter().map(|&(b, _)| b as u32));
                        values.extend(column.iter().map(|&(_, value)| value));
                    }
                    (counts, rows, values)
                },
            )
            .collect();
        let entries = chunks.iter().map(|(_, rows, _)| rows.len()).sum();
        let mut lower = Lower {
            column_start: Vec::with_capacity(self.n + 1),
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
        lower
    }
}

/// Runs `kernel(column of v, first row, rows of out)` over fixed chunks of every column.
fn for_each_column(v: &Panel, out: &mut Panel, kernel: impl Fn(&[f64], usize, &mut [f64]) + Sync) {
    for j in 0..v.columns() {
        let v = v.column(j);
        out.column_mut(j)
            .par_chunks_mut(CHUNK)
            .enumerate()
            .for_each(|(chunk, out)| kernel(v, chunk * CHUNK, out));
    }
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
