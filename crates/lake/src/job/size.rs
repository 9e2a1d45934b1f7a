//! Sizes as people write them.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserializer, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A number of bytes, at least 1.
///
/// ```
/// use lakefold_lake::ByteSize;
/// assert_eq!("1.5GiB".parse::<ByteSize>().unwrap().bytes(), 3 << 29);
/// assert_eq!(ByteSize::new(64 << 20).to_string(), "64m");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(usize);

impl ByteSize {
    /// Of a number of bytes; 0 is taken for 1.
    pub const fn new(bytes: usize) -> Self {
        Self(if bytes == 0 { 1 } else { bytes })
    }

    /// As a number.
    pub const fn bytes(self) -> usize {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = String;

    /// A number and a unit: `b`, `k`, `m`, `g`, `t`, each also as `kb` or `kib`, in any case, all
    /// powers of 1024. A bare number is bytes.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || {
            format!("'{text}' is not a size: write a number and a unit, such as 512m, 4g or 1.5GiB")
        };
        let lower = text.trim().to_ascii_lowercase();
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
        Ok(Self(bytes as usize))
    }
}

impl fmt::Display for ByteSize {
    /// With the largest unit that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = [(40, "t"), (30, "g"), (20, "m"), (10, "k")]
            .into_iter()
            .find(|(shift, _)| self.0.trailing_zeros() >= *shift)
            .map_or((self.0, ""), |(shift, unit)| (self.0 >> shift, unit));
        write!(f, "{number}{unit}")
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a size such as \"512m\" or a number of bytes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                usize::try_from(bytes)
                    .ok()
                    .filter(|bytes| *bytes > 0)
                    .map(ByteSize)
                    .ok_or_else(|| E::invalid_value(Unexpected::Signed(bytes), &self))
            }
        }
        deserializer.deserialize_any(Size)
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
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in [
            "", "g", "4x", "-1g", "0", "0.0g", "1.2.3g", "1e9", "inf", "nan", "9999999t",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_written_as_they_are_read() {
        for bytes in [1, 1000, 1024, 3 << 19, 64 << 20, 1 << 40] {
            let size = ByteSize(bytes);
            assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}
