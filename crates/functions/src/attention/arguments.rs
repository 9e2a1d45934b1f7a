//! What the attention functions take: vectors of one float type, a scale and a similarity.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion::physical_expr::PhysicalExpr;
use lakefold_attention::Similarity;

use crate::constants::constant;
use crate::float_lists::FloatType;
use crate::lle_embed::column_name;

/// Parameters of every function that compares a query with keys row by row.
pub(crate) const PARAMETERS: [&str; 5] = ["query", "key", "value", "scale", "similarity"];

/// The wider float type of several lists; untyped NULLs have no say.
pub(crate) fn common_float(lists: &[&DataType]) -> Option<FloatType> {
    let typed = lists.iter().filter(|list| !list.is_null());
    let floats = typed
        .map(|list| FloatType::of_list(list))
        .collect::<Option<Vec<_>>>()?;
    let wide = floats.is_empty() || floats.contains(&FloatType::Float64);
    Some(if wide {
        FloatType::Float64
    } else {
        FloatType::Float32
    })
}

/// The same kind of list, of `float`; a `List` for an untyped NULL.
pub(crate) fn list_of(list: &DataType, float: FloatType) -> DataType {
    let element = |field: &Arc<_>| with_type(field, float.data_type());
    match list {
        DataType::List(field) => DataType::List(element(field)),
        DataType::LargeList(field) => DataType::LargeList(element(field)),
        DataType::FixedSizeList(field, length) => DataType::FixedSizeList(element(field), *length),
        _ => float.list(),
    }
}

/// The same field of another type.
pub(crate) fn with_type(
    field: &Arc<datafusion::arrow::datatypes::Field>,
    data_type: DataType,
) -> Arc<datafusion::arrow::datatypes::Field> {
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

/// Types of query, key, value, scale and similarity as the kernels take them.
///
/// # Errors
/// Says which argument is no vector, or which two cannot be compared.
pub(crate) fn coerce(function: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let (3..=5, [query, key, value, options @ ..]) = (types.len(), types) else {
        return plan_err!(
            "{function} takes 3 to 5 arguments, got {}: write {function}({})",
            types.len(),
            PARAMETERS.join(", ")
        );
    };
    for (name, list) in PARAMETERS.iter().zip([query, key, value]) {
        check_vector(function, name, list)?;
    }
    if let (DataType::FixedSizeList(_, m), DataType::FixedSizeList(_, n)) = (query, key)
        && m != n
    {
        return plan_err!(
            "{function}: query has {m} dimensions and key has {n}: both need the same number"
        );
    }
    let Some(float) = common_float(&[query, key, value]) else {
        return plan_err!("{function} needs lists of numbers");
    };
    let mut coerced = vec![
        list_of(query, float),
        list_of(key, float),
        list_of(value, float),
    ];
    coerced.extend(coerce_options(function, options)?);
    Ok(coerced)
}

/// # Errors
/// Unless it is a list of numbers.
pub(crate) fn check_vector(function: &str, name: &str, list: &DataType) -> Result<()> {
    match FloatType::of_list(list) {
        Some(_) => Ok(()),
        None => plan_err!(
            "{name} of {function} must be a list of numbers, got {list}: write make_array(a, b, …) to make \
             one of scalar columns"
        ),
    }
}

/// Types of scale and similarity.
pub(crate) fn coerce_options(function: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    if let Some(scale) = types.first()
        && !scale.is_numeric()
        && !scale.is_null()
    {
        return plan_err!("scale of {function} must be a number, got {scale}");
    }
    if let Some(similarity) = types.get(1)
        && !similarity.is_string()
        && !similarity.is_null()
    {
        return plan_err!(
            "similarity of {function} must be 'dot', 'cosine' or 'l2', got {similarity}"
        );
    }
    let options = [DataType::Float64, DataType::Utf8];
    Ok(options.into_iter().take(types.len()).collect())
}

/// How scores are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scoring {
    pub(crate) similarity: Similarity,
    /// `None`: the similarity's own.
    pub(crate) scale: Option<f64>,
}

impl Scoring {
    /// From constants; NULL or nothing is the default.
    pub(crate) fn of_constants(
        function: &str,
        scale: Option<&ScalarValue>,
        similarity: Option<&ScalarValue>,
    ) -> Result<Self> {
        let scale = match scale.map(|scale| scale.cast_to(&DataType::Float64)) {
            Some(Ok(ScalarValue::Float64(scale))) => scale,
            Some(_) => return plan_err!("scale of {function} must be a number"),
            None => None,
        };
        let similarity = match similarity.and_then(|name| name.try_as_str().flatten()) {
            Some(name) => name
                .parse()
                .map_err(|error| plan_datafusion_err!("{function}: {error}"))?,
            None => Similarity::default(),
        };
        let scoring = Self { similarity, scale };
        scoring
            .scale_for(1)
            .map_err(|error| plan_datafusion_err!("{function}: {error}"))?;
        Ok(scoring)
    }

    /// From the fourth and fifth argument of a planned call, which must be constants.
    pub(crate) fn of_arguments(
        function: &str,
        arguments: &[Arc<dyn PhysicalExpr>],
    ) -> Result<Self> {
        let constant = |place: usize| {
            let Some(argument) = arguments.get(place) else {
                return Ok(None);
            };
            constant(argument, PARAMETERS[place], function)
                .map(Some)
                .map_err(|_| {
                    plan_datafusion_err!(
                        "{} of {function} must be a constant, got {}: write the value; a factor that \
                         differs from row to row can go into the query",
                        PARAMETERS[place],
                        column_name(argument)
                    )
                })
        };
        Self::of_constants(function, constant(3)?.as_ref(), constant(4)?.as_ref())
    }

    /// The factor of similarities of vectors of so many numbers.
    pub(crate) fn scale_for(&self, dimensions: usize) -> lakefold_attention::Result<f64> {
        self.similarity.scale(self.scale, dimensions)
    }
}

impl fmt::Display for Scoring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "similarity={}", self.similarity)?;
        match self.scale {
            Some(scale) => write!(f, ", scale={scale}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wider_type_decides_and_null_has_no_say() {
        let list = |element| DataType::new_list(element, true);
        let (half, int, null) = (
            list(DataType::Float16),
            list(DataType::Int32),
            DataType::Null,
        );
        assert_eq!(common_float(&[&half, &half]), Some(FloatType::Float32));
        assert_eq!(common_float(&[&half, &int]), Some(FloatType::Float64));
        assert_eq!(common_float(&[&half, &null]), Some(FloatType::Float32));
        assert_eq!(common_float(&[&half, &DataType::Utf8]), None);
    }

    #[test]
    fn lists_keep_their_kind() {
        let list = DataType::new_fixed_size_list(DataType::Float16, 3, true);
        let types = coerce("attention", &[list.clone(), list.clone(), list]).unwrap();
        assert_eq!(
            types,
            vec![DataType::new_fixed_size_list(DataType::Float32, 3, true); 3]
        );
    }
}
