//! The constant arguments of `lle_embed`, checked while planning.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err};
use lakefold_manifold::{
    DEFAULT_SAMPLE_SIZE, LandmarkChoice, Lle, ManifoldError, Method, NeighborsAlgorithm, Solver,
};

use crate::features::shown;
use crate::lle_options::parse_options;

/// More neighbours or components than this cannot be stored, let alone computed.
const LARGEST_COUNT: u32 = i32::MAX as u32;

/// Reads `n_components`, `n_neighbors` and `options` of a call of `function`; NULL means the default, which
/// `n_components` does not have.
pub(crate) fn parse_parameters(
    n_components: &ScalarValue,
    n_neighbors: &ScalarValue,
    options: &ScalarValue,
    function: &str,
) -> Result<Lle> {
    let plan_error = |error: ManifoldError| plan_datafusion_err!("{function}: {error}");
    let mut builder = match count(function, "n_components", n_components)? {
        Some(Count::Number(n_components)) => Lle::builder(n_components),
        Some(Count::Auto) => Lle::builder(1).auto_n_components(),
        None => {
            return plan_err!(
                "n_components of {function} has no default, got NULL: say how many dimensions the \
                 embedding is to have, or 'auto'"
            );
        }
    };
    builder = builder.auto_n_neighbors().auto_reg();
    let n_neighbors = count(function, "n_neighbors", n_neighbors)?;
    if let Some(Count::Number(n_neighbors)) = n_neighbors {
        builder = builder.n_neighbors(n_neighbors);
    }
    if let Some(options) = text(function, options)? {
        for (name, value) in parse_options(options)? {
            builder = match name {
                "n_neighbors" if n_neighbors.is_some() => {
                    return plan_err!(
                        "n_neighbors of {function} is given as an argument and in options: keep one \
                         of them"
                    );
                }
                "n_neighbors" | "reg" if value.eq_ignore_ascii_case(AUTO) => builder,
                "n_neighbors" => builder.n_neighbors(number(
                    function,
                    name,
                    value,
                    "'auto' or a whole number of at least 1",
                )?),
                "n_landmarks" | "landmark_neighbors" | "sample_size" => {
                    let value = number(function, name, value, "a whole number of at least 1")?;
                    match name {
                        "n_landmarks" => builder.n_landmarks(value),
                        "landmark_neighbors" => builder.landmark_neighbors(value),
                        _ => builder.sample_size(value),
                    }
                }
                "reg" => builder.reg(number(
                    function,
                    name,
                    value,
                    "'auto' or a finite number of at least 0",
                )?),
                "seed" => builder.seed(number(
                    function,
                    name,
                    value,
                    "a whole number of at least 0",
                )?),
                "landmark_choice" => {
                    builder.landmark_choice(LandmarkChoice::parse(value).map_err(plan_error)?)
                }
                "neighbors_algorithm" => {
                    let algorithm = NeighborsAlgorithm::parse(value).map_err(plan_error)?;
                    builder.neighbors_algorithm(algorithm)
                }
                "method" => builder.method(Method::parse(value).map_err(plan_error)?),
                _ => builder.solver(Solver::parse(value).map_err(plan_error)?),
            };
        }
    }
    builder.build().map_err(plan_error)
}

/// What [`parse_parameters`] takes as `options`: a text of those values that are not NULL.
pub(crate) fn options_text<'a>(options: impl Iterator<Item = (&'a str, ScalarValue)>) -> String {
    let given = options.filter(|(_, value)| !value.is_null());
    let pairs = given.map(|(name, value)| match value.try_as_str().flatten() {
        Some(text) => format!("{name}={text}"),
        None => format!("{name}={value}"),
    });
    pairs.collect::<Vec<_>>().join(", ")
}

/// What the number of dimensions alone rules out; known while planning for fixed-size lists.
pub(crate) fn check_dimensions(lle: &Lle, features: &DataType, column: &str) -> Result<()> {
    match features {
        DataType::FixedSizeList(_, length)
            if lle.n_components() > *length as usize && !lle.has_auto_components() =>
        {
            plan_err!(
                "n_components of lle_embed must be at most the number of features, got {} where column \
             {column} has {length} dimensions: lower n_components",
                lle.n_components()
            )
        }
        _ => Ok(()),
    }
}

/// `n_components=2, n_neighbors=12, …`, for plans and logs.
pub(crate) fn describe(lle: &Lle) -> String {
    let seed = match lle.seed() {
        0 => String::new(),
        seed => format!(", seed={seed}"),
    };
    let sample = match lle.sample_size() {
        DEFAULT_SAMPLE_SIZE => String::new(),
        rows => format!(", sample_size={rows}"),
    };
    let neighbors = match lle.neighbors_algorithm() {
        NeighborsAlgorithm::Auto => String::new(),
        asked => format!(", neighbors_algorithm={}", asked.name()),
    };
    let or_auto = |auto, value: String| if auto { AUTO.to_owned() } else { value };
    format!(
        "n_components={}, n_neighbors={}, reg={}, method={}, solver={}{seed}{sample}{neighbors}",
        or_auto(lle.has_auto_components(), lle.n_components().to_string()),
        or_auto(lle.has_auto_neighbors(), lle.n_neighbors().to_string()),
        or_auto(lle.has_auto_reg(), lle.reg().to_string()),
        lle.method().name(),
        lle.solver().name()
    )
}

/// What the data is to decide.
const AUTO: &str = "auto";

