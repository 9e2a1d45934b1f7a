//! Attention of many groups at once, a query each.

use crate::online::{Absorb, Parts, check_parts, finish, invalid_score};
use crate::simd::widest;
use crate::{AttentionError, Query, Real, Result, Score};

/// The states of many groups in flat vectors: what [`crate::OnlineState`] is for one.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupedStates {
    width: usize,
    maxima: Vec<f64>,
    sums: Vec<f64>,
    accumulators: Vec<f64>,
}

impl GroupedStates {
    /// No groups yet; values have `width` numbers.
    pub fn new(width: usize) -> Self {
        Self {
            width,
            maxima: Vec::new(),
            sums: Vec::new(),
            accumulators: Vec::new(),
        }
    }

    /// The number of groups.
    pub fn len(&self) -> usize {
        self.maxima.len()
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.maxima.is_empty()
    }

    /// Numbers of a value.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Bytes that the states occupy on the heap.
    pub fn size(&self) -> usize {
        (self.maxima.capacity() + self.sums.capacity() + self.accumulators.capacity())
            * size_of::<f64>()
    }

    /// Makes it so many groups: new ones have absorbed nothing, those at the end are forgotten.
    pub fn resize(&mut self, groups: usize) {
        self.maxima.resize(groups, f64::NEG_INFINITY);
        self.sums.resize(groups, 0.0);
        self.accumulators.resize(groups * self.width, 0.0);
    }

    /// Takes in one value with its score; a score of −∞ weighs nothing.
    ///
    /// # Errors
    /// [`AttentionError::InvalidScore`], naming key 0, for NaN or +∞, and [`AttentionError::Shape`] for a
    /// value of another width or a group that is not there; the states are then unchanged.
    pub fn absorb_one<T: Score>(&mut self, group: usize, score: f64, value: &[T]) -> Result<()> {
        AttentionError::check_size("value", "numbers wide", self.width, value.len())?;
        let state = self.parts(group)?;
        if score.is_nan() || score == f64::INFINITY {
            return Err(invalid_score(0, score));
        }
        widest(Absorb {
            state,
            scores: &mut [score],
            values: value,
        });
        Ok(())
    }

    /// Takes in a run of keys and values that belong to one group, as [`crate::OnlineState::absorb`].
    ///
    /// # Errors
    /// The same, and [`AttentionError::Shape`] for a group that is not there.
    pub fn absorb<T: Real>(
        &mut self,
        group: usize,
        query: &Query,
        keys: &[T],
        values: &[T],
        valid: impl Fn(usize) -> bool,
    ) -> Result<()> {
        self.parts(group)?.absorb(query, keys, values, valid)
    }

    /// Takes in a state of the same group from elsewhere.
    ///
    /// # Errors
    /// [`AttentionError::InvalidState`] for parts that no keys leave behind, [`AttentionError::Shape`] for a
    /// state of another width or a group that is not there.
    pub fn merge_one(
        &mut self,
        group: usize,
        maximum: f64,
        sum: f64,
        accumulator: &[f64],
    ) -> Result<()> {
        check_parts(maximum, sum)?;
        self.parts(group)?.merge(maximum, sum, accumulator)
    }

    /// The running maximum of every group.
    pub fn maxima(&self) -> &[f64] {
        &self.maxima
    }

    /// The sum of exp(score − maximum) of every group.
    pub fn sums(&self) -> &[f64] {
        &self.sums
    }

    /// The accumulators, `width` numbers a group, one after the other.
    pub fn accumulators(&self) -> &[f64] {
        &self.accumulators
    }

    /// Writes a group's weighted mean to `out`; zeros if no key has any weight, and returns whether one has.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] unless `out` is as wide as a value and the group is there.
    pub fn finish_into<T: Score>(&self, group: usize, out: &mut [T]) -> Result<bool> {
        self.check(group)?;
        let accumulator = &self.accumulators[group * self.width..(group + 1) * self.width];
        finish(self.sums[group], accumulator, out)
    }

    /// Removes the first `groups` groups (all, if there are fewer) and returns them; the others move up.
    #[must_use]
    pub fn take_first(&mut self, groups: usize) -> Self {
        let groups = groups.min(self.len());
        let rest = Self {
            width: self.width,
            maxima: self.maxima.split_off(groups),
            sums: self.sums.split_off(groups),
            accumulators: self.accumulators.split_off(groups * self.width),
        };
        std::mem::replace(self, rest)
    }

    fn check(&self, group: usize) -> Result<()> {
        if group < self.len() {
            return Ok(());
        }
        Err(AttentionError::Shape {
            name: "group",
            expected: format!("below the number of groups, {}", self.len()),
            found: group.to_string(),
        })
    }

    fn parts(&mut self, group: usize) -> Result<Parts<'_>> {
        self.check(group)?;
        Ok(Parts {
            maximum: &mut self.maxima[group],
            sum: &mut self.sums[group],
            accumulator: &mut self.accumulators[group * self.width..(group + 1) * self.width],
        })
    }
}
