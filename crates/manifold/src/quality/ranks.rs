//! Who is near whom in two spaces: counts behind trustworthiness, continuity and preservation.

use rayon::prelude::*;

use crate::control::Meter;
use crate::points::{Points, squared_distance};
use crate::{Control, Phase, Result};

/// Points whose distances to all others are held at once by a thread.
const QUERIES: usize = 16;
/// Points that stay in the second-level cache while the queries pass over them.
const TILE: usize = 64;

/// Sums over all points. Whole numbers: no order of summation changes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Σ of (rank in X − k) over neighbours in Y that are none in X.
    pub(super) intrusions: u64,
    /// Σ of (rank in Y − k) over neighbours in X that are none in Y.
    pub(super) extrusions: u64,
    /// Pairs that are neighbours in both.
    pub(super) shared: u64,
}

impl Tally {
    fn add(self, other: Self) -> Self {
        Self {
            intrusions: self.intrusions + other.intrusions,
            extrusions: self.extrusions + other.extrusions,
            shared: self.shared + other.shared,
        }
    }
}

/// Bytes that [`tallies`] allocates for n points.
pub(super) fn predicted_bytes(n: usize) -> usize {
    rayon::current_num_threads() * 2 * QUERIES.min(n) * n * size_of::<f64>()
}

