//! Memory sizes as people write them.

use std::str::FromStr;

/// A number of bytes, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryLimit(Option<usize>);

impl MemoryLimit {
    /// `None` is no limit.
    pub(crate) fn bytes(self) -> Option<usize> {
        self.0
    }
}

impl FromStr for MemoryLimit {
    type Err = String;

    /// A number and a unit: `b`, `k`, `m`, `g`, `t`, each also as `kb` or `kib`, in any case, all
    /// powers of 1024. A bare number is bytes.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || {
            format!(
                "'{text}' is not a memory size: write a number and a unit, such as 512m, 4g or 1.5GiB, or 'unlimited'"
            )
        };
        let lower = text.trim().to_ascii_lowercase();
        if lower == "unlimited" {
            return Ok(Self(None));
        }
        let unit_start = lower
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(lower.len());
        let (number, unit) = lower.split_at(unit_start);
        let number: f64 = number.parse().map_err(|_| wanted())?;
        let power = match unit.trim() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 1,
            "m" | "mb" | "mib" => 2,
            "g" | "gb" | "gib" => 3,
            "t" | "tb" | "tib" => 4,
            _ => return Err(wanted()),
        };
        let bytes = number * 1024_f64.powi(power);
        // Above 2⁵³ a float no longer holds every byte, and no machine has them.
        if !(1.0..=9e15).contains(&bytes) {
            return Err(format!(
                "'{text}' is out of range: at least 1 byte is needed"
            ));
        }
        Ok(Self(Some(bytes as usize)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_every_spelling() {
        for (text, bytes) in [
            ("512m", 512 << 20),
            ("4g", 4 << 30),
            ("4GB", 4 << 30),
            ("1.5GiB", 3 << 29),
            (" 2 k ", 2048),
            ("1000", 1000),
            ("10b", 10),
            ("1T", 1 << 40),
        ] {
            assert_eq!(text.parse(), Ok(MemoryLimit(Some(bytes))), "{text}");
        }
        assert_eq!("Unlimited".parse(), Ok(MemoryLimit(None)));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "", "g", "4x", "-1g", "0", "0.0g", "1.2.3g", "1e9", "inf", "nan", "9999999t",
        ] {
            assert!(text.parse::<MemoryLimit>().is_err(), "{text}");
        }
    }
}
