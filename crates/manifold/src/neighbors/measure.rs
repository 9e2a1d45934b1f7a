//! How much a graph found: its neighbours beside the nearest rows that there are.

use ndarray::ArrayView2;
use rayon::prelude::*;

use super::approximate::ApproximateIndex;
use super::distances::{check_queries, check_range, values};
use super::{Found, Metric};
use crate::control::stop_if_cancelled;
use crate::points::{Feature, Points, dot};
use crate::{Control, ManifoldError, Result};

/// Queries that a row is compared with while it is near the processor, and as many as are compared at a time.
pub(super) const QUERIES: usize = 8;
const TOGETHER: usize = 4;
/// Rows that one thread takes at least.
const ROWS: usize = 512;

/// A query, prepared as the rows are.
#[derive(Clone, Copy)]
struct Sought<'a, T> {
    values: &'a [T],
    square: f64,
    /// The row that is left out.
    except: Option<u32>,
}

impl<'a, T: Feature> Sought<'a, T> {
    fn new(values: &'a [T], except: Option<u32>) -> Self {
        let square = dot(values, values);
        Self {
            values,
            square,
            except,
        }
    }
}

/// See [`ApproximateIndex::hits`].
pub(crate) fn hits<T: Feature>(
    index: &ApproximateIndex<T>,
    queries: ArrayView2<'_, T>,
    found: ArrayView2<'_, f64>,
    control: &dyn Control,
) -> Result<usize> {
    let dimensions = index.dimensions();
    check_queries(queries, dimensions)?;
    let (prepared, _) = values(queries, index.metric(), Some(index.enlarged))?;
    let queries = Points::new(&prepared, dimensions);
    let sought = (0..queries.len()).map(|place| Sought::new(queries.row(place), None));
    count(
        index,
        &sought.collect::<Vec<_>>(),
        index.len(),
        found,
        control,
    )
}

/// See [`ApproximateIndex::other_hits`].
pub(crate) fn other_hits<T: Feature>(
    index: &ApproximateIndex<T>,
    rows: &[usize],
    found: ArrayView2<'_, f64>,
    control: &dyn Control,
) -> Result<usize> {
    for &row in rows {
        check_range(&(row..row + 1), index.len())?;
    }
    let sought = rows.iter();
    let sought = sought.map(|&row| Sought::new(index.row(row), Some(row as u32)));
    let others = index.len().saturating_sub(1);
    count(index, &sought.collect::<Vec<_>>(), others, found, control)
}

/// `most` rows may be found for each.
fn count<T: Feature>(
    index: &ApproximateIndex<T>,
    sought: &[Sought<'_, T>],
    most: usize,
    found: ArrayView2<'_, f64>,
    control: &dyn Control,
) -> Result<usize> {
    let k = found.ncols();
    if found.nrows() != sought.len() {
        return Err(ManifoldError::InvalidParameter {
            name: "found",
            value: format!("{} rows", found.nrows()),
            requirement: format!("one for each of {} queries", sought.len()),
        });
    }
    if sought.is_empty() || k == 0 || k > most {
        return Ok(0);
    }
    let mut keys = Vec::with_capacity(sought.len());
    for sought in sought.chunks(QUERIES) {
        stop_if_cancelled(control)?;
        keys.extend(farthest(index, sought, k));
    }
    let farthest = index.distances(Found {
        k: 1,
        ids: vec![0; keys.len()],
        keys,
    })?;
    let metric = index.metric();
    let pairs = found.rows().into_iter().zip(&farthest.distances);
    let near = pairs.map(|(found, &farthest)| {
        let is_near = |&&distance: &&f64| match metric {
            Metric::InnerProduct => distance >= farthest,
            Metric::L2 | Metric::Cosine => distance <= farthest,
        };
        found.iter().filter(is_near).count()
    });
    Ok(near.sum())
}

/// The k-th smallest key of each query's; every row is read once.
fn farthest<T: Feature>(
    index: &ApproximateIndex<T>,
    sought: &[Sought<'_, T>],
    k: usize,
) -> Vec<f64> {
    let metric = index.metric();
    let none = || vec![Smallest::new(k); sought.len()];
    let compared = |mut smallest: Vec<Smallest>, place: usize| {
        let id = index.stored(place);
        let row = index.row(id as usize);
        let square = match metric {
            Metric::Cosine => dot(row, row),
            Metric::L2 | Metric::InnerProduct => 1.0,
        };
        let (groups, rest) = sought.as_chunks::<TOGETHER>();
        let (group_outs, outs) = smallest.as_chunks_mut::<TOGETHER>();
        // The products and differences of a pair are the same either way round.
        for (group, outs) in groups.iter().zip(group_outs) {
            let values = group.map(|sought| sought.values);
            let squares = group.map(|sought| sought.square);
            let keys = metric.keys(row, values, square, squares);
            for ((sought, out), key) in group.iter().zip(outs).zip(keys) {
                out.offer(key, sought.except != Some(id));
            }
        }
        for (sought, out) in rest.iter().zip(outs) {
            let key = metric.key(sought.values, row, [sought.square, square]);
            out.offer(key, sought.except != Some(id));
        }
        smallest
    };
    let merged = |mut all: Vec<Smallest>, others: Vec<Smallest>| {
        for (all, other) in all.iter_mut().zip(others) {
            other.keys.into_iter().for_each(|key| all.offer(key, true));
        }
        all
    };
    let rows = (0..index.len()).into_par_iter().with_min_len(ROWS);
    let smallest = rows.fold(none, compared).reduce(none, merged);
    smallest.into_iter().map(Smallest::last).collect()
}

/// The k smallest keys that were offered, and some more.
#[derive(Clone)]
struct Smallest {
    k: usize,
    keys: Vec<f64>,
    /// None from here on is among them.
    bound: f64,
}

impl Smallest {
    fn new(k: usize) -> Self {
        Self {
            k,
            keys: Vec::new(),
            bound: f64::INFINITY,
        }
    }

    #[inline(always)]
    fn offer(&mut self, key: f64, is_wanted: bool) {
        if is_wanted && (key < self.bound || self.keys.len() < self.k) {
            self.keys.push(key);
            if self.keys.len() >= 2 * self.k + TOGETHER {
                self.cut();
            }
        }
    }

    fn cut(&mut self) {
        let (_, &mut last, _) = self.keys.select_nth_unstable_by(self.k - 1, f64::total_cmp);
        self.keys.truncate(self.k);
        self.bound = last;
    }

    /// The k-th, of at least so many.
    fn last(mut self) -> f64 {
        self.cut();
        self.bound
    }
}
