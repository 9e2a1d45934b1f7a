//! From list columns to the matrix that a fit takes, with errors that name column and row.

use std::fmt;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanBufferBuilder, RecordBatch,
};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::{
    DataFusionError, Result, ScalarValue, exec_datafusion_err, exec_err, internal_err,
};
use ndarray::{Array2, ArrayView2, Axis, CowArray, Ix2, ShapeError, concatenate};

use crate::argument_names::is_made_up;
use crate::float_lists::{FloatType, ListRows};

/// Where a fit's rows come from, for error messages.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// Its name in SQL.
    pub(crate) function: &'static str,
    /// The features argument as written.
    pub(crate) column: String,
    /// `key = value, …` of the PARTITION BY, where there is one.
    pub(crate) partition: Option<String>,
    /// The rows with all their columns, where they are known.
    pub(crate) batches: Vec<RecordBatch>,
    /// Whether `batches` is one of many.
    pub(crate) streamed: bool,
}

impl Default for Site {
    fn default() -> Self {
        Self {
            function: crate::lle_embed::NAME,
            column: String::new(),
            partition: None,
            batches: vec![],
            streamed: false,
        }
    }
}

impl Site {
    /// How a row is named. `row` counts from 0 in the order in which rows reached the function, which
    /// after an (unstable) sort by the partition's key is nobody's order: the message says so, and other
    /// columns are shown too.
    pub(crate) fn row(&self, row: usize) -> String {
        let of_partition = match (&self.partition, self.batches.as_slice()) {
            _ if self.streamed => " of its batch",
            (Some(_), _) => " of the partition as sorted by its key",
            // DataFusion's own window operator tells neither key nor batches.
            (None, []) => " of its partition",
            (None, _) => "",
        };
        let columns = self.other_columns(row).unwrap_or_default();
        format!("row {row}{of_partition} (counted from 0{columns})")
    }

    /// `, id = 7, name = 'x'`: the first few columns that are not nested.
    fn other_columns(&self, mut row: usize) -> Option<String> {
        const MOST: usize = 3;
        let batch = self.batches.iter().find(|batch| {
            let here = row < batch.num_rows();
            row -= if here { 0 } else { batch.num_rows() };
            here
        })?;
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns());
        let columns = columns
            .filter(|(field, _)| !field.data_type().is_nested() && !is_made_up(field.name()));
        columns
            .take(MOST)
            .map(|(field, column)| {
                let value = ScalarValue::try_from_array(column, row).ok()?;
                Some(format!(", {} = {}", field.name(), shown(&value)))
            })
            .collect()
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of column {}", self.function, self.column)?;
        match &self.partition {
            Some(partition) => write!(f, " where {partition}"),
            None => Ok(()),
        }
    }
}

/// A value as it would be written in SQL, cut where it is long.
pub(crate) fn shown(value: &ScalarValue) -> String {
    const LONGEST: usize = 60;
    let text = match value.try_as_str() {
        Some(Some(text)) => format!("'{text}'"),
        _ => value.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Features of one fit: a matrix of the rows that are not NULL.
#[derive(Debug)]
pub(crate) struct Features<'a> {
    pub(crate) matrix: Matrix<'a>,
    /// One bit for each row of the input, false where the features are NULL.
    pub(crate) present: BooleanBuffer,
}

/// Shape (rows that are not NULL, dimensions): the column's own memory where it holds just that, else a
/// copy.
#[derive(Debug)]
pub(crate) enum Matrix<'a> {
    Float32(CowArray<'a, f32, Ix2>),
    Float64(CowArray<'a, f64, Ix2>),
}

impl Matrix<'_> {
    pub(crate) fn dim(&self) -> (usize, usize) {
        match self {
            Matrix::Float32(matrix) => matrix.dim(),
            Matrix::Float64(matrix) => matrix.dim(),
        }
    }

    /// A copy of some rows.
    pub(crate) fn select(&self, rows: &[usize]) -> Matrix<'static> {
        match self {
            Matrix::Float32(matrix) => Matrix::Float32(matrix.select(Axis(0), rows).into()),
            Matrix::Float64(matrix) => Matrix::Float64(matrix.select(Axis(0), rows).into()),
        }
    }

    /// The rows of all `parts`, at least one, which have as many columns and the same numbers.
    pub(crate) fn concatenate(parts: &[Matrix<'_>]) -> Result<Matrix<'static>> {
        let (mut singles, mut doubles) = (Vec::new(), Vec::new());
        for part in parts {
            match part {
                Matrix::Float32(part) => singles.push(part.view()),
                Matrix::Float64(part) => doubles.push(part.view()),
            }
        }
        Ok(match (singles.as_slice(), doubles.as_slice()) {
            (singles, []) => {
                Matrix::Float32(concatenate(Axis(0), singles).map_err(changed)?.into())
            }
            ([], doubles) => {
                Matrix::Float64(concatenate(Axis(0), doubles).map_err(changed)?.into())
            }
            _ => return internal_err!("rows were read as two float types"),
        })
    }

    /// Copied, unless it is a copy already.
    pub(crate) fn into_owned(self) -> Matrix<'static> {
        match self {
            Matrix::Float32(matrix) => Matrix::Float32(matrix.into_owned().into()),
            Matrix::Float64(matrix) => Matrix::Float64(matrix.into_owned().into()),
        }
    }
}

/// What is known of the features before any of them is copied.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Extent {
    pub(crate) present: BooleanBuffer,
    pub(crate) rows: usize,
    pub(crate) dimensions: usize,
}

