//! `multi_head_attention(query, key, value, num_heads, …)`.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, ArrowPrimitiveType, new_null_array};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{
    ArrowNativeType, DataType, Field, FieldRef, Float32Type, Float64Type,
};
use datafusion::common::{
    DataFusionError, Result, exec_datafusion_err, exec_err, internal_err, plan_err,
};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion_macros::user_doc;
use lakefold_attention::{AttentionError, MultiHead, Real};
use ndarray::ArrayViewMut2;
use rayon::prelude::*;

use super::coercion::{element, list_of, nested, of_any_length, sequence_float, wider};
use super::multi_head_mask::RowMask;
use super::multi_head_parameters::{
    Heads, MASK, NAME, PARAMETERS, check_constants, coerced_parameters, kernel_of_row,
};
use super::sequence_output::{Extent, check_total, pieces, sequences};
use super::sequences::{Arguments, Vectors, place, sequence};
use crate::evaluator::off_the_async_threads;

/// The scalar function `multi_head_attention`.
#[user_doc(
    doc_section(label = "Attention"),
    description = "Attention of whole sequences: a row holds a sequence of queries, one of keys and one of values, each a list of vectors, and the result is a sequence with a vector for each query. Vectors are cut into heads, which lie side by side; each head computes softmax(scale · q·k) over the keys and sums the values with these weights (Vaswani et al. 2017). It is the operator Attention of ONNX (opset 24): scale, softcap, mask and softmax follow each other in this order. Keys and values may have fewer heads than queries (Ainslie et al. 2023): query head h reads head h / (num_heads / kv_num_heads).

A query that may attend to no key gets zeros, and so do all where there are no keys: such a row's vectors are as wide as the type of value says, and as its keys where it says nothing. A sequence without queries gives an empty one. If query, key or value is NULL, so is the result. A NULL among the queries gives NULL in its place; a position whose key or value is NULL takes no part, and all other positions keep theirs, which matters to causal attention and masks. NaN and infinity among what a query sees are errors.

There is no dropout: a query gives the same answer twice, and dropout is for training only. A seeded one would have to draw for each pair of query and key, and rows that reach a function in no fixed order have no number to draw by.

A batch's result holds at most 2,147,483,647 numbers unless query's vectors are of type `LargeList`. Scans of Parquet files with columns of sequences are cut into batches of 64 MiB by the optimizer rule `cut_wide_scans`.",
    syntax_example = "multi_head_attention(query, key, value, num_heads [, kv_num_heads [, is_causal [, scale [, softcap [, attn_mask [, query_offset]]]]]])",
    sql_example = r"Two heads over a sequence of three vectors; each position sees itself and those before it:

```sql
SELECT multi_head_attention(x, x, x, num_heads => 2, kv_num_heads => NULL, is_causal => true) AS attended
FROM (VALUES ([[1.0, 0.0, 0.0, 2.0], [0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 1.0]])) AS sequences (x)
```",
    argument(
        name = "query",
        description = "A sequence of L vectors of num_heads · d_k numbers: a list of lists. Both may be `List`, `LargeList` or `FixedSizeList`, of any number type: `Float16`, `Float32` and integers of 8 and 16 bits are computed as `Float32`, all others as `Float64`, and the widest type among query, key and value decides. The result is the same kind of list, of `List` (of `LargeList` if query's vectors are)."
    ),
    argument(
        name = "key",
        description = "A sequence of S vectors of kv_num_heads · d_k numbers."
    ),
    argument(
        name = "value",
        description = "A sequence of S vectors of kv_num_heads · d_v numbers. The result's vectors have num_heads · d_v."
    ),
    argument(
        name = "num_heads",
        description = "Heads of the queries. This and all that follow are constants or columns; NULL stands for the default, which num_heads has none."
    ),
    argument(
        name = "kv_num_heads",
        description = "Heads of keys and values, a divisor of num_heads. num_heads by default."
    ),
    argument(
        name = "is_causal",
        description = "Whether query i sees keys 0 to i + query_offset only. false by default."
    ),
    argument(
        name = "scale",
        description = "Factor of the products q·k. 1/√d_k by default."
    ),
    argument(
        name = "softcap",
        description = "Turns each scaled score s into softcap · tanh(s / softcap), before the mask. 0, the default, leaves scores alone."
    ),
    argument(
        name = "attn_mask",
        description = "Lists of L × S, or num_heads × L × S: truth values (true: the query may attend to the key) or numbers that are added to the scores. NULL inside it is an error."
    ),
    argument(
        name = "query_offset",
        description = "The number of keys that come before the first query's own, as with a cache of past keys. 0 by default; matters to causal attention only."
    )
)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MultiHeadAttention {
    signature: Signature,
}

impl MultiHeadAttention {
    /// The function, to be wrapped in a `ScalarUDF`.
    ///
    /// # Errors
    /// Never in practice: only if `DataFusion` rejects the parameter names.
    pub fn try_new() -> Result<Self> {
        let signature = Signature::user_defined(Volatility::Immutable)
            .with_parameter_names(PARAMETERS.to_vec())?;
        Ok(Self { signature })
    }
}

impl ScalarUDFImpl for MultiHeadAttention {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let (4..=10, [query, key, value, parameters @ ..]) = (arg_types.len(), arg_types) else {
            return plan_err!(
                "{NAME} takes 4 to 10 arguments, got {}: write {NAME}({})",
                arg_types.len(),
                PARAMETERS.join(", ")
            );
        };
        let sequences = [query, key, value];
        let floats = PARAMETERS.iter().zip(sequences);
        let floats = floats
            .map(|(name, sequence)| sequence_float(NAME, name, sequence))
            .collect::<Result<Vec<_>>>()?;
        let float = wider(&floats);
        let mut coerced: Vec<DataType> = sequences
            .map(|sequence| nested(sequence, 2, float.data_type()))
            .to_vec();
        coerced.extend(coerced_parameters(parameters, float)?);
        Ok(coerced)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types.first().map(|query| (query, element(query))) {
            Some((query, Some(vector))) => Ok(list_of(query, of_any_length(vector.data_type()))),
            _ => internal_err!("{NAME} was planned without sequences"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        check_constants(args.scalar_arguments)?;
        let types: Vec<DataType> = args
            .arg_fields
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        let data_type = self.return_type(&types)?;
        Ok(Arc::new(Field::new(NAME, data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let data_type = args.return_field.data_type().clone();
        let arguments = Arguments::of(args)?;
        let vector = element(&data_type).and_then(|vector| element(vector.data_type()));
        let attended = off_the_async_threads(|| match vector.map(|number| number.data_type()) {
            Some(DataType::Float32) => attend_rows::<Float32Type>(&arguments, &data_type),
            Some(DataType::Float64) => attend_rows::<Float64Type>(&arguments, &data_type),
            _ => internal_err!("{NAME} was planned to give {data_type}"),
        })?;
        arguments.result(attended)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}

/// What the kernel takes for one row.
struct Task<'a, T> {
    row: usize,
    kernel: MultiHead,
    query: Vectors<'a, T>,
    key: Vectors<'a, T>,
    value: Vectors<'a, T>,
    width: usize,
}

fn attend_rows<T>(arguments: &Arguments, data_type: &DataType) -> Result<ArrayRef>
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
        AttentionError::Shape { .. } => ": a mask is L × S or num_heads × L × S",
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
        let mask = mask.without(self.query.nulls.as_ref(), keys.as_ref(), sizes);
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
