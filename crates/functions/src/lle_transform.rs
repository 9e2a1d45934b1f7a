//! `lle_transform(features, model)`.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion_macros::user_doc;

use crate::embeddings::element;
use crate::evaluator::off_the_async_threads;
use crate::features::Site;
use crate::lle_embed::float_type;
use crate::model_file::StoredModel;
use crate::model_store::ModelCache;

/// The name in SQL.
pub(crate) const NAME: &str = "lle_transform";
const PARAMETERS: [&str; 2] = ["features", "model"];

/// The scalar function `lle_transform`.
#[user_doc(
    doc_section(label = "Manifold learning"),
    description = "Places rows in an embedding that was fitted before, each for itself: a row that equals a landmark of the model gets that landmark's embedding, any other row the combination of its nearest landmarks' embeddings that reconstructs its features best (Saul and Roweis 2003, section 6.1). A row of a landmarks fit gets the embedding that it had in the fit. The result is `FixedSizeList<Float>` of the model's float type; rows whose features are NULL get NULL.

Features are read as the model's float type. NaN, infinity, a NULL inside a list and lists of another length than the model's are errors that name the row.",
    syntax_example = "lle_transform(features, model)",
    sql_example = r"```sql
SELECT * FROM lle_fit((SELECT * FROM 'sample_data/digits.parquet'), pixels, n_components => 2, model => '/tmp/digits_model.parquet');

SELECT id, lle_transform(pixels, '/tmp/digits_model.parquet') AS embedding
FROM 'sample_data/digits.parquet'
LIMIT 5
```",
    argument(
        name = "features",
        description = "A list of numbers with the model's number of dimensions."
    ),
    argument(
        name = "model",
        description = "The path or URL of a model file, as `lle_fit` writes it. A constant text. In Lakefold's own sessions it may be in any object store that the session knows; elsewhere it is a local path. The file is read while the statement is planned, and again only when it has changed."
    )
)]
#[derive(Debug, Clone)]
pub struct LleTransform {
    signature: Signature,
    models: Arc<ModelCache>,
}

// One session has one of it.
impl PartialEq for LleTransform {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.models, &other.models)
    }
}

impl Eq for LleTransform {}

impl Hash for LleTransform {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.models).hash(state);
    }
}

impl LleTransform {
    /// The function, to be wrapped in a `ScalarUDF`.
    ///
    /// # Errors
    /// Never in practice: only if `DataFusion` rejects the parameter names.
    pub fn try_new() -> Result<Self> {
        let signature = Signature::user_defined(Volatility::Immutable)
            .with_parameter_names(PARAMETERS.to_vec())?;
        Ok(Self {
            signature,
            models: Arc::default(),
        })
    }

    /// Models that were read for this function. Whatever is loaded into it before a statement is planned
    /// may be named in that statement.
    pub fn models(&self) -> &Arc<ModelCache> {
        &self.models
    }

    fn model(&self, argument: &ScalarValue) -> Result<Arc<StoredModel>> {
        match argument.try_as_str() {
            Some(Some(path)) => self.models.get_or_read(path),
            _ => {
                plan_err!("model of {NAME} must be the path or URL of a model file, got {argument}")
            }
        }
    }
}

fn data_type(model: &StoredModel) -> DataType {
    let size = model.typed.n_components() as i32;
    DataType::FixedSizeList(element(model.typed.float()), size)
}

impl ScalarUDFImpl for LleTransform {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [features, model] = arg_types else {
            return plan_err!(
                "{NAME} takes 2 arguments, got {}: write {NAME}({})",
                arg_types.len(),
                PARAMETERS.join(", ")
            );
        };
        float_type(features, NAME)?;
        if !model.is_string() {
            return plan_err!(
                "model of {NAME} must be the path or URL of a model file, got {model}"
            );
        }
        Ok(arg_types.to_vec())
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!("the type of {NAME} depends on its model")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [_, Some(path)] = args.scalar_arguments else {
            return plan_err!(
                "model of {NAME} must be a constant, the path or URL of a model file: it is read while \
                 the statement is planned, so write the text in its place"
            );
        };
        let model = self.model(path)?;
        if let DataType::FixedSizeList(_, size) = args.arg_fields[0].data_type() {
            check_dimensions(&model, *size as usize)?;
        }
        Ok(Arc::new(Field::new(self.name(), data_type(&model), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [features, ColumnarValue::Scalar(path)] = args.args.as_slice() else {
            return internal_err!("{NAME} was planned with another model");
        };
        let model = self.model(path)?;
        let data_type = args.return_field.data_type();
        if *data_type != self::data_type(&model) {
            return exec_err!("the model {path} changed while the statement ran: run it again");
        }
        let site = Site {
            function: NAME,
            column: args.arg_fields[0].name().clone(),
            streamed: true,
            ..Site::default()
        };
        let lists = features.to_array(args.number_rows)?;
        off_the_async_threads(|| {
            let result = model.typed.transform(&lists, data_type, &site, &())?;
            Ok(match features {
                ColumnarValue::Array(_) => ColumnarValue::Array(result),
                ColumnarValue::Scalar(_) => {
                    ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)
                }
            })
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}

fn check_dimensions(model: &StoredModel, dimensions: usize) -> Result<()> {
    let expected = model.typed.dimensions();
    if dimensions != expected {
        return plan_err!(
            "{NAME}: the features have {dimensions} dimensions, the model was fitted to {expected}: name \
             the column that it was fitted to, or another model"
        );
    }
    Ok(())
}
