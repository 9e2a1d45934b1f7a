//! Arguments that must be the same for every row.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_common::physical_expr::is_volatile;

use crate::argument_names::own_name;
use crate::features::shown;

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
            own_name(expression).unwrap_or_else(|| "an expression of columns".to_owned())
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

/// A whole number from `least` to 2⁵³, whatever number type it was written in; `None` for NULL.
pub(crate) fn whole_number(
    value: &ScalarValue,
    least: u64,
    parameter: &str,
    function: &str,
) -> Result<Option<u64>> {
    // Up to there f64 holds every whole number.
    const MOST: f64 = 9_007_199_254_740_992.0;
    match float(value)? {
        None if value.is_null() => Ok(None),
        Some(number) if number.fract() == 0.0 && (least as f64..=MOST).contains(&number) => {
            Ok(Some(number as u64))
        }
        _ => Err(plan_datafusion_err!(
            "{parameter} of {function} must be a whole number of at least {least}, got {}",
            shown(value)
        )),
    }
}

/// A finite number of at least 0; `None` for NULL.
pub(crate) fn magnitude(
    value: &ScalarValue,
    parameter: &str,
    function: &str,
) -> Result<Option<f64>> {
    match float(value)? {
        None if value.is_null() => Ok(None),
        Some(number) if number.is_finite() && number >= 0.0 => Ok(Some(number)),
        _ => Err(plan_datafusion_err!(
            "{parameter} of {function} must be a finite number of at least 0, got {}",
            shown(value)
        )),
    }
}

/// `None` for NULL and for what is not a number.
fn float(value: &ScalarValue) -> Result<Option<f64>> {
    if value.is_null() || !value.data_type().is_numeric() {
        return Ok(None);
    }
    match value.cast_to(&DataType::Float64)? {
        ScalarValue::Float64(number) => Ok(number),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_type_and_nothing_else() {
        let whole = |value: ScalarValue| whole_number(&value, 1, "k", "f");
        assert_eq!(whole(3_i8.into()).unwrap(), Some(3));
        assert_eq!(whole(3.0_f64.into()).unwrap(), Some(3));
        assert_eq!(whole(ScalarValue::Null).unwrap(), None);
        for bad in [
            0_i64.into(),
            ScalarValue::from(-1_i64),
            1.5_f64.into(),
            u64::MAX.into(),
            f64::NAN.into(),
            "3".into(),
        ] {
            let message = whole(bad).unwrap_err().to_string();
            let expected = "k of f must be a whole number of at least 1, got ";
            assert!(message.contains(expected), "{message}");
        }
        let number = |value: ScalarValue| magnitude(&value, "reg", "f");
        assert_eq!(number(0.5_f32.into()).unwrap(), Some(0.5));
        assert_eq!(number(ScalarValue::Float64(None)).unwrap(), None);
        for bad in [
            ScalarValue::from(-0.1_f64),
            f64::INFINITY.into(),
            "x".into(),
        ] {
            assert!(number(bad).is_err());
        }
    }
}
