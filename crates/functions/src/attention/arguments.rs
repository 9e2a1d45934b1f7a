//! What the attention functions take: vectors of one float type, a scale and a similarity.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion::physical_expr::PhysicalExpr;
use lakefold_attention::Similarity;

use super::coercion::{check_number, check_similarity, nested, vector_float, wider};
use super::constant_query::list_type;
use crate::argument_names::own_name;
use crate::constants::constant;

/// Parameters of every function that compares a query with keys row by row.
pub(crate) const PARAMETERS: [&str; 5] = ["query", "key", "value", "scale", "similarity"];

/// Types of query, key, value, scale and similarity as the kernels take them.
///
/// # Errors
/// Says which argument is no vector, or which two cannot be compared.
pub(crate) fn coerce(function: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let (3..=5, [query, key, value, options @ ..]) = (types.len(), types) else {
        return plan_err!(
            "{function} takes 3 to 5 arguments, got {}: write {}",
            types.len(),
            usage(function, &PARAMETERS, 3)
        );
    };
    let query = list_type(query);
    if let (DataType::FixedSizeList(_, m), DataType::FixedSizeList(_, n)) = (query, key)
        && m != n
    {
        return plan_err!(
            "{function}: query has {m} dimensions and key has {n}: both need the same number"
        );
    }
    let lists = [query, key, value];
    let floats = lists
        .iter()
        .zip(PARAMETERS)
        .map(|(list, name)| vector_float(function, name, list))
        .collect::<Result<Vec<_>>>()?;
    let float = wider(&floats).data_type();
    let mut coerced = lists.map(|list| nested(list, 1, float.clone())).to_vec();
    if let Some(scale) = options.first() {
        coerced.push(check_scale(function, scale)?);
    }
    if let Some(similarity) = options.get(1) {
        coerced.push(check_similarity(function, similarity)?);
    }
    Ok(coerced)
}

/// A call as documentation writes it: what may be left out, at least one argument, in brackets.
pub(crate) fn usage(function: &str, parameters: &[&str], required: usize) -> String {
    let (required, optional) = parameters.split_at(required);
    let closing = "]".repeat(optional.len());
    let (required, optional) = (required.join(", "), optional.join(" [, "));
    format!("{function}({required} [, {optional}{closing})")
}

/// # Errors
/// Unless it is a number or NULL. A text is most likely the similarity, which comes after it.
pub(crate) fn check_scale(function: &str, scale: &DataType) -> Result<DataType> {
    if scale.is_string() {
        return plan_err!(
            "scale of {function} must be a number, got {scale}: write NULL in its place for the default, the \
             similarity comes after it"
        );
    }
    check_number(function, "scale", scale)
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
                        own_name(argument).unwrap_or_else(|| "an expression of columns".to_owned())
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
    fn what_may_be_left_out_is_in_brackets() {
        let expected = "attention(query, key, value [, scale [, similarity]])";
        assert_eq!(usage("attention", &PARAMETERS, 3), expected);
    }

    #[test]
    fn a_text_is_no_scale_and_the_error_says_where_a_similarity_goes() {
        let error = check_scale("attention", &DataType::Utf8).unwrap_err();
        assert!(error.to_string().contains("write NULL in its place"));
        assert_eq!(
            check_scale("attention", &DataType::Int64).unwrap(),
            DataType::Float64
        );
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
