//! Recognising `ORDER BY array_distance(column, [constant]) LIMIT k` in a physical plan.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, ParquetRowSelection};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::functions_nested::cosine_distance::CosineDistance;
use datafusion::functions_nested::distance::ArrayDistance;
use datafusion::functions_nested::inner_product::InnerProduct;
use datafusion::logical_expr::ScalarUDF;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr::projection::{ProjectionExprs, update_expr};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use lakefold_manifold::Metric;

/// The k rows of a Parquet scan nearest to a vector.
#[derive(Debug, Clone)]
pub(crate) struct NearestQuery {
    pub(crate) metric: Metric,
    /// The column's name in the files.
    pub(crate) column: String,
    pub(crate) query: Vec<f32>,
    /// Whether `query` is the constant itself and was not rounded.
    pub(crate) is_exact: bool,
    pub(crate) k: usize,
    /// Where rows without a vector, whose distance is NULL, come.
    pub(crate) nulls_first: bool,
    /// Whether anything between scan and sort drops rows.
    pub(crate) is_filtered: bool,
}

/// The query that a sort asks, and the scan that it asks it of; `None` for any other sort.
pub(crate) fn nearest_query(sort: &SortExec) -> Result<Option<(NearestQuery, FileScanConfig)>> {
    let fetch = sort
        .fetch()
        .filter(|k| *k > 0 && !sort.preserve_partitioning());
    let Some(k) = fetch else {
        return Ok(None);
    };
    // Of rows equally near, a second key would have to choose among more than k.
    let [PhysicalSortExpr { expr, options }] = &sort.expr()[..] else {
        return Ok(None);
    };
    let Some(found) = at_scan(Arc::clone(expr), sort.input())? else {
        return Ok(None);
    };
    let Some((metric, column, constant)) = distance(&found.expr) else {
        return Ok(None);
    };
    if options.descending != (metric == Metric::InnerProduct) {
        return Ok(None);
    }
    let file_schema = found.scan.file_schema();
    let is_in_files = file_schema.field_with_name(column.name()).is_ok();
    let query = NearestQuery {
        metric,
        column: column.name().to_owned(),
        query: constant.rounded,
        is_exact: constant.is_exact,
        k,
        nulls_first: options.nulls_first,
        is_filtered: found.is_filtered,
    };
    Ok(is_in_files.then(|| (query, found.scan.clone())))
}

/// An expression that was followed to the scan that its columns are from.
struct AtScan<'a> {
    /// Over the columns of the scan's table.
    expr: Arc<dyn PhysicalExpr>,
    scan: &'a FileScanConfig,
    /// Whether filters lie between.
    is_filtered: bool,
}

/// Follows an expression over a plan's columns, where nothing but projections and filters lie between it and a scan.
fn at_scan(
    expr: Arc<dyn PhysicalExpr>,
    plan: &Arc<dyn ExecutionPlan>,
) -> Result<Option<AtScan<'_>>> {
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        return match update_expr(&expr, projection.expr(), true)? {
            Some(expr) => at_scan(expr, projection.input()),
            None => Ok(None),
        };
    }
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        let expr = match filter.projection() {
            Some(kept) => {
                let kept = ProjectionExprs::from_indices(kept, &filter.input().schema());
                kept.unproject_expr(&expr)?
            }
            None => expr,
        };
        let found = at_scan(expr, filter.input())?;
        return Ok(found.map(|found| AtScan {
            is_filtered: true,
            ..found
        }));
    }
    let Some(source) = plan.downcast_ref::<DataSourceExec>() else {
        return Ok(None);
    };
    let Some((scan, _)) = source.downcast_to_file_source::<ParquetSource>() else {
        return Ok(None);
    };
    // Rows are fetched by their place in whole files, so nothing may drop some while reading.
    let files = || scan.file_groups.iter().flat_map(FileGroup::iter);
    let is_whole = scan.limit.is_none()
        && scan.file_source().filter().is_none()
        && files().all(|file| {
            file.range.is_none()
                && file.extension::<ParquetAccessPlan>().is_none()
                && file.extension::<ParquetRowSelection>().is_none()
        })
        && files().next().is_some();
    let expr = match scan.file_source().projection() {
        _ if !is_whole => None,
        Some(projection) => Some(projection.unproject_expr(&expr)?),
        None => Some(expr),
    };
    Ok(expr.map(|expr| AtScan {
        expr,
        scan,
        is_filtered: false,
    }))
}

/// A distance between a column and a constant.
fn distance(expr: &Arc<dyn PhysicalExpr>) -> Option<(Metric, &Column, Constant)> {
    let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
    let metric = metric_of(call.fun())?;
    let [left, right] = call.args() else {
        return None;
    };
    let (column, query) = match (column(left), constant(right)) {
        (Some(column), Some(query)) => (column, query),
        _ => (column(right)?, constant(left)?),
    };
    Some((metric, column, query))
}

/// The metric that one of `DataFusion`'s functions computes; a user's own function of that name has none.
fn metric_of(function: &ScalarUDF) -> Option<Metric> {
    let inner = function.inner();
    if inner.is::<ArrayDistance>() {
        Some(Metric::L2)
    } else if inner.is::<CosineDistance>() {
        Some(Metric::Cosine)
    } else if inner.is::<InnerProduct>() {
        Some(Metric::InnerProduct)
    } else {
        None
    }
}

/// A column, perhaps cast to a list of another number type.
fn column(expr: &Arc<dyn PhysicalExpr>) -> Option<&Column> {
    match expr.downcast_ref::<CastExpr>() {
        Some(cast) if is_numeric_list(cast.cast_type()) => column(cast.expr()),
        Some(_) => None,
        None => expr.downcast_ref::<Column>(),
    }
}

/// A constant vector of finite numbers.
struct Constant {
    rounded: Vec<f32>,
    /// Whether none had to be rounded.
    is_exact: bool,
}

fn constant(expr: &Arc<dyn PhysicalExpr>) -> Option<Constant> {
    if let Some(inner) = expr.downcast_ref::<CastExpr>() {
        return constant(inner.expr()).filter(|_| is_numeric_list(inner.cast_type()));
    }
    let values = match expr.downcast_ref::<Literal>()?.value() {
        ScalarValue::List(list) => list.values(),
        ScalarValue::LargeList(list) => list.values(),
        ScalarValue::FixedSizeList(list) => list.values(),
        _ => return None,
    };
    let values = cast(values, &DataType::Float64).ok()?;
    let numbers = values.as_primitive_opt::<Float64Type>()?;
    if numbers.null_count() > 0 {
        return None;
    }
    let rounded: Vec<f32> = numbers.values().iter().map(|value| *value as f32).collect();
    let is_exact = rounded
        .iter()
        .zip(numbers.values())
        .all(|(rounded, value)| f64::from(*rounded) == *value);
    let is_finite = rounded.iter().all(|value| value.is_finite());
    is_finite.then_some(Constant { rounded, is_exact })
}

fn is_numeric_list(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            field.data_type().is_floating()
        }
        _ => false,
    }
}
