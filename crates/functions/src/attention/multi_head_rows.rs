//! From the rows of a batch to the kernel and back.

use datafusion::arrow::array::{ArrayRef, ArrowPrimitiveType, new_null_array};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{ArrowNativeType, DataType};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err};
use lakefold_attention::{AttentionError, MultiHead, Real};
use ndarray::ArrayViewMut2;
use rayon::prelude::*;

use super::coercion::element;
use super::multi_head_mask::RowMask;
use super::multi_head_parameters::{Heads, MASK, NAME, PARAMETERS, kernel_of_row};
use super::sequence_output::{Extent, check_total, pieces, sequences};
use super::sequences::{Arguments, Vectors, place, sequence};

/// What the kernel takes for one row.
struct Task<'a, T> {
    row: usize,
    kernel: MultiHead,
    query: Vectors<'a, T>,
    key: Vectors<'a, T>,
    value: Vectors<'a, T>,
    width: usize,
}

/// The attention of every row, of `data_type`.
pub(crate) fn attend_rows<T>(arguments: &Arguments, data_type: &DataType) -> Result<ArrayRef>
where
    T: ArrowPrimitiveType<Native: Real>,
{
    let rows = arguments.rows();
    // Every size is known and checked before the result takes memory.
    let tasks = (0..rows)
        .map(|row| task::<T>(arguments, row))
        .collect::<Result<Vec<_>>>()?;
    let extents: Vec<Option<Extent>> = tasks
        .iter()
        .map(|task| task.as_ref().map(Task::extent))
        .collect();
    if extents.iter().all(Option::is_none) {
        return Ok(new_null_array(data_type, rows));
    }
    let lengths = || extents.iter().flatten().map(Extent::numbers);
    let vector = element(data_type).map_or(data_type, |vector| vector.data_type());
    let total = check_total(NAME, vector, lengths(), rows)?;
    let mut numbers = vec![T::default_value(); total];
    let outputs = pieces(&mut numbers, lengths());
    let tasks: Vec<_> = tasks.iter().flatten().zip(outputs).collect();
    let attended: Vec<Result<()>> = tasks
        .into_par_iter()
        .map(|(task, output)| task.attend::<T>(arguments, output))
        .collect();
    // Not collected into one result at once: that would give the error of any row, this the first's.
    attended.into_iter().collect::<Result<()>>()?;
    sequences::<T>(data_type, &extents, numbers)
}

/// `None` where query, key or value is NULL.
fn task<T>(arguments: &Arguments, row: usize) -> Result<Option<Task<'_, T::Native>>>
where
    T: ArrowPrimitiveType<Native: Real>,
{
    let read = |argument: usize| {
        let here = || place(NAME, PARAMETERS[argument], row);
        sequence::<T>(arguments.required(argument)?, row, &here)
    };
    let (Some(mut query), Some(mut key), Some(mut value)) = (read(0)?, read(1)?, read(2)?) else {
        return Ok(None);
    };
    let (kernel, heads) = kernel_of_row(arguments, row)?;
    if key.len() != value.len() {
        return exec_err!(
            "{}: key has {} positions, value has {}: a sequence needs one value for each key",
            place(NAME, "value", row),
            key.len(),
            value.len()
        );
    }
    settle_widths(&mut query, &mut key, &mut value, heads);
    let width = kernel
        .output_width(
            query.view().ncols(),
            key.view().ncols(),
            value.view().ncols(),
        )
        .map_err(|error| explained(error, row))?;
    Ok(Some(Task {
        row,
        kernel,
        query,
        key,
        value,
        width,
    }))
}

/// Sequences without a vector are as wide as the others ask for.
fn settle_widths<T: Real>(
    query: &mut Vectors<'_, T>,
    key: &mut Vectors<'_, T>,
    value: &mut Vectors<'_, T>,
    heads: Heads,
) {
    let of_query = query.width().map(|width| width / heads.query);
    let of_key = key.width().map(|width| width / heads.key);
    let d_k = of_query.or(of_key).unwrap_or_default();
    query.set_width(d_k * heads.query);
    key.set_width(d_k * heads.key);
    value.set_width(d_k * heads.key);
}

/// The kernel's error with the row, and the remedy where it names none.
fn explained(error: AttentionError, row: usize) -> DataFusionError {
    let remedy = match &error {
        AttentionError::Shape { name: "query", .. } => {
            ": choose a num_heads that divides the numbers of a query"
        }
        AttentionError::Shape { name: "key", .. } => {
            ": queries and keys need heads of one width d_k; if keys and values have fewer heads, say how \
             many in kv_num_heads"
        }
        AttentionError::Shape { name: "value", .. } => {
            ": choose a kv_num_heads that divides the numbers of a value"
        }
        AttentionError::Shape {
            name: "attn_mask", ..
        } => ": write lists of L × S or num_heads × L × S (L positions of query, S of key)",
        _ => "",
    };
    exec_datafusion_err!("{NAME}, row {row} of its batch (counted from 0): {error}{remedy}")
}

impl<T: Real + ArrowNativeType> Task<'_, T> {
    fn extent(&self) -> Extent {
        Extent {
            positions: self.query.len(),
            width: self.width,
            nulls: self.query.nulls.clone(),
        }
    }

    fn attend<A: ArrowPrimitiveType<Native = T>>(
        &self,
        arguments: &Arguments,
        output: &mut [T],
    ) -> Result<()> {
        let sizes = (self.query.len(), self.key.len());
        let keys = NullBuffer::union(self.key.nulls.as_ref(), self.value.nulls.as_ref());
        let mask = RowMask::read::<A>(NAME, arguments.get(MASK), self.row, sizes)?;
        let mask = mask.without(self.query.nulls.as_ref(), keys.as_ref(), sizes.1);
        let output = ArrayViewMut2::from_shape((sizes.0, self.width), output)
            .map_err(|error| exec_datafusion_err!("{}: {error}", place(NAME, "query", self.row)))?;
        self.kernel
            .attend(
                self.query.view(),
                self.key.view(),
                self.value.view(),
                mask.view(),
                output,
            )
            .map_err(|error| explained(error, self.row))
    }
}
