//! The states of `attention`'s groups.

use datafusion::arrow::array::{ArrayRef, ArrowPrimitiveType, BooleanArray};
use datafusion::arrow::datatypes::{ArrowNativeType, DataType};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err, internal_err};
use datafusion::logical_expr::EmitTo;
use lakefold_attention::{AttentionError, GroupedStates, Query, Real};

use super::arguments::Scoring;
use super::vectors::{Columns, QueriesOf, Vectors};

/// Rows at a time: their keys and values stay near the processor until they are absorbed.
const BLOCK: usize = 256;

/// Groups whose sums are looked at after every batch: so few, or one for so many rows of the batch, that it takes
/// hardly a hundredth of the time of adding the rows up.
const FEW: usize = 8;
const ROWS_A_GROUP: usize = 64;

/// Of one aggregate expression.
#[derive(Debug, Clone)]
pub(crate) struct AttentionGroups<T> {
    pub(super) columns: Columns,
    pub(super) scoring: Scoring,
    /// Of the result.
    pub(super) data_type: DataType,
    /// Numbers of a query, once one was seen.
    pub(super) dimensions: usize,
    /// The groups' queries, `dimensions` numbers each; zeros where there is none yet.
    pub(super) queries: Vec<T>,
    pub(super) has_query: Vec<bool>,
    /// Whether a group's query was compared with the constant of this batch; empty where there is none.
    pub(super) constant: Vec<bool>,
    /// Made with the first row, which tells the width of a value.
    pub(super) states: Option<GroupedStates>,
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
    pub(super) fn check_sizes(&mut self, (dimensions, width): (usize, usize)) -> Result<()> {
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
    pub(super) fn set_query(
        &mut self,
        group: usize,
        query: &[T],
        row: &dyn Fn() -> String,
    ) -> Result<()> {
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
        self.check_sums(rows, groups)
    }

    /// Refuses infinite values, and names one's row, where groups are few. Where they are many it is their means that
    /// tell, when no row is known any more.
    fn check_sums(&self, rows: &Vectors<'_, T>, groups: &[usize]) -> Result<()> {
        let Some(states) = &self.states else {
            return Ok(());
        };
        if states.len() > FEW.max(groups.len() / ROWS_A_GROUP) {
            return Ok(());
        }
        let (sums, width) = (states.accumulators(), states.width());
        let Some(place) = sums.iter().position(|sum| !sum.is_finite()) else {
            return Ok(());
        };
        let (group, dimension) = (place / width, place % width);
        let value = |row: usize| rows.values(row..row + 1)[dimension].to_f64();
        let mut present = rows.runs(1).map(|run| run.start);
        let row = present.find(|&row| groups[row] == group && !value(row).is_finite());
        let Some(row) = row else {
            return Err(self.sum_error(sums[place], dimension));
        };
        exec_err!(
            "attention: {} in row {row} of its batch has {} in dimension {dimension} (both counted from 0): filter the \
             row out or replace the number",
            self.columns.value,
            value(row)
        )
    }

    /// What a group's values add up to is no finite number.
    pub(super) fn sum_error(&self, sum: f64, dimension: usize) -> DataFusionError {
        exec_datafusion_err!(
            "attention: the values {} of a group give {sum} in dimension {dimension} (counted from 0): filter out the rows \
             with NaN, infinity or numbers too large to be added up, or replace them",
            self.columns.value
        )
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
    pub(super) fn take(&mut self, emit_to: EmitTo) -> (Vec<bool>, Vec<T>, Option<GroupedStates>) {
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
