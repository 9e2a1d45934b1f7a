//! An index as bytes: a head of whole numbers, then the tables as they stand in memory, little-endian, each
//! from a multiple of 64 bytes on.
//!
//! An index without codes is of version 1. One with codes is of version 2: their step stands behind the vertices of the
//! levels, their origins and they themselves are the last two tables.

use std::io::{self, Write};
use std::ops::Range;

use rayon::prelude::*;

use super::codes::Codes;
use super::graph::{Graph, Level, most_edges, stride};
use super::part::{Part, Plain};
use super::vertices::{HIGHEST, Vertices};
use super::{Hnsw, HnswOptions, LARGEST_COUNT, SharedBytes, padded};
use crate::{ManifoldError, Metric, Result};

const MAGIC: u64 = u64::from_le_bytes(*b"LakeHNSW");
/// Of an index without codes, and with them.
const VERSIONS: [u64; 2] = [1, 2];
/// Numbers before the vertices of each level.
const NUMBERS: usize = 10;
/// Bytes of the head, with room for the vertices of every level.
const HEAD: usize = (NUMBERS + HIGHEST + 1).next_multiple_of(8) * size_of::<u64>();
/// Where the step of codes is in the head.
const STEP_PLACE: usize = NUMBERS + HIGHEST + 1;
const ALIGNMENT: usize = 64;
const METRICS: [Metric; 3] = [Metric::L2, Metric::Cosine, Metric::InnerProduct];
/// Vertices whose lists one thread checks at a time.
const CHUNK: usize = 1 << 12;

fn parts(index: &Hnsw) -> impl Iterator<Item = &[u8]> {
    let vertices = &index.vertices;
    let maps = [&vertices.vertex_of_row, &vertices.starts, &vertices.rows];
    [&index.vectors, &index.factors]
        .into_iter()
        .map(Part::bytes)
        .chain(maps.into_iter().chain(&index.graph.tables).map(Part::bytes))
        .chain(index.codes.iter().flat_map(Codes::parts))
}

pub(super) fn length(index: &Hnsw) -> usize {
    let parts = parts(index).map(|part| part.len().next_multiple_of(ALIGNMENT));
    HEAD + parts.sum::<usize>()
}

pub(super) fn write(index: &Hnsw, out: &mut impl Write) -> io::Result<u64> {
    if cfg!(target_endian = "big") {
        return Err(io::Error::other(
            "an index is little-endian, this machine is not",
        ));
    }
    let options = index.options;
    let metric = METRICS.iter().position(|&metric| metric == index.metric);
    let counts = index.graph.levels().into_iter().map(Level::len);
    let numbers = [
        MAGIC,
        VERSIONS[usize::from(index.codes.is_some())],
        metric.unwrap_or(METRICS.len()) as u64,
        options.m as u64,
        options.ef_construction as u64,
        options.seed,
        index.len() as u64,
        index.dimensions as u64,
        index.scale.to_bits(),
        counts.len() as u64,
    ];
    let numbers = numbers.into_iter().chain(counts.map(|count| count as u64));
    let mut head: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
    head.resize(HEAD, 0);
    if let Some(codes) = &index.codes {
        let (places, _) = head.as_chunks_mut();
        places[STEP_PLACE] = codes.step.to_le_bytes();
    }
    out.write_all(&head)?;
    for part in parts(index) {
        out.write_all(part)?;
        let rest = part.len().next_multiple_of(ALIGNMENT) - part.len();
        out.write_all(&[0; ALIGNMENT][..rest])?;
    }
    Ok(length(index) as u64)
}

fn damaged<T>(detail: impl Into<String>) -> Result<T> {
    Err(ManifoldError::DamagedIndex {
        detail: detail.into(),
    })
}

/// Takes one table after the other.
struct Reader<'a> {
    bytes: &'a SharedBytes,
    rest: Range<usize>,
}

impl Reader<'_> {
    fn take<T: Plain>(&mut self, name: &str, count: Option<usize>) -> Result<Part<T>> {
        let length = count.and_then(|count| count.checked_mul(size_of::<T>()));
        let padded = length.and_then(|length| length.checked_next_multiple_of(ALIGNMENT));
        let end = padded.and_then(|padded| self.rest.start.checked_add(padded));
        let (Some(length), Some(end)) = (length, end) else {
            return damaged(format!("the size of its {name} is impossible"));
        };
        if end > self.rest.end {
            return damaged(format!("it ends within its {name}"));
        }
        let range = self.rest.start..self.rest.start + length;
        self.rest.start = end;
        match Part::shared(self.bytes, range) {
            Some(part) => Ok(part),
            None => damaged(format!(
                "its {name} do not begin at a multiple of {} bytes",
                align_of::<T>()
            )),
        }
    }
}

