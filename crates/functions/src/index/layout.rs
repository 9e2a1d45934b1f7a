//! The bytes of an index file: a prelude, a header in JSON, and sections that a mapped file is used from.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `LAKEHNSW` |
//! | 4 | version: 1, or 2 where the graph has codes of its vectors |
//! | 4 | zero |
//! | 8 | length of the file |
//! | 8 | length of the header |
//! | 8 | XXH64 of everything above and of the header |
//! | … | the header |
//! | … | sections, each at a multiple of 64 bytes, with zeros between |
//!
//! Whole numbers are little-endian. Every byte is checked: by the checksum of the header, by that of its section,
//! or, between sections, by being zero.

use std::hash::Hasher;
use std::io::{self, Write};
use std::ops::Range;

use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err};
use twox_hash::XxHash64;

use super::header::{IndexHeader, Section};

/// The newest layout of index files. Older ones stay readable.
pub const INDEX_VERSION: u32 = 2;
/// The layout of an index without codes, which older programs read as well.
const WITHOUT_CODES: u32 = 1;

const MAGIC: [u8; 8] = *b"LAKEHNSW";
const PRELUDE: usize = 40;
/// Of the prelude, what the header's checksum covers.
const COVERED: usize = 32;
/// A cache line, and enough for any number type.
const ALIGNMENT: u64 = 64;
/// No header is near it: a length beyond is damage, and nothing of that size is read.
const LONGEST_HEADER: u64 = 1 << 30;

/// What writes a section's bytes, the same each time.
pub(crate) type SectionWriter<'a> = &'a dyn Fn(&mut dyn Write) -> io::Result<()>;

/// An error of a file that is damaged; `source` is its path or URL.
pub(crate) fn damaged(source: &str, detail: impl std::fmt::Display) -> DataFusionError {
    exec_datafusion_err!(
        "'{source}' is not a whole index file: {detail}; build the index again with `lakefold index build \
         --replace`, or DROP INDEX and CREATE INDEX"
    )
}

/// Counts and hashes what is written to it.
struct Measure {
    hash: XxHash64,
    bytes: u64,
}

