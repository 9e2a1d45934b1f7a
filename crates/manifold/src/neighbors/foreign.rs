//! The nearest points of rows that are not among them.

use super::blocks::{Prepared, Problem, search};
use super::proposals::kept;
use crate::points::{Feature, Points};
use crate::{Control, Result};

/// Points that many batches of rows are compared with.
#[derive(Debug, Clone)]
pub(crate) struct Base<T> {
    values: Vec<T>,
    dimensions: usize,
    prepared: Prepared,
}

impl<T: Feature> Base<T> {
    pub(crate) fn new(values: Vec<T>, dimensions: usize) -> Self {
        let prepared = Prepared::new(Points::new(&values, dimensions));
        Self {
            values,
            dimensions,
            prepared,
        }
    }

    pub(crate) fn points(&self) -> Points<'_, T> {
        Points::new(&self.values, self.dimensions)
    }

    /// The ids of the k nearest points of each row, nearest first, ties by id; k is at most the number of
    /// points.
    pub(crate) fn nearest(
        &self,
        rows: Points<'_, T>,
        k: usize,
        control: &dyn Control,
    ) -> Result<Vec<u32>> {
        let problem = Problem::new(self.points(), &self.prepared, k);
        let keep = kept(k, self.points().len());
        search(&problem, rows, keep, &|_, _| true, control)
    }
}
