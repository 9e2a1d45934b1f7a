//! From the numbers that a kernel wrote to lists and lists of lists.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, ArrowPrimitiveType, FixedSizeListArray, LargeListArray, ListArray, NullBufferBuilder,
    PrimitiveArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err, internal_err};

use super::coercion::element;

/// The size of one sequence of a result.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    /// Its vectors.
    pub(crate) positions: usize,
    /// Numbers of each.
    pub(crate) width: usize,
    /// Which vectors are NULL; `None` if none is.
    pub(crate) nulls: Option<NullBuffer>,
}

impl Extent {
    pub(crate) fn numbers(&self) -> usize {
        self.positions.saturating_mul(self.width)
    }
}

/// How many numbers `list`, a type of list of them, would hold for a batch of `rows`.
///
/// # Errors
/// If these are more than its offsets can count; nothing has been allocated then.
pub(crate) fn check_total(
    function: &str,
    list: &DataType,
    lengths: impl Iterator<Item = usize>,
    rows: usize,
) -> Result<usize> {
    let total = lengths.fold(0, usize::saturating_add);
    if matches!(list, DataType::List(_)) && total > i32::MAX as usize {
        return exec_err!(
            "the result of {function} for a batch of {rows} rows has {total} numbers, a List holds at most \
             {}: cast the vectors to LargeList, as in arrow_cast(x, 'LargeList(LargeList(Float32))'), or \
             lower datafusion.execution.batch_size",
            i32::MAX
        );
    }
    Ok(total)
}

/// Sequences of `data_type`, whose numbers lie one after the other; `None` is a NULL sequence.
pub(crate) fn sequences<T: ArrowPrimitiveType>(
    data_type: &DataType,
    extents: &[Option<Extent>],
    numbers: Vec<T::Native>,
) -> Result<ArrayRef> {
    let Some(vector) = element(data_type) else {
        return internal_err!("a sequence is a list, not {data_type}");
    };
    // A NULL in a FixedSizeList has its vectors all the same.
    let null_positions = match data_type {
        DataType::FixedSizeList(_, length) => *length as usize,
        _ => 0,
    };
    let positions = |extent: &Option<Extent>| match extent {
        Some(extent) => extent.positions,
        None => null_positions,
    };
    let total = extents.iter().map(positions).sum();
    let mut widths = Vec::with_capacity(total);
    let mut nulls = NullBufferBuilder::new(total);
    for extent in extents {
        match extent {
            None => {
                widths.resize(widths.len() + null_positions, 0);
                nulls.append_n_nulls(null_positions);
            }
            Some(extent) => {
                widths.resize(widths.len() + extent.positions, extent.width);
                match &extent.nulls {
                    Some(own) => nulls.append_buffer(own),
                    None => nulls.append_n_non_nulls(extent.positions),
                }
            }
        }
    }
    let numbers = PrimitiveArray::<T>::new(ScalarBuffer::from(numbers), None);
    let vectors = lists(
        vector.data_type(),
        &widths,
        Arc::new(numbers),
        nulls.finish(),
    )?;
    let lengths: Vec<usize> = extents.iter().map(positions).collect();
    lists(
        data_type,
        &lengths,
        vectors,
        null_buffer(extents.iter().map(Option::is_some)),
    )
}

/// `None` if all are valid.
pub(crate) fn null_buffer(valid: impl Iterator<Item = bool>) -> Option<NullBuffer> {
    Some(valid.collect::<NullBuffer>()).filter(|nulls| nulls.null_count() > 0)
}

/// Lists of `data_type` and these lengths.
pub(crate) fn lists(
    data_type: &DataType,
    lengths: &[usize],
    values: ArrayRef,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let sizes = lengths.iter().copied();
    Ok(match data_type {
        DataType::List(field) => {
            let offsets = OffsetBuffer::from_lengths(sizes);
            Arc::new(ListArray::try_new(
                Arc::clone(field),
                offsets,
                values,
                nulls,
            )?)
        }
        DataType::LargeList(field) => {
            let offsets = OffsetBuffer::from_lengths(sizes);
            Arc::new(LargeListArray::try_new(
                Arc::clone(field),
                offsets,
                values,
                nulls,
            )?)
        }
        DataType::FixedSizeList(field, size) => Arc::new(FixedSizeListArray::try_new_with_length(
            Arc::clone(field),
            *size,
            values,
            nulls,
            lengths.len(),
        )?),
        other => return internal_err!("expected a list, got {other}"),
    })
}

/// Cuts one buffer into pieces of these lengths, whose sum it is long.
pub(crate) fn pieces<T>(
    mut buffer: &mut [T],
    lengths: impl Iterator<Item = usize>,
) -> Vec<&mut [T]> {
    lengths
        .map(|length| {
            let (own, rest) = std::mem::take(&mut buffer).split_at_mut(length);
            buffer = rest;
            own
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_that_would_overflow_are_refused_before_memory_is_taken() {
        let list = DataType::new_list(DataType::Float32, true);
        let large = DataType::new_large_list(DataType::Float32, true);
        let lengths = || std::iter::repeat_n(512 * 768, 8192);
        let message = check_total("f", &list, lengths(), 8192)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("8192 rows has 3221225472 numbers, a List holds at most 2147483647"),
            "{message}"
        );
        assert!(message.contains("LargeList") && message.contains("batch_size"));
        assert_eq!(
            check_total("f", &large, lengths(), 8192).unwrap(),
            3_221_225_472
        );
        assert_eq!(check_total("f", &list, [7, 8].into_iter(), 2).unwrap(), 15);
    }

    #[test]
    fn pieces_cover_the_buffer() {
        let mut buffer = [1, 2, 3, 4, 5];
        let cut = pieces(&mut buffer, [2, 0, 3].into_iter());
        assert_eq!(cut, [&mut [1, 2][..], &mut [], &mut [3, 4, 5]]);
    }
}
