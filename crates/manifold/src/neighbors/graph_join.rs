//! The neighbours of every point through a graph, and the search for those of rows outside.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::Axis;

use super::approximate::{self, ApproximateIndex};
use super::{Metric, Neighbors, measure};
use crate::points::{Feature, Points};
use crate::{Control, HnswOptions, Phase, Result};

/// Points whose exact neighbours are compared with those found.
const MEASURED: usize = 100;

fn options(seed: u64) -> HnswOptions {
    HnswOptions {
        seed,
        ..HnswOptions::default()
    }
}

/// Bytes that [`self_join`] allocates, its result included.
pub(crate) fn predicted_bytes<T: Feature>(points: usize, dimensions: usize, k: usize) -> usize {
    // Rows of other types than the graph's are kept beside it.
    let copy = points * dimensions * size_of::<T>();
    ApproximateIndex::<T>::predicted_bytes(points, dimensions, &options(0))
        + copy
        + points * k * (size_of::<u32>() + size_of::<f64>())
}

/// The k nearest other points of every point, most of them, and the share of the nearest that was found, measured
/// on a sample.
pub(crate) fn self_join<T: Feature>(
    points: Points<'_, T>,
    k: usize,
    seed: u64,
    control: &dyn Control,
) -> Result<(Neighbors, f64)> {
    let control = &Granted(control);
    let index = approximate::build(
        Cow::Borrowed(points.values()),
        points.dimensions(),
        0,
        Metric::L2,
        (&options(seed), ApproximateIndex::<T>::default_ef_search(k)),
        control,
    )?;
    let n = points.len();
    let found = approximate::search_others(&index, 0..n, k, control)?;
    let step = n.div_ceil(MEASURED);
    let rows: Vec<usize> = (0..n).step_by(step).collect();
    let distances = found.distances.select(Axis(0), &rows);
    let hit = measure::other_hits(&index, &rows, distances.view(), control)?;
    let wanted = distances.len();
    let neighbors = Neighbors {
        k,
        ids: found.ids.into_raw_vec_and_offset().0,
    };
    Ok((neighbors, hit as f64 / wanted as f64))
}

/// A graph of points that others are compared with, built when it is first needed, and the points' order by
/// their values.
#[derive(Clone)]
pub(super) struct LazyGraph<T> {
    seed: u64,
    built: Arc<Mutex<Option<Arc<Built<T>>>>>,
}

struct Built<T> {
    index: ApproximateIndex<T>,
    /// Points, ascending by value.
    order: Vec<u32>,
}

impl<T> fmt::Debug for LazyGraph<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazyGraph")
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl<T: Feature> LazyGraph<T> {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            built: Arc::default(),
        }
    }

    /// The ids of the k nearest points of each row, nearest first; a point that equals the row is always the
    /// first.
    pub(super) fn nearest(
        &self,
        points: Points<'_, T>,
        rows: Points<'_, T>,
        k: usize,
        control: &dyn Control,
    ) -> Result<Vec<u32>> {
        let built = self.built(points, k, control)?;
        let control = &Granted(control);
        let found = approximate::search_prepared(&built.index, rows, k, control)?;
        let mut ids = found.ids.into_raw_vec_and_offset().0;
        for (row, ids) in ids.chunks_mut(k).enumerate() {
            if let Some(equal) = built.equal(points, rows.row(row)) {
                let place = ids.iter().position(|&id| id == equal).unwrap_or(k - 1);
                ids[..=place].rotate_right(1);
                ids[0] = equal;
            }
        }
        Ok(ids)
    }

    fn built(
        &self,
        points: Points<'_, T>,
        k: usize,
        control: &dyn Control,
    ) -> Result<Arc<Built<T>>> {
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(built) = &*built {
            return Ok(Arc::clone(built));
        }
        let (options, dimensions) = (options(self.seed), points.dimensions());
        let order = points.len() * size_of::<u32>();
        let bytes = ApproximateIndex::<T>::predicted_bytes(points.len(), dimensions, &options);
        control.reserve("a graph of the landmarks", bytes + order)?;
        let control = &Granted(control);
        let index = approximate::build(
            Cow::Borrowed(points.values()),
            dimensions,
            0,
            Metric::L2,
            (&options, ApproximateIndex::<T>::default_ef_search(k)),
            control,
        )?;
        let mut order: Vec<u32> = (0..points.len() as u32).collect();
        order.sort_by(|&a, &b| compare(points.row(a as usize), points.row(b as usize)));
        let new = Arc::new(Built { index, order });
        *built = Some(Arc::clone(&new));
        Ok(new)
    }
}

impl<T: Feature> Built<T> {
    fn equal(&self, points: Points<'_, T>, row: &[T]) -> Option<u32> {
        let place = |&id: &u32| compare(points.row(id as usize), row);
        let found = self.order.binary_search_by(place).ok()?;
        Some(self.order[found])
    }
}

/// Of finite values.
fn compare<T: Feature>(a: &[T], b: &[T]) -> std::cmp::Ordering {
    a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal)
}

/// Memory was granted before.
pub(crate) struct Granted<'a>(pub(crate) &'a dyn Control);

impl Control for Granted<'_> {
    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    fn progress(&self, phase: Phase, done: u64, total: u64) {
        self.0.progress(phase, done, total);
    }
}
