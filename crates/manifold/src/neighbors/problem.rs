//! Candidates that matrix products proposed, ranked in `f64`, and the proof that they are enough.

use rayon::prelude::*;

use super::Metric;
use super::best::Best;
use super::bound::ErrorBound;
use super::centred::{Centred, Frame, Scaled};
use super::proposals::{Block, Candidate};
use crate::points::{Feature, Points, dot};

/// Points as the products see them, and what else their comparison needs.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) centred: Centred,
    /// ‖x‖² of each point; only where [`Metric::Cosine`] divides by it.
    squares: Vec<f64>,
    scale: f64,
}

impl View {
    fn new<T: Feature>(
        metric: Metric,
        points: Points<'_, T>,
        frame: impl FnOnce(Scaled<'_, T>) -> Frame,
    ) -> (Self, Frame) {
        let squares: Vec<f64> = match metric {
            Metric::Cosine => (0..points.len())
                .into_par_iter()
                .with_min_len(64)
                .map(|i| dot(points.row(i), points.row(i)))
                .collect(),
            Metric::L2 | Metric::InnerProduct => Vec::new(),
        };
        let factors: Vec<f64> = squares.iter().map(|square| 1.0 / square.sqrt()).collect();
        let rows = Scaled {
            points,
            factors: &factors,
        };
        let frame = frame(rows);
        let centred = Centred::new(&frame, rows);
        let centred = match metric {
            Metric::InnerProduct => centred.without_offsets(),
            Metric::L2 | Metric::Cosine => centred,
        };
        let view = Self {
            centred,
            squares,
            scale: frame.scale,
        };
        (view, frame)
    }

    /// ‖x‖² where it is needed.
    fn square(&self, point: usize) -> f64 {
        self.squares.get(point).copied().unwrap_or(1.0)
    }
}

/// What of the points to be searched does not depend on the query.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) metric: Metric,
    pub(super) view: View,
    frame: Frame,
    largest_norm: f64,
}

impl Prepared {
    /// Distances compare points around their middle; products around zero.
    pub(super) fn new<T: Feature>(points: Points<'_, T>, metric: Metric) -> Self {
        let (view, frame) = match metric {
            Metric::L2 | Metric::Cosine => View::new(metric, points, Frame::around),
            Metric::InnerProduct => View::new(metric, points, Frame::at_origin),
        };
        let largest_norm = view.centred.norms.iter().copied().fold(0.0, f64::max);
        Self {
            metric,
            view,
            frame,
            largest_norm,
        }
    }

    /// Rows to be compared with the points. Their products alone do not ask for one frame, so that they
    /// may be of another magnitude.
    pub(super) fn view<T: Feature>(&self, queries: Points<'_, T>) -> View {
        let (view, _) = match self.metric {
            Metric::L2 | Metric::Cosine => View::new(self.metric, queries, |_| self.frame.clone()),
            Metric::InnerProduct => View::new(self.metric, queries, Frame::at_origin),
        };
        view
    }

    /// Bytes of it for so many points.
    pub(super) fn predicted_bytes(points: usize, dimensions: usize, metric: Metric) -> usize {
        let squares = match metric {
            Metric::Cosine => 2 * size_of::<f64>(),
            Metric::L2 | Metric::InnerProduct => 0,
        };
        points * (dimensions * size_of::<f32>() + 20 + squares)
    }
}

/// One query of a [`View`].
#[derive(Clone, Copy)]
pub(super) struct Query<'a, T> {
    row: &'a [T],
    square: f64,
    /// In the frame.
    norm: f64,
    scale: f64,
}

impl<'a, T: Feature> Query<'a, T> {
    pub(super) fn new(queries: Points<'a, T>, view: &View, place: usize) -> Self {
        Self {
            row: queries.row(place),
            square: view.square(place),
            norm: view.centred.norms[place],
            scale: view.scale,
        }
    }
}

/// The points to be searched and how many of them are wanted.
pub(super) struct Problem<'a, T> {
    pub(super) points: Points<'a, T>,
    pub(super) prepared: &'a Prepared,
    pub(super) k: usize,
    bound: ErrorBound,
}

