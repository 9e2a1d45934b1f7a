//! `lle_reconstruction_error(features [, n_neighbors [, reg]]) OVER ([PARTITION BY …])`.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::function::{
    ExpressionArgs, PartitionEvaluatorArgs, WindowFunctionSimplification, WindowUDFFieldArgs,
};
use datafusion::logical_expr::{
    Documentation, Expr, LimitEffect, PartitionEvaluator, Signature, Volatility, WindowUDFImpl,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion_macros::user_doc;
use lakefold_manifold::reconstruction_error;

use crate::argument_names::argument_name;
use crate::clauses::check_clauses;
use crate::constants::{constant, magnitude, whole_number};
use crate::evaluator::off_the_async_threads;
use crate::features::{Features, Matrix, Site, extract, measure};
use crate::fit::row_error;
use crate::float_lists::FloatType;
use crate::lle_embed::float_type;

/// The name in SQL.
pub(crate) const NAME: &str = "lle_reconstruction_error";
const PARAMETERS: [&str; 3] = ["features", "n_neighbors", "reg"];
const DEFAULT_NEIGHBORS: usize = 12;
const DEFAULT_REG: f64 = 1e-3;

/// The window function `lle_reconstruction_error`.
#[user_doc(
    doc_section(label = "Manifold learning"),
    description = "How far each row lies from the best weighted sum of its nearest neighbours, with weights that sum to 1: the length of x − Σ w x_j (the terms of Roweis and Saul 2000, equation 1), in the features' own unit, as `Float64`. Large values mark rows that no neighbourhood carries: outliers, gaps and sharp bends, where an embedding is least to be trusted. It needs no embedding and depends on the features alone.

Neighbours are exact, at any number of rows. Equal rows are merged first and share one value. A row whose features are NULL gets NULL and is nobody's neighbour. NaN, infinity, a NULL inside a list and lists of different lengths are errors that name the row.

It runs in DataFusion's own window operator, which holds the partition in memory, outside the session's memory limit. `ORDER BY` inside `OVER` changes nothing; window frames, `FILTER`, `DISTINCT` and `IGNORE NULLS` are errors.

In Lakefold's own sessions a call without `OVER` means `OVER ()`.",
    syntax_example = "lle_reconstruction_error(features [, n_neighbors [, reg]]) OVER ([PARTITION BY expression [, …]])",
    sql_example = r"The digits that look least like others:

```sql
SELECT id, label, lle_reconstruction_error(pixels) OVER () AS error
FROM 'sample_data/digits.parquet'
ORDER BY error DESC
LIMIT 5
```",
    argument(
        name = "features",
        description = "A list of numbers, as for `lle_embed`."
    ),
    argument(
        name = "n_neighbors",
        description = "Neighbours of each row. A constant; 12 when omitted or NULL."
    ),
    argument(
        name = "reg",
        description = "Regularisation of the weights, a multiple of the local Gram matrix's trace. A constant; 0.001 when omitted or NULL."
    )
)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LleReconstructionError {
    signature: Signature,
}

impl LleReconstructionError {
    /// The function, to be wrapped in a `WindowUDF`.
    ///
    /// # Errors
    /// Never in practice: only if `DataFusion` rejects the parameter names.
    pub fn try_new() -> Result<Self> {
        let signature = Signature::user_defined(Volatility::Immutable)
            .with_parameter_names(PARAMETERS.to_vec())?;
        Ok(Self { signature })
    }
}

impl WindowUDFImpl for LleReconstructionError {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        if !(1..=PARAMETERS.len()).contains(&arg_types.len()) {
            return plan_err!(
                "{NAME} takes 1 to 3 arguments, got {}: write {NAME}({})",
                arg_types.len(),
                PARAMETERS.join(", ")
            );
        }
        float_type(&arg_types[0], NAME)?;
        Ok(arg_types.to_vec())
    }

    fn field(&self, field_args: WindowUDFFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(
            field_args.name(),
            DataType::Float64,
            true,
        )))
    }

    fn expressions(&self, expr_args: ExpressionArgs) -> Vec<Arc<dyn PhysicalExpr>> {
        expr_args.input_exprs().iter().take(1).cloned().collect()
    }

    fn simplify(&self) -> Option<WindowFunctionSimplification> {
        Some(Box::new(|call, _| {
            check_clauses(&call, NAME)?;
            Ok(Expr::from(call))
        }))
    }

    fn partition_evaluator(
        &self,
        args: PartitionEvaluatorArgs,
    ) -> Result<Box<dyn PartitionEvaluator>> {
        let [_, rest @ ..] = args.input_exprs() else {
            return plan_err!("{NAME} needs features");
        };
        let optional = |position: usize, parameter| match rest.get(position) {
            Some(argument) => constant(argument, parameter, NAME),
            None => Ok(ScalarValue::Null),
        };
        let n_neighbors = optional(0, "n_neighbors")?;
        let n_neighbors = whole_number(&n_neighbors, 1, "n_neighbors", NAME)?;
        let reg = magnitude(&optional(1, "reg")?, "reg", NAME)?;
        let fields = args.input_fields();
        let data_type = fields
            .first()
            .map_or(&DataType::Null, |field| field.data_type());
        Ok(Box::new(Evaluator {
            n_neighbors: n_neighbors.map_or(DEFAULT_NEIGHBORS, |k| k as usize),
            reg: reg.unwrap_or(DEFAULT_REG),
            float: float_type(data_type, NAME)?,
            column: argument_name(args.input_exprs(), 0, "", "features"),
        }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    fn limit_effect(&self, _args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::Unknown
    }
}

/// Computes a whole partition at once. No memory is reserved and nothing can cancel it.
#[derive(Debug)]
struct Evaluator {
    n_neighbors: usize,
    reg: f64,
    float: FloatType,
    column: String,
}

impl Evaluator {
    fn errors(&self, lists: &ArrayRef) -> Result<ArrayRef> {
        let site = Site {
            function: NAME,
            column: self.column.clone(),
            ..Site::default()
        };
        let lists = std::slice::from_ref(lists);
        let extent = measure(lists, &site)?;
        let Features { matrix, present } = extract(lists, extent, self.float)?;
        let errors = match &matrix {
            _ if present.count_set_bits() == 0 => Ok(vec![]),
            Matrix::Float32(rows) => {
                reconstruction_error(rows.view(), self.n_neighbors, self.reg, &())
            }
            Matrix::Float64(rows) => {
                reconstruction_error(rows.view(), self.n_neighbors, self.reg, &())
            }
        };
        let mut errors = errors
            .map_err(|error| row_error(&error, &site, &present))?
            .into_iter();
        let column = present
            .iter()
            .map(|present| present.then(|| errors.next()).flatten());
        Ok(Arc::new(column.collect::<Float64Array>()))
    }
}

impl PartitionEvaluator for Evaluator {
    fn evaluate_all(&mut self, values: &[ArrayRef], _num_rows: usize) -> Result<ArrayRef> {
        let [features] = values else {
            return internal_err!("{NAME} expected one array, got {}", values.len());
        };
        off_the_async_threads(|| self.errors(features))
    }
}
