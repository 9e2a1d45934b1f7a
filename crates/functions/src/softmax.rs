//! `softmax(scores [, temperature])`.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Float64Array, PrimitiveArray, make_array,
};
use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use datafusion::common::{
    Result, ScalarValue, exec_err, internal_err, plan_datafusion_err, plan_err,
};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion_macros::user_doc;
use lakefold_attention::{AttentionError, Score, softmax_in_place};

use crate::features::shown;
use crate::float_lists::{FloatType, ListRows};

/// The scalar function `softmax`.
#[user_doc(
    doc_section(label = "Attention"),
    description = "Turns a list of scores into weights that sum to 1: exp(s / temperature), divided by the sum of these. The largest score is subtracted first, so that large scores do not overflow (Milakov and Gimelshein 2018).

A NULL list gives NULL. A NULL inside the list is skipped and stays NULL. An empty list stays empty. A score of minus infinity weighs 0; if every score is minus infinity (all masked), every weight is 0; scores of plus infinity share all the weight evenly. NaN is an error.",
    syntax_example = "softmax(scores [, temperature])",
    sql_example = r"How near each point is to three places along the roll:

```sql
SELECT id, softmax(make_array(-abs(t - 5), -abs(t - 8), -abs(t - 11)), 0.5) AS nearness
FROM 'sample_data/swiss_roll.parquet'
ORDER BY id
LIMIT 5
```",
    argument(
        name = "scores",
        description = "A list of numbers: any of `List`, `LargeList` and `FixedSizeList` of any number type. `Float16`, `Float32` and integers of 8 and 16 bits are computed and returned as `Float32`, everything else as `Float64`. The result is the same kind of list."
    ),
    argument(
        name = "temperature",
        description = "A finite number greater than 0, a constant or a column: below 1 sharpens the weights, above 1 flattens them. 1 when omitted or NULL."
    )
)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Softmax {
    signature: Signature,
}

impl Softmax {
    /// The function, to be wrapped in a `ScalarUDF`.
    ///
    /// # Errors
    /// Never in practice: only if `DataFusion` rejects the parameter names.
    pub fn try_new() -> Result<Self> {
        let signature = Signature::user_defined(Volatility::Immutable)
            .with_parameter_names(vec!["scores", "temperature"])?;
        Ok(Self { signature })
    }
}

impl ScalarUDFImpl for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let (scores, temperature) = match arg_types {
            [scores] => (scores, None),
            [scores, temperature] => (scores, Some(temperature)),
            _ => {
                return plan_err!(
                    "softmax takes 1 or 2 arguments, got {}: write softmax(scores, temperature)",
                    arg_types.len()
                );
            }
        };
        let mut coerced = vec![coerced_list(scores)?];
        if let Some(temperature) = temperature {
            if !temperature.is_numeric() && !temperature.is_null() {
                return plan_err!("temperature of softmax must be a number, got {temperature}");
            }
            coerced.push(DataType::Float64);
        }
        Ok(coerced)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let Some(scores) = arg_types.first() else {
            return plan_err!("softmax needs scores");
        };
        coerced_list(scores)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        if let [_, Some(temperature)] = args.scalar_arguments
            && let ScalarValue::Float64(Some(temperature)) =
                temperature.cast_to(&DataType::Float64)?
            && (!temperature.is_finite() || temperature <= 0.0)
        {
            return plan_err!("{}", bad_temperature(temperature));
        }
        let types: Vec<DataType> = args
            .arg_fields
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        Ok(Arc::new(Field::new(
            self.name(),
            self.return_type(&types)?,
            true,
        )))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // A constant has no name to speak of.
        let name = match (args.args.first(), args.arg_fields.first()) {
            (Some(ColumnarValue::Array(_)), Some(field)) => format!(" {}", field.name()),
            _ => String::new(),
        };
        let all_scalar = args
            .args
            .iter()
            .all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if all_scalar { 1 } else { args.number_rows };
        let arrays = args
            .args
            .into_iter()
            .map(|value| value.into_array(rows))
            .collect::<Result<Vec<ArrayRef>>>()?;
        let temperatures = arrays.get(1).map(AsArray::as_primitive::<Float64Type>);
        let weights = match FloatType::of_list(arrays[0].data_type()) {
            Some(FloatType::Float32) => {
                softmax_lists::<Float32Type>(&arrays[0], temperatures, &name)?
            }
            Some(FloatType::Float64) => {
                softmax_lists::<Float64Type>(&arrays[0], temperatures, &name)?
            }
            None => return internal_err!("softmax got {} after coercion", arrays[0].data_type()),
        };
        Ok(if all_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&weights, 0)?)
        } else {
            ColumnarValue::Array(weights)
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}

