//! Runs a scalar function over NULL, scalar, array and sliced inputs and compares the results.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, new_null_array};
use datafusion::arrow::compute::{cast, concat};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF};

/// A function and the types that it is called with.
pub(crate) struct ScalarTester {
    function: ScalarUDF,
    types: Vec<DataType>,
}

impl ScalarTester {
    pub(crate) fn new(function: ScalarUDF, types: Vec<DataType>) -> Self {
        Self { function, types }
    }

    /// Calls the function as the engine would: types coerced, result type checked.
    pub(crate) fn invoke(&self, args: Vec<ColumnarValue>, rows: usize) -> Result<ArrayRef> {
        let types = self.function.coerce_types(&self.types)?;
        let args = args
            .into_iter()
            .zip(&types)
            .map(|(arg, data_type)| arg.cast_to(data_type, None))
            .collect::<Result<Vec<_>>>()?;
        let arg_fields: Vec<FieldRef> = types
            .iter()
            .enumerate()
            .map(|(index, data_type)| {
                Arc::new(Field::new(format!("arg{index}"), data_type.clone(), true))
            })
            .collect();
        let scalars: Vec<Option<&ScalarValue>> = args
            .iter()
            .map(|arg| match arg {
                ColumnarValue::Scalar(value) => Some(value),
                ColumnarValue::Array(_) => None,
            })
            .collect();
        let return_field = self.function.return_field_from_args(ReturnFieldArgs {
            arg_fields: &arg_fields,
            scalar_arguments: &scalars,
        })?;
        let result = self.function.invoke_with_args(ScalarFunctionArgs {
            args,
            arg_fields,
            number_rows: rows,
            return_field: Arc::clone(&return_field),
            config_options: Arc::new(ConfigOptions::default()),
        })?;
        let result = result.into_array(rows)?;
        assert_eq!(
            result.data_type(),
            return_field.data_type(),
            "{}",
            self.function.name()
        );
        assert_eq!(result.len(), rows, "{}", self.function.name());
        Ok(result)
    }

    /// Checks that every way of passing the rows of `args` gives `expected`, and NULL gives NULL.
    pub(crate) fn assert_all_forms(&self, args: &[ArrayRef], expected: &ArrayRef) {
        let rows = expected.len();
        let args: Vec<ArrayRef> = args
            .iter()
            .zip(&self.types)
            .map(|(arg, data_type)| cast(arg, data_type).unwrap())
            .collect();
        let arrays =
            |arrays: &[ArrayRef]| arrays.iter().cloned().map(ColumnarValue::Array).collect();
        let whole = self.invoke(arrays(&args), rows).unwrap();
        let expected = cast(expected, whole.data_type()).unwrap();
        let same = |result: &ArrayRef, expected: &ArrayRef, form: &str| {
            assert_eq!(
                result,
                expected,
                "{} {:?}, {form}",
                self.function.name(),
                self.types
            );
        };

        same(&whole, &expected, "array");

        let empty: Vec<ArrayRef> = args.iter().map(|arg| arg.slice(0, 0)).collect();
        same(
            &self.invoke(arrays(&empty), 0).unwrap(),
            &expected.slice(0, 0),
            "empty array",
        );

        let padded: Vec<ArrayRef> = args
            .iter()
            .map(|arg| {
                concat(&[&arg.slice(0, 1), arg, &arg.slice(rows - 1, 1)])
                    .unwrap()
                    .slice(1, rows)
            })
            .collect();
        same(
            &self.invoke(arrays(&padded), rows).unwrap(),
            &expected,
            "sliced array",
        );

        let nulls: Vec<ColumnarValue> = args
            .iter()
            .map(|arg| ColumnarValue::Array(new_null_array(arg.data_type(), 3)))
            .collect();
        assert_eq!(
            self.invoke(nulls, 3).unwrap().null_count(),
            3,
            "array of NULL"
        );

        for row in 0..rows {
            let scalars = args
                .iter()
                .map(|arg| ColumnarValue::Scalar(ScalarValue::try_from_array(arg, row).unwrap()))
                .collect();
            same(
                &self.invoke(scalars, 1).unwrap(),
                &expected.slice(row, 1),
                "scalar",
            );
        }
    }
}
