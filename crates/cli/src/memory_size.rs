//! The memory limit as people write it.

use std::str::FromStr;

use lakefold::ByteSize;

/// A number of bytes, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryLimit(Option<ByteSize>);

impl MemoryLimit {
    /// `None` is no limit.
    pub(crate) fn bytes(self) -> Option<usize> {
        self.0.map(ByteSize::bytes)
    }
}

impl From<ByteSize> for MemoryLimit {
    fn from(size: ByteSize) -> Self {
        Self(Some(size))
    }
}

impl FromStr for MemoryLimit {
    type Err = String;

    /// A [`ByteSize`], or `unlimited`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().eq_ignore_ascii_case("unlimited") {
            return Ok(Self(None));
        }
        text.parse()
            .map(|size| Self(Some(size)))
            .map_err(|error: String| error.replace("1.5GiB", "1.5GiB, or 'unlimited'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_no_limit() {
        let limit = |text: &str| text.parse::<MemoryLimit>().map(MemoryLimit::bytes);
        assert_eq!(limit("512m"), Ok(Some(512 << 20)));
        assert_eq!(limit("Unlimited"), Ok(None));
        assert!(limit("4x").unwrap_err().ends_with("1.5GiB, or 'unlimited'"));
        assert!(limit("0").is_err());
    }
}