enum Count {
    Auto,
    Number(usize),
}

fn count(function: &str, parameter: &'static str, value: &ScalarValue) -> Result<Option<Count>> {
    if value.is_null() {
        return Ok(None);
    }
    let text = value.try_as_str().flatten();
    if text.is_some_and(|text| text.eq_ignore_ascii_case(AUTO)) {
        return Ok(Some(Count::Auto));
    }
    let invalid = || {
        let hint = match value.try_as_str().flatten() {
            Some(text) if text.contains('=') => {
                format!(": options are the fourth argument, write options => '{text}'")
            }
            Some(text) if text.parse::<u32>().is_ok() => ": leave the quotes out".to_owned(),
            _ => String::new(),
        };
        plan_datafusion_err!(
            "{parameter} of {function} must be 'auto' or a whole number from 1 to {LARGEST_COUNT}, got {}{hint}",
            shown(value)
        )
    };
    if !value.data_type().is_numeric() {
        return Err(invalid());
    }
    // Through f64, which holds the whole accepted range exactly, so that 2, 2.0 and '2' typed as any
    // number are one case.
    match value.cast_to(&DataType::Float64)? {
        ScalarValue::Float64(Some(number))
            if number.fract() == 0.0 && (1.0..=f64::from(LARGEST_COUNT)).contains(&number) =>
        {
            Ok(Some(Count::Number(number as usize)))
        }
        _ => Err(invalid()),
    }
}

fn text<'a>(function: &str, options: &'a ScalarValue) -> Result<Option<&'a str>> {
    match options.try_as_str() {
        Some(text) => Ok(text),
        None if options.is_null() => Ok(None),
        None => plan_err!(
            "options of {function} must be text such as 'solver=exact, reg=0.1', got {options}"
        ),
    }
}

fn number<T: std::str::FromStr>(
    function: &str,
    name: &str,
    value: &str,
    requirement: &str,
) -> Result<T> {
    value.parse().map_err(|_| {
        plan_datafusion_err!("{name} of {function} must be {requirement}, got '{value}'")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(n_components: impl Into<ScalarValue>, options: &str) -> Result<Lle> {
        parse_parameters(
            &n_components.into(),
            &ScalarValue::Null,
            &options.into(),
            "lle_embed",
        )
    }

    fn message(result: Result<Lle>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn defaults_and_options() {
        let lle = parse(2_i8, "").unwrap();
        assert_eq!(
            describe(&lle),
            "n_components=2, n_neighbors=auto, reg=auto, method=standard, solver=auto"
        );
        let lle = parse(
            3_u64,
            "n_neighbors=20, reg=1e-2, solver=EXACT, method=Standard, seed=7, neighbors_algorithm=HNSW",
        )
        .unwrap();
        assert_eq!(
            describe(&lle),
            "n_components=3, n_neighbors=20, reg=0.01, method=standard, solver=exact, seed=7, \
             neighbors_algorithm=hnsw"
        );
        let lle = parse_parameters(
            &2_i32.into(),
            &15_i64.into(),
            &ScalarValue::Utf8(None),
            "lle_embed",
        )
        .unwrap();
        assert_eq!(lle.n_neighbors(), 15);
    }

    #[test]
    fn impossible_numbers() {
        for bad in [
            ScalarValue::from(0_i64),
            (-2_i64).into(),
            2.5_f64.into(),
            u64::MAX.into(),
            f64::NAN.into(),
        ] {
            let expected = format!(
                "n_components of lle_embed must be 'auto' or a whole number from 1 to 2147483647, got {bad}"
            );
            let text = message(parse_parameters(
                &bad,
                &ScalarValue::Null,
                &ScalarValue::Null,
                "lle_embed",
            ));
            assert!(text.contains(&expected), "{text}");
        }
        assert_eq!(parse(2.0_f64, "").unwrap().n_components(), 2);
        assert!(
            message(parse(ScalarValue::Null, ""))
                .contains("n_components of lle_embed has no default")
        );
        assert!(message(parse("much", "")).contains("must be 'auto' or a whole number"));
        assert!(parse("auto", "").unwrap().has_auto_components());
    }

    #[test]
    fn impossible_options() {
        assert!(
            message(parse(2_i32, "reg=-1"))
                .contains("reg must be a finite number of at least 0, got -1")
        );
        assert!(
            message(parse(2_i32, "reg=much"))
                .contains("reg of lle_embed must be 'auto' or a finite")
        );
        assert!(message(parse(2_i32, "n_neighbors=0")).contains("n_neighbors must be at least 1"));
        assert!(
            message(parse(2_i32, "solver=magic"))
                .contains("solver must be one of auto, dense, exact, landmarks, got 'magic'")
        );
        assert!(
            message(parse(2_i32, "method=umap"))
                .contains("method must be one of standard, modified, hessian, ltsa")
        );
        assert!(
            message(parse(2_i32, "neighbors_algorithm=brute"))
                .contains("neighbors_algorithm must be one of auto, exact, hnsw, got 'brute'")
        );
        let both = parse_parameters(
            &2_i32.into(),
            &5_i32.into(),
            &"n_neighbors=6".into(),
            "lle_embed",
        );
        assert!(message(both).contains("given as an argument and in options"));
        let not_text = parse_parameters(&2_i32.into(), &5_i32.into(), &6_i32.into(), "lle_embed");
        assert!(message(not_text).contains("options of lle_embed must be text"));
    }
}
