//! Attention over the best keys, and over all of them.

use datafusion::arrow::array::{ArrowPrimitiveType, AsArray};
use datafusion::arrow::datatypes::{Float32Type, Float64Type};
use datafusion::common::{Result, exec_datafusion_err, internal_err};
use lakefold_attention::{AttentionError, OnlineState, Real, Similarity};
use lakefold_manifold::{Control, Nearest};
use rayon::prelude::*;

use super::topk_plan::TopK;
use crate::attention::Scoring;
use crate::features::Matrix;
use crate::float_lists::{FloatType, ListRows};
use crate::indexed_rows::HeldRows;
use crate::memory::Budget;

/// Keys whose values are summed at a time where all are.
const BLOCK: usize = 8192;

/// Keys with their values, ready to be attended to.
pub(super) struct TopKeys {
    /// Values are in the place of ids.
    held: HeldRows,
    scoring: Scoring,
    /// Of similarities.
    scale: f64,
    /// Keys of a query.
    k: usize,
    width: usize,
}

/// What queries attended to found.
#[derive(Debug, Default)]
pub(super) struct Attended {
    /// The mean of each query, one after the other.
    pub(super) means: Vec<f64>,
    /// The weight of the last key of each query.
    pub(super) least_weights: Vec<f64>,
}

/// What one query missed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Missed {
    /// ‖found − exact‖ / ‖exact‖
    pub(super) error: f64,
    /// The share of all weight that the keys that were found have.
    pub(super) covered: f64,
}

impl TopKeys {
    pub(super) fn new(held: HeldRows, topk: &TopK) -> Result<Self> {
        let scale = topk.scoring.scale_for(held.dimensions());
        let function = topk.keys.source.function;
        Ok(Self {
            scale: scale.map_err(|error| exec_datafusion_err!("{function}: {error}"))?,
            k: topk.keys.search.k.min(held.len()),
            width: ListRows::try_new(&held.ids)?.span(0..1).len(),
            scoring: topk.scoring,
            held,
        })
    }

