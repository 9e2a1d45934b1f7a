//! `linear(x, weights [, name])`.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion_macros::user_doc;

use super::coercion::{element, list_of, nested, sequence_float, vector_float, wider};
use super::linear_file::{Layer, LinearFile, LinearFiles};
use super::linear_projection::{check_width, leaf, project};
use super::sequences::Arguments;
use crate::evaluator::off_the_async_threads;
use crate::float_lists::FloatType;

/// The name in SQL.
pub(crate) const NAME: &str = "linear";
pub(crate) const PARAMETERS: [&str; 3] = ["x", "weights", "name"];

/// The scalar function `linear`.
#[user_doc(
    doc_section(label = "Attention"),
    description = "A linear layer, x·Wᵀ + b, as PyTorch's `nn.Linear`, with weights from a Parquet file: one row an output feature, in the order of the file, with the columns `weight` (a list of in_features numbers), `bias` (a number; may be missing) and `name` (text; may be missing). Where there is a name, one file holds several layers, such as the projections q_proj, k_proj, v_proj and out_proj around `multi_head_attention`.

x is a vector or a sequence of vectors; each vector of in_features numbers becomes one of out_features. NULL gives NULL, in a sequence too. A result of NaN or infinity is an error.",
    syntax_example = "linear(x, weights [, name])",
    sql_example = r"```sql
COPY (
    SELECT * FROM (VALUES
        ('q_proj', [1.0, 0.5], 0.1),
        ('q_proj', [0.0, 2.0], 0.2),
        ('out_proj', [1.0, -1.0], NULL)
    ) AS layers (name, weight, bias)
) TO '/tmp/projections.parquet';

