//! `attention_weights(query, keys [, scale [, similarity]])`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use datafusion::common::{
    Result, ScalarValue, exec_datafusion_err, internal_err, plan_datafusion_err, plan_err,
};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion_macros::user_doc;
use lakefold_attention::{Query, Real, Similarity, attention_weights};

use super::arguments::{check_scale, usage};
use super::coercion::{
    check_similarity, element, list_of, nested, sequence_float, vector_float, wider,
};
use super::pairs::Call;
use super::sequences::{Arguments, Vectors};
use crate::evaluator::off_the_async_threads;

const NAME: &str = "attention_weights";
const PARAMETERS: [&str; 4] = ["query", "keys", "scale", "similarity"];
const CALL: Call = Call {
    function: NAME,
    vector: PARAMETERS[0],
    list: PARAMETERS[1],
};

/// The scalar function `attention_weights`.
#[user_doc(
    doc_section(label = "Attention"),
    description = "How much attention a query pays to each of some keys: the softmax of its scores, a list of weights that sum to 1, in the order of the keys. The weighted mean of vectors with these weights is what the aggregate `attention` gives.

A NULL key takes no part and gets NULL. If query or keys is NULL, so is the result. No keys give an empty list. NaN and infinity among the scores are errors.",
    syntax_example = "attention_weights(query, keys [, scale [, similarity]])",
    sql_example = r"```sql
SELECT attention_weights([1.0, 0.0], [[1.0, 0.0], [0.0, 1.0], NULL]) AS weights
```",
    argument(
        name = "query",
        description = "A list of numbers of any list and number type. `Float16`, `Float32` and integers of 8 and 16 bits, in query and keys, give weights of type `Float32`, all others `Float64`; sums are taken in 64 bits."
    ),
    argument(
        name = "keys",
        description = "A list of lists of as many numbers as query has. The result is the same kind of list."
    ),
    argument(
        name = "scale",
        description = "Factor of the similarities, a constant or a column. NULL or omitted: 1/√d for 'dot', with d the numbers of the query, 1 for 'cosine' and 1/(2√d) for 'l2'."
    ),
    argument(
        name = "similarity",
        description = "What scores are made of, a constant or a column: 'dot' (q·k, the default), 'cosine' (q·k / (‖q‖ ‖k‖)) or 'l2' (−‖q − k‖²)."
    )
)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AttentionWeights {
    signature: Signature,
}

impl AttentionWeights {
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

impl ScalarUDFImpl for AttentionWeights {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let (2..=4, [query, keys, options @ ..]) = (arg_types.len(), arg_types) else {
            return plan_err!(
                "{NAME} takes 2 to 4 arguments, got {}: write {}",
                arg_types.len(),
                usage(NAME, &PARAMETERS, 2)
            );
        };
        let floats = [
            vector_float(NAME, PARAMETERS[0], query)?,
            sequence_float(NAME, PARAMETERS[1], keys)?,
        ];
        let float = wider(&floats).data_type();
        let mut coerced = vec![nested(query, 1, float.clone()), nested(keys, 2, float)];
        if let Some(scale) = options.first() {
            coerced.push(check_scale(NAME, scale)?);
        }
        if let Some(similarity) = options.get(1) {
            coerced.push(check_similarity(NAME, similarity)?);
        }
        Ok(coerced)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let [query, keys, ..] = arg_types else {
            return internal_err!("{NAME} was planned without keys");
        };
        let (Some(number), Some(_)) = (element(query), element(keys)) else {
            return internal_err!("{NAME} was planned without lists");
        };
        // A weight is NULL where a key is.
        Ok(list_of(keys, number.data_type().clone()))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        if let Some(Some(scale)) = args.scalar_arguments.get(2)
            && let ScalarValue::Float64(Some(scale)) = scale.cast_to(&DataType::Float64)?
        {
            Similarity::Dot
                .scale(Some(scale), 1)
                .map_err(|error| plan_datafusion_err!("{NAME}: {error}"))?;
        }
        if let Some(Some(name)) = args.scalar_arguments.get(3)
            && let Some(Some(name)) = name.try_as_str()
        {
            name.parse::<Similarity>()
                .map_err(|error| plan_datafusion_err!("{NAME}: {error}"))?;
        }
        let types: Vec<DataType> = args
            .arg_fields
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        Ok(Arc::new(Field::new(NAME, self.return_type(&types)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let data_type = args.return_field.data_type().clone();
        let arguments = Arguments::of(args)?;
        let weights = off_the_async_threads(|| match element(&data_type).map(|w| w.data_type()) {
            Some(DataType::Float32) => {
                CALL.weights::<Float32Type>(&arguments, &data_type, weights_of_row)
            }
            Some(DataType::Float64) => {
                CALL.weights::<Float64Type>(&arguments, &data_type, weights_of_row)
            }
            _ => internal_err!("{NAME} was planned to give {data_type}"),
        })?;
        arguments.result(weights)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}

fn weights_of_row<T: Real>(
    arguments: &Arguments,
    row: usize,
    query: &Vectors<'_, T>,
    keys: &Vectors<'_, T>,
) -> Result<Vec<T>> {
    let explained =
        |error| exec_datafusion_err!("{NAME}, row {row} of its batch (counted from 0): {error}");
    let similarity = arguments.get(3).and_then(|argument| {
        let names = argument.array.as_string_opt::<i32>()?;
        let row = argument.row(row);
        names.is_valid(row).then(|| names.value(row))
    });
    let similarity: Similarity = match similarity {
        Some(name) => name.parse().map_err(explained)?,
        None => Similarity::default(),
    };
    let scale = arguments.value::<Float64Type>(2, row);
    let (query, all) = (query.view(), keys.view());
    let (Some(query), Some(all)) = (query.as_slice(), all.as_slice()) else {
        return internal_err!("{NAME}: vectors do not lie in one piece");
    };
    let query = Query::new(query, similarity, scale).map_err(explained)?;
    let valid = |key| keys.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(key));
    attention_weights(&query, all, valid).map_err(explained)
}
