//! `self_attention(query, key, value [, scale [, similarity]]) OVER (…)`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::expr::NullTreatment;
use datafusion::logical_expr::function::{
    ExpressionArgs, PartitionEvaluatorArgs, WindowFunctionSimplification, WindowUDFFieldArgs,
};
use datafusion::logical_expr::{
    Documentation, Expr, LimitEffect, PartitionEvaluator, Signature, Volatility, WindowUDFImpl,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion_macros::user_doc;

use super::arguments::{PARAMETERS, Scoring, coerce};
use super::blocks::{Lists, Request};
use super::vectors::Columns;
use crate::features::Site;

/// The name in SQL.
pub(crate) const NAME: &str = "self_attention";

/// The window function `self_attention`.
#[user_doc(
    doc_section(label = "Attention"),
    description = "Attention of the current row's query over the keys and values of its window frame: the frame is the mask. Each key weighs exp(scale · similarity(query, key)), divided by the sum of these over the frame, and the result is the weighted mean of the values (Vaswani et al. 2017, equation 1).

Without ORDER BY a frame is the whole partition: full attention. In Lakefold's own sessions `OVER ()` may be left out. `ORDER BY position ROWS UNBOUNDED PRECEDING` is the causal mask, `ROWS BETWEEN 127 PRECEDING AND CURRENT ROW` a sliding window. Note that SQL's default frame with ORDER BY is `RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW`, which includes peers: rows with an equal position see one another. Every ROWS, RANGE and GROUPS frame works. All frames are computed in blocks by matrix products, in a time in proportion to the frames and not to the partition; one partition is held in memory at a time.

A row whose query is NULL gets NULL, as does one whose frame is empty. Keys and values that are NULL are skipped. A score of minus infinity weighs nothing, and a frame without any other gives NULL. NaN, a score of plus infinity and an infinite value that has a weight are errors that name the rows.",
    syntax_example = "self_attention(query, key, value [, scale [, similarity]]) OVER ([PARTITION BY …] [ORDER BY …] [frame])",
    sql_example = r"Each digit blended with up to three before it, most with those that look like it:

```sql
SELECT id, array_length(self_attention(pixels, pixels, pixels, 0.01)
         OVER (PARTITION BY label ORDER BY id ROWS 3 PRECEDING)) AS width
FROM 'sample_data/digits.parquet'
ORDER BY id
LIMIT 3
```",
    argument(
        name = "query",
        description = "A list of numbers, what the row looks for."
    ),
    argument(
        name = "key",
        description = "A list of as many numbers, what the row is found by."
    ),
    argument(
        name = "value",
        description = "A list of numbers, of any length that is the same in all rows. The result is the same kind of list. `Float16`, `Float32` and integers of 8 and 16 bits are returned as `Float32`, if all three arguments hold such numbers, everything else as `Float64`."
    ),
    argument(
        name = "scale",
        description = "A constant that similarities are multiplied with. NULL or left out: 1/√d for `dot` with d the numbers of a query, 1 for `cosine`, 1/(2√d) for `l2`."
    ),
    argument(
        name = "similarity",
        description = "`'dot'`: the product of query and key. `'cosine'`: the cosine of their angle, 0 where one is zero. `'l2'`: minus the squared distance. `dot` when NULL or left out."
    )
)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SelfAttention {
    signature: Signature,
}

impl SelfAttention {
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

/// Of a planned call, by its own name, if that is known.
pub(crate) fn request(
    arguments: &[Arc<dyn PhysicalExpr>],
    data_type: &DataType,
    call: &str,
) -> Result<Request> {
    if arguments.len() < 3 {
        return plan_err!("{NAME} needs query, key and value");
    }
    Ok(Request {
        columns: Columns::of_call(arguments, call),
        scoring: Scoring::of_arguments(NAME, arguments)?,
        data_type: data_type.clone(),
    })
}

impl WindowUDFImpl for SelfAttention {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        coerce(NAME, arg_types)
    }

    fn field(&self, field_args: WindowUDFFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = field_args
            .input_fields()
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        let types = coerce(NAME, &types)?;
        Ok(Arc::new(Field::new(
            field_args.name(),
            types[2].clone(),
            true,
        )))
    }

    fn expressions(&self, expr_args: ExpressionArgs) -> Vec<Arc<dyn PhysicalExpr>> {
        expr_args.input_exprs().iter().take(3).cloned().collect()
    }

    fn simplify(&self) -> Option<WindowFunctionSimplification> {
        Some(Box::new(|call, _| {
            if call.params.distinct {
                return plan_err!(
                    "{NAME} takes no DISTINCT: equal keys each have their weight, take the distinct rows in \
                     a subquery"
                );
            }
            if call.params.null_treatment == Some(NullTreatment::IgnoreNulls) {
                return plan_err!("{NAME} takes no IGNORE NULLS: NULL keys are skipped anyway");
            }
            Ok(Expr::from(call))
        }))
    }

    fn partition_evaluator(
        &self,
        args: PartitionEvaluatorArgs,
    ) -> Result<Box<dyn PartitionEvaluator>> {
        let types: Vec<DataType> = args
            .input_fields()
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        let types = coerce(NAME, &types)?;
        Ok(Box::new(RowByRow {
            request: request(args.input_exprs(), &types[2], "")?,
            row: 0,
        }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    fn limit_effect(&self, _args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::Unknown
    }
}

/// Inside `DataFusion`'s own window operator, for plans made without our optimizer rule: it asks for one row
/// after the other.
#[derive(Debug)]
struct RowByRow {
    request: Request,
    /// The operator does not tell which row it asks for.
    row: usize,
}

impl PartitionEvaluator for RowByRow {
    fn evaluate(
        &mut self,
        values: &[ArrayRef],
        range: &std::ops::Range<usize>,
    ) -> Result<ScalarValue> {
        let [query, key, value, ..] = values else {
            return internal_err!("{NAME} has three arguments, got {}", values.len());
        };
        let lists = Lists {
            query: query.slice(self.row, 1),
            key: key.slice(range.start, range.len()),
            value: value.slice(range.start, range.len()),
        };
        let site = Site {
            function: NAME,
            partition: None,
            ..Site::default()
        };
        self.row += 1;
        let frame = std::slice::from_ref(&(0..range.len())).to_vec();
        let never = AtomicBool::new(false);
        let mean = self.request.attend(&lists, &frame, &site, &never)?;
        ScalarValue::try_from_array(&mean, 0)
    }

    fn uses_window_frame(&self) -> bool {
        true
    }
}