impl Extent {
    /// Bytes of the matrix.
    pub(crate) fn bytes(&self, float: FloatType) -> usize {
        self.rows
            .saturating_mul(self.dimensions)
            .saturating_mul(float.bytes())
    }
}

/// Checks lengths and NULL elements of consecutive list columns.
pub(crate) fn measure(lists: &[ArrayRef], site: &Site) -> Result<Extent> {
    let mut present = BooleanBufferBuilder::new(lists.iter().map(Array::len).sum());
    let mut rows = 0;
    let mut first: Option<(usize, usize)> = None;
    for list in lists {
        if list.data_type() == &DataType::Null {
            present.append_n(list.len(), false);
            continue;
        }
        let list_rows = ListRows::try_new(list)?;
        let nulls = list_rows
            .values()
            .logical_nulls()
            .filter(|nulls| nulls.null_count() > 0);
        // Most columns are as they should be, which is seen without looking at their rows one by one.
        if nulls.is_none()
            && let Some(length) = list_rows.uniform_length()
            && length > 0
            && first.is_none_or(|(_, dimensions)| dimensions == length)
        {
            first.get_or_insert((present.len(), length));
            present.append_n(list.len(), true);
            rows += list.len();
            continue;
        }
        for row in 0..list_rows.len() {
            let here = present.len();
            let Some(range) = list_rows.range(row) else {
                present.append(false);
                continue;
            };
            let (first_row, dimensions) = *first.get_or_insert((here, range.len()));
            if range.is_empty() {
                return exec_err!(
                    "{site}: {} has an empty list: every row needs at least one number, filter the \
                     row out",
                    site.row(here)
                );
            }
            if range.len() != dimensions {
                return exec_err!(
                    "{site}: {} has {} dimensions, but row {first_row} has {dimensions}: every row \
                     needs the same number, filter the row out or pad the list",
                    site.row(here),
                    range.len()
                );
            }
            if let Some(nulls) = &nulls
                && let Some(dimension) = range.clone().position(|element| nulls.is_null(element))
            {
                return exec_err!(
                    "{site}: {} has NULL in dimension {dimension} (counted from 0): replace the \
                     element or make the whole list NULL",
                    site.row(here)
                );
            }
            present.append(true);
            rows += 1;
        }
    }
    Ok(Extent {
        present: present.finish(),
        rows,
        dimensions: first.map_or(0, |(_, dimensions)| dimensions),
    })
}

/// Compares the rows of a batch with those of batches before it, which set `known`.
pub(crate) fn check_dimensions(
    known: &mut Option<usize>,
    extent: &Extent,
    site: &Site,
) -> Result<()> {
    if extent.rows == 0 {
        return Ok(());
    }
    let known = *known.get_or_insert(extent.dimensions);
    if known == extent.dimensions {
        return Ok(());
    }
    let row = input_row(&extent.present, 0)?;
    exec_err!(
        "{site}: {} has {} dimensions, but rows before it have {known}: every row needs the same number, \
         filter the row out or pad the list",
        site.row(row),
        extent.dimensions
    )
}

