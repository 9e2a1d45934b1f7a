//! A vector and a list of vectors in each row, and a weight for each of the list.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, NullBufferBuilder, PrimitiveArray, new_null_array,
};
use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use lakefold_attention::Real;

use super::sequence_output::{check_total, lists, null_buffer};
use super::sequences::{Arguments, Vectors, place, sequence, vectors};

/// What is called, and what its first two arguments are named.
pub(crate) struct Call {
    pub(crate) function: &'static str,
    pub(crate) vector: &'static str,
    pub(crate) list: &'static str,
}

type Pair<'a, T> = (Vectors<'a, T>, Vectors<'a, T>);

impl Call {
    /// A weight for each vector of each row's list, NULL where the vector is. `weigh` gives those of a row, of which
    /// those of NULL vectors are left out of account.
    pub(crate) fn weights<T>(
        &self,
        arguments: &Arguments,
        data_type: &DataType,
        weigh: impl Fn(
            &Arguments,
            usize,
            &Vectors<'_, T::Native>,
            &Vectors<'_, T::Native>,
        ) -> Result<Vec<T::Native>>,
    ) -> Result<ArrayRef>
    where
        T: ArrowPrimitiveType<Native: Real>,
    {
        let rows = arguments.rows();
        let pairs = (0..rows)
            .map(|row| self.pair::<T>(arguments, row))
            .collect::<Result<Vec<_>>>()?;
        if pairs.iter().all(Option::is_none) {
            return Ok(new_null_array(data_type, rows));
        }
        // A NULL in a FixedSizeList has its elements all the same.
        let null_length = match data_type {
            DataType::FixedSizeList(_, length) => *length as usize,
            _ => 0,
        };
        let length = |pair: &Option<Pair<'_, _>>| match pair {
            Some((_, keys)) => keys.len(),
            None => null_length,
        };
        let lengths: Vec<usize> = pairs.iter().map(length).collect();
        let total = check_total(self.function, data_type, lengths.iter().copied(), rows)?;
        let mut weights = Vec::with_capacity(total);
        let mut nulls = NullBufferBuilder::new(total);
        for (row, pair) in pairs.iter().enumerate() {
            let Some((query, keys)) = pair else {
                weights.resize(weights.len() + null_length, T::default_value());
                nulls.append_n_nulls(null_length);
                continue;
            };
            weights.extend(weigh(arguments, row, query, keys)?);
            match &keys.nulls {
                Some(own) => nulls.append_buffer(own),
                None => nulls.append_n_non_nulls(keys.len()),
            }
        }
        let weights = PrimitiveArray::<T>::new(ScalarBuffer::from(weights), nulls.finish());
        let valid = null_buffer(pairs.iter().map(Option::is_some));
        lists(data_type, &lengths, Arc::new(weights), valid)
    }

    /// Query and keys of a row, `None` where one is NULL.
    fn pair<'a, T>(
        &self,
        arguments: &'a Arguments,
        row: usize,
    ) -> Result<Option<Pair<'a, T::Native>>>
    where
        T: ArrowPrimitiveType<Native: Real>,
    {
        let query = arguments.required(0)?;
        let at = query.row(row);
        let here = |_| place(self.function, self.vector, row);
        if query.array.is_null(at) {
            return Ok(None);
        }
        let query = vectors::<T>(&query.array, at..at + 1, &here)?;
        let here = || place(self.function, self.list, row);
        let Some(mut keys) = sequence::<T>(arguments.required(1)?, row, &here)? else {
            return Ok(None);
        };
        let width = query.view().ncols();
        keys.set_width(width);
        if keys.width() != Some(width) {
            return exec_err!(
                "{}: its vectors have {} numbers, {} has {width}: both need the same number",
                here(),
                keys.view().ncols(),
                self.vector
            );
        }
        if width == 0 {
            return exec_err!(
                "{} is an empty list: it needs at least one number, filter the row out",
                place(self.function, self.vector, row)
            );
        }
        Ok(Some((query, keys)))
    }
}
