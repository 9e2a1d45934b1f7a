//! Cutting the input into chunks: by row groups, from footers alone.

use std::ops::Range;

use super::footers::{InputFile, InputFiles};

/// A range of row groups of one file; it becomes one file of the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Its number in the plan.
    pub(crate) number: usize,
    /// Which of the input's files.
    pub(crate) file: usize,
    pub(crate) row_groups: Range<usize>,
    pub(crate) rows: usize,
    /// As stored, of the columns that are read.
    pub(crate) bytes: usize,
    /// The largest row group's share of `bytes`, which a reader holds at once.
    pub(crate) largest_row_group: usize,
    /// Of the output file, below the output's directory.
    pub(crate) name: String,
}

/// When a chunk is full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkLimits {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

/// A file's chunks depend on the file and the limits, not on other files or on which columns are read:
/// a later run over more files finds the old ones' chunks as they were. A file's mark becomes part of
/// its chunks' names.
pub(crate) fn plan_chunks(
    input: &InputFiles,
    limits: ChunkLimits,
    is_read: impl Fn(&str) -> bool,
    mark: impl Fn(&InputFile) -> Option<String>,
) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    for (number, file) in input.files.iter().enumerate() {
        let read: Vec<bool> = file.leaves.iter().map(|name| is_read(name)).collect();
        let mut start = 0;
        let (mut rows, mut stored, mut bytes, mut largest) = (0, 0, 0, 0);
        let groups = file.row_groups.len();
        let mark = mark(file);
        let name = |first, last| output_name(&file.output_path, first, last, mark.as_deref());
        for (index, group) in file.row_groups.iter().enumerate() {
            rows += group.rows;
            stored += group.column_bytes.iter().sum::<usize>();
            let of_read = group.column_bytes.iter().zip(&read);
            let of_read: usize = of_read.filter(|(_, read)| **read).map(|(b, _)| b).sum();
            bytes += of_read;
            largest = largest.max(of_read);
            let next = file.row_groups.get(index + 1);
            let would_overflow = next.is_some_and(|next| {
                rows + next.rows > limits.rows
                    || stored + next.column_bytes.iter().sum::<usize>() > limits.bytes
            });
            if next.is_none() || would_overflow {
                chunks.push(Chunk {
                    number: chunks.len(),
                    file: number,
                    row_groups: start..index + 1,
                    rows,
                    bytes,
                    largest_row_group: largest,
                    name: name(start, index),
                });
                start = index + 1;
                (rows, stored, bytes, largest) = (0, 0, 0, 0);
            }
        }
        // An empty file still says what its columns are, and so does its output.
        if groups == 0 {
            chunks.push(Chunk {
                number: chunks.len(),
                file: number,
                row_groups: 0..0,
                rows: 0,
                bytes: 0,
                largest_row_group: 0,
                name: name(0, 0),
            });
        }
    }
    chunks
}

/// `year=2026/part-0.parquet`, row groups 8 to 15: `year=2026/part-0.00008-00015.parquet`, with a mark
/// `year=2026/part-0.00008-00015.mark.parquet`.
fn output_name(path: &str, first: usize, last: usize, mark: Option<&str>) -> String {
    let (directory, file) = path
        .rsplit_once('/')
        .map_or((None, path), |(directory, file)| (Some(directory), file));
    let stem = [".parquet", ".parq", ".pq"]
        .into_iter()
        .find_map(|extension| {
            let at = file.len().checked_sub(extension.len())?;
            let end = file.get(at..)?;
            end.eq_ignore_ascii_case(extension).then(|| &file[..at])
        })
        .filter(|stem| !stem.is_empty())
        .unwrap_or(file);
    let mark = mark.map_or_else(String::new, |mark| format!(".{mark}"));
    let name = format!("{stem}.{first:05}-{last:05}{mark}.parquet");
    match directory {
        Some(directory) => format!("{directory}/{name}"),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_directories_and_sort_by_row_group() {
        assert_eq!(
            output_name("year=2026/part-0.parquet", 8, 15, None),
            "year=2026/part-0.00008-00015.parquet"
        );
        assert_eq!(
            output_name("a.b.PARQUET", 0, 0, None),
            "a.b.00000-00000.parquet"
        );
        assert_eq!(
            output_name("plain", 0, 3, Some("7f")),
            "plain.00000-00003.7f.parquet"
        );
    }
}
