//! Rows as affine combinations of their nearest landmarks.

use rayon::prelude::*;

use crate::control::Meter;
use crate::neighbors::Base;
use crate::points::{Feature, Points};
use crate::weights::Barycenter;
use crate::{Control, ManifoldError, Phase, Result};

/// Rows whose neighbours and weights are computed at a time.
const BATCH: usize = 8192;
const CHUNK: usize = 64;

/// Landmarks, and how rows are written in terms of them.
#[derive(Debug, Clone)]
pub(crate) struct Projection<T> {
    pub(crate) landmarks: Base<T>,
    /// Landmarks a row.
    pub(crate) per_row: usize,
    /// Regularisation of the weights.
    pub(crate) reg: f64,
}

/// `per_row` landmarks and their weights for each row; weights sum to one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Coordinates {
    pub(crate) ids: Vec<u32>,
    pub(crate) weights: Vec<f64>,
}

impl<T: Feature> Projection<T> {
    /// The barycentric coordinates of rows. A row that equals a landmark has that landmark's alone: the
    /// regularisation would spread it over others.
    pub(crate) fn coordinates(
        &self,
        rows: Points<'_, T>,
        control: &dyn Control,
    ) -> Result<Coordinates> {
        let ids = self.landmarks.nearest(rows, self.per_row, control)?;
        let mut weights = vec![0.0; ids.len()];
        let points = self.landmarks.points();
        weights
            .par_chunks_mut(CHUNK * self.per_row)
            .zip(ids.par_chunks(CHUNK * self.per_row))
            .enumerate()
            .try_for_each_init(
                || Barycenter::new(self.per_row, points.dimensions(), self.reg),
                |solver, (chunk, (weights, ids))| {
                    crate::simd::widest(
                        #[inline(always)]
                        || {
                            let pairs = weights
                                .chunks_mut(self.per_row)
                                .zip(ids.chunks(self.per_row));
                            for (place, (weights, ids)) in pairs.enumerate() {
                                let row = rows.row(chunk * CHUNK + place);
                                if row == points.row(ids[0] as usize) {
                                    weights[0] = 1.0;
                                } else {
                                    solver.solve(row, points, ids, weights)?;
                                }
                            }
                            Ok::<(), ManifoldError>(())
                        },
                    )
                },
            )?;
        Ok(Coordinates { ids, weights })
    }

    /// Calls `take(first row, coordinates)` for batches of rows, in order.
    pub(crate) fn for_each_batch(
        &self,
        rows: Points<'_, T>,
        control: &dyn Control,
        mut take: impl FnMut(usize, Coordinates),
    ) -> Result<()> {
        let meter = Meter::new(control, Phase::Projection, rows.len() as u64);
        for start in (0..rows.len()).step_by(BATCH) {
            meter.check()?;
            let end = (start + BATCH).min(rows.len());
            take(start, self.coordinates(rows.rows(start..end), control)?);
            meter.add((end - start) as u64);
        }
        Ok(())
    }
}
