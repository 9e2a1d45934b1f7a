//! Whether an index is one of the rows that are asked about.

use std::collections::HashMap;

use object_store::ObjectMeta;

use super::catalog::FoundIndex;
use super::header::{IndexHeader, SourceFile};
use super::place::TableDirectory;
use super::table::IndexedTable;

/// How the files of an index compare to those of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fit {
    /// The same files, unchanged. One entry a source of the index: where it is among the table's.
    Whole(Vec<usize>),
    /// The table has only some of them, unchanged.
    Part(Vec<Option<usize>>),
    /// Meant for this table, but its files have changed since, or others came: says which.
    Stale(String),
    /// An index of something else.
    Other,
}

/// What to do about a stale index.
pub(crate) const REMEDY: &str =
    "rebuild it with REINDEX TABLE, or `lakefold index build` with --replace";

/// Compares by path below the directory, size and version.
pub(crate) fn compare(
    header: &IndexHeader,
    directory: &TableDirectory,
    files: &[&ObjectMeta],
) -> Fit {
    let mut known: HashMap<&str, usize> = HashMap::with_capacity(header.sources.len());
    for (place, source) in header.sources.iter().enumerate() {
        known.insert(&source.path, place);
    }
    let mut found: Vec<Option<usize>> = vec![None; header.sources.len()];
    let (mut changed, mut added) = (None, None);
    for (place, meta) in files.iter().enumerate() {
        let path = directory.below(&meta.location);
        let source = path.as_deref().and_then(|path| known.get(path));
        let Some(&source) = source else {
            added.get_or_insert_with(|| directory.name_of(&meta.location));
            continue;
        };
        if !is_same(&header.sources[source], directory, meta) {
            changed.get_or_insert_with(|| directory.name_of(&meta.location));
        }
        if let Some(found) = found.get_mut(source) {
            *found = Some(place);
        }
    }
    let none_known = found.iter().all(Option::is_none);
    match (changed, added) {
        // Of one file, while the table has others beside it.
        (_, Some(_)) if none_known || header.is_of_one_file() => Fit::Other,
        (Some(changed), _) => Fit::Stale(format!("'{changed}' has changed")),
        (None, Some(added)) => Fit::Stale(format!("'{added}' was added")),
        (None, None) => {
            let all: Option<Vec<usize>> = found.iter().copied().collect();
            all.map_or(Fit::Part(found), Fit::Whole)
        }
    }
}

/// What is the matter with an index of a table whose files have changed; `None` for one that fits.
pub fn index_state(index: &FoundIndex, table: &IndexedTable) -> Option<String> {
    let files = table.files();
    let metas: Vec<&ObjectMeta> = files.iter().map(|file| &file.object_meta).collect();
    match compare(&index.header, &table.directory, &metas) {
        Fit::Whole(_) => None,
        Fit::Stale(why) => Some(why),
        Fit::Part(found) => {
            let gone = found.iter().position(Option::is_none);
            let gone = gone.and_then(|gone| index.header.sources.get(gone));
            let name = gone.map(|gone| table.directory.name_of(&table.directory.join(&gone.path)));
            Some(format!("'{}' was removed", name.unwrap_or_default()))
        }
        Fit::Other => Some("its table has other files now".to_owned()),
    }
}

pub(crate) fn is_same(source: &SourceFile, directory: &TableDirectory, meta: &ObjectMeta) -> bool {
    source.bytes == meta.size && source.version == directory.version(meta)
}

impl IndexHeader {
    /// Whether it was built on a file named as such, and not on a directory or glob, which may get others.
    fn is_of_one_file(&self) -> bool {
        !self.table.is_empty() && !self.table.contains(['*', '?', '['])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::header::tests::header;
    use datafusion::execution::object_store::ObjectStoreUrl;
    use object_store::path::Path;

    fn meta(path: &str, size: u64) -> ObjectMeta {
        ObjectMeta {
            location: Path::from(path),
            last_modified: std::time::SystemTime::UNIX_EPOCH.into(),
            size,
            e_tag: None,
            version: None,
        }
    }

    fn check(table: &str, files: &[ObjectMeta]) -> Fit {
        let directory = TableDirectory {
            store: ObjectStoreUrl::local_filesystem(),
            path: Path::from("t"),
        };
        let mut header = header();
        header.table = table.to_owned();
        header.sources = [("a", 1), ("b", 2)]
            .map(|(path, bytes)| SourceFile {
                path: path.to_owned(),
                bytes,
                version: directory.version(&meta("t/a", 1)),
                rows: 1,
            })
            .to_vec();
        if !table.is_empty() {
            header.sources.truncate(1);
        }
        compare(&header, &directory, &files.iter().collect::<Vec<_>>())
    }

    #[test]
    fn files_decide_whether_an_index_fits() {
        let (a, b, c) = (meta("t/a", 1), meta("t/b", 2), meta("t/c", 3));
        assert_eq!(check("", &[b.clone(), a.clone()]), Fit::Whole(vec![1, 0]));
        assert_eq!(
            check("", std::slice::from_ref(&b)),
            Fit::Part(vec![None, Some(0)])
        );
        let stale = |said: &str| Fit::Stale(said.to_owned());
        let more = [a.clone(), b.clone(), c.clone()];
        assert_eq!(check("", &more), stale("'/t/c' was added"));
        let changed = [meta("t/a", 7), b.clone()];
        assert_eq!(check("", &changed), stale("'/t/a' has changed"));
        assert_eq!(check("", std::slice::from_ref(&c)), Fit::Other);
        assert_eq!(check("a", std::slice::from_ref(&a)), Fit::Whole(vec![0]));
        assert_eq!(check("a", &[a, b]), Fit::Other);
    }
}
