//! The states of `attention`'s groups.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Float64Array, new_null_array,
};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{ArrowNativeType, DataType, Float64Type};
use datafusion::common::{Result, exec_datafusion_err, exec_err, internal_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use lakefold_attention::{AttentionError, GroupedStates, Query, Real, Score};

use super::arguments::Scoring;
use super::vectors::{Columns, QueriesOf, Vectors};
use crate::embeddings::embedding_array;
use crate::float_lists::FloatType;

/// Rows at a time: their keys and values stay near the processor until they are absorbed.
const BLOCK: usize = 256;

/// Of one aggregate expression.
#[derive(Debug, Clone)]
pub(crate) struct AttentionGroups<T> {
    columns: Columns,
    scoring: Scoring,
    /// Of the result.
    data_type: DataType,
    /// Numbers of a query, once one was seen.
    dimensions: usize,
    /// The groups' queries, `dimensions` numbers each; zeros where there is none yet.
    queries: Vec<T>,
    has_query: Vec<bool>,
    /// Whether a group's query was compared with the constant of this batch; empty where there is none.
    constant: Vec<bool>,
    /// Made with the first row, which tells the width of a value.
    states: Option<GroupedStates>,
}

impl<T: Real + ArrowNativeType> AttentionGroups<T> {
    pub(crate) fn new(columns: Columns, scoring: Scoring, data_type: DataType) -> Self {
        Self {
            columns,
            scoring,
            data_type,
            dimensions: 0,
            queries: vec![],
            has_query: vec![],
            constant: vec![],
            states: None,
        }
    }

    /// Makes groups until there are so many.
    pub(crate) fn make(&mut self, groups: usize) {
        let groups = groups.max(self.has_query.len());
        self.has_query.resize(groups, false);
        self.queries.resize(groups * self.dimensions, T::zero());
        if let Some(states) = &mut self.states {
            states.resize(groups);
        }
    }

    /// Takes the sizes of queries and values from the first rows, and holds the others to them.
    fn check_sizes(&mut self, (dimensions, width): (usize, usize)) -> Result<()> {
        let Some(states) = &self.states else {
            self.dimensions = dimensions;
            self.states = Some(GroupedStates::new(width));
            self.make(0);
            return Ok(());
        };
        for (column, found, before) in [
            (&self.columns.query, dimensions, self.dimensions),
            (&self.columns.value, width, states.width()),
        ] {
            if found != before {
                return exec_err!(
                    "attention: {column} has {found} dimensions, but rows before have {before}: every row \
                     needs the same number, filter the row out or pad the list"
                );
            }
        }
        Ok(())
    }

    /// Sets the group's query, or compares it with the one that it has.
    fn set_query(&mut self, group: usize, query: &[T], row: &dyn Fn() -> String) -> Result<()> {
        let own = &mut self.queries[group * self.dimensions..][..self.dimensions];
        if !self.has_query[group] {
            self.has_query[group] = true;
            own.copy_from_slice(query);
            return Ok(());
        }
        // Without a branch for each number: every row of the group is compared.
        let equal = own
            .iter()
            .zip(query)
            .fold(true, |equal, (a, b)| equal & (a == b));
        // A NaN is told as such when it makes a score.
        let same = |(a, b): (&T, &T)| a == b || a.to_f64().is_nan() && b.to_f64().is_nan();
        if equal || own.iter().zip(query).all(same) {
            return Ok(());
        }
        exec_err!(
            "attention: {} differs from the query of the group's other rows: one query a group, add {} \
             to GROUP BY, or write self_attention(…) OVER (PARTITION BY …) for a query in every row",
            row(),
            self.columns.query
        )
    }

    fn update(&mut self, rows: &Vectors<'_, T>, groups: &[usize]) -> Result<()> {
        let failed = |error: AttentionError| exec_datafusion_err!("attention: {error}");
        let scale = self.scoring.scale_for(self.dimensions).map_err(failed)?;
        let (similarity, dimensions) = (self.scoring.similarity, self.dimensions);
        self.constant.clear();
        let mut query = None;
        let mut scores = [0.0; BLOCK];
        for run in rows.runs(BLOCK) {
            let (scores, groups) = (&mut scores[..run.len()], &groups[run.clone()]);
            let keys = rows.keys(run.clone());
            match rows.queries(run.clone()) {
                QueriesOf::EachRow(queries) => {
                    for (place, group) in groups.iter().enumerate() {
                        let query = &queries[place * dimensions..(place + 1) * dimensions];
                        self.set_query(*group, query, &|| {
                            named_row(&rows.columns, run.start + place)
                        })?;
                    }
                    similarity.scores_into((queries, keys), dimensions, scale, scores)
                }
                QueriesOf::AllRows(constant) => {
                    self.set_constant(groups, constant, &rows.columns.query)?;
                    let query = match &query {
                        Some(query) => query,
                        None => query
                            .insert(Query::new(constant, similarity, Some(scale)).map_err(failed)?),
                    };
                    query.scores_into(keys, scores)
                }
            }
            .map_err(failed)?;
            let Some(states) = &mut self.states else {
                return internal_err!("attention has no states");
            };
            states
                .absorb(groups, scores, rows.values(run.clone()))
                .map_err(|error| rows.score_error(&error, run.start, "attention"))?;
        }
        Ok(())
    }

    /// Sets the queries of groups whose rows all have the same, or compares them, each once a batch.
    fn set_constant(&mut self, groups: &[usize], query: &[T], column: &str) -> Result<()> {
        self.constant.resize(self.has_query.len(), false);
        for &group in groups {
            if !self.constant[group] {
                self.constant[group] = true;
                self.set_query(group, query, &|| column.to_owned())?;
            }
        }
        Ok(())
    }

    /// The states of the groups that leave, with their queries.
    fn take(&mut self, emit_to: EmitTo) -> (Vec<bool>, Vec<T>, Option<GroupedStates>) {
        let groups = match emit_to {
            EmitTo::All => self.has_query.len(),
            EmitTo::First(groups) => groups.min(self.has_query.len()),
        };
        let has_query = take_first(&mut self.has_query, groups);
        let queries = take_first(&mut self.queries, groups * self.dimensions);
        let states = self.states.as_mut().map(|states| states.take_first(groups));
        (has_query, queries, states)
    }
}

fn take_first<V>(values: &mut Vec<V>, count: usize) -> Vec<V> {
    let rest = values.split_off(count);
    std::mem::replace(values, rest)
}

fn named_row(columns: &Columns, row: usize) -> String {
    format!(
        "{} in row {row} of its batch (counted from 0)",
        columns.query
    )
}

impl<T: Real + ArrowNativeType> AttentionGroups<T> {
    pub(crate) fn update_rows<P: ArrowPrimitiveType<Native = T>>(
        &mut self,
        arrays: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        let rows = Vectors::read::<P>(arrays, filter, &self.columns, "attention")?;
        self.make(total);
        match rows.sizes() {
            None => Ok(()),
            Some(sizes) => {
                self.check_sizes(sizes)?;
                self.update(&rows, groups)
            }
        }
    }
}

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
        let mut numbers = vec![0.0; width];
        let mut means = Vec::with_capacity(has_query.len() * width);
        let mut present = Vec::with_capacity(has_query.len());
        for group in 0..has_query.len() {
            let any = states
                .finish_into(group, &mut numbers)
                .map_err(|error| exec_datafusion_err!("attention: {error}"))?;
            present.push(any);
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
        let (accumulators, queries) = (accumulators.as_list::<i32>(), queries.as_list::<i32>());
        for (row, &group) in group_indices.iter().enumerate() {
            if queries.is_null(row) || accumulators.is_null(row) {
                continue;
            }
            let (query, accumulator) = (queries.value(row), accumulators.value(row));
            let query: Vec<P::Native> = query
                .as_primitive::<Float64Type>()
                .values()
                .iter()
                .map(|&value| P::Native::from_f64(value))
                .collect();
            let accumulator = accumulator.as_primitive::<Float64Type>().values();
            groups.check_sizes((query.len(), accumulator.len()))?;
            let column = groups.columns.query.clone();
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