impl Write for Measure {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.write(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Measures a section that will start at or after `from`.
pub(crate) fn measure(from: u64, write: SectionWriter<'_>) -> io::Result<Section> {
    let mut measure = Measure {
        hash: XxHash64::with_seed(0),
        bytes: 0,
    };
    write(&mut measure)?;
    Ok(Section {
        offset: from.next_multiple_of(ALIGNMENT),
        bytes: measure.bytes,
        checksum: format!("{:016x}", measure.hash.finish()),
    })
}

/// Writes a file whose header has the sections as [`measure`] gave them.
pub(crate) fn write(
    header: &IndexHeader,
    sections: &[(&Section, SectionWriter<'_>)],
    out: &mut dyn Write,
) -> io::Result<u64> {
    let json = serde_json::to_vec(header)?;
    let data = (PRELUDE + json.len()) as u64;
    let data = data.next_multiple_of(ALIGNMENT);
    let end = sections
        .iter()
        .map(|(section, _)| section.offset + section.bytes);
    let length = data + end.max().unwrap_or(0);

    let mut prelude = Vec::with_capacity(PRELUDE);
    prelude.extend(MAGIC);
    let version = if header.has_codes() {
        INDEX_VERSION
    } else {
        WITHOUT_CODES
    };
    prelude.extend(version.to_le_bytes());
    prelude.extend(0_u32.to_le_bytes());
    prelude.extend(length.to_le_bytes());
    prelude.extend((json.len() as u64).to_le_bytes());
    let checksum = hash(&[&prelude, &json]);
    prelude.extend(checksum.to_le_bytes());
    out.write_all(&prelude)?;
    out.write_all(&json)?;
    let mut at = (PRELUDE + json.len()) as u64;
    for (section, write) in sections {
        let start = data + section.offset;
        io::copy(&mut io::Read::take(io::repeat(0), start - at), out)?;
        write(out)?;
        at = start + section.bytes;
    }
    Ok(length)
}

fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash = XxHash64::with_seed(0);
    for part in parts {
        hash.write(part);
    }
    hash.finish()
}

/// Where things are in a file.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) header: IndexHeader,
    /// The end of the header, where offsets count from.
    data: u64,
    length: u64,
}

impl Layout {
    /// How many bytes of a file's beginning are needed to read its header.
    ///
    /// # Errors
    /// For what does not begin as an index file does.
    pub(crate) fn header_bytes(beginning: &[u8], source: &str) -> Result<usize> {
        let Some(prelude) = beginning.get(..PRELUDE) else {
            return Err(damaged(
                source,
                format!("it has {} bytes only", beginning.len()),
            ));
        };
        if prelude[..8] != MAGIC {
            return Err(damaged(source, "it does not begin as one does"));
        }
        let version = u32::from_le_bytes([prelude[8], prelude[9], prelude[10], prelude[11]]);
        if version > INDEX_VERSION {
            return exec_err!(
                "'{source}' is an index of version {version}, this program reads up to {INDEX_VERSION}: \
                 update Lakefold, or build the index again"
            );
        }
        let length = word(prelude, 24);
        if version == 0 || length > LONGEST_HEADER {
            return Err(damaged(source, "its beginning was altered"));
        }
        Ok(PRELUDE + length as usize)
    }

    /// Reads the header; `beginning` has at least [`Self::header_bytes`] bytes.
    ///
    /// # Errors
    /// For a header that is cut off or was altered.
    pub(crate) fn read(beginning: &[u8], source: &str) -> Result<Self> {
        let end = Self::header_bytes(beginning, source)?;
        let Some(json) = beginning.get(PRELUDE..end) else {
            return Err(damaged(source, "its header is cut off"));
        };
        if hash(&[&beginning[..COVERED], json]) != word(beginning, COVERED) {
            return Err(damaged(source, "the checksum of its header does not match"));
        }
        let header = serde_json::from_slice(json);
        Ok(Self {
            header: header.map_err(|error| damaged(source, error))?,
            data: (end as u64).next_multiple_of(ALIGNMENT),
            length: word(beginning, 16),
        })
    }

    /// The file's length, as its header has it.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The bytes of a section.
    pub(crate) fn range(&self, section: &Section) -> Range<usize> {
        // In range, because `check` was called on all bytes before.
        let start = (self.data + section.offset) as usize;
        start..start + section.bytes as usize
    }

    /// Checks the length, every section and the zeros between.
    ///
    /// # Errors
    /// For a file that is cut short, too long, or altered anywhere.
    pub(crate) fn check(&self, bytes: &[u8], source: &str) -> Result<()> {
        let have = bytes.len() as u64;
        if have != self.length {
            return Err(damaged(
                source,
                format!("it has {have} bytes of {}", self.length),
            ));
        }
        let mut at = Self::header_bytes(bytes, source)? as u64;
        for (name, section) in self.header.sections() {
            let start = self.data.checked_add(section.offset);
            let end = start.and_then(|start| start.checked_add(section.bytes));
            let (Some(start), Some(end)) = (start, end) else {
                return Err(damaged(source, format!("its {name} is nowhere")));
            };
            let (Some(zeros), Some(content)) = (
                bytes.get(at as usize..start as usize),
                bytes.get(start as usize..end as usize),
            ) else {
                return Err(damaged(source, format!("its {name} is cut off")));
            };
            if zeros.iter().any(|byte| *byte != 0) {
                return Err(damaged(
                    source,
                    format!("bytes before its {name} were altered"),
                ));
            }
            if format!("{:016x}", hash(&[content])) != section.checksum {
                return Err(damaged(
                    source,
                    format!("the checksum of its {name} does not match"),
                ));
            }
            at = end;
        }
        if at == self.length {
            Ok(())
        } else {
            Err(damaged(source, "it is longer than its sections"))
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::header::tests::header;

    fn file() -> Vec<u8> {
        file_of(header())
    }

    fn file_of(mut header: IndexHeader) -> Vec<u8> {
        let graph: SectionWriter<'_> = &|out| out.write_all(&[1; 100]);
        let ids: SectionWriter<'_> = &|out| out.write_all(&[2; 7]);
        header.graph = measure(0, graph).unwrap();
        header.ids = Some(measure(100, ids).unwrap());
        let sections = [(&header.graph, graph), (header.ids.as_ref().unwrap(), ids)];
        let mut bytes = Vec::new();
        let length = write(&header, &sections, &mut bytes).unwrap();
        assert_eq!(length, bytes.len() as u64);
        bytes
    }

    fn whole(bytes: &[u8]) -> Result<Layout> {
        let layout = Layout::read(bytes, "x")?;
        layout.check(bytes, "x")?;
        Ok(layout)
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = file();
        let layout = whole(&bytes).unwrap();
        assert_eq!(bytes[layout.range(&layout.header.graph)], [1; 100]);
        let ids = layout.range(layout.header.ids.as_ref().unwrap());
        assert_eq!((ids.start % 64, &bytes[ids]), (0, &[2; 7][..]));
    }

    #[test]
    fn codes_make_a_newer_version() {
        let bytes = file_of(IndexHeader {
            storage: "int8".to_owned(),
            ..header()
        });
        assert_eq!(bytes[8], 2);
        assert!(whole(&bytes).unwrap().header.has_codes());
    }

    #[test]
    fn a_file_cut_short_or_altered_at_any_byte_is_refused() {
        let bytes = file();
        for end in 0..bytes.len() {
            assert!(whole(&bytes[..end]).is_err(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut altered = bytes.clone();
                altered[at] ^= 1 << bit;
                assert!(whole(&altered).is_err(), "bit {bit} of byte {at}");
            }
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(whole(&longer).is_err());
    }

    #[test]
    fn a_newer_version_asks_for_an_update() {
        let mut bytes = file();
        assert_eq!(bytes[8], 1);
        bytes[8] = 3;
        let message = whole(&bytes).unwrap_err().to_string();
        assert!(message.contains("update Lakefold"), "{message}");
    }
}
