//! Neighbour lists in one table for each level.

use super::part::Part;

/// Places of a list that only mending may use, so that no edge has to go for one that is missed.
pub(super) const SPARE: usize = 4;
/// Lists begin on a cache line.
const LINE: usize = 16;

/// Numbers from one list to the next: its length, and room for its edges.
pub(super) fn stride(edges: usize) -> usize {
    (1 + edges + SPARE).next_multiple_of(LINE)
}

/// Edges of a vertex on a level.
pub(super) fn most_edges(m: usize, level: usize) -> usize {
    if level == 0 { 2 * m } else { m }
}

/// The lists of one level. The vertices of a level are the first ones: vertices are numbered from the
/// highest level down.
#[derive(Clone, Copy)]
pub(super) struct Level<'a> {
    lists: &'a [u32],
    stride: usize,
}

impl<'a> Level<'a> {
    pub(super) fn new(lists: &'a [u32], stride: usize) -> Self {
        Self { lists, stride }
    }

    /// Vertices on this level.
    pub(super) fn len(self) -> usize {
        self.lists.len() / self.stride
    }

    #[inline(always)]
    pub(super) fn list(self, vertex: u32) -> &'a [u32] {
        &self.lists[vertex as usize * self.stride..][..self.stride]
    }

    #[inline(always)]
    pub(super) fn neighbors(self, vertex: u32) -> &'a [u32] {
        let list = self.list(vertex);
        &list[1..=list[0] as usize]
    }
}

/// The lists of all levels, the lowest first.
#[derive(Clone)]
pub(super) struct Graph {
    pub(super) m: usize,
    pub(super) tables: Vec<Part<u32>>,
}

impl Graph {
    /// Without edges; `counts` are the vertices of each level.
    pub(super) fn new(m: usize, counts: &[usize]) -> Self {
        let counts = counts.iter().enumerate();
        let tables = counts.map(|(level, count)| Part::zeros(count * stride(most_edges(m, level))));
        Self {
            m,
            tables: tables.collect(),
        }
    }

    /// Of no vertices.
    pub(super) fn empty(m: usize) -> Self {
        Self::new(m, &[0])
    }

    pub(super) fn stride(&self, level: usize) -> usize {
        stride(most_edges(self.m, level))
    }

    pub(super) fn levels(&self) -> Vec<Level<'_>> {
        let tables = self.tables.iter().enumerate();
        tables
            .map(|(level, table)| Level::new(table.as_slice(), self.stride(level)))
            .collect()
    }

    /// A list to be changed.
    pub(super) fn list_mut(&mut self, level: usize, vertex: u32) -> &mut [u32] {
        let stride = self.stride(level);
        &mut self.tables[level].as_mut_slice()[vertex as usize * stride..][..stride]
    }

    pub(super) fn set(&mut self, level: usize, vertex: u32, neighbors: &[u32]) {
        let list = self.list_mut(level, vertex);
        list[0] = neighbors.len() as u32;
        list[1..=neighbors.len()].copy_from_slice(neighbors);
    }

    /// Adds an edge, to a spare place if need be; false where there is none left, or the edge is there.
    pub(super) fn add(&mut self, vertex: u32, neighbor: u32) -> bool {
        let list = self.list_mut(0, vertex);
        let count = list[0] as usize;
        if count + 1 >= list.len() || list[1..=count].contains(&neighbor) {
            return false;
        }
        list[count + 1] = neighbor;
        list[0] += 1;
        true
    }
}
