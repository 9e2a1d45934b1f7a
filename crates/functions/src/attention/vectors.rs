//! Queries, keys and values of a batch.

use std::ops::Range;

use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::ArrowNativeType;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err, internal_err};
use lakefold_attention::{AttentionError, Real};

use crate::features::{Extent, Site, measure};
use crate::float_lists::ListRows;

/// The three arguments as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Columns {
    pub(crate) query: String,
    pub(crate) key: String,
    pub(crate) value: String,
}

/// Rows of a batch of which query, key and value are there.
pub(crate) struct Vectors<'a, T> {
    pub(crate) columns: Columns,
    query: Column<'a, T>,
    key: Column<'a, T>,
    value: Column<'a, T>,
    present: BooleanBuffer,
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
        let query = column(query, &columns.query)?;
        let key = column(key, &columns.key)?;
        let value = column(value, &columns.value)?;
        let mut present = &(&query.extent.present & &key.extent.present) & &value.extent.present;
        if let Some(filter) = filter {
            let kept = match filter.nulls() {
                Some(nulls) => filter.values() & nulls.inner(),
                None => filter.values().clone(),
            };
            present = &present & &kept;
        }
        check_comparable(&query.extent, &key.extent, columns, function)?;
        Ok(Self {
            columns: columns.clone(),
            query,
            key,
            value,
            present,
        })
    }

    /// Numbers of a query and of a value, unless no row is present.
    pub(crate) fn sizes(&self) -> Option<(usize, usize)> {
        let any = self.present.count_set_bits() > 0;
        any.then_some((self.query.extent.dimensions, self.value.extent.dimensions))
    }

    pub(crate) fn is_present(&self, row: usize) -> bool {
        self.present.value(row)
    }

    pub(crate) fn query(&self, row: usize) -> &'a [T] {
        self.query.span(row..row + 1)
    }

    pub(crate) fn key(&self, row: usize) -> &'a [T] {
        self.key.span(row..row + 1)
    }

    pub(crate) fn value(&self, row: usize) -> &'a [T] {
        self.value.span(row..row + 1)
    }

    /// Of present rows.
    pub(crate) fn keys(&self, rows: Range<usize>) -> &'a [T] {
        self.key.span(rows)
    }

    /// Of present rows.
    pub(crate) fn values(&self, rows: Range<usize>) -> &'a [T] {
        self.value.span(rows)
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
