//! `barycenter_weights(features, neighbors [, reg])`.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use datafusion::common::{Result, exec_datafusion_err, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion_macros::user_doc;
use lakefold_attention::Real;
use lakefold_manifold::{Feature, barycenter_weights};
use ndarray::Axis;

use crate::attention::{
    Arguments, Call, Vectors, check_number, element, list_of, nested, sequence_float, vector_float,
    wider,
};
use crate::evaluator::off_the_async_threads;

const NAME: &str = "barycenter_weights";
const PARAMETERS: [&str; 3] = ["features", "neighbors", "reg"];
const CALL: Call = Call {
    function: NAME,
    vector: PARAMETERS[0],
    list: PARAMETERS[1],
};
/// scikit-learn's.
const REG: f64 = 1e-3;

/// The scalar function `barycenter_weights`.
#[user_doc(
    doc_section(label = "Manifold learning"),
    description = "The weights with which given neighbours reconstruct a row best: they sum to 1, minimise ‖x − Σ wᵢ pᵢ‖² and may be negative (Roweis and Saul 2000, equation 1). What Locally Linear Embedding computes for every row over its nearest neighbours, for neighbours of your choice, such as those that `knn` gives.

A NULL neighbour takes no part and gets NULL. If features or neighbors is NULL, so is the result; a list without any neighbour is an error, as are NaN and infinity.",
    syntax_example = "barycenter_weights(features, neighbors [, reg])",
    sql_example = r"```sql
SELECT barycenter_weights([0.5, 0.25], [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], 0.000001) AS weights
```",
    argument(
        name = "features",
        description = "A list of numbers of any list and number type. `Float16`, `Float32` and integers of 8 and 16 bits, in both arguments, give weights of type `Float32`, all others `Float64`; all is computed in 64 bits."
    ),
    argument(
        name = "neighbors",
        description = "A list of lists of as many numbers. The result is the same kind of list."
    ),
    argument(
        name = "reg",
        description = "Regularisation as a multiple of the local Gram matrix's trace, a constant or a column. 0.001 when NULL or left out."
    )
)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BarycenterWeights {
    signature: Signature,
}

impl BarycenterWeights {
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

impl ScalarUDFImpl for BarycenterWeights {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let (2..=3, [features, neighbors, reg @ ..]) = (arg_types.len(), arg_types) else {
            return plan_err!(
                "{NAME} takes 2 or 3 arguments, got {}: write {NAME}({})",
                arg_types.len(),
                PARAMETERS.join(", ")
            );
        };
        let floats = [
            vector_float(NAME, PARAMETERS[0], features)?,
            sequence_float(NAME, PARAMETERS[1], neighbors)?,
        ];
        let float = wider(&floats).data_type();
        let mut coerced = vec![
            nested(features, 1, float.clone()),
            nested(neighbors, 2, float),
        ];
        if let Some(reg) = reg.first() {
            coerced.push(check_number(NAME, PARAMETERS[2], reg)?);
        }
        Ok(coerced)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let [features, neighbors, ..] = arg_types else {
            return internal_err!("{NAME} was planned without neighbors");
        };
        let Some(number) = element(features) else {
            return internal_err!("{NAME} was planned without lists");
        };
        Ok(list_of(neighbors, number.data_type().clone()))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types = args.arg_fields.iter();
        let types: Vec<DataType> = types.map(|field| field.data_type().clone()).collect();
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

fn weights_of_row<T: Real + Feature>(
    arguments: &Arguments,
    row: usize,
    features: &Vectors<'_, T>,
    neighbors: &Vectors<'_, T>,
) -> Result<Vec<T>> {
    let explained =
        |error| exec_datafusion_err!("{NAME}, row {row} of its batch (counted from 0): {error}");
    let reg = arguments.value::<Float64Type>(2, row).unwrap_or(REG);
    let valid = |place: &usize| {
        neighbors
            .nulls
            .as_ref()
            .is_none_or(|nulls| nulls.is_valid(*place))
    };
    let present: Vec<usize> = (0..neighbors.len()).filter(valid).collect();
    let all = neighbors.view().select(Axis(0), &present);
    let features = features.view();
    let weights = barycenter_weights(features.row(0), all.view(), reg).map_err(explained)?;
    let mut every = vec![T::zero(); neighbors.len()];
    for (place, weight) in present.into_iter().zip(weights) {
        every[place] = T::from_f64(weight);
    }
    Ok(every)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::ScalarUDF;
    use datafusion::prelude::SessionContext;

    #[tokio::test]
    async fn null_neighbours_are_skipped_and_bad_rows_named() {
        let ctx = SessionContext::new();
        ctx.register_udf(ScalarUDF::from(BarycenterWeights::try_new().unwrap()));
        let shown = async |sql: &str| {
            let batches = ctx.sql(sql).await?.collect().await?;
            datafusion::arrow::util::pretty::pretty_format_batches(&batches)
                .map(|table| table.to_string())
                .map_err(Into::into)
        };
        let even = "SELECT barycenter_weights([1, 1], [[0, 1], NULL, [2, 1]], 1)";
        let table: Result<String> = shown(even).await;
        assert!(table.unwrap().contains("[0.5, , 0.5]"));
        for (call, expected) in [
            (
                "barycenter_weights([1.0, 1.0], [[0.0]])",
                "its vectors have 1 numbers, features has 2",
            ),
            (
                "barycenter_weights([1.0], arrow_cast([NULL], 'List(List(Float64))'))",
                "n_neighbors",
            ),
            ("barycenter_weights([1.0], [['NaN'::DOUBLE]])", "NaN"),
            ("barycenter_weights([1.0], [[2.0]], -1)", "reg"),
            ("barycenter_weights([1.0])", "takes 2 or 3 arguments, got 1"),
        ] {
            let error: Result<String> = shown(&format!("SELECT {call}")).await;
            let error = error.unwrap_err().to_string();
            assert!(error.contains(expected), "{call}: {error}");
        }
        let null = "SELECT barycenter_weights(NULL, [[1.0]]) IS NULL AND barycenter_weights([1.0], NULL) IS NULL AS n";
        let table: Result<String> = shown(null).await;
        assert!(table.unwrap().contains("true"));
    }
}
