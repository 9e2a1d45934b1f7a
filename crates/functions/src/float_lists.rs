//! Lists of numbers: which are accepted, which float type they become, and where their rows lie.

use std::ops::Range;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, internal_err};

/// The float type that a list's numbers are coerced to, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FloatType {
    Float32,
    Float64,
}

impl FloatType {
    /// The rule of the whole project: what an `f32` holds exactly becomes `f32`, every other number
    /// `f64`. `None` for what is not a number.
    pub(crate) fn of_number(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Float16
            | DataType::Float32
            | DataType::Int8
            | DataType::Int16
            | DataType::UInt8
            | DataType::UInt16 => Some(FloatType::Float32),
            // An untyped NULL: `[]` and `[NULL]` are lists of them.
            DataType::Null => Some(FloatType::Float64),
            other if other.is_numeric() => Some(FloatType::Float64),
            _ => None,
        }
    }

    /// The same for a list's elements; an untyped NULL in place of the list counts as one.
    pub(crate) fn of_list(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::FixedSizeList(field, _) => Self::of_number(field.data_type()),
            DataType::Null => Some(FloatType::Float64),
            _ => None,
        }
    }

    pub(crate) fn data_type(self) -> DataType {
        match self {
            FloatType::Float32 => DataType::Float32,
            FloatType::Float64 => DataType::Float64,
        }
    }

    /// `List<Float>`.
    pub(crate) fn list(self) -> DataType {
        DataType::List(Field::new_list_field(self.data_type(), true).into())
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            FloatType::Float32 => size_of::<f32>(),
            FloatType::Float64 => size_of::<f64>(),
        }
    }
}

/// Where each row of a list column lies in the column's values.
pub(crate) struct ListRows<'a> {
    values: &'a ArrayRef,
    offsets: Offsets<'a>,
    nulls: Option<&'a NullBuffer>,
    len: usize,
}

enum Offsets<'a> {
    Small(&'a [i32]),
    Large(&'a [i64]),
    Fixed(usize),
}

impl<'a> ListRows<'a> {
    pub(crate) fn try_new(list: &'a dyn Array) -> Result<Self> {
        let (values, offsets) = match list.data_type() {
            DataType::List(_) => {
                let list = list.as_list::<i32>();
                (list.values(), Offsets::Small(list.value_offsets()))
            }
            DataType::LargeList(_) => {
                let list = list.as_list::<i64>();
                (list.values(), Offsets::Large(list.value_offsets()))
            }
            DataType::FixedSizeList(_, length) => (
                list.as_fixed_size_list().values(),
                Offsets::Fixed(*length as usize),
            ),
            other => return internal_err!("expected a list, got {other}"),
        };
        Ok(Self {
            values,
            offsets,
            nulls: list.nulls(),
            len: list.len(),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All elements, of which [`Self::range`] gives a row's.
    pub(crate) fn values(&self) -> &'a ArrayRef {
        self.values
    }

    /// The row's elements, or `None` where the row is NULL.
    pub(crate) fn range(&self, row: usize) -> Option<Range<usize>> {
        self.nulls
            .is_none_or(|nulls| nulls.is_valid(row))
            .then(|| self.span(row..row + 1))
    }

    /// The length of every row, if it is the same and none is NULL; `None` where there is no row.
    pub(crate) fn uniform_length(&self) -> Option<usize> {
        if self.len == 0 || self.nulls.is_some_and(|nulls| nulls.null_count() > 0) {
            return None;
        }
        let length = self.span(0..1).len();
        let uniform = match self.offsets {
            Offsets::Small(offsets) => are_steps(offsets, length),
            Offsets::Large(offsets) => are_steps(offsets, length),
            Offsets::Fixed(_) => true,
        };
        uniform.then_some(length)
    }

    /// The elements of several rows, whether NULL or not.
    pub(crate) fn span(&self, rows: Range<usize>) -> Range<usize> {
        match self.offsets {
            Offsets::Small(offsets) => offsets[rows.start] as usize..offsets[rows.end] as usize,
            Offsets::Large(offsets) => offsets[rows.start] as usize..offsets[rows.end] as usize,
            Offsets::Fixed(length) => rows.start * length..rows.end * length,
        }
    }
}

/// Whether offsets grow by `length` each; without a branch for each row.
fn are_steps<O: OffsetSizeTrait>(offsets: &[O], length: usize) -> bool {
    let pairs = offsets.iter().zip(&offsets[1..]);
    pairs.fold(true, |same, (start, end)| {
        same & ((*end - *start).as_usize() == length)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{FixedSizeListArray, ListArray};
    use datafusion::arrow::datatypes::{Float32Type, Int32Type};

    #[test]
    fn small_numbers_become_f32_and_the_rest_f64() {
        use DataType::{Boolean, Decimal128, Float16, Int8, Int16, Int32, UInt16, UInt64, Utf8};
        for narrow in [Float16, DataType::Float32, Int8, Int16, UInt16] {
            assert_eq!(
                FloatType::of_number(&narrow),
                Some(FloatType::Float32),
                "{narrow}"
            );
        }
        for wide in [Int32, UInt64, DataType::Float64, Decimal128(10, 2)] {
            assert_eq!(
                FloatType::of_number(&wide),
                Some(FloatType::Float64),
                "{wide}"
            );
        }
        for other in [Utf8, Boolean, DataType::Date32] {
            assert_eq!(FloatType::of_number(&other), None, "{other}");
        }
    }

    #[test]
    fn rows_of_sliced_lists() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1)]),
            None,
            Some(vec![Some(2), Some(3)]),
        ]);
        let sliced = list.slice(1, 2);
        let rows = ListRows::try_new(&sliced).unwrap();
        assert_eq!(
            (rows.len(), rows.range(0), rows.range(1)),
            (2, None, Some(1..3))
        );
        let uniform = |list: &dyn Array| ListRows::try_new(list).unwrap().uniform_length();
        assert_eq!(uniform(&sliced), None);
        assert_eq!(uniform(&list.slice(2, 1)), Some(2));
        assert_eq!(uniform(&list.slice(2, 0)), None);

        let fixed = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
            [
                Some(vec![Some(1.0), Some(2.0)]),
                None,
                Some(vec![Some(5.0), Some(6.0)]),
            ],
            2,
        );
        let sliced = fixed.slice(1, 2);
        let rows = ListRows::try_new(&sliced).unwrap();
        let last = rows.range(1).unwrap();
        assert_eq!(rows.range(0), None);
        assert_eq!(
            (uniform(&sliced), uniform(&fixed.slice(2, 1))),
            (None, Some(2))
        );
        assert_eq!(
            rows.values()
                .slice(last.start, last.len())
                .as_primitive::<Float32Type>()
                .values(),
            &[5.0, 6.0]
        );
    }
}
