//! `lle((SELECT …) or table, features, n_components => 2, …)`.

use std::sync::Arc;

use datafusion::common::{Column, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, WindowFunctionDefinition, WindowUDF, lit,
};

use super::Signature;
use super::call::{Call, Parameter};
use super::documentation::{FIT_ARGUMENTS, INPUT_ARGUMENTS};
use crate::lle_embed::LleEmbed;
use crate::lle_options::OPTION_NAMES;
use crate::lle_parameters::{options_text, parse_parameters};

pub(crate) const NAME: &str = "lle";
/// The column added, unless told otherwise.
const OUTPUT_COLUMN: &str = "embedding";

pub(crate) const SIGNATURE: Signature = Signature {
    name: NAME,
    section: super::documentation::MANIFOLD_LEARNING,
    parameters: &[
        Parameter::table("input"),
        Parameter::column("features"),
        Parameter::value("n_components"),
        Parameter::value("n_neighbors"),
        Parameter::value("reg"),
        Parameter::value("method"),
        Parameter::value("solver"),
        Parameter::value("seed"),
        Parameter::value("n_landmarks"),
        Parameter::value("landmark_neighbors"),
        Parameter::value("landmark_choice"),
        Parameter::value("sample_size"),
        Parameter::value("neighbors_algorithm"),
        Parameter::value("output_column"),
    ],
    plan,
    description: "Embeds a table by Locally Linear Embedding: its columns and a column `embedding` of \
        `FixedSizeList<Float>`. It is `lle_embed` over the whole table with every parameter by name, and \
        the same bits. It streams: beyond `sample_size` rows the fit sees a sample, the rest waits in \
        memory or on disk, and every row is placed by its nearest landmarks.\n\nA row whose features are \
        NULL gets a NULL embedding and takes no part in the fit.",
    arguments: &[
        INPUT_ARGUMENTS,
        FIT_ARGUMENTS,
        &[(
            "output_column",
            "Name of the new column. `embedding` when omitted.",
        )],
    ],
    example: "```sql
SELECT id, label, embedding
FROM lle((SELECT * FROM 'sample_data/digits.parquet'), pixels, n_components => 2, n_neighbors => 20)
LIMIT 5
```",
};

/// The parameters of the fit as the arguments that `lle_embed` takes after its features.
pub(crate) fn arguments(call: &Call, function: &str) -> Result<[ScalarValue; 3]> {
    let n_components = match call.value("n_components") {
        ScalarValue::Null => ScalarValue::from(2_i64),
        value => value,
    };
    let options = OPTION_NAMES.iter().map(|&name| (name, call.value(name)));
    let options = options_text(options.filter(|(name, _)| *name != "n_neighbors"));
    let arguments = [n_components, call.value("n_neighbors"), options.into()];
    parse_parameters(&arguments[0], &arguments[1], &arguments[2], function)?;
    Ok(arguments)
}

/// The input's columns, and the embedding.
pub(crate) fn plan(call: &Call) -> Result<LogicalPlan> {
    let input = call.table("input")?;
    let output = call.text("output_column")?;
    let output = output.unwrap_or_else(|| OUTPUT_COLUMN.to_owned());
    if input
        .schema()
        .fields()
        .iter()
        .any(|field| *field.name() == output)
    {
        return plan_err!(
            "the input of {NAME} has a column '{output}' already: name the new one, \
             output_column => '{output}_{NAME}', or leave the old one out"
        );
    }
    let [n_components, n_neighbors, options] = arguments(call, NAME)?;
    let lle = parse_parameters(&n_components, &n_neighbors, &options, NAME)?;
    let function = if lle.has_auto_components() {
        LleEmbed::try_new()?
    } else {
        LleEmbed::of_fixed_size(lle.n_components())?
    };
    let function = WindowUDF::from(function);
    let window = Expr::from(WindowFunction::new(
        WindowFunctionDefinition::WindowUDF(Arc::new(function)),
        vec![
            call.column("features")?,
            lit(n_components),
            lit(n_neighbors),
            lit(options),
        ],
    ));
    let name = window.schema_name().to_string();
    let columns: Vec<Expr> = input
        .schema()
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect();
    LogicalPlanBuilder::from(input)
        .window(vec![window])?
        .project(
            columns
                .into_iter()
                .chain([Expr::Column(Column::from_name(name)).alias(output)]),
        )?
        .build()
}
