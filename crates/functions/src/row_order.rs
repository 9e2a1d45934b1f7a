//! One order for rows that arrive in any.

use std::cmp::Ordering;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::array::make_comparator;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::Result;
use lakefold_manifold::Feature;
use rayon::prelude::*;

use crate::held_rows::Source;
use crate::memory::Budget;

/// Ascending, NULL last, as ORDER BY has it.
fn sort_field(data_type: &DataType) -> SortField {
    let options = SortOptions {
        descending: false,
        nulls_first: false,
    };
    SortField::new_with_options(data_type.clone(), options)
}

/// Takes the memory that [`order`] allocates for ids of `id_bytes` bytes in total, and that of a sorted copy of
/// them, for as long as what it returns is kept.
pub(crate) fn reserve(
    source: &Source,
    budget: &Budget,
    rows: usize,
    id_bytes: usize,
) -> Result<Budget> {
    // Encoded texts come in blocks of 32 bytes with one more each; an offset and a place a row.
    let bytes = 3 * id_bytes + rows * (size_of::<usize>() + size_of::<u32>() + 2);
    let sorting = budget.sibling();
    sorting
        .reserve("sorting the rows to search", bytes)
        .map_err(|error| source.exhausted(&error))?;
    Ok(sorting)
}

/// The rows of features that are held one after the other, `dimensions` numbers a row.
pub(crate) fn rows<'a, T: Sync>(
    features: &'a [T],
    dimensions: usize,
) -> impl Fn(u32) -> &'a [T] + Sync {
    move |row| &features[row as usize * dimensions..][..dimensions]
}

/// What comes first in the order of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// Their ids, and their features where those are equal.
    Id,
    /// Their features, and where those are equal the lists that they carry in the place of ids.
    Features,
}

/// The rows in their order. `row` gives the features of each.
pub(crate) fn order<'a, T: Feature + Into<f64>>(
    by: By,
    ids: &ArrayRef,
    row: impl Fn(u32) -> &'a [T] + Sync,
) -> Result<Vec<u32>> {
    match by {
        By::Id => by_id(ids, row),
        By::Features => by_features(ids, row),
    }
}

fn by_id<'a, T: Feature + Into<f64>>(
    ids: &ArrayRef,
    row: impl Fn(u32) -> &'a [T] + Sync,
) -> Result<Vec<u32>> {
    let converter = RowConverter::new(vec![sort_field(ids.data_type())])?;
    let keys = converter.convert_columns(std::slice::from_ref(ids))?;
    let mut order: Vec<u32> = (0..ids.len() as u32).collect();
    order.par_sort_unstable_by(|&a, &b| {
        let by_id = keys.row(a as usize).cmp(&keys.row(b as usize));
        by_id.then_with(|| compare(row(a), row(b)))
    });
    Ok(order)
}

fn by_features<'a, T: Feature + Into<f64>>(
    carried: &ArrayRef,
    row: impl Fn(u32) -> &'a [T] + Sync,
) -> Result<Vec<u32>> {
    let by_carried = make_comparator(carried, carried, SortOptions::default())?;
    let mut order: Vec<u32> = (0..carried.len() as u32).collect();
    order.par_sort_unstable_by(|&a, &b| {
        let by_features = compare(row(a), row(b));
        by_features.then_with(|| by_carried(a as usize, b as usize))
    });
    Ok(order)
}

fn compare<T: Feature + Into<f64>>(a: &[T], b: &[T]) -> Ordering {
    let mut pairs = a.iter().zip(b);
    let orders = pairs.find_map(|(&a, &b)| {
        let order = a.into().total_cmp(&b.into());
        order.is_ne().then_some(order)
    });
    orders.unwrap_or(Ordering::Equal)
}

/// Puts row `order[i]` at place i, for all i, in place.
pub(crate) fn permute<T: Copy>(values: &mut [T], dimensions: usize, mut order: Vec<u32>) {
    let mut first = Vec::with_capacity(dimensions);
    for start in 0..order.len() {
        if order[start] as usize == start {
            continue;
        }
        first.clear();
        first.extend_from_slice(&values[start * dimensions..][..dimensions]);
        let mut place = start;
        loop {
            let source = std::mem::replace(&mut order[place], place as u32) as usize;
            let to = place * dimensions;
            if source == start {
                values[to..to + dimensions].copy_from_slice(&first);
                break;
            }
            values.copy_within(source * dimensions..(source + 1) * dimensions, to);
            place = source;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Int64Array, ListArray, StringArray};
    use datafusion::arrow::datatypes::Float32Type;
    use std::sync::Arc;

    #[test]
    fn by_id_then_by_features_and_null_last() {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(3), None, Some(1), Some(3)]));
        let features = [5.0, 1.0, 0.0, 0.0, 7.0, 7.0, 5.0, 0.5];
        let order = order(By::Id, &ids, rows(&features, 2)).unwrap();
        assert_eq!(order, [2, 3, 0, 1]);
        let mut values = features;
        permute(&mut values, 2, order);
        assert_eq!(values, [7.0, 7.0, 5.0, 0.5, 5.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn lists_have_the_order_of_what_they_are_carried_by() {
        let carried: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>([
            Some(vec![Some(9.0)]),
            Some(vec![Some(7.0)]),
            Some(vec![Some(-1.0)]),
        ]));
        let order = order(By::Features, &carried, rows(&[1.0_f32, 1.0, 0.5], 1)).unwrap();
        assert_eq!(order, [2, 1, 0]);
    }

    #[test]
    fn every_permutation_is_carried_out() {
        let n = 97_u32;
        for step in 1..n {
            let order: Vec<u32> = (0..n).map(|i| (i * step + 13) % n).collect();
            let mut values: Vec<u32> = (0..2 * n).collect();
            permute(&mut values, 2, order.clone());
            let expected: Vec<u32> = order.iter().flat_map(|&i| [2 * i, 2 * i + 1]).collect();
            assert_eq!(values, expected);
        }
    }

    #[test]
    fn texts_have_an_order() {
        let ids: ArrayRef = Arc::new(StringArray::from(vec!["b", "a", ""]));
        let order = order(By::Id, &ids, rows(&[0.0_f32; 3], 1)).unwrap();
        assert_eq!(order, [2, 1, 0]);
    }
}
