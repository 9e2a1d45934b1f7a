//! As what the vectors of an index are walked through.

use crate::{ManifoldError, Result};

/// As what an index keeps its vectors for searches to walk through. The vectors themselves are kept either way: they
/// decide the order of what was found, and its distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum VectorStorage {
    /// Codes of eight bits where they are sure to find as much.
    #[default]
    Auto,
    /// The vectors alone.
    F32,
    /// Codes of eight bits beside the vectors, a quarter of their size: what a walk reads is nearer to the processor.
    Int8,
}

impl VectorStorage {
    /// The names of [`VectorStorage::parse`].
    pub const NAMES: [&str; 3] = ["auto", "f32", "int8"];

    /// The spelling for people; [`VectorStorage::parse`] reads it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Int8 => "int8",
        }
    }

    /// Reads a name, in any case.
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] that lists the names.
    pub fn parse(name: &str) -> Result<Self> {
        let all = [Self::Auto, Self::F32, Self::Int8];
        let found = all
            .into_iter()
            .find(|storage| storage.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| ManifoldError::InvalidParameter {
            name: "storage",
            value: format!("'{name}'"),
            requirement: format!("one of {}", Self::NAMES.join(", ")),
        })
    }
}

impl std::fmt::Display for VectorStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
