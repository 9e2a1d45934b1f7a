//! The order of file names in which people count: `part-2` comes before `part-10`.

use std::cmp::Ordering;

/// Compares names with runs of digits taken as numbers; names equal so far are ordered by bytes,
/// so that only identical names are equal.
///
/// ```
/// use lakefold_lake::natural_cmp;
/// let mut names = ["part_10.parquet", "part_2.parquet", "part_1.parquet"];
/// names.sort_by(|a, b| natural_cmp(a, b));
/// assert_eq!(names, ["part_1.parquet", "part_2.parquet", "part_10.parquet"]);
/// ```
pub fn natural_cmp(a: &str, b: &str) -> Ordering {
    by_runs(a.as_bytes(), b.as_bytes()).then_with(|| a.cmp(b))
}

fn by_runs(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while let (Some(&first_a), Some(&first_b)) = (a.first(), b.first()) {
        let order = if first_a.is_ascii_digit() && first_b.is_ascii_digit() {
            let (number_a, rest_a) = split_number(a);
            let (number_b, rest_b) = split_number(b);
            (a, b) = (rest_a, rest_b);
            // Without leading zeros the longer number is the larger one, whatever its size.
            number_a
                .len()
                .cmp(&number_b.len())
                .then_with(|| number_a.cmp(number_b))
        } else {
            (a, b) = (&a[1..], &b[1..]);
            first_a.cmp(&first_b)
        };
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

/// The leading run of digits without its leading zeros, and what follows.
fn split_number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(end);
    let zeros = digits.iter().take_while(|&&byte| byte == b'0').count();
    (&digits[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_count_and_the_rest_is_by_bytes() {
        let mut names = vec!["b", "a10", "a9", "a09", "a", "a1b2", "a1b10", "A1"];
        names.sort_by(|a, b| natural_cmp(a, b));
        assert_eq!(names, ["A1", "a", "a1b2", "a1b10", "a09", "a9", "a10", "b"]);
    }

    proptest! {
        #[test]
        fn is_a_total_order(a in "[ab01-]{0,6}", b in "[ab01-]{0,6}", c in "[ab01-]{0,6}") {
            prop_assert_eq!(natural_cmp(&a, &b), natural_cmp(&b, &a).reverse());
            prop_assert_eq!(natural_cmp(&a, &b).is_eq(), a == b);
            if natural_cmp(&a, &b).is_le() && natural_cmp(&b, &c).is_le() {
                prop_assert!(natural_cmp(&a, &c).is_le());
            }
        }
    }
}
