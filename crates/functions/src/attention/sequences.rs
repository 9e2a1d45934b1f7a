//! Sequences, lists of vectors, as the matrices that kernels take.

use std::ops::Range;

use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err, internal_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use lakefold_attention::Real;
use ndarray::{Array2, ArrayView2, CowArray, Ix2};

use crate::float_lists::ListRows;

/// One argument of a scalar function: a column, or a constant that is kept once.
#[derive(Debug)]
pub(crate) struct Argument {
    pub(crate) array: ArrayRef,
    is_constant: bool,
}

impl Argument {
    /// Where the value of a batch's row is in `array`.
    pub(crate) fn row(&self, row: usize) -> usize {
        if self.is_constant { 0 } else { row }
    }
}

/// The arguments of a call.
#[derive(Debug)]
pub(crate) struct Arguments {
    all: Vec<Argument>,
    rows: usize,
    all_constant: bool,
}

impl Arguments {
    pub(crate) fn new(args: Vec<ColumnarValue>, number_rows: usize) -> Result<Self> {
        let all_constant = args
            .iter()
            .all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let arguments = args.into_iter().map(|value| {
            let is_constant = matches!(value, ColumnarValue::Scalar(_));
            let array = value.into_array(if is_constant { 1 } else { number_rows })?;
            Ok(Argument { array, is_constant })
        });
        Ok(Self {
            all: arguments.collect::<Result<_>>()?,
            rows: if all_constant { 1 } else { number_rows },
            all_constant,
        })
    }

    pub(crate) fn of(args: ScalarFunctionArgs) -> Result<Self> {
        Self::new(args.args, args.number_rows)
    }

    /// Rows to compute: 1 if every argument is a constant.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn get(&self, place: usize) -> Option<&Argument> {
        self.all.get(place)
    }

    pub(crate) fn required(&self, place: usize) -> Result<&Argument> {
        let Some(argument) = self.get(place) else {
            return internal_err!("argument {place} is missing");
        };
        Ok(argument)
    }

    /// A number of a row, `None` for NULL and for an argument that is left out.
    pub(crate) fn value<T: ArrowPrimitiveType>(
        &self,
        place: usize,
        row: usize,
    ) -> Option<T::Native> {
        let argument = self.get(place)?;
        let row = argument.row(row);
        let array = argument.array.as_primitive_opt::<T>()?;
        array.is_valid(row).then(|| array.value(row))
    }

    /// The same of a truth value.
    pub(crate) fn flag(&self, place: usize, row: usize) -> Option<bool> {
        let argument = self.get(place)?;
        let row = argument.row(row);
        let array = argument.array.as_boolean_opt()?;
        array.is_valid(row).then(|| array.value(row))
    }

    /// A constant where every argument is one.
    pub(crate) fn result(&self, array: ArrayRef) -> Result<ColumnarValue> {
        if self.all_constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                &array, 0,
            )?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

/// `key of multi_head_attention, row 3 of its batch (counted from 0)`: rows reach a function in batches,
/// which have no other name.
pub(crate) fn place(function: &str, name: &str, row: usize) -> String {
    format!("{name} of {function}, row {row} of its batch (counted from 0)")
}

/// Vectors of one length, as rows of a matrix.
#[derive(Debug)]
pub(crate) struct Vectors<'a, T> {
    matrix: CowArray<'a, T, Ix2>,
    /// `None` where no vector tells it.
    width: Option<usize>,
    /// `None` if no vector is NULL. The matrix has zeros where one is.
    pub(crate) nulls: Option<NullBuffer>,
}

impl<T: Real> Vectors<'_, T> {
    pub(crate) fn len(&self) -> usize {
        self.matrix.nrows()
    }

    pub(crate) fn width(&self) -> Option<usize> {
        self.width
    }

    /// Settles the width where no vector tells it.
    pub(crate) fn set_width(&mut self, width: usize) {
        if self.width.is_none() {
            self.width = Some(width);
            self.matrix = Array2::zeros((self.len(), width)).into();
        }
    }

    pub(crate) fn view(&self) -> ArrayView2<'_, T> {
        self.matrix.view()
    }
}

/// The sequence in `row` of a column of sequences, `None` if it is NULL.
pub(crate) fn sequence<'a, T>(
    argument: &'a Argument,
    row: usize,
    place: &dyn Fn() -> String,
) -> Result<Option<Vectors<'a, T::Native>>>
where
    T: ArrowPrimitiveType<Native: Real>,
{
    let sequences = ListRows::try_new(&argument.array)?;
    let Some(range) = sequences.range(argument.row(row)) else {
        return Ok(None);
    };
    let first = range.start;
    let position = |vector| format!("{}: position {}", place(), vector - first);
    vectors::<T>(sequences.values(), range, &position).map(Some)
}

/// Some of a column of vectors: its own memory where none is NULL, else a copy with zeros in place of
/// NULL. `place` names a vector in errors.
pub(crate) fn vectors<'a, T>(
    lists: &'a ArrayRef,
    range: Range<usize>,
    place: &dyn Fn(usize) -> String,
) -> Result<Vectors<'a, T::Native>>
where
    T: ArrowPrimitiveType<Native: Real>,
{
    let rows = ListRows::try_new(lists)?;
    let Some(numbers) = rows.values().as_primitive_opt::<T>() else {
        return internal_err!(
            "expected {}, got {}",
            T::DATA_TYPE,
            rows.values().data_type()
        );
    };
    let nulls = lists
        .nulls()
        .map(|nulls| nulls.slice(range.start, range.len()))
        .filter(|nulls| nulls.null_count() > 0);
    let mut width = match lists.data_type() {
        DataType::FixedSizeList(_, length) => Some(*length as usize),
        _ => None,
    };
    let span = rows.span(range.clone());
    let number_nulls = numbers
        .nulls()
        .filter(|nulls| nulls.slice(span.start, span.len()).null_count() > 0);
    for row in range.clone() {
        let Some(own) = rows.range(row) else {
            continue;
        };
        let width = *width.get_or_insert(own.len());
        if own.len() != width {
            return exec_err!(
                "{} has {} numbers, those before it have {width}: all vectors of a sequence need the same \
                 length, pad the list or filter the row out",
                place(row),
                own.len()
            );
        }
        if let Some(nulls) = number_nulls
            && let Some(number) = own.clone().position(|number| nulls.is_null(number))
        {
            return exec_err!(
                "{} has NULL as number {number}: replace the number, or make the whole vector NULL, which \
                 is left out",
                place(row)
            );
        }
    }
    let shape = (range.len(), width.unwrap_or_default());
    let matrix = if nulls.is_none() {
        ArrayView2::from_shape(shape, &numbers.values()[span])
            .map_err(|error| exec_datafusion_err!("{}: {error}", place(range.start)))?
            .into()
    } else {
        let mut copy = Array2::zeros(shape);
        for (mut target, row) in copy.rows_mut().into_iter().zip(range) {
            if let Some(own) = rows.range(row) {
                let source = &numbers.values()[own];
                target
                    .iter_mut()
                    .zip(source)
                    .for_each(|(to, from)| *to = *from);
            }
        }
        copy.into()
    };
    Ok(Vectors {
        matrix,
        width,
        nulls,
    })
}