/// Compares the k nearest others of every point in x with those in each of `ys`. Neighbours and ranks are by
/// (squared distance, number of the point). O(n² (D + Σ d)) time, O(n) memory a thread.
pub(super) fn tallies(
    x: Points<'_, f64>,
    ys: &[Points<'_, f64>],
    k: usize,
    control: &dyn Control,
) -> Result<Vec<Tally>> {
    let n = x.len();
    let meter = Meter::new(control, Phase::Neighbors, n as u64);
    let none = || vec![Tally::default(); ys.len()];
    (0..n.div_ceil(QUERIES))
        .into_par_iter()
        .map_init(
            || Scratch::new(n, k),
            |scratch, block| {
                meter.check()?;
                let (start, end) = (block * QUERIES, ((block + 1) * QUERIES).min(n));
                let tallies = crate::simd::widest(
                    #[inline(always)]
                    || scratch.block(x, ys, start, end),
                );
                meter.add((end - start) as u64);
                Ok(tallies)
            },
        )
        .try_reduce(none, |a, b| {
            Ok(a.into_iter().zip(b).map(|(a, b)| a.add(b)).collect())
        })
}

struct Scratch {
    n: usize,
    in_x: Vec<f64>,
    in_y: Vec<f64>,
    near_x: Nearest,
    near_y: Nearest,
}

impl Scratch {
    fn new(n: usize, k: usize) -> Self {
        Self {
            n,
            in_x: vec![0.0; QUERIES.min(n) * n],
            in_y: vec![0.0; QUERIES.min(n) * n],
            near_x: Nearest::new(k),
            near_y: Nearest::new(k),
        }
    }

    #[inline(always)]
    fn block(
        &mut self,
        x: Points<'_, f64>,
        ys: &[Points<'_, f64>],
        start: usize,
        end: usize,
    ) -> Vec<Tally> {
        self_distances(x, start, end, &mut self.in_x);
        let mut tallies = Vec::with_capacity(ys.len());
        for y in ys {
            self_distances(*y, start, end, &mut self.in_y);
            let mut tally = Tally::default();
            let rows = self.in_x.chunks(self.n).zip(self.in_y.chunks(self.n));
            for (in_x, in_y) in rows.take(end - start) {
                let near_x = self.near_x.among(in_x);
                let near_y = self.near_y.among(in_y);
                tally = tally.add(compared(in_x, in_y, near_x, near_y));
            }
            tallies.push(tally);
        }
        tallies
    }
}

/// One point's neighbours, as (distance, number), and distances to all.
#[inline(always)]
fn compared(in_x: &[f64], in_y: &[f64], near_x: &[(f64, u32)], near_y: &[(f64, u32)]) -> Tally {
    let mut tally = Tally::default();
    let k = near_x.len() as u64;
    for &(_, point) in near_y {
        if near_x.iter().any(|&(_, other)| other == point) {
            tally.shared += 1;
        } else {
            tally.intrusions += 1 + nearer(in_x, point as usize) - k;
        }
    }
    for &(_, point) in near_x {
        if near_y.iter().all(|&(_, other)| other != point) {
            tally.extrusions += 1 + nearer(in_y, point as usize) - k;
        }
    }
    tally
}

/// Squared distances of points `start..end` to all, row by row; infinite to themselves.
#[inline(always)]
fn self_distances(points: Points<'_, f64>, start: usize, end: usize, out: &mut [f64]) {
    let n = points.len();
    for tile in (0..n).step_by(TILE) {
        for query in start..end {
            let row = &mut out[(query - start) * n..(query - start + 1) * n];
            let tile_end = (tile + TILE).min(n);
            for (distance, other) in row[tile..tile_end].iter_mut().zip(tile..) {
                *distance = squared_distance(points.row(query), points.row(other));
            }
        }
    }
    for query in start..end {
        out[(query - start) * n + query] = f64::INFINITY;
    }
}

/// How many points come before `point` by (distance, number).
#[inline(always)]
fn nearer(distances: &[f64], point: usize) -> u64 {
    let limit = distances[point];
    let before = distances[..point].iter().map(|&d| u64::from(d <= limit));
    let after = distances[point + 1..].iter().map(|&d| u64::from(d < limit));
    before.sum::<u64>() + after.sum::<u64>()
}

/// Finds the k smallest (distance, number) of a row of distances.
pub(super) struct Nearest {
    k: usize,
    found: Vec<(f64, u32)>,
}

/// Distances compared at once; a group is looked at closely only if one of them is small enough.
const GROUP: usize = 32;

impl Nearest {
    pub(super) fn new(k: usize) -> Self {
        Self {
            k,
            found: Vec::with_capacity(2 * k + GROUP),
        }
    }

    /// Nearest first; all of them if there are fewer than k.
    #[inline(always)]
    pub(super) fn among(&mut self, distances: &[f64]) -> &[(f64, u32)] {
        self.found.clear();
        let mut limit = f64::INFINITY;
        for (number, group) in distances.chunks(GROUP).enumerate() {
            let mut any = false;
            for &distance in group {
                any |= distance < limit;
            }
            if !any {
                continue;
            }
            for (offset, &distance) in group.iter().enumerate() {
                // An equal distance that comes later loses to the k found before it.
                if distance < limit {
                    self.found
                        .push((distance, (number * GROUP + offset) as u32));
                }
            }
            if self.found.len() >= 2 * self.k {
                limit = self.prune();
            }
        }
        if self.found.len() > self.k {
            self.prune();
        }
        self.found.sort_unstable_by(by_distance);
        &self.found
    }

    /// Leaves the k nearest in some order and returns the distance of the farthest.
    fn prune(&mut self) -> f64 {
        let (_, &mut (farthest, _), _) = self.found.select_nth_unstable_by(self.k - 1, by_distance);
        self.found.truncate(self.k);
        farthest
    }
}

fn by_distance(a: &(f64, u32), b: &(f64, u32)) -> std::cmp::Ordering {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Full sorts of every row.
    fn by_sorting(x: &[f64], y: &[f64], n: usize, k: usize) -> Tally {
        let order = |values: &[f64], i: usize| {
            let d = values.len() / n;
            let row = |i: usize| &values[i * d..(i + 1) * d];
            let mut all: Vec<(f64, u32)> = (0..n)
                .filter(|&j| j != i)
                .map(|j| (squared_distance(row(i), row(j)), j as u32))
                .collect();
            all.sort_by(by_distance);
            all.into_iter().map(|(_, j)| j).collect::<Vec<_>>()
        };
        let mut tally = Tally::default();
        for i in 0..n {
            let (in_x, in_y) = (order(x, i), order(y, i));
            let excess = |near: &[u32], other: &[u32]| {
                near[..k]
                    .iter()
                    .map(|j| other.iter().position(|o| o == j).unwrap() + 1)
                    .map(|rank| rank.saturating_sub(k) as u64)
                    .sum::<u64>()
            };
            tally.intrusions += excess(&in_y, &in_x);
            tally.extrusions += excess(&in_x, &in_y);
            tally.shared += in_x[..k].iter().filter(|j| in_y[..k].contains(j)).count() as u64;
        }
        tally
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Whole numbers of a small range: most distances tie.
        #[test]
        fn ranks_are_those_of_full_sorts(n in 5usize..120, k in 1usize..20, range in 2u32..1000, seed: u64) {
            prop_assume!(2 * k < n);
            let panel = crate::panel::Panel::random(n, 5, seed);
            let values = |columns: std::ops::Range<usize>| -> Vec<f64> {
                (0..n)
                    .flat_map(|i| columns.clone().map(move |j| (i, j)))
                    .map(|(i, j)| (panel.column(j)[i] * f64::from(range)).round())
                    .collect()
            };
            let (x, y) = (values(0..3), values(3..5));
            let ys = [Points::new(&y, 2), Points::new(&x, 3)];
            let found = tallies(Points::new(&x, 3), &ys, k, &()).unwrap();
            prop_assert_eq!(found, vec![by_sorting(&x, &y, n, k), by_sorting(&x, &x, n, k)]);
        }
    }
}
