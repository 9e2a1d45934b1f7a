//! `multi_head_attention(query, key, value, num_heads, …)`.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion_macros::user_doc;

use super::coercion::{element, list_of, nested, of_any_length, sequence_float, wider};
use super::multi_head_parameters::{NAME, PARAMETERS, check_constants, coerced_parameters};
use super::multi_head_rows::attend_rows;
use super::sequences::Arguments;
use crate::evaluator::off_the_async_threads;

/// The scalar function `multi_head_attention`.
#[user_doc(
    doc_section(label = "Attention"),
    description = "Attention of whole sequences: a row holds a sequence of queries, one of keys and one of values, each a list of vectors, and the result is a sequence with a vector for each query. Vectors are cut into heads, which lie side by side; each head computes softmax(scale · q·k) over the keys and sums the values with these weights (Vaswani et al. 2017). It is the operator Attention of ONNX (opset 24): scale, softcap, mask and softmax follow each other in this order. Keys and values may have fewer heads than queries (Ainslie et al. 2023): query head h reads head h / (num_heads / kv_num_heads).

A query that may attend to no key gets zeros, and so do all where there are no keys: such a row's vectors are as wide as the type of value says, and as its keys where it says nothing. A sequence without queries gives an empty one. If query, key or value is NULL, so is the result. A NULL among the queries gives NULL in its place; a position whose key or value is NULL takes no part, and all other positions keep theirs, which matters to causal attention and masks. A score of minus infinity weighs nothing beside others. NaN, a score of plus infinity, scores that are all minus infinity although no mask asked for it, and an infinite value that has a weight are errors.

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
        description = "Whether query i sees keys 0 to i + query_offset only (none where that is negative). true or false, or 1 or 0; false by default."
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
        description = "Lists of num_heads × L × S, of L × S for all heads, or one list of S for all queries too: truth values (true: the query may attend to the key) or numbers, whole ones as well, that are added to the scores. A size of 1 in place of num_heads or L stands for all of them. Where its lists are shorter than S, the keys that are missing are masked out. NULL inside it is an error."
    ),
    argument(
        name = "query_offset",
        description = "The number of keys that come before the first query's own, as with a cache of past keys. Negative where the first queries come before all keys, and see none. 0 by default; matters to causal attention only."
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
        let Some((query, Some(vector))) = arg_types.first().map(|query| (query, element(query)))
        else {
            return internal_err!("{NAME} was planned without sequences");
        };
        Ok(list_of(query, of_any_length(vector.data_type())))
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
