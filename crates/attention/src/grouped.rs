//! Attention of many groups at once, a query each.

use crate::online::{Parts, add_weighted, check_parts, check_scores, finish};
use crate::simd::{Kernel, widest};
use crate::{AttentionError, Real, Result, Score};

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

    /// Takes in rows of any groups: the score and the value at place i, values one after the other, belong to
    /// group `groups[i]`. A score of −∞ weighs nothing. The scores are overwritten.
    ///
    /// # Errors
    /// [`AttentionError::Shape`] unless there is a group and a value for every score and all the groups are there;
    /// [`AttentionError::InvalidScore`] with its place for a score of NaN or +∞. Nothing has been absorbed then.
    pub fn absorb<T: Score>(
        &mut self,
        groups: &[usize],
        scores: &mut [f64],
        values: &[T],
    ) -> Result<()> {
        let rows = scores.len();
        AttentionError::check_size("groups", "numbers", rows, groups.len())?;
        AttentionError::check_size("values", "numbers", rows * self.width, values.len())?;
        if let Some(last) = groups.iter().max() {
            self.check(*last)?;
        }
        check_scores(scores)?;
        widest(AbsorbRows {
            states: self,
            groups,
            scores,
            values,
        });
        Ok(())
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
        Ok(self.own_parts(group))
    }

    /// Of a group that is there.
    #[inline(always)]
    fn own_parts(&mut self, group: usize) -> Parts<'_> {
        Parts {
            maximum: &mut self.maxima[group],
            sum: &mut self.sums[group],
            accumulator: &mut self.accumulators[group * self.width..(group + 1) * self.width],
        }
    }
}

/// Scores without NaN and +∞ of groups that are there.
struct AbsorbRows<'a, T> {
    states: &'a mut GroupedStates,
    groups: &'a [usize],
    scores: &'a mut [f64],
    values: &'a [T],
}

impl<T: Score> Kernel for AbsorbRows<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let states = self.states;
        let width = states.width;
        // All maxima first, so that the weights are computed in one loop without a branch.
        for (&group, &score) in self.groups.iter().zip(&*self.scores) {
            if score > states.maxima[group] {
                states.own_parts(group).raise(score);
            }
        }
        for (&group, score) in self.groups.iter().zip(self.scores.iter_mut()) {
            let maximum = states.maxima[group];
            // A group without any weight has no maximum to subtract.
            *score = if *score == f64::NEG_INFINITY {
                *score
            } else {
                *score - maximum
            };
        }
        for score in self.scores.iter_mut() {
            *score = score.exp_nonpositive::<FUSED>();
        }
        let mut start = 0;
        for run in self.groups.chunk_by(|a, b| a == b) {
            let (group, end) = (run[0], start + run.len());
            let weights = &self.scores[start..end];
            let state = states.own_parts(group);
            for weight in weights {
                *state.sum += weight;
            }
            let values = &self.values[start * width..end * width];
            add_weighted::<T, FUSED>(state.accumulator, weights, values);
            start = end;
        }
    }
}