    pub(super) fn held(&self) -> &HeldRows {
        &self.held
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Keys that a query attends to.
    pub(super) fn k(&self) -> usize {
        self.k
    }

    /// Takes the memory of the answers to so many queries, given back when dropped.
    pub(super) fn reserve_part(&self, queries: usize) -> Result<Budget> {
        let budget = self.held.budget.sibling();
        let pairs = self.k.saturating_mul(size_of::<u32>() + size_of::<f64>());
        let query = pairs + 2 * self.width * size_of::<f64>() + size_of::<f64>();
        let gathered = rayon::current_num_threads() * self.k * (self.width + 1);
        let bytes = queries
            .saturating_mul(query)
            .saturating_add(gathered.saturating_mul(size_of::<f64>()));
        budget
            .reserve("a part of the result", bytes)
            .map_err(|error| self.held.source.exhausted(&error))?;
        Ok(budget)
    }

    /// The best keys of each query, best first.
    pub(super) fn nearest(&self, queries: &Matrix<'_>, control: &dyn Control) -> Result<Nearest> {
        let rows = 0..queries.dim().0;
        self.held.nearest(queries, rows, self.k, control)
    }

    /// The scaled similarity that a search's distance stands for.
    fn score(&self, distance: f64) -> f64 {
        let similarity = match self.scoring.similarity {
            Similarity::Dot => distance,
            Similarity::Cosine => 1.0 - distance,
            Similarity::L2 => -distance * distance,
        };
        similarity * self.scale
    }

    /// Attends to the keys that were found.
    pub(super) fn attend(&self, nearest: &Nearest) -> Result<Attended> {
        match self.held.source.float {
            FloatType::Float32 => self.attend_as::<Float32Type>(nearest),
            FloatType::Float64 => self.attend_as::<Float64Type>(nearest),
        }
    }

    fn attend_as<P: ArrowPrimitiveType<Native: Real>>(
        &self,
        nearest: &Nearest,
    ) -> Result<Attended> {
        let (queries, width) = (nearest.ids.nrows(), self.width);
        let values = self.values::<P>()?;
        let mut attended = Attended {
            means: vec![0.0; queries * width],
            least_weights: vec![0.0; queries],
        };
        let means = attended.means.par_chunks_mut(width);
        let least = attended.least_weights.par_iter_mut();
        let outputs = means.zip(least).enumerate().with_min_len(16);
        outputs.try_for_each_init(Vec::new, |gathered, (query, (mean, least))| {
            gathered.clear();
            for &id in nearest.ids.row(query) {
                gathered.extend_from_slice(&values[id as usize * width..][..width]);
            }
            let distances = nearest.distances.row(query);
            let scores: Vec<f64> = distances.iter().map(|&d| self.score(d)).collect();
            let mut state = OnlineState::new(width);
            state
                .absorb_scores(&scores, gathered)
                .and_then(|()| state.finish_into(mean))
                .map_err(|error| self.failed(&error))?;
            let last = scores.last().copied().unwrap_or(f64::NEG_INFINITY);
            *least = (last - state.maximum()).exp() / state.sum();
            Ok::<_, datafusion::common::DataFusionError>(())
        })?;
        Ok(attended)
    }

    /// What the query at `place` missed of attending to all keys, to which it has these distances.
    pub(super) fn missed(
        &self,
        distances: &[f64],
        nearest: &Nearest,
        place: usize,
        found: &[f64],
    ) -> Result<Missed> {
        let all = match self.held.source.float {
            FloatType::Float32 => self.attend_to_all::<Float32Type>(distances),
            FloatType::Float64 => self.attend_to_all::<Float64Type>(distances),
        }?;
        let exact: Vec<f64> = all.finish().unwrap_or_else(|| vec![0.0; self.width]);
        let norm = |squares: f64| squares.sqrt();
        let difference = norm(exact.iter().zip(found).map(|(e, f)| (e - f).powi(2)).sum());
        let size = norm(exact.iter().map(|e| e * e).sum());
        let own = nearest.distances.row(place);
        let own = own.iter().map(|&d| (self.score(d) - all.maximum()).exp());
        Ok(Missed {
            error: if difference == 0.0 {
                0.0
            } else {
                difference / size
            },
            covered: (own.sum::<f64>() / all.sum()).min(1.0),
        })
    }

    fn attend_to_all<P: ArrowPrimitiveType<Native: Real>>(
        &self,
        distances: &[f64],
    ) -> Result<OnlineState> {
        let (values, width) = (self.values::<P>()?, self.width);
        let blocks = distances
            .par_chunks(BLOCK)
            .zip(values.par_chunks(BLOCK * width))
            .map(|(distances, values)| {
                let scores: Vec<f64> = distances.iter().map(|&d| self.score(d)).collect();
                let mut state = OnlineState::new(width);
                state.absorb_scores(&scores, values).map(|()| state)
            });
        let blocks = blocks.collect::<Result<Vec<_>, AttentionError>>();
        let mut all = OnlineState::new(width);
        for block in blocks.map_err(|error| self.failed(&error))? {
            all.merge(&block).map_err(|error| self.failed(&error))?;
        }
        Ok(all)
    }

    /// The values of all keys, one after the other.
    fn values<P: ArrowPrimitiveType>(&self) -> Result<&[P::Native]> {
        let rows = ListRows::try_new(&self.held.ids)?;
        let span = rows.span(0..rows.len());
        let Some(numbers) = rows.values().as_primitive_opt::<P>() else {
            return internal_err!("values were read as another float type");
        };
        Ok(&numbers.values()[span])
    }

    fn failed(&self, error: &AttentionError) -> datafusion::common::DataFusionError {
        let source = &self.held.source;
        exec_datafusion_err!("{} of column {}: {error}", source.function, source.column)
    }
}
