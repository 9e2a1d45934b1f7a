//! What a user writes between the quotes of `FROM '…'`.

use std::path::Path as FsPath;

use datafusion::common::plan_datafusion_err;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use glob::Pattern;
use object_store::path::Path;
use url::Url;

const GLOB_CHARACTERS: [char; 3] = ['*', '?', '['];

/// A file, directory or glob in an object store (local disks included).
#[derive(Debug, Clone)]
pub struct Location {
    text: String,
    base: ListingTableUrl,
    glob: Option<Pattern>,
}

impl Location {
    /// Reads a local path (relative to the working directory, or with `~`) or a URL, either with a
    /// glob: `*` and `?` stay within one directory, `**` does not, `[ab]` is one of.
    ///
    /// # Errors
    /// For a malformed URL or glob.
    pub fn parse(text: &str) -> Result<Self> {
        let expanded = expand_home(text);
        let invalid = |error: &dyn std::fmt::Display| {
            plan_datafusion_err!("'{text}' is not a path, glob or URL that can be read: {error}")
        };
        // A file whose name has a bracket in it is meant itself.
        let is_glob = expanded.contains(GLOB_CHARACTERS) && !FsPath::new(&expanded).exists();
        let (base, glob) = if is_glob {
            split_glob(&expanded)
        } else {
            (&*expanded, None)
        };
        let glob = glob
            .map(Pattern::new)
            .transpose()
            .map_err(|error| invalid(&error))?;
        let base = if base.is_empty() { "./" } else { base };
        let url = if base.contains("://") {
            Url::parse(base).map_err(|error| invalid(&error))?
        } else {
            local_url(base).ok_or_else(|| invalid(&"the working directory is not known"))?
        };
        let base = ListingTableUrl::try_new(url, None).map_err(|error| invalid(&error))?;
        Ok(Self {
            text: text.to_owned(),
            base,
            glob,
        })
    }

    /// As the user wrote it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The store it lives in.
    pub fn object_store_url(&self) -> ObjectStoreUrl {
        self.base.object_store()
    }

    /// The file or directory, or for a glob the directory above its first wildcard.
    pub fn prefix(&self) -> &Path {
        self.base.prefix()
    }

    /// The glob below [`Self::prefix`].
    pub fn glob(&self) -> Option<&Pattern> {
        self.glob.as_ref()
    }

    /// Written with a trailing slash, or a directory on a local disk.
    pub fn is_directory(&self) -> bool {
        self.base.is_collection()
    }

    /// On a local disk.
    pub fn is_local(&self) -> bool {
        self.base.object_store() == ObjectStoreUrl::local_filesystem()
    }

    /// A path in the same store, as a user would write it.
    pub fn name_of(&self, path: &Path) -> String {
        let store = self.base.object_store();
        match store.as_str().strip_prefix("file://") {
            Some(root) => format!("{root}{path}"),
            None => format!("{}{path}", store.as_str()),
        }
    }
}

/// True for names that are meant as paths. A bare word is always a table, even where a directory
/// has that name; otherwise `CREATE TABLE out` would depend on the working directory.
pub(crate) fn looks_like_path(name: &str) -> bool {
    name.starts_with('~') || name.contains(['/', '.', '\\']) || name.contains(GLOB_CHARACTERS)
}

/// Replaces a leading `~` or `~/` by the user's home directory, if that is known.
pub fn expand_home(path: &str) -> String {
    match (path.strip_prefix('~'), std::env::home_dir()) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
            format!("{}{rest}", home.display())
        }
        _ => path.to_owned(),
    }
}

/// The URL of a path on this machine; a directory's ends with a slash. `DataFusion`'s own conversion
/// would take a bracket in a file's name for a glob.
fn local_url(path: &str) -> Option<Url> {
    let absolute = std::path::absolute(path).ok()?;
    let url = if absolute.is_dir() || path.ends_with('/') {
        Url::from_directory_path(absolute)
    } else {
        Url::from_file_path(absolute)
    };
    // Read again, which resolves `..`.
    Url::parse(url.ok()?.as_str()).ok()
}

/// Splits before the path segment with the first wildcard.
fn split_glob(text: &str) -> (&str, Option<&str>) {
    let Some(wildcard) = text.find(GLOB_CHARACTERS) else {
        return (text, None);
    };
    let start = text[..wildcard].rfind('/').map_or(0, |slash| slash + 1);
    (&text[..start], Some(&text[start..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_tables_and_the_rest_are_paths() {
        for path in [
            "a/b",
            "a.parquet",
            "out/",
            "*",
            "~",
            "s3://bucket/x",
            "part-?",
        ] {
            assert!(looks_like_path(path), "{path}");
        }
        for table in ["packages", "Packages", "my table", "out"] {
            assert!(!looks_like_path(table), "{table}");
        }
    }

    #[test]
    fn globs_are_split_at_the_first_wildcard() {
        assert_eq!(
            split_glob("a/b*/c/*.parquet"),
            ("a/", Some("b*/c/*.parquet"))
        );
        assert_eq!(split_glob("*.parquet"), ("", Some("*.parquet")));
        assert_eq!(split_glob("a/b"), ("a/b", None));

        let location = Location::parse("s3://bucket/year=*/part-?.parquet").unwrap();
        assert_eq!(location.object_store_url().as_str(), "s3://bucket/");
        assert_eq!(location.prefix().as_ref(), "");
        assert_eq!(location.glob().unwrap().as_str(), "year=*/part-?.parquet");
    }

    #[test]
    fn dots_are_resolved_and_names_are_absolute() {
        let location = Location::parse("/data/./lake/../other/x.parquet").unwrap();
        assert_eq!(location.prefix().as_ref(), "data/other/x.parquet");
        assert_eq!(location.name_of(location.prefix()), "/data/other/x.parquet");
        assert!(!location.is_directory());
        assert!(Location::parse("/data/").unwrap().is_directory());
    }

    #[test]
    fn a_malformed_glob_is_an_error() {
        let error = Location::parse("data/[a.parquet").unwrap_err().to_string();
        assert!(error.contains("'data/[a.parquet' is not a path"), "{error}");
    }
}
