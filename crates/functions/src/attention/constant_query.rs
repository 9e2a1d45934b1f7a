//! A query that is written as a constant, once for all rows.
//!
//! Before an aggregate is computed, each of its arguments becomes an array, so that a constant list would be copied
//! for every row of every batch. A dictionary of one list is the same value in every row, is as large as that one
//! list and a key a row, and survives wherever plans are sent.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;

/// Makes a dictionary of a constant list.
pub(crate) fn keep_once(query: &mut Expr) {
    if let Expr::Literal(value, _) = query
        && !value.is_null()
        && matches!(
            value,
            ScalarValue::List(_) | ScalarValue::LargeList(_) | ScalarValue::FixedSizeList(_)
        )
    {
        let list = std::mem::replace(value, ScalarValue::Null);
        *value = ScalarValue::Dictionary(Box::new(DataType::Int32), Box::new(list));
    }
}

/// The type of the query itself.
pub(crate) fn list_type(query: &DataType) -> &DataType {
    match query {
        DataType::Dictionary(_, list) => list,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::lit;

    #[test]
    fn lists_alone_become_dictionaries() {
        let list = ScalarValue::List(ScalarValue::new_list_nullable(
            &[ScalarValue::Float32(Some(1.0))],
            &DataType::Float32,
        ));
        let mut query = lit(list.clone());
        keep_once(&mut query);
        let Expr::Literal(value, _) = &query else {
            panic!("{query}");
        };
        assert_eq!(list_type(&value.data_type()), &list.data_type());
        let array = value.to_array_of_size(1000).unwrap();
        assert!(array.get_array_memory_size() < 10_000);
        let again = query.clone();
        keep_once(&mut query);
        assert_eq!(query, again);
        for other in [lit(1.0), lit(ScalarValue::Null)] {
            let mut query = other.clone();
            keep_once(&mut query);
            assert_eq!(query, other);
        }
    }
}