/// The rows that are not NULL, coerced to `float`. Nothing is copied where the one list has no NULL and
/// holds that type.
pub(crate) fn extract(
    lists: &[ArrayRef],
    extent: Extent,
    float: FloatType,
) -> Result<Features<'_>> {
    let matrix = match float {
        FloatType::Float32 => Matrix::Float32(rows_of::<Float32Type>(lists, &extent)?),
        FloatType::Float64 => Matrix::Float64(rows_of::<Float64Type>(lists, &extent)?),
    };
    Ok(Features {
        matrix,
        present: extent.present,
    })
}

fn rows_of<'a, T: ArrowPrimitiveType>(
    lists: &'a [ArrayRef],
    extent: &Extent,
) -> Result<CowArray<'a, T::Native, Ix2>> {
    let shape = (extent.rows, extent.dimensions);
    if let [list] = lists
        && extent.rows == list.len()
        && extent.rows > 0
    {
        let rows = ListRows::try_new(list)?;
        if rows.values().data_type() == &T::DATA_TYPE {
            let values = rows.values().as_primitive::<T>().values();
            let view = ArrayView2::from_shape(shape, &values[rows.span(0..rows.len())]);
            return Ok(view.map_err(changed)?.into());
        }
    }
    let matrix = Array2::from_shape_vec(shape, copied::<T>(lists, extent)?);
    Ok(matrix.map_err(changed)?.into())
}

fn changed(error: ShapeError) -> DataFusionError {
    exec_datafusion_err!("features changed while they were read: {error}")
}

fn copied<T: ArrowPrimitiveType>(lists: &[ArrayRef], extent: &Extent) -> Result<Vec<T::Native>> {
    let mut features = Vec::with_capacity(extent.rows * extent.dimensions);
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    for list in lists {
        if list.null_count() == list.len() || list.data_type() == &DataType::Null {
            continue;
        }
        let rows = ListRows::try_new(list)?;
        let span = rows.span(0..rows.len());
        let values = rows.values().slice(span.start, span.len());
        let values = cast_with_options(&values, &T::DATA_TYPE, &options)?;
        let values = values.as_primitive::<T>().values();
        for range in (0..rows.len()).filter_map(|row| rows.range(row)) {
            features.extend_from_slice(&values[range.start - span.start..range.end - span.start]);
        }
    }
    Ok(features)
}