/// Candidates that are ranked at once.
const AT_ONCE: usize = 4;
/// A query of a larger norm in the frame could overflow the products.
const LARGEST_NORM: f64 = 1e15;

impl<'a, T: Feature> Problem<'a, T> {
    pub(super) fn new(points: Points<'a, T>, prepared: &'a Prepared, k: usize) -> Self {
        Self {
            points,
            prepared,
            k,
            bound: ErrorBound::new(points.dimensions()),
        }
    }

    /// What decides how near a point is to a query.
    #[inline(always)]
    pub(super) fn key(&self, query: Query<'_, T>, id: u32) -> f64 {
        let squares = [query.square, self.prepared.view.square(id as usize)];
        let point = self.points.row(id as usize);
        self.prepared.metric.key(query.row, point, squares)
    }

    #[inline(always)]
    fn keys<const C: usize>(&self, query: Query<'_, T>, ids: [u32; C]) -> [f64; C] {
        let squares = ids.map(|id| self.prepared.view.square(id as usize));
        let points = ids.map(|id| self.points.row(id as usize));
        let metric = self.prepared.metric;
        metric.keys(query.row, points, query.square, squares)
    }

    /// Whether every point that was proposed no closer than `closeness` has a key above `worst`.
    #[inline(always)]
    fn excludes(&self, query: Query<'_, T>, closeness: f32, worst: f64) -> bool {
        let (norm, closeness) = (query.norm, f64::from(closeness));
        let scale = self.prepared.frame.scale;
        match self.prepared.metric {
            Metric::L2 => {
                let left_out = norm * norm - 2.0 * closeness;
                let reach = worst * scale * scale;
                left_out > self.bound.proposed_squared_distance(norm, reach, 0.0)
            }
            Metric::Cosine => {
                let left_out = norm * norm - 2.0 * closeness;
                let reach = self.bound.squared_chord(worst) * scale * scale;
                let blur = self.bound.blur(scale);
                left_out > self.bound.proposed_squared_distance(norm, reach, blur)
            }
            Metric::InnerProduct => {
                let smallest = -worst * query.scale * scale;
                smallest - closeness > self.bound.product(norm, self.prepared.largest_norm)
            }
        }
    }

    /// Ranks the candidates of a query, closest first. False if some point outside them might be nearer.
    #[inline(always)]
    fn certify(
        &self,
        query: Query<'_, T>,
        candidates: &[Candidate],
        threshold: f32,
        best: &mut Best,
    ) -> bool {
        best.clear();
        if query.norm.is_nan() || query.norm > LARGEST_NORM {
            return false;
        }
        let (groups, rest) = candidates.as_chunks();
        for group in groups {
            if best.is_full() && self.excludes(query, group[0].closeness, best.worst()) {
                return true;
            }
            let ids: [u32; AT_ONCE] = group.map(|candidate| candidate.id);
            for (key, id) in self.keys(query, ids).into_iter().zip(ids) {
                best.offer(key, id);
            }
        }
        for candidate in rest {
            if best.is_full() && self.excludes(query, candidate.closeness, best.worst()) {
                return true;
            }
            best.offer(self.key(query, candidate.id), candidate.id);
        }
        best.is_full()
            && (threshold == f32::NEG_INFINITY || self.excludes(query, threshold, best.worst()))
    }

    /// Writes the neighbours of a block's queries and returns the places of those without a certificate.
    /// The queries are those of `view` from `start` on.
    pub(super) fn settle(
        &self,
        block: &mut Block,
        queries: Points<'_, T>,
        view: &View,
        start: usize,
        (ids, keys): (&mut [u32], &mut [f64]),
    ) -> Vec<usize> {
        let mut best = Best::new(self.k);
        let mut uncertain = Vec::new();
        let outputs = ids.chunks_mut(self.k).zip(keys.chunks_mut(self.k));
        for (place, (ids, keys)) in outputs.enumerate() {
            let threshold = block.thresholds[place];
            let candidates = block.sorted(place);
            let query = Query::new(queries, view, start + place);
            let certain = crate::simd::widest(
                #[inline(always)]
                || self.certify(query, candidates, threshold, &mut best),
            );
            if certain {
                best.write(ids, keys);
            } else {
                uncertain.push(start + place);
            }
        }
        uncertain
    }
}
