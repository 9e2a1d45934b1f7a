//! The model of an embed job: fitted once, then kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{exec_datafusion_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::SessionContext;

use super::manifest::{Definition, differences};
use super::models::load_models;
use super::output::Output;
use super::plan::{JobPlan, quoted};
use super::report::JobControl;
use super::spec::{Job, OnInvalid};
use super::valid_vector::ValidVector;
use crate::FilesTable;

const FIT: &str = "_lakefold/fit.json";
const MODEL: &str = "_lakefold/model.parquet";

/// The path or URL of the model that the job's rows are placed by; `None` if the job was stopped. It is
/// fitted unless an earlier run of the same job did so. Rows that came since do not change it.
///
/// # Errors
/// When the fit fails, or the model was fitted with other parameters, or is not the one that was fitted,
/// and the job does not say that it may be replaced.
pub(crate) async fn ensure_model(
    context: &SessionContext,
    plan: &JobPlan,
    output: &Output,
    control: &JobControl,
) -> Result<Option<String>> {
    let job = &plan.job;
    let model = job
        .model
        .clone()
        .unwrap_or_else(|| format!("{}/{MODEL}", job.output.trim_end_matches('/')));
    let wanted = definition(job);
    if let Some(text) = output.read(FIT).await? {
        let fitted: Option<Definition> = serde_json::from_slice(&text).ok();
        match is_fitted(context, job, fitted, &wanted, &model).await {
            Ok(()) => return Ok(Some(model)),
            Err(error) if !job.overwrite => return Err(error),
            Err(error) => {
                tracing::warn!("fitted anew, because {}", error.strip_backtrace());
            }
        }
    }
    let id = tokio::select! {
        id = fit(context, plan, &model) => id?,
        () = control.stopped() => return Ok(None),
    };
    let mut fitted = wanted;
    fitted.insert("model".to_owned(), id.into());
    let mut text = serde_json::to_string_pretty(&fitted).unwrap_or_default();
    text.push('\n');
    output.write(FIT, text.into_bytes()).await?;
    Ok(Some(model))
}

/// What the model depends on, beside the rows of its first fit.
fn definition(job: &Job) -> Definition {
    let text = |value: Option<&String>| value.map_or(serde_json::Value::Null, |v| v.clone().into());
    [
        ("column", text(job.column.as_ref())),
        ("where", text(job.filter.as_ref())),
        ("fit", serde_json::to_value(&job.fit).unwrap_or_default()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

async fn is_fitted(
    context: &SessionContext,
    job: &Job,
    fitted: Option<Definition>,
    wanted: &Definition,
    model: &str,
) -> Result<()> {
    let Some(mut fitted) = fitted else {
        return plan_err!("'{FIT}' of the output was altered or damaged");
    };
    let id = fitted.remove("model");
    if fitted != *wanted {
        return plan_err!(
            "the model of '{}' was fitted otherwise ({}): choose another output, or fit and write \
             everything anew with --overwrite",
            job.output,
            differences(&fitted, wanted).join("; ")
        );
    }
    let now = model_id(context, job, model).await?;
    if id.as_ref().and_then(serde_json::Value::as_str) != Some(&now) {
        return plan_err!(
            "the model '{model}' is not the one that '{}' was written with: restore it, or write \
             everything anew with --overwrite",
            job.output
        );
    }
    Ok(())
}

async fn model_id(context: &SessionContext, job: &Job, model: &str) -> Result<String> {
    let call = format!("lle_transform(v, '{}')", model.replace('\'', "''"));
    let models = load_models(context, &call, &job.options).await?;
    let found = models.into_iter().next().map(|found| found.id);
    found.ok_or_else(|| exec_datafusion_err!("the model '{model}' was not read"))
}

/// Fits, and returns the model's id.
async fn fit(context: &SessionContext, plan: &JobPlan, model: &str) -> Result<String> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let job = &plan.job;
    let Some(column) = &job.column else {
        return plan_err!("embed needs column");
    };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let table = format!("lakefold_fit_input_{number}");
    let check = format!("lakefold_valid_vector_{number}");
    let files =
        FilesTable::open_version(&context.state(), &plan.input.location, plan.input.version)
            .await?;
    context.register_table(&table, Arc::new(files))?;
    let fitted = fit_table(context, plan, model, column, &table, &check).await;
    context.deregister_table(&table)?;
    context.deregister_udf(&check);
    fitted.map_err(|error| error.context(format!("the fit of '{}'", job.input)))?;
    model_id(context, job, model).await
}

async fn fit_table(
    context: &SessionContext,
    plan: &JobPlan,
    model: &str,
    column: &str,
    table: &str,
    check: &str,
) -> Result<()> {
    let job = &plan.job;
    let mut rows = format!("SELECT {} FROM {table}", quoted(column));
    if let Some(filter) = &job.filter {
        rows = format!("{rows}\nWHERE ({filter}\n)");
    }
    if job.on_invalid == OnInvalid::Null {
        let dimensions = dimensions(context, plan, column, &rows).await?;
        let function = ValidVector::new(dimensions, None).named(check);
        context.register_udf(ScalarUDF::from(function));
        rows = format!("SELECT {check}({0}) AS {0} FROM ({rows})", quoted(column));
    }
    let options = job.fit.iter();
    let options = options.map(|(name, value)| format!("{name} => {}", value.sql()));
    let options: Vec<String> = options
        .chain([format!("model => '{}'", model.replace('\'', "''"))])
        .collect();
    let sql = format!(
        "SELECT * FROM lle_fit(({rows}), {}, {})",
        quoted(column),
        options.join(", ")
    );
    context.sql(&sql).await?.collect().await?;
    Ok(())
}

/// The dimensions that most rows have; of several, the least.
async fn dimensions(
    context: &SessionContext,
    plan: &JobPlan,
    column: &str,
    rows: &str,
) -> Result<usize> {
    let field = plan.input.schema.field_with_name(column)?;
    if let DataType::FixedSizeList(_, size) = field.data_type() {
        return Ok(*size as usize);
    }
    let sql = format!(
        "SELECT CAST(array_length({0}) AS BIGINT) AS d FROM ({rows}) WHERE {0} IS NOT NULL \
         GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1",
        quoted(column)
    );
    let batches = context.sql(&sql).await?.collect().await?;
    let found = batches
        .iter()
        .find_map(|batch| batch.column(0).as_primitive::<Int64Type>().iter().next()?);
    found
        .and_then(|dimensions| usize::try_from(dimensions).ok())
        .ok_or_else(|| {
            DataFusionError::Plan(format!(
                "column '{column}' of '{}' has no vectors, there is nothing to fit",
                plan.job.input
            ))
        })
}
