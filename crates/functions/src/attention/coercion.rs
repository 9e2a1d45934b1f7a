//! The types that sequences and masks are coerced to, once.

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, plan_datafusion_err, plan_err};

use crate::float_lists::FloatType;

/// A sequence's float type by the project's rule, `None` for untyped NULLs, which have no say.
///
/// # Errors
/// Unless it is a list of lists of numbers.
pub(crate) fn sequence_float(
    function: &str,
    name: &str,
    sequence: &DataType,
) -> Result<Option<FloatType>> {
    let wrong = || {
        plan_datafusion_err!(
            "{name} of {function} must be a sequence, a list of lists of numbers, got {sequence}: write \
             array_agg(vector ORDER BY position) to gather rows into a sequence, or [vector] for a \
             sequence of one"
        )
    };
    if sequence.is_null() {
        return Ok(None);
    }
    let vector = element(sequence).ok_or_else(wrong)?.data_type();
    if vector.is_null() {
        return Ok(None);
    }
    let number = element(vector).ok_or_else(wrong)?.data_type();
    if number.is_null() {
        return Ok(None);
    }
    FloatType::of_number(number).map(Some).ok_or_else(wrong)
}

/// A vector's float type by the project's rule, `None` for untyped NULLs, which have no say.
///
/// # Errors
/// Unless it is a list of numbers.
pub(crate) fn vector_float(
    function: &str,
    name: &str,
    vector: &DataType,
) -> Result<Option<FloatType>> {
    if vector.is_null() || element(vector).is_some_and(|field| field.data_type().is_null()) {
        return Ok(None);
    }
    let float = FloatType::of_list(vector);
    if float.is_none() {
        return plan_err!(
            "{name} of {function} must be a list of numbers, got {vector}: write make_array(a, b, …) to \
             make one of scalar columns"
        );
    }
    Ok(float)
}

/// The type that holds the numbers of all: `f64` if one needs it or none says anything.
pub(crate) fn wider(floats: &[Option<FloatType>]) -> FloatType {
    let said: Vec<FloatType> = floats.iter().copied().flatten().collect();
    if said.is_empty() || said.contains(&FloatType::Float64) {
        FloatType::Float64
    } else {
        FloatType::Float32
    }
}

/// What a list holds.
pub(crate) fn element(list: &DataType) -> Option<&FieldRef> {
    match list {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            Some(field)
        }
        _ => None,
    }
}

/// The same kind of list, of other elements; a `List` for what is no list.
pub(crate) fn list_of(list: &DataType, elements: DataType) -> DataType {
    let with = |field: &FieldRef| {
        field
            .as_ref()
            .clone()
            .with_data_type(elements.clone())
            .into()
    };
    match list {
        DataType::List(field) => DataType::List(with(field)),
        DataType::LargeList(field) => DataType::LargeList(with(field)),
        DataType::FixedSizeList(field, length) => DataType::FixedSizeList(with(field), *length),
        _ => DataType::List(Field::new_list_field(elements, true).into()),
    }
}

/// The same kinds of lists, `depth` of them, of `leaf`.
pub(crate) fn nested(list: &DataType, depth: usize, leaf: DataType) -> DataType {
    let Some(depth) = depth.checked_sub(1) else {
        return leaf;
    };
    let inner = element(list).map_or(&DataType::Null, |field| field.data_type());
    list_of(list, nested(inner, depth, leaf))
}

/// `LargeList` if `list` is one, else `List`: lists whose length is not known before they are computed.
pub(crate) fn of_any_length(list: &DataType) -> DataType {
    match list {
        DataType::FixedSizeList(field, _) => DataType::List(field.clone()),
        other => other.clone(),
    }
}

/// # Errors
/// Unless it is a number or NULL.
pub(crate) fn check_number(function: &str, name: &str, data_type: &DataType) -> Result<DataType> {
    if data_type.is_numeric() || data_type.is_null() {
        return Ok(DataType::Float64);
    }
    plan_err!("{name} of {function} must be a number, got {data_type}")
}

/// # Errors
/// Unless it is a text or NULL.
pub(crate) fn check_similarity(function: &str, data_type: &DataType) -> Result<DataType> {
    if data_type.is_string() || data_type.is_null() {
        return Ok(DataType::Utf8);
    }
    plan_err!("similarity of {function} must be 'dot', 'cosine' or 'l2', got {data_type}")
}

/// # Errors
/// Unless it is a whole number or NULL.
pub(crate) fn check_whole(function: &str, name: &str, data_type: &DataType) -> Result<DataType> {
    if data_type.is_integer() || data_type.is_null() {
        return Ok(DataType::Int64);
    }
    plan_err!("{name} of {function} must be a whole number, got {data_type}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(element: DataType) -> DataType {
        DataType::new_list(element, true)
    }

    #[test]
    fn kinds_of_lists_stay_and_numbers_become_floats() {
        let large = DataType::new_large_list(DataType::Int8, true);
        let fixed = DataType::new_fixed_size_list(large, 3, true);
        let expected = DataType::new_fixed_size_list(
            DataType::new_large_list(DataType::Float32, true),
            3,
            true,
        );
        assert_eq!(
            sequence_float("f", "x", &fixed).unwrap(),
            Some(FloatType::Float32)
        );
        assert_eq!(nested(&fixed, 2, DataType::Float32), expected);
        let floats = list(list(DataType::Float64));
        for untyped in [
            DataType::Null,
            list(DataType::Null),
            list(list(DataType::Null)),
        ] {
            assert_eq!(sequence_float("f", "x", &untyped).unwrap(), None);
            assert_eq!(nested(&untyped, 2, DataType::Float64), floats);
        }
    }

    #[test]
    fn what_is_no_sequence_is_refused() {
        for bad in [
            DataType::Float32,
            list(DataType::Float32),
            list(list(DataType::Utf8)),
            list(list(list(DataType::Float32))),
        ] {
            let message = sequence_float("f", "key", &bad).unwrap_err().to_string();
            assert!(message.contains("key of f must be a sequence"), "{message}");
        }
    }

    #[test]
    fn the_wider_type_decides_and_untyped_nulls_have_no_say() {
        let (narrow, wide) = (Some(FloatType::Float32), Some(FloatType::Float64));
        assert_eq!(wider(&[narrow, None]), FloatType::Float32);
        assert_eq!(wider(&[narrow, wide]), FloatType::Float64);
        assert_eq!(wider(&[None]), FloatType::Float64);
    }
}
