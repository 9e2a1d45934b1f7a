//! Numbers for people.

/// `grouped(1_234_567)` is `"1,234,567"`.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `counted(1, "row")` is `"1 row"`, `counted(2000, "row")` is `"2,000 rows"`.
pub(crate) fn counted(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number))
}

/// Five significant digits, without trailing zeros; exponents only where the number is very small
/// or large.
pub(crate) fn significant(number: f64) -> String {
    let magnitude = number.abs();
    if number == 0.0 || !number.is_finite() {
        return number.to_string();
    }
    if !(1e-4..1e7).contains(&magnitude) {
        return format!("{number:.4e}");
    }
    let decimals = (4.0 - magnitude.log10().floor()).clamp(0.0, 8.0) as usize;
    let text = format!("{number:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(counted(1, "row"), "1 row");
        assert_eq!(counted(0, "row"), "0 rows");
    }

    #[test]
    fn five_digits_are_kept() {
        for (number, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (-0.123_456_7, "-0.12346"),
            (0.000_123_456, "0.00012346"),
            (12_345.678, "12346"),
            (1_234_567.0, "1234567"),
            (1e-9, "1.0000e-9"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(significant(number), text);
        }
    }
}
