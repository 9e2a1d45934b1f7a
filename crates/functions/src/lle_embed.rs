//! `lle_embed(features, n_components [, n_neighbors [, options]]) OVER ([PARTITION BY …])`.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion::logical_expr::function::{
    ExpressionArgs, PartitionEvaluatorArgs, WindowFunctionSimplification, WindowUDFFieldArgs,
};
use datafusion::logical_expr::{
    Documentation, Expr, LimitEffect, PartitionEvaluator, Signature, Volatility, WindowUDFImpl,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion_macros::user_doc;
use lakefold_manifold::Lle;

use crate::argument_names::argument_name;
use crate::clauses::check_clauses;
use crate::constants::constant;
use crate::embeddings::element;
use crate::evaluator::LleEvaluator;
use crate::float_lists::FloatType;
use crate::lle_parameters::{check_dimensions, parse_parameters};

/// The name in SQL.
pub(crate) const NAME: &str = "lle_embed";
const PARAMETERS: [&str; 4] = ["features", "n_components", "n_neighbors", "options"];

/// The window function `lle_embed`.
#[user_doc(
    doc_section(label = "Manifold learning"),
    description = "Embeds the rows of each partition in `n_components` dimensions by Locally Linear Embedding (Roweis and Saul 2000): every row is written as a weighted sum of its nearest neighbours, and the embedding keeps those weights. The result is `List<Float>`, one list a row; its columns have mean 0 and variance 1 over the fitted rows and come in order of eigenvalue.

A row whose features are NULL gets NULL and takes no part in the fit. Equal rows get equal embeddings. NaN, infinity, a NULL inside a list and lists of different lengths are errors that name the row.

The same rows, parameters and seed give bit-identical embeddings, whatever the number of threads, the partitioning or the order of the input. `ORDER BY` inside `OVER` changes nothing; window frames, `FILTER`, `DISTINCT` and `IGNORE NULLS` are errors.

In Lakefold's own sessions `lle_embed(…)` without `OVER` means `OVER ()`.",
    syntax_example = "lle_embed(features, n_components [, n_neighbors [, options]]) OVER ([PARTITION BY expression [, …]])",
    sql_example = r"```sql
SELECT id, label, lle_embed(pixels, 2) OVER () AS embedding
FROM 'sample_data/digits.parquet'
ORDER BY id
LIMIT 5
```

One fit for each section, with every parameter spelled out:

```sql
SELECT
    package,
    section,
    lle_embed(embedding, n_components => 2, n_neighbors => 10, options => 'reg=0.1, solver=exact')
        OVER (PARTITION BY section) AS embedding
FROM 'sample_data/debian_packages.parquet'
WHERE section IN ('web', 'games')
```

Scalar columns become features with `make_array`:

```sql
SELECT id, lle_embed(make_array(position[1], position[2], position[3]), 2) OVER () AS unrolled
FROM 'sample_data/swiss_roll.parquet'
```",
    argument(
        name = "features",
        description = "A list of numbers: any of `List`, `LargeList` and `FixedSizeList` of any number type. `Float16`, `Float32` and integers of 8 and 16 bits are computed and returned as `Float32`, everything else as `Float64`."
    ),
    argument(
        name = "n_components",
        description = "Dimensions of the embedding. A constant of at least 1 and at most the number of features, or `'auto'`: the intrinsic dimension of the data."
    ),
    argument(
        name = "n_neighbors",
        description = "Neighbours of each row. A constant; `'auto'`, omitted or NULL: as many as keep neighbourhoods best on a sample."
    ),
    argument(
        name = "options",
        description = "A constant text of `key=value` pairs separated by commas: `reg` (regularisation of the weights, a multiple of the local Gram matrix's trace, or `auto`, the default), `method` (`standard`, `modified`, `hessian`, `ltsa`), `solver` (`auto`, `dense`, `exact`, `landmarks`; default `auto`), `seed` (default 0), `n_landmarks` and `landmark_neighbors` (landmarks, and how many of them a row is a combination of), `landmark_choice` (`uniform`, `k-means++`, `farthest`), `sample_size` (rows that the fit of a larger table sees; default 65536), `neighbors_algorithm` (`exact`, `hnsw` or `auto`, the default: through a graph where a cost model expects that to be faster), `n_neighbors` (in place of the argument)."
    )
)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LleEmbed {
    signature: Signature,
    /// The result's length where it is known when the function is made, as in the relation `lle`.
    fixed_size: Option<usize>,
}

impl LleEmbed {
    /// The function, to be wrapped in a `WindowUDF`.
    ///
    /// # Errors
    /// Never in practice: only if `DataFusion` rejects the parameter names.
    pub fn try_new() -> Result<Self> {
        let signature = Signature::user_defined(Volatility::Immutable)
            .with_parameter_names(PARAMETERS.to_vec())?;
        Ok(Self {
            signature,
            fixed_size: None,
        })
    }
}

impl LleEmbed {
    /// The function with a result of `FixedSizeList` of `n_components`, which its first argument but one
    /// must equal.
    pub(crate) fn of_fixed_size(n_components: usize) -> Result<Self> {
        Ok(Self {
            fixed_size: Some(n_components),
            ..Self::try_new()?
        })
    }

    fn data_type(&self, float: FloatType) -> DataType {
        match self.fixed_size {
            Some(size) => DataType::FixedSizeList(element(float), size as i32),
            None => DataType::List(element(float)),
        }
    }
}

impl WindowUDFImpl for LleEmbed {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        if !(2..=PARAMETERS.len()).contains(&arg_types.len()) {
            return plan_err!(
                "lle_embed takes 2 to 4 arguments, got {}: write lle_embed({})",
                arg_types.len(),
                PARAMETERS.join(", ")
            );
        }
        float_type(&arg_types[0], NAME)?;
        // Features are coerced by value, once, when they are copied into the fit's matrix: a cast here
        // would copy the column before that.
        Ok(arg_types.to_vec())
    }

    fn field(&self, field_args: WindowUDFFieldArgs) -> Result<FieldRef> {
        let features = field_args
            .get_input_field(0)
            .ok_or_else(|| plan_datafusion_err!("lle_embed needs features and n_components"))?;
        let float = float_type(features.data_type(), NAME)?;
        let data_type = self.data_type(float);
        Ok(Arc::new(Field::new(field_args.name(), data_type, true)))
    }

    fn expressions(&self, expr_args: ExpressionArgs) -> Vec<Arc<dyn PhysicalExpr>> {
        expr_args.input_exprs().iter().take(1).cloned().collect()
    }

    fn simplify(&self) -> Option<WindowFunctionSimplification> {
        // The only place that sees the clauses around the call before the plan drops them.
        Some(Box::new(|call, _| {
            check_clauses(&call, NAME)?;
            Ok(Expr::from(call))
        }))
    }

    fn partition_evaluator(
        &self,
        args: PartitionEvaluatorArgs,
    ) -> Result<Box<dyn PartitionEvaluator>> {
        let fields = args.input_fields();
        let column = argument_name(args.input_exprs(), 0, "", "features");
        let (lle, float) = resolve(
            args.input_exprs(),
            fields.first().map(|field| field.data_type()),
            &column,
        )?;
        Ok(Box::new(LleEvaluator {
            lle,
            float,
            data_type: self.data_type(float),
            column,
        }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    fn limit_effect(&self, _args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::Unknown
    }
}

/// Reads the arguments of a planned call: parameters and the float type of its features, which are written as `column`.
pub(crate) fn resolve(
    arguments: &[Arc<dyn PhysicalExpr>],
    features: Option<&DataType>,
    column: &str,
) -> Result<(Lle, FloatType)> {
    let [_, n_components, rest @ ..] = arguments else {
        return plan_err!("lle_embed needs features and n_components");
    };
    let features = features.unwrap_or(&DataType::Null);
    let float = float_type(features, NAME)?;
    let optional = |position: usize, parameter| match rest.get(position) {
        Some(argument) => constant(argument, parameter, NAME),
        None => Ok(ScalarValue::Null),
    };
    let lle = parse_parameters(
        &constant(n_components, "n_components", NAME)?,
        &optional(0, "n_neighbors")?,
        &optional(1, "options")?,
        NAME,
    )?;
    check_dimensions(&lle, features, column)?;
    Ok((lle, float))
}

/// The float type of the features of `function`.
pub(crate) fn float_type(features: &DataType, function: &str) -> Result<FloatType> {
    FloatType::of_list(features).ok_or_else(|| {
        let remedy = match features {
            number if number.is_numeric() => "write make_array(a, b, …) to make one of scalar columns",
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => {
                "cast its elements to a number type first"
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                "if it is a list written as text, as CSV has it, parse it: \
                 CAST(string_to_array(btrim(column, '[]'), ',') AS DOUBLE[]); Parquet and JSON keep \
                 lists as they are"
            }
            _ => "name a column of lists, or write make_array(a, b, …) to make one of scalar columns",
        };
        plan_datafusion_err!("features of {function} must be a list of numbers, got {features}: {remedy}")
    })
}
