//! What every search for neighbours with distances shares: checks of its arguments, numbers that neither over-
//! nor underflow, and distances out of keys.

use std::borrow::Cow;
use std::ops::Range;

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use super::metric::normalise_exponents;
use super::{Found, Metric, Nearest};
use crate::points::{Feature, check, dot, enlarge, scale_up};
use crate::{ManifoldError, Result};

/// The keys of all `rows` rows for one query, compared one by one; ids are row numbers.
pub(super) fn keys_of_all<'a, T: Feature>(
    rows: usize,
    row: impl Fn(usize) -> &'a [T] + Sync,
    query: &[T],
    metric: Metric,
) -> Found {
    let square = dot(query, query);
    let mut found = Found::new(1, rows);
    found.ids = (0..rows as u32).collect();
    let keys = found.keys.par_iter_mut().enumerate().with_min_len(512);
    keys.for_each(|(id, key)| {
        let row = row(id);
        let squares = match metric {
            Metric::Cosine => [square, dot(row, row)],
            Metric::L2 | Metric::InnerProduct => [1.0; 2],
        };
        *key = metric.key(query, row, squares);
    });
    found
}

pub(super) fn check_queries<T: Feature>(
    queries: ArrayView2<'_, T>,
    dimensions: usize,
) -> Result<()> {
    if queries.ncols() != dimensions {
        return Err(ManifoldError::InvalidParameter {
            name: "queries",
            value: format!("{} dimensions", queries.ncols()),
            requirement: format!("of the index's {dimensions} dimensions"),
        });
    }
    check(queries)
}

pub(super) fn check_range(rows: &Range<usize>, n: usize) -> Result<()> {
    if rows.start <= rows.end && rows.end <= n {
        return Ok(());
    }
    Err(ManifoldError::InvalidParameter {
        name: "rows",
        value: format!("{rows:?}"),
        requirement: format!("a range within the index's {n} rows"),
    })
}

pub(super) fn check_count(name: &'static str, k: usize, most: usize, rows: usize) -> Result<()> {
    if k >= 1 && k <= most {
        return Ok(());
    }
    let rule = if most < rows {
        "more rows than neighbours"
    } else {
        "as many rows as neighbours"
    };
    Err(ManifoldError::ParameterNeedsMoreData {
        name,
        value: k,
        requirement: format!("at least 1 neighbour and {rule}"),
        found: format!("{rows} rows"),
        remedy: format!("change {name} or search more rows"),
    })
}

/// Makes what is searched of values that were checked: scaled so that nothing under- or overflows.
pub(super) fn prepare<T: Feature>(
    values: &mut [T],
    dimensions: usize,
    metric: Metric,
) -> Result<u32> {
    match metric {
        Metric::L2 => Ok(enlarge(values)),
        Metric::Cosine => normalise_exponents(values, dimensions).map(|()| 0),
        Metric::InnerProduct => Ok(0),
    }
}

/// The rows to be searched or searched for; copied only if they change. `enlarged`: by the steps of the
/// rows that they are compared with, if there are such.
pub(super) fn values<T: Feature>(
    features: ArrayView2<'_, T>,
    metric: Metric,
    enlarged: Option<u32>,
) -> Result<(Cow<'_, [T]>, u32)> {
    let mut values = match features.to_slice() {
        Some(values) => Cow::Borrowed(values),
        None => Cow::Owned(features.iter().copied().collect()),
    };
    let steps = match (metric, enlarged) {
        (Metric::L2, Some(0)) | (Metric::InnerProduct, _) => 0,
        (Metric::L2, Some(steps)) => {
            let up = scale_up(steps);
            let values = values.to_mut().iter_mut();
            values.for_each(|v| *v = v.scaled_twice(up));
            steps
        }
        (Metric::L2, None) if size_of::<T>() < size_of::<f64>() => 0,
        (Metric::L2, None) | (Metric::Cosine, _) => {
            prepare(values.to_mut(), features.ncols(), metric)?
        }
    };
    Ok((values, steps))
}

/// Keys become distances; `far` gives those whose squares overflowed.
pub(super) fn nearest(
    found: Found,
    metric: Metric,
    enlarged: u32,
    far: impl Fn(usize, u32) -> f64,
) -> Result<Nearest> {
    let Found { k, ids, mut keys } = found;
    match metric {
        Metric::L2 => {
            for (i, (key, &id)) in keys.iter_mut().zip(&ids).enumerate() {
                *key = if key.is_finite() {
                    key.sqrt().scaled_twice(-scale_up(enlarged))
                } else {
                    far(i, id)
                };
            }
        }
        Metric::Cosine => {}
        // Adding zero: the negative of a product of 0 is 0 too.
        Metric::InnerProduct => keys.iter_mut().for_each(|key| *key = 0.0 - *key),
    }
    Ok(Nearest {
        ids: table(ids, k)?,
        distances: table(keys, k)?,
    })
}

/// Values row by row, as a matrix.
pub(super) fn view<V>(shape: (usize, usize), values: &[V]) -> Result<ArrayView2<'_, V>> {
    ArrayView2::from_shape(shape, values).map_err(|error| ManifoldError::LinearAlgebra {
        operation: "the shape of the rows to search",
        detail: error.to_string(),
    })
}

/// How many of the neighbours that a search found for a query are as near as its k nearest, by the distances
/// to all rows that it may find, in any order: recall@k is this, divided by k.
#[must_use]
pub fn hits(found: &[f64], mut all: Vec<f64>, metric: Metric) -> usize {
    let k = found.len();
    if k == 0 || k > all.len() {
        return 0;
    }
    let order = |a: &f64, b: &f64| match metric {
        Metric::InnerProduct => b.total_cmp(a),
        Metric::L2 | Metric::Cosine => a.total_cmp(b),
    };
    let (_, &mut farthest, _) = all.select_nth_unstable_by(k - 1, order);
    let near = found
        .iter()
        .filter(|distance| order(distance, &farthest).is_le());
    near.count()
}

pub(super) fn table<V>(values: Vec<V>, k: usize) -> Result<Array2<V>> {
    let rows = values.len() / k;
    Array2::from_shape_vec((rows, k), values).map_err(|error| ManifoldError::LinearAlgebra {
        operation: "the shape of the neighbour table",
        detail: error.to_string(),
    })
}
