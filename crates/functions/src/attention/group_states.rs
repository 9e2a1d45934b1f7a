//! The states of `attention`'s groups as DataFusion takes them and hands them on.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Float64Array, new_null_array,
};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, exec_datafusion_err, internal_datafusion_err, internal_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use lakefold_attention::{GroupedStates, Real, Score};

use super::groups::AttentionGroups;
use crate::embeddings::embedding_array;
use crate::float_lists::{FloatType, ListRows};

/// Maximum, sum, accumulator and query of each group: what partial aggregation hands on.
pub(crate) fn state_types() -> [(&'static str, DataType); 4] {
    let list = || FloatType::Float64.list();
    [
        ("maximum", DataType::Float64),
        ("sum", DataType::Float64),
        ("accumulator", list()),
        ("query", list()),
    ]
}

fn list_array(
    present: &[bool],
    numbers: impl Iterator<Item = f64>,
    width: usize,
) -> Result<ArrayRef> {
    let present = BooleanBuffer::from(present);
    embedding_array(
        &FloatType::Float64.list(),
        FloatType::Float64,
        numbers,
        width,
        present,
    )
}

/// [`AttentionGroups`] for arrays of one Arrow type.
#[derive(Debug)]
pub(crate) struct TypedGroups<P: ArrowPrimitiveType>(pub(crate) AttentionGroups<P::Native>);

impl<P: ArrowPrimitiveType<Native: Real>> GroupsAccumulator for TypedGroups<P> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.0
            .update_rows::<P>(values, group_indices, opt_filter, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (has_query, _, states) = self.0.take(emit_to);
        let Some(states) = states else {
            return Ok(new_null_array(&self.0.data_type, has_query.len()));
        };
        let width = states.width();
        let mut numbers = vec![0.0_f64; width];
        let mut means = Vec::with_capacity(has_query.len() * width);
        let mut present = Vec::with_capacity(has_query.len());
        for group in 0..has_query.len() {
            let any = states
                .finish_into(group, &mut numbers)
                .map_err(|error| exec_datafusion_err!("attention: {error}"))?;
            present.push(any);
            if let Some(dimension) = numbers.iter().position(|number| !number.is_finite()) {
                return Err(self.0.sum_error(numbers[dimension], dimension));
            }
            if any {
                means.extend_from_slice(&numbers);
            }
        }
        let Some(float) = FloatType::of_list(&self.0.data_type) else {
            return internal_err!("attention gives lists, not {}", self.0.data_type);
        };
        let present = BooleanBuffer::from(present);
        embedding_array(&self.0.data_type, float, means.into_iter(), width, present)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (has_query, queries, states) = self.0.take(emit_to);
        let Some(states) = states else {
            return Ok(no_states(has_query.len()));
        };
        let dimensions = self.0.dimensions;
        let rows = |numbers: &[f64], width: usize| {
            let kept = has_query.iter().enumerate().filter(|(_, has)| **has);
            let kept = kept.flat_map(|(group, _)| &numbers[group * width..][..width]);
            list_array(&has_query, kept.copied(), width)
        };
        let queries: Vec<f64> = queries.iter().map(|value| value.to_f64()).collect();
        Ok(vec![
            Arc::new(Float64Array::from(states.maxima().to_vec())),
            Arc::new(Float64Array::from(states.sums().to_vec())),
            rows(states.accumulators(), states.width())?,
            rows(&queries, dimensions)?,
        ])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        let [maxima, sums, accumulators, queries] = values else {
            return internal_err!("a state of attention has 4 columns, got {}", values.len());
        };
        let groups = &mut self.0;
        groups.make(total_num_groups);
        let (maxima, sums) = (
            maxima.as_primitive::<Float64Type>(),
            sums.as_primitive::<Float64Type>(),
        );
        let (accumulators, queries) = (
            ListRows::try_new(accumulators)?,
            ListRows::try_new(queries)?,
        );
        let numbers_of = |lists: &ListRows<'_>| {
            let numbers = lists.values().as_primitive_opt::<Float64Type>();
            let numbers = numbers.map(|numbers| numbers.values().clone());
            numbers.ok_or_else(|| internal_datafusion_err!("a state of attention is of DOUBLE"))
        };
        let (totals, numbers) = (numbers_of(&accumulators)?, numbers_of(&queries)?);
        let (mut query, column) = (Vec::new(), groups.columns.query.clone());
        for (row, &group) in group_indices.iter().enumerate() {
            let (Some(own), Some(accumulator)) = (queries.range(row), accumulators.range(row))
            else {
                continue;
            };
            query.clear();
            query.extend(numbers[own].iter().map(|&value| P::Native::from_f64(value)));
            let accumulator = &totals[accumulator];
            groups.check_sizes((query.len(), accumulator.len()))?;
            groups.set_query(group, &query, &|| column.clone())?;
            if let Some(states) = &mut groups.states {
                states
                    .merge_one(group, maxima.value(row), sums.value(row), accumulator)
                    .map_err(|error| exec_datafusion_err!("attention: {error}"))?;
            }
        }
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, Array::len);
        let mut each = Self(AttentionGroups::new(
            self.0.columns.clone(),
            self.0.scoring,
            self.0.data_type.clone(),
        ));
        let groups: Vec<usize> = (0..rows).collect();
        each.update_batch(values, &groups, opt_filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        let groups = &self.0;
        size_of::<Self>()
            + groups.queries.capacity() * size_of::<P::Native>()
            + groups.has_query.capacity()
            + groups.constant.capacity()
            + groups.states.as_ref().map_or(0, GroupedStates::size)
    }
}

/// Of groups without a row.
fn no_states(groups: usize) -> Vec<ArrayRef> {
    let list = FloatType::Float64.list();
    let number = |value| {
        let values = vec![value; groups].into();
        Arc::new(Float64Array::new(values, None)) as ArrayRef
    };
    vec![
        number(f64::NEG_INFINITY),
        number(0.0),
        new_null_array(&list, groups),
        new_null_array(&list, groups),
    ]
}
