//! `linear(x, weights [, name])`.

use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, NullBufferBuilder, PrimitiveArray, make_array,
};
use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use datafusion::common::{
    Result, ScalarValue, exec_datafusion_err, exec_err, internal_err, plan_err,
};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion_macros::user_doc;
use lakefold_attention::{Real, Score, linear};
use ndarray::ArrayViewMut2;

use super::coercion::{element, nested, sequence_float, vector_float, wider};
use super::linear_file::{InLayer, Layer, LinearFile, LinearFiles};
use super::sequence_output::{check_total, lists};
use super::sequences::{Arguments, place, vectors};
use crate::evaluator::off_the_async_threads;
use crate::float_lists::{FloatType, ListRows};

/// The name in SQL.
pub(crate) const NAME: &str = "linear";
const PARAMETERS: [&str; 3] = ["x", "weights", "name"];

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
        match argument.try_as_str() {
            Some(Some(path)) => Ok((self.files.get_or_read(path)?, path.to_owned())),
            _ => plan_err!(
                "weights of {NAME} must be the path or URL of a file of weights, got {argument}"
            ),
        }
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
        let depth = depth(self.x);
        let float = match depth {
            1 => vector_float(NAME, PARAMETERS[0], self.x)?,
            _ => sequence_float(NAME, PARAMETERS[0], self.x)?,
        };
        let float = wider(&[float, Some(self.file.float())]);
        let result = nested(self.x, depth, float.data_type());
        resized(&result, layer.out_features(), |size| {
            check_width(layer, size, &format!("x of {NAME}"), &self.source)
        })
    }
}

/// How deep the lists of x are: 1 for a vector, 2 for a sequence.
fn depth(x: &DataType) -> usize {
    match element(x).map(|field| element(field.data_type())) {
        Some(Some(_)) => 2,
        _ => 1,
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
        return Ok(super::coercion::list_of(list, inner));
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

fn check_width(layer: &Layer, found: usize, who: &str, source: &str) -> Result<()> {
    let expected = layer.in_features();
    if found != expected {
        return exec_err!(
            "{who} has {found} numbers, the layer of '{source}' takes {expected} (in_features): name the \
             column that it was made for, or another layer"
        );
    }
    Ok(())
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
        let depth = depth(x);
        let float = match depth {
            1 => vector_float(NAME, PARAMETERS[0], x)?,
            _ => sequence_float(NAME, PARAMETERS[0], x)?,
        };
        for (name, text) in PARAMETERS[1..].iter().zip(texts) {
            if !text.is_string() && !text.is_null() {
                return plan_err!("{name} of {NAME} must be text, got {text}");
            }
        }
        // Untyped NULLs take the type of the weights, whichever that is.
        let float = float.unwrap_or(FloatType::Float32);
        let mut coerced = vec![nested(x, depth, float.data_type())];
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

fn leaf(list: &DataType) -> &DataType {
    match element(list) {
        Some(field) => leaf(field.data_type()),
        None => list,
    }
}

/// x·Wᵀ + b for every vector of a column, in one product.
fn project<T>(x: &ArrayRef, layer: &Layer, data_type: &DataType, source: &str) -> Result<ArrayRef>
where
    T: InLayer + ArrowPrimitiveType<Native: Real>,
{
    let x = if leaf(x.data_type()) == &T::DATA_TYPE {
        Arc::clone(x)
    } else {
        cast(
            x,
            &nested(x.data_type(), depth(x.data_type()), T::DATA_TYPE),
        )?
    };
    if depth(data_type) == 1 {
        let row_place = |row| place(NAME, PARAMETERS[0], row);
        return project_vectors::<T>(&x, 0..x.len(), layer, data_type, source, &row_place);
    }
    let rows = ListRows::try_new(&x)?;
    let span = rows.span(0..rows.len());
    let lengths: Vec<usize> = (0..rows.len())
        .map(|row| rows.span(row..row + 1).len())
        .collect();
    let all = without_vectors_of_null(&rows, &lengths, span.clone())?;
    let vector_place = |vector: usize| {
        let row = (0..rows.len()).find(|row| rows.span(*row..row + 1).end > vector + span.start);
        let row = row.unwrap_or_default();
        let position = vector + span.start - rows.span(row..row + 1).start;
        format!("{}: position {position}", place(NAME, PARAMETERS[0], row))
    };
    let Some(vector_type) = element(data_type).map(|field| field.data_type()) else {
        return internal_err!("{NAME} was planned to give {data_type}");
    };
    let vectors = project_vectors::<T>(
        &all,
        0..all.len(),
        layer,
        vector_type,
        source,
        &vector_place,
    )?;
    lists(data_type, &lengths, vectors, x.nulls().cloned())
}

/// The vectors of all sequences, those of NULL sequences NULL: nobody knows what they hold.
fn without_vectors_of_null(
    rows: &ListRows<'_>,
    lengths: &[usize],
    span: Range<usize>,
) -> Result<ArrayRef> {
    let all = rows.values().slice(span.start, span.len());
    if (0..rows.len()).all(|row| rows.range(row).is_some() || lengths[row] == 0) {
        return Ok(all);
    }
    let mut nulls = NullBufferBuilder::new(all.len());
    for (row, &length) in lengths.iter().enumerate() {
        match rows.range(row) {
            None => nulls.append_n_nulls(length),
            Some(own) => match rows.values().nulls() {
                Some(present) => nulls.append_buffer(&present.slice(own.start, own.len())),
                None => nulls.append_n_non_nulls(length),
            },
        }
    }
    let data = all.to_data().into_builder().nulls(nulls.finish());
    Ok(make_array(data.build()?))
}

fn project_vectors<T>(
    lists_of_x: &ArrayRef,
    range: Range<usize>,
    layer: &Layer,
    data_type: &DataType,
    source: &str,
    place: &dyn Fn(usize) -> String,
) -> Result<ArrayRef>
where
    T: InLayer + ArrowPrimitiveType<Native: Real>,
{
    let mut x = vectors::<T>(lists_of_x, range, place)?;
    x.set_width(layer.in_features());
    let valid = |row: usize| x.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
    let first = (0..x.len()).find(|&row| valid(row)).unwrap_or_default();
    check_width(layer, x.view().ncols(), &place(first), source)?;
    let width = layer.out_features();
    let total = check_total(
        NAME,
        data_type,
        std::iter::repeat_n(width, x.len()),
        x.len(),
    )?;
    let mut output = vec![T::default_value(); total];
    let numbers = T::numbers(layer);
    let target = ArrayViewMut2::from_shape((x.len(), width), &mut output)
        .map_err(|error| exec_datafusion_err!("{NAME}: {error}"))?;
    linear(x.view(), numbers.weight(), numbers.bias(), target)
        .map_err(|error| exec_datafusion_err!("{}: {error}", place(first)))?;
    if let Some(bad) = output
        .iter()
        .position(|number| !number.to_f64().is_finite())
        && width > 0
    {
        return exec_err!(
            "{}: the result is {:?} in place {} (counted from 0): remove NaN, infinity and numbers that \
             are too large from the vector, or write NULL for it",
            place(bad / width),
            output[bad],
            bad % width
        );
    }
    let output = PrimitiveArray::<T>::new(ScalarBuffer::from(output), None);
    let lengths = vec![width; x.len()];
    lists(data_type, &lengths, Arc::new(output), x.nulls.clone())
}
