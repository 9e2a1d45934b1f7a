//! Arguments that must be the same for every row.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::Schema;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_common::physical_expr::{fmt_sql, is_volatile};

/// The value of `expression`, an argument of `function` that must not depend on a row.
///
/// The optimizer has folded `1 + 1` to a literal by now, unless the plan skipped it, so anything
/// without columns is evaluated here.
pub(crate) fn constant(
    expression: &Arc<dyn PhysicalExpr>,
    parameter: &str,
    function: &str,
) -> Result<ScalarValue> {
    if let Some(literal) = expression.downcast_ref::<Literal>() {
        return Ok(literal.value().clone());
    }
    if is_volatile(expression) || !collect_columns(expression).is_empty() {
        return plan_err!(
            "{parameter} of {function} must be a constant, got {}: one fit has one {parameter}, so \
             write a number or text in its place",
            fmt_sql(expression.as_ref())
        );
    }
    let one_row = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        vec![],
        &RecordBatchOptions::new().with_row_count(Some(1)),
    )?;
    match expression.evaluate(&one_row)? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0),
    }
}
