//! Queries, keys and values of a batch of the aggregate.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::ArrowNativeType;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err, internal_err};
use datafusion::physical_expr::PhysicalExpr;
use lakefold_attention::{AttentionError, Real};

use super::arguments::PARAMETERS;
use crate::argument_names::argument_name;
use crate::features::{Extent, Site, measure};
use crate::float_lists::ListRows;

/// The three arguments as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Columns {
    pub(crate) query: String,
    pub(crate) key: String,
    pub(crate) value: String,
}

impl Columns {
    /// Of the call that `DataFusion` names `call`.
    pub(crate) fn of_call(arguments: &[Arc<dyn PhysicalExpr>], call: &str) -> Self {
        let [query, key, value] =
            [0, 1, 2].map(|place| argument_name(arguments, place, call, PARAMETERS[place]));
        Self { query, key, value }
    }
}

/// Rows of a batch of which query, key and value are there.
pub(crate) struct Vectors<'a, T> {
    pub(crate) columns: Columns,
    queries: Queries<'a, T>,
    /// Numbers of a query.
    dimensions: usize,
    key: Column<'a, T>,
    value: Column<'a, T>,
    present: BooleanBuffer,
}

/// The queries of a batch's rows.
#[derive(Clone, Copy)]
pub(crate) enum QueriesOf<'a, T> {
    /// One after the other.
    EachRow(&'a [T]),
    /// The same in every row.
    AllRows(&'a [T]),
}

enum Queries<'a, T> {
    EachRow(Column<'a, T>),
    /// A constant comes as a dictionary of one list, see [`super::constant_query`].
    AllRows(&'a [T]),
}

/// Lists of one length wherever they are present.
pub(crate) struct Column<'a, T> {
    rows: Option<ListRows<'a>>,
    numbers: &'a [T],
    pub(crate) extent: Extent,
}

impl<'a, T: Real + ArrowNativeType> Column<'a, T> {
    /// # Errors
    /// Names the row of a list with a NULL or of another length than the others.
    pub(crate) fn read<P: ArrowPrimitiveType<Native = T>>(
        list: &'a ArrayRef,
        site: &Site,
    ) -> Result<Self> {
        let extent = measure(std::slice::from_ref(list), site)?;
        if list.null_count() == list.len() {
            return Ok(Self {
                rows: None,
                numbers: &[],
                extent,
            });
        }
        let rows = ListRows::try_new(list)?;
        let Some(numbers) = rows.values().as_primitive_opt::<P>() else {
            return internal_err!(
                "{site}: expected lists of {}, got {}",
                P::DATA_TYPE,
                list.data_type()
            );
        };
        Ok(Self {
            numbers: numbers.values(),
            rows: Some(rows),
            extent,
        })
    }

    /// Of rows that follow one another without a NULL.
    pub(crate) fn span(&self, rows: Range<usize>) -> &'a [T] {
        match &self.rows {
            Some(lists) => &self.numbers[lists.span(rows)],
            None => &[],
        }
    }
}

/// # Errors
/// Where queries and keys differ in length.
pub(crate) fn check_comparable(
    query: &Extent,
    key: &Extent,
    columns: &Columns,
    function: &str,
) -> Result<()> {
    let (m, n) = (query.dimensions, key.dimensions);
    if m != n && query.rows > 0 && key.rows > 0 {
        return exec_err!(
            "{function}: query {} has {m} dimensions and key {} has {n}: both need the same number",
            columns.query,
            columns.key
        );
    }
    Ok(())
}

impl<'a, T: Real + ArrowNativeType> Vectors<'a, T> {
    /// # Errors
    /// Names the column and the row of a list with a NULL or of another length than the others, and keys that
    /// are not as long as queries.
    pub(crate) fn read<P: ArrowPrimitiveType<Native = T>>(
        arrays: &'a [ArrayRef],
        filter: Option<&BooleanArray>,
        columns: &Columns,
        function: &'static str,
    ) -> Result<Self> {
        let [query, key, value, ..] = arrays else {
            return internal_err!("{function} has three arguments, got {}", arrays.len());
        };
        let column = |list, name: &str| {
            let site = Site {
                function,
                column: name.to_owned(),
                streamed: true,
                ..Site::default()
            };
            Column::read::<P>(list, &site)
        };
        let (queries, of_query) = match query.as_any_dictionary_opt() {
            None => {
                let query = column(query, &columns.query)?;
                let extent = query.extent.clone();
                (Queries::EachRow(query), extent)
            }
            Some(constant) => {
                let query = column(constant.values(), &columns.query)?;
                if constant.values().len() != 1 || constant.keys().null_count() > 0 {
                    return internal_err!("{function}: a constant query is one list");
                }
                let extent = Extent {
                    present: BooleanBuffer::new_set(constant.len()),
                    rows: constant.len(),
                    dimensions: query.extent.dimensions,
                };
                (Queries::AllRows(query.span(0..1)), extent)
            }
        };
        let key = column(key, &columns.key)?;
        let value = column(value, &columns.value)?;
        let mut present = &(&of_query.present & &key.extent.present) & &value.extent.present;
        if let Some(filter) = filter {
            let kept = match filter.nulls() {
                Some(nulls) => filter.values() & nulls.inner(),
                None => filter.values().clone(),
            };
            present = &present & &kept;
        }
        check_comparable(&of_query, &key.extent, columns, function)?;
        Ok(Self {
            columns: columns.clone(),
            dimensions: of_query.dimensions,
            queries,
            key,
            value,
            present,
        })
    }

    /// Numbers of a query and of a value, unless no row is present.
    pub(crate) fn sizes(&self) -> Option<(usize, usize)> {
        let any = self.present.count_set_bits() > 0;
        any.then_some((self.dimensions, self.value.extent.dimensions))
    }

    /// Runs of rows that are all present, of at most `longest`.
    pub(crate) fn runs(&self, longest: usize) -> impl Iterator<Item = Range<usize>> + use<'_, T> {
        self.present.set_slices().flat_map(move |(start, end)| {
            let starts = (start..end).step_by(longest);
            starts.map(move |start| start..end.min(start + longest))
        })
    }

    /// Of rows of a run.
    pub(crate) fn queries(&self, run: Range<usize>) -> QueriesOf<'a, T> {
        match &self.queries {
            Queries::EachRow(column) => QueriesOf::EachRow(column.span(run)),
            Queries::AllRows(query) => QueriesOf::AllRows(query),
        }
    }

    /// Of rows of a run.
    pub(crate) fn keys(&self, run: Range<usize>) -> &'a [T] {
        self.key.span(run)
    }

    /// Of rows of a run.
    pub(crate) fn values(&self, run: Range<usize>) -> &'a [T] {
        self.value.span(run)
    }

    /// The kernel counts keys from row `first` on.
    pub(crate) fn score_error(
        &self,
        error: &AttentionError,
        first: usize,
        function: &str,
    ) -> DataFusionError {
        let AttentionError::InvalidScore { key, score, .. } = error else {
            return exec_datafusion_err!("{function}: {error}");
        };
        let row = first + key;
        exec_datafusion_err!(
            "{function}: row {row} of its batch (counted from 0) has a score of {score}: its query {} or key \
             {} holds NaN or infinity, or the scale is too large; filter the row out or replace the number",
            self.columns.query,
            self.columns.key
        )
    }
}
