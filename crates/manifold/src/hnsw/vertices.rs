//! The distinct rows: the vertices of a graph, in the order in which they are inserted.

use ndarray::{ArrayView1, ArrayView2};
use rayon::prelude::*;

use super::part::Part;
use crate::sample::{compare, hash_values};

const LEVEL_KEY: u64 = 0x3c79_ac49_2ba7_b653;
/// Enough for any number of rows.
pub(super) const HIGHEST: usize = 31;

/// Which rows are which vertices. Vertices are numbered from the highest level down, and by the hashes of
/// their values within one: the order of the rows does not matter.
#[derive(Clone)]
pub(super) struct Vertices {
    pub(super) vertex_of_row: Part<u32>,
    /// The rows of vertex v are `rows[starts[v]..starts[v + 1]]`, ascending.
    pub(super) starts: Part<u32>,
    pub(super) rows: Part<u32>,
}

impl Vertices {
    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    pub(super) fn rows(&self, vertex: u32) -> &[u32] {
        let starts = self.starts.as_slice();
        let (start, end) = (starts[vertex as usize], starts[vertex as usize + 1]);
        &self.rows.as_slice()[start as usize..end as usize]
    }
}

impl Vertices {
    /// Those of the same rows in another order, in which row `order[i]` is row i; `None` unless each row is in it
    /// once.
    pub(super) fn reordered(&self, order: &[u32]) -> Option<Self> {
        let (old, starts) = (self.vertex_of_row.as_slice(), self.starts.as_slice());
        let mut is_placed = vec![false; old.len()];
        let mut vertex_of_row = Part::zeros(order.len());
        for (vertex, &row) in vertex_of_row.as_mut_slice().iter_mut().zip(order) {
            let is_placed = is_placed.get_mut(row as usize)?;
            if std::mem::replace(is_placed, true) {
                return None;
            }
            *vertex = old[row as usize];
        }
        if order.len() != old.len() {
            return None;
        }
        let (mut rows, mut next) = (Part::zeros(old.len()), starts.to_vec());
        for (row, &vertex) in vertex_of_row.as_slice().iter().enumerate() {
            let place = &mut next[vertex as usize];
            rows.as_mut_slice()[*place as usize] = row as u32;
            *place += 1;
        }
        Some(Self {
            vertex_of_row,
            starts: self.starts.clone(),
            rows,
        })
    }
}

/// Bytes for each row that [`Vertices::reordered`] takes at most.
pub(super) const BYTES_PER_REORDERED_ROW: usize = 3 * size_of::<u32>() + size_of::<bool>();

/// Bytes for each row while [`vertices`] runs.
pub(super) const BYTES_PER_ROW: usize = size_of::<Entry>() + 3 * size_of::<u32>();

#[derive(Clone, Copy)]
struct Entry {
    hash: u64,
    row: u32,
    level: u8,
}

/// The vertices, and how many of them each level has, the lowest first.
pub(super) fn vertices(
    features: ArrayView2<'_, f32>,
    m: usize,
    seed: u64,
) -> (Vertices, Vec<usize>) {
    let n = features.nrows();
    let entry = |row: usize| {
        let hash = hash_values(seed, features.row(row));
        Entry {
            hash,
            row: row as u32,
            level: level(hash, m),
        }
    };
    let mut entries: Vec<Entry> = (0..n).into_par_iter().map(entry).collect();
    let row = |entry: &Entry| -> ArrayView1<'_, f32> { features.row(entry.row as usize) };
    entries.par_sort_unstable_by(|a, b| {
        (b.level.cmp(&a.level))
            .then(a.hash.cmp(&b.hash))
            .then_with(|| compare(row(a), row(b)))
            .then(a.row.cmp(&b.row))
    });
    let mut vertex_of_row = Part::zeros(n);
    let (mut starts, mut counts) = (Vec::new(), vec![0]);
    for (place, entry) in entries.iter().enumerate() {
        let before = place.checked_sub(1).map(|before| &entries[before]);
        if before.is_none_or(|b| b.hash != entry.hash || row(b) != row(entry)) {
            starts.push(place as u32);
            counts.resize(counts.len().max(usize::from(entry.level) + 1), 0);
            (0..=usize::from(entry.level)).for_each(|level| counts[level] += 1);
        }
        vertex_of_row.as_mut_slice()[entry.row as usize] = starts.len() as u32 - 1;
    }
    starts.push(n as u32);
    let rows: Vec<u32> = entries.iter().map(|entry| entry.row).collect();
    let vertices = Vertices {
        vertex_of_row,
        starts: starts.as_slice().into(),
        rows: rows.as_slice().into(),
    };
    (vertices, counts)
}

/// The highest level of a row: at least l with a chance of 1 / mˡ, in whole numbers, the same everywhere.
fn level(hash: u64, m: usize) -> u8 {
    let product = u128::from(hash ^ LEVEL_KEY) * u128::from(LEVEL_KEY);
    let drawn = (product >> 64) as u64 ^ product as u64;
    let mut chance = u64::MAX / m as u64;
    let mut level = 0;
    while drawn < chance && level < HIGHEST {
        chance /= m as u64;
        level += 1;
    }
    level as u8
}
