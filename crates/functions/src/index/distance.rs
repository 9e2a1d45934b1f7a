//! Recognising `ORDER BY array_distance(column, [constant]) LIMIT k` in a physical plan.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_nested::cosine_distance::CosineDistance;
use datafusion::functions_nested::distance::ArrayDistance;
use datafusion::functions_nested::inner_product::InnerProduct;
use datafusion::logical_expr::ScalarUDF;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr, ScalarFunctionExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use lakefold_manifold::Metric;

use super::at_scan::{AtScan, at_scan};

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
pub(crate) fn nearest_query(sort: &SortExec) -> Result<Option<(NearestQuery, AtScan<'_>)>> {
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
    let expr = found.over_table()?;
    let Some((metric, column, constant)) = distance(&expr) else {
        return Ok(None);
    };
    if options.descending != (metric == Metric::InnerProduct) {
        return Ok(None);
    }
    if !found.is_in_files(column) {
        return Ok(None);
    }
    let query = NearestQuery {
        metric,
        column: column.name().to_owned(),
        query: constant.rounded,
        is_exact: constant.is_exact,
        k,
        nulls_first: options.nulls_first,
        is_filtered: found.is_filtered,
    };
    Ok(Some((query, found)))
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
