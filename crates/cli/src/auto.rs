//! Parameters that Lakefold can choose.

use std::fmt::{self, Display};
use std::str::FromStr;

/// A number, or `auto`. Displayed as SQL has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum NumberOrAuto<T> {
    Number(T),
    Auto,
}

impl<T: FromStr> FromStr for NumberOrAuto<T>
where
    T::Err: Display,
{
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("auto") {
            return Ok(Self::Auto);
        }
        let number = text.parse().map(Self::Number);
        number.map_err(|error: T::Err| format!("{error}: write a number or 'auto'"))
    }
}

impl<T: Display> Display for NumberOrAuto<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Auto => f.write_str("'auto'"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;

    #[test]
    fn numbers_and_auto() {
        let count: NumberOrAuto<NonZeroUsize> = "16".parse().unwrap();
        assert_eq!(count.to_string(), "16");
        let auto: NumberOrAuto<f64> = "Auto".parse().unwrap();
        assert_eq!(auto.to_string(), "'auto'");
        let error = "0".parse::<NumberOrAuto<NonZeroUsize>>().unwrap_err();
        assert!(error.ends_with("write a number or 'auto'"), "{error}");
    }
}