pub(super) fn read(bytes: &SharedBytes, range: Range<usize>) -> Result<Hnsw> {
    if cfg!(target_endian = "big") {
        return damaged("it is little-endian, this machine is not");
    }
    let Some(found) = (**bytes).as_ref().get(range.clone()) else {
        return damaged(format!(
            "it should have {} bytes and has fewer",
            range.len()
        ));
    };
    let Some((head, _)) = found.split_at_checked(HEAD) else {
        return damaged("it ends within its head");
    };
    let numbers: Vec<u64> = head
        .as_chunks()
        .0
        .iter()
        .map(|number| u64::from_le_bytes(*number))
        .collect();
    if numbers[0] != MAGIC || !VERSIONS.contains(&numbers[1]) {
        return damaged("it does not begin as an index of this version does");
    }
    let size = |place: usize| usize::try_from(numbers[place]).unwrap_or(usize::MAX);
    let Some(&metric) = METRICS.get(size(2)) else {
        return damaged("its metric is unknown");
    };
    let options = HnswOptions {
        m: size(3),
        ef_construction: size(4),
        seed: numbers[5],
    };
    options.check()?;
    let (rows, dimensions, scale) = (size(6), size(7), f64::from_bits(numbers[8]));
    let levels = size(9);
    if !(1..=HIGHEST + 1).contains(&levels) || rows >= u32::MAX as usize {
        return damaged("its sizes are impossible");
    }
    if dimensions == 0 || dimensions > u32::MAX as usize || !(scale.is_finite() && scale >= 0.0) {
        return damaged("its dimensions or their scale are impossible");
    }
    let counts: Vec<usize> = (NUMBERS..NUMBERS + levels).map(size).collect();
    let vertices = counts[0];
    let is_smaller =
        counts.is_sorted_by(|a, b| a >= b) && (counts[levels - 1] > 0 || vertices == 0);
    if !is_smaller || vertices > rows.min(LARGEST_COUNT) || (vertices == 0) != (rows == 0) {
        return damaged("the vertices of its levels are impossible");
    }
    let mut reader = Reader {
        bytes,
        rest: range.start + HEAD..range.end,
    };
    let factors = if metric == Metric::L2 { 0 } else { vertices };
    let mut index = Hnsw {
        options,
        metric,
        dimensions,
        vectors: reader.take("vectors", vertices.checked_mul(padded(dimensions)))?,
        factors: reader.take("factors", Some(factors))?,
        scale,
        vertices: Vertices {
            vertex_of_row: reader.take("row numbers", Some(rows))?,
            starts: reader.take("row numbers", Some(vertices + 1))?,
            rows: reader.take("row numbers", Some(rows))?,
        },
        graph: Graph {
            m: options.m,
            tables: (counts.iter().enumerate())
                .map(|(level, count)| {
                    let numbers = count.checked_mul(stride(most_edges(options.m, level)));
                    reader.take("lists of neighbours", numbers)
                })
                .collect::<Result<_>>()?,
        },
        codes: None,
    };
    if numbers[1] == VERSIONS[1] {
        let step = f64::from_bits(numbers[STEP_PLACE]);
        index.codes = Some(read_codes(&index, step, &mut reader)?);
    }
    if !reader.rest.is_empty() {
        return damaged("there is more of it than there should be");
    }
    check_rows(&index.vertices)?;
    check_lists(&index.graph)?;
    Ok(index)
}

fn read_codes(index: &Hnsw, step: f64, reader: &mut Reader<'_>) -> Result<Codes> {
    let (metric, dimensions) = (index.metric, index.dimensions);
    if Codes::check(metric, dimensions).is_err() || !(step.is_normal() && step > 0.0) {
        return damaged("the step of its codes, or their dimensions, are impossible");
    }
    let origins = reader.take("codes", Some(Codes::dimensions(metric, dimensions)))?;
    let stride = Codes::stride(metric, dimensions);
    let codes = reader.take("codes", index.vertices.len().checked_mul(stride))?;
    Ok(Codes::from_parts(&index.space(), origins, step, codes))
}

/// Every row belongs to one vertex, and every vertex has a row.
fn check_rows(vertices: &Vertices) -> Result<()> {
    let (starts, rows) = (vertices.starts.as_slice(), vertices.rows.as_slice());
    let whole = starts.first() == Some(&0)
        && starts.last() == Some(&(rows.len() as u32))
        && starts.is_sorted_by(|a, b| a < b);
    let of_row = vertices.vertex_of_row.as_slice();
    let sound = |vertex: usize| {
        let rows = &rows[starts[vertex] as usize..starts[vertex + 1] as usize];
        let is_own = |&row: &u32| of_row.get(row as usize) == Some(&(vertex as u32));
        rows.is_sorted_by(|a, b| a < b) && rows.iter().all(is_own)
    };
    if whole && (0..vertices.len()).into_par_iter().all(sound) {
        Ok(())
    } else {
        damaged("its row numbers contradict one another")
    }
}

/// No list is longer than its room, and every edge leads to a vertex of its level.
fn check_lists(graph: &Graph) -> Result<()> {
    for (number, level) in graph.levels().into_iter().enumerate() {
        let table = graph.tables[number].as_slice();
        let stride = graph.stride(number);
        let sound = |list: &[u32]| {
            let edges = list[1..].get(..list[0] as usize);
            edges.is_some_and(|edges| edges.iter().all(|&id| (id as usize) < level.len()))
        };
        let sound = |lists: &[u32]| lists.chunks(stride).all(sound);
        if !table.par_chunks(stride * CHUNK).all(sound) {
            return damaged(format!(
                "a list of neighbours on level {number} is impossible"
            ));
        }
    }
    Ok(())
}

impl Hnsw {
    /// Bytes that [`Hnsw::write_to`] writes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        length(self)
    }

    /// Writes the index, little-endian, in sections that begin at multiples of 64 bytes: put it at such a
    /// multiple of a file, and [`Hnsw::from_bytes`] uses the mapped file without a copy. Returns the bytes.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<u64> {
        write(self, out)
    }

    /// The index that was written to this range of bytes. Lengths and edges are checked: no bytes make a
    /// search panic. Values are not; a checksum of the file should see to them.
    ///
    /// # Errors
    /// [`ManifoldError::DamagedIndex`] that says what is wrong.
    pub fn from_bytes(bytes: SharedBytes, range: Range<usize>) -> Result<Self> {
        read(&bytes, range)
    }
}