/// The caller's row of matrix row `row`.
pub(crate) fn input_row(present: &BooleanBuffer, row: usize) -> Result<usize, DataFusionError> {
    present
        .set_indices()
        .nth(row)
        .ok_or_else(|| exec_datafusion_err!("matrix row {row} has no row in the input"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{
        FixedSizeListArray, Int64Array, LargeListArray, ListArray, NullArray, StringArray,
    };
    use datafusion::arrow::compute::cast;
    use datafusion::arrow::datatypes::{Field, Int16Type, Int64Type};
    use std::sync::Arc;

    fn site() -> Site {
        Site {
            column: "embedding".to_owned(),
            ..Site::default()
        }
    }

    fn lists(rows: &[Option<&[Option<f64>]>]) -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(
            rows.iter().map(|row| row.map(<[_]>::to_vec)),
        ))
    }

    fn f64_matrix(lists: &[ArrayRef]) -> (Array2<f64>, Vec<bool>) {
        let extent = measure(lists, &site()).unwrap();
        let features = extract(lists, extent, FloatType::Float64).unwrap();
        match features.matrix {
            Matrix::Float64(matrix) => (matrix.into_owned(), features.present.iter().collect()),
            Matrix::Float32(_) => panic!("asked for f64"),
        }
    }

    #[test]
    fn null_rows_are_left_out_across_slices_and_batches() {
        let batch = lists(&[
            Some(&[Some(9.0), Some(9.0)]),
            None,
            Some(&[Some(1.0), Some(2.0)]),
        ]);
        let parts = [
            batch.slice(1, 2),
            Arc::new(NullArray::new(1)),
            batch.slice(0, 1),
        ];
        let (matrix, present) = f64_matrix(&parts);
        assert_eq!(matrix, ndarray::array![[1.0, 2.0], [9.0, 9.0]]);
        assert_eq!(present, [false, true, false, true]);
        let extent = measure(&parts, &site()).unwrap();
        assert_eq!(input_row(&extent.present, 1).unwrap(), 3);
    }

    #[test]
    fn a_list_that_is_a_matrix_is_not_copied() {
        let rows = [
            Some(vec![Some(1.0), Some(2.0)]),
            Some(vec![Some(3.0), Some(4.0)]),
        ];
        let fixed = FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(rows.clone(), 2);
        let list = ListArray::from_iter_primitive::<Float64Type, _, _>(rows);
        for array in [Arc::new(fixed) as ArrayRef, Arc::new(list)] {
            let second = [array.slice(1, 1)];
            let rows = ListRows::try_new(&second[0]).unwrap();
            let values = rows.values().as_primitive::<Float64Type>().values();
            let first = &raw const values[rows.span(0..1).start];
            let extract = |float| {
                let extent = measure(&second, &site()).unwrap();
                extract(&second, extent, float).unwrap().matrix
            };
            let Matrix::Float64(matrix) = extract(FloatType::Float64) else {
                panic!("asked for f64");
            };
            assert_eq!(matrix, ndarray::array![[3.0, 4.0]]);
            assert!(std::ptr::eq(matrix.as_ptr(), first));
            let Matrix::Float32(matrix) = extract(FloatType::Float32) else {
                panic!("asked for f32");
            };
            assert_eq!(matrix, ndarray::array![[3.0_f32, 4.0]]);
        }
    }

    #[test]
    fn every_list_and_number_type_is_read() {
        let fixed: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Int16Type, _, _>(
            [
                Some(vec![Some(1), Some(2)]),
                None,
                Some(vec![Some(3), Some(4)]),
            ],
            2,
        ));
        let large: ArrayRef = Arc::new(LargeListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(1), Some(2)]),
            None,
            Some(vec![Some(3), Some(4)]),
        ]));
        let decimal = DataType::List(Arc::new(Field::new_list_field(
            DataType::Decimal128(9, 2),
            true,
        )));
        let decimals = cast(&large, &decimal).unwrap();
        for array in [fixed, large, decimals] {
            let (matrix, present) = f64_matrix(&[array]);
            assert_eq!(matrix, ndarray::array![[1.0, 2.0], [3.0, 4.0]]);
            assert_eq!(present, [true, false, true]);
        }
    }

    #[test]
    fn errors_name_the_row_of_the_whole_input() {
        let good = lists(&[Some(&[Some(1.0), Some(2.0)]), None]);
        let message = |bad: &[Option<f64>]| {
            measure(&[Arc::clone(&good), lists(&[Some(bad)])], &site())
                .unwrap_err()
                .to_string()
        };
        let ragged = message(&[Some(1.0)]);
        assert!(
            ragged.contains(
                "lle_embed of column embedding: row 2 of its partition (counted from 0) has 1 dimensions, \
                 but row 0 has 2"
            ),
            "{ragged}"
        );
        assert!(message(&[]).contains("row 2 of its partition (counted from 0) has an empty list"));
        assert!(message(&[Some(1.0), None]).contains("has NULL in dimension 1"));
    }

    #[test]
    fn rows_are_told_apart_by_their_other_columns() {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![7, 8, 9]));
        let names: ArrayRef = Arc::new(StringArray::from(vec![
            Some("x"),
            None,
            Some("ü".repeat(80).as_str()),
        ]));
        let batch = RecordBatch::try_from_iter([
            ("embedding", lists(&[None, None, None])),
            ("id", ids),
            ("name", names),
        ])
        .unwrap();
        let batches = vec![batch.slice(0, 2), batch.slice(0, 0), batch.slice(2, 1)];
        let site = Site {
            batches,
            partition: Some("k = 1".to_owned()),
            ..site()
        };
        assert_eq!(
            site.row(1),
            "row 1 of the partition as sorted by its key (counted from 0, id = 8, name = NULL)"
        );
        let long = format!(
            "row 2 of the partition as sorted by its key (counted from 0, id = 9, name = '{}…)",
            "ü".repeat(59)
        );
        assert_eq!(site.row(2), long);
        assert_eq!(
            site.row(3),
            "row 3 of the partition as sorted by its key (counted from 0)"
        );
    }

    #[test]
    fn nothing_but_nulls_is_an_empty_matrix() {
        let (matrix, present) = f64_matrix(&[lists(&[None, None])]);
        assert_eq!(matrix.dim(), (0, 0));
        assert_eq!(present, [false, false]);
    }
}