SELECT linear([3.0, 4.0], '/tmp/projections.parquet', 'q_proj') AS q
```",
    argument(
        name = "x",
        description = "A list of numbers, or a list of such lists, of any list and number type. The result is the same kind of list. It is `Float32` where `Float32` holds x's and the weights' type exactly (`Float16`, `Float32` and integers of 8 and 16 bits), else `Float64`."
    ),
    argument(
        name = "weights",
        description = "The path or URL of the file, a constant text. In Lakefold's own sessions it may be in any object store that the session knows; elsewhere it is a local path. The file is read while the statement is planned, and again only when it has changed."
    ),
    argument(
        name = "name",
        description = "Which layer of the file: only rows of that name are used. A constant text; needed where the file has several names."
    )
)]
#[derive(Debug, Clone)]
pub struct Linear {
    signature: Signature,
    files: Arc<LinearFiles>,
}

// One session has one of it.
impl PartialEq for Linear {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.files, &other.files)
    }
}

impl Eq for Linear {}

impl Hash for Linear {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.files).hash(state);
    }
}

impl Linear {
    /// The function, to be wrapped in a `ScalarUDF`.
    ///
    /// # Errors
    /// Never in practice: only if `DataFusion` rejects the parameter names.
    pub fn try_new() -> Result<Self> {
        let signature = Signature::user_defined(Volatility::Immutable)
            .with_parameter_names(PARAMETERS.to_vec())?;
        Ok(Self {
            signature,
            files: Arc::default(),
        })
    }

    /// Files that were read for this function. Whatever is loaded into it before a statement is planned
    /// may be named in that statement.
    pub fn files(&self) -> &Arc<LinearFiles> {
        &self.files
    }

    fn file(&self, argument: &ScalarValue) -> Result<(Arc<LinearFile>, String)> {
        let Some(Some(path)) = argument.try_as_str() else {
            return plan_err!(
                "weights of {NAME} must be the path or URL of a file of weights, got {argument}"
            );
        };
        Ok((self.files.get_or_read(path)?, path.to_owned()))
    }
}

/// A call as it was planned.
struct Call<'a> {
    x: &'a DataType,
    file: Arc<LinearFile>,
    source: String,
    name: Option<String>,
}

impl Call<'_> {
    fn layer(&self) -> Result<&Layer> {
        self.file.layer(self.name.as_deref(), &self.source)
    }

    /// The type of the result.
    fn data_type(&self) -> Result<DataType> {
        let layer = self.layer()?;
        let float = wider(&[float_of(self.x)?, Some(self.file.float())]);
        let result = nested(self.x, depth(self.x), float.data_type());
        resized(&result, layer.out_features(), |size| {
            check_width(layer, size, &format!("x of {NAME}"), &self.source)
        })
    }
}

/// How deep the lists of x are: 1 for a vector, 2 for a sequence.
pub(crate) fn depth(x: &DataType) -> usize {
    match element(x).map(|field| element(field.data_type())) {
        Some(Some(_)) => 2,
        _ => 1,
    }
}

/// x's float type, `None` for untyped NULLs.
fn float_of(x: &DataType) -> Result<Option<FloatType>> {
    match depth(x) {
        1 => vector_float(NAME, PARAMETERS[0], x),
        _ => sequence_float(NAME, PARAMETERS[0], x),
    }
}

/// The same lists, with vectors of `out_features` where they have a fixed size.
fn resized(
    list: &DataType,
    out_features: usize,
    check: impl Fn(usize) -> Result<()> + Copy,
) -> Result<DataType> {
    if let Some(field) = element(list)
        && element(field.data_type()).is_some()
    {
        let inner = resized(field.data_type(), out_features, check)?;
        return Ok(list_of(list, inner));
    }
    match list {
        DataType::FixedSizeList(field, size) => {
            check(*size as usize)?;
            Ok(DataType::FixedSizeList(
                Arc::clone(field),
                out_features as i32,
            ))
        }
        other => Ok(other.clone()),
    }
}

impl ScalarUDFImpl for Linear {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let (2..=3, [x, texts @ ..]) = (arg_types.len(), arg_types) else {
            return plan_err!(
                "{NAME} takes 2 or 3 arguments, got {}: write {NAME}({})",
                arg_types.len(),
                PARAMETERS.join(", ")
            );
        };
        // Untyped NULLs take the type of the weights, whichever that is.
        let float = float_of(x)?.unwrap_or(FloatType::Float32);
        for (name, text) in PARAMETERS[1..].iter().zip(texts) {
            if !text.is_string() && !text.is_null() {
                return plan_err!("{name} of {NAME} must be text, got {text}");
            }
        }
        let mut coerced = vec![nested(x, depth(x), float.data_type())];
        coerced.extend_from_slice(texts);
        Ok(coerced)
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!("the type of {NAME} depends on its weights")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [_, Some(path), name @ ..] = args.scalar_arguments else {
            return plan_err!(
                "weights of {NAME} must be a constant, the path or URL of a file of weights: it is read \
                 while the statement is planned, so write the text in its place"
            );
        };
        let name = match name {
            [] => None,
            [Some(name)] => name.try_as_str().flatten().map(str::to_owned),
            _ => return plan_err!("name of {NAME} must be a constant: write the layer's name"),
        };
        let (file, source) = self.file(path)?;
        let x = args.arg_fields[0].data_type();
        let call = Call {
            x,
            file,
            source,
            name,
        };
        Ok(Arc::new(Field::new(NAME, call.data_type()?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let data_type = args.return_field.data_type().clone();
        let [_, ColumnarValue::Scalar(path), name @ ..] = args.args.as_slice() else {
            return internal_err!("{NAME} was planned with other weights");
        };
        let name = match name {
            [ColumnarValue::Scalar(name)] => name.try_as_str().flatten().map(str::to_owned),
            _ => None,
        };
        let (file, source) = self.file(path)?;
        let x_type = args.arg_fields[0].data_type().clone();
        let call = Call {
            x: &x_type,
            file,
            source,
            name,
        };
        if call.data_type()? != data_type {
            return exec_err!(
                "'{}' changed while the statement ran: run it again",
                call.source
            );
        }
        let rows = args.number_rows;
        let arguments = Arguments::new(args.args.into_iter().take(1).collect(), rows)?;
        let x = &arguments.required(0)?.array;
        let layer = call.layer()?;
        let projected = off_the_async_threads(|| match leaf(&data_type) {
            DataType::Float32 => project::<Float32Type>(x, layer, &data_type, &call.source),
            _ => project::<Float64Type>(x, layer, &data_type, &call.source),
        })?;
        arguments.result(projected)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