/// The same kind of list, of floats.
fn coerced_list(scores: &DataType) -> Result<DataType> {
    let float = FloatType::of_list(scores).ok_or_else(|| {
        plan_datafusion_err!(
            "scores of softmax must be a list of numbers, got {scores}: write make_array(a, b, …) to make \
             one of scalar columns"
        )
    })?;
    let with_floats =
        |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(float.data_type()));
    Ok(match scores {
        DataType::LargeList(field) => DataType::LargeList(with_floats(field)),
        DataType::FixedSizeList(field, length) => {
            DataType::FixedSizeList(with_floats(field), *length)
        }
        DataType::List(field) => DataType::List(with_floats(field)),
        _ => float.list(),
    })
}

fn bad_temperature(temperature: f64) -> String {
    format!(
        "temperature of softmax must be a finite number greater than 0, got {temperature}: leave it out \
         or write NULL for 1"
    )
}

fn softmax_lists<T: ArrowPrimitiveType<Native: Score>>(
    lists: &ArrayRef,
    temperatures: Option<&Float64Array>,
    name: &str,
) -> Result<ArrayRef> {
    let rows = ListRows::try_new(lists)?;
    let scores = rows.values().as_primitive::<T>();
    let mut weights = scores.values().to_vec();
    let mut present = vec![];
    for row in 0..rows.len() {
        let Some(range) = rows.range(row) else {
            continue;
        };
        let temperature = match temperatures {
            Some(temperatures) if temperatures.is_valid(row) => temperatures.value(row),
            _ => 1.0,
        };
        let result = match scores
            .nulls()
            .filter(|nulls| nulls.slice(range.start, range.len()).null_count() > 0)
        {
            None => softmax_in_place(&mut weights[range], temperature),
            Some(nulls) => {
                let valid = || range.clone().filter(|&element| nulls.is_valid(element));
                present.clear();
                present.extend(valid().map(|element| weights[element]));
                let result = softmax_in_place(&mut present, temperature);
                for (element, weight) in valid().zip(&present) {
                    weights[element] = *weight;
                }
                // Positions are the caller's, NULLs included.
                result.map_err(|error| match error {
                    AttentionError::NanScore { position } => AttentionError::NanScore {
                        position: valid()
                            .nth(position)
                            .map_or(position, |element| element - range.start),
                    },
                    other => other,
                })
            }
        };
        match result {
            Ok(()) => {}
            Err(AttentionError::InvalidTemperature { temperature }) => {
                return exec_err!("{}", bad_temperature(temperature));
            }
            // A batch's row numbers are nobody's, so the scores themselves tell the row.
            Err(error) => {
                return exec_err!(
                    "scores{name} of softmax: {error} in {}: filter the row out or replace the score \
                     with NULL, which is skipped",
                    shown(&ScalarValue::try_from_array(lists, row)?)
                );
            }
        }
    }
    let weights = PrimitiveArray::<T>::new(ScalarBuffer::from(weights), scores.nulls().cloned());
    let data = lists
        .to_data()
        .into_builder()
        .child_data(vec![weights.into_data()])
        .build()?;
    Ok(make_array(data))
}
