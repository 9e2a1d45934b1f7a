//! Insertion in batches: each batch searches the graph as it was before it, in parallel; then its edges are
//! added, list by list (Manohar and others, ParlayANN, 2024). Nothing depends on which thread comes first.

use rayon::prelude::*;

use super::beam::{Beam, Seen};
use super::graph::{Graph, Level, most_edges};
use super::near::Near;
use super::select::select;
use super::space::Space;
use crate::Result;
use crate::control::Meter;

/// A batch is at most this share of what was inserted before it ...
const SHARE_OF_INSERTED: usize = 4;
/// ... and of all: its vertices do not see one another.
const SHARE_OF_ALL: usize = 50;
/// Vertices that one thread takes at a time.
const CHUNK: usize = 16;

/// An edge that a batch's vertex wants of a vertex before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    level: u8,
    of: u32,
    /// The vertex that wants it, and how far it is.
    by: Seen,
}

/// The neighbours of a new vertex, from the lowest level up.
type Lists = Vec<Vec<Seen>>;

/// Fills a graph without edges.
pub(super) fn insert_all(
    graph: &mut Graph,
    space: &Space<'_>,
    ef_construction: usize,
    meter: &Meter<'_>,
) -> Result<()> {
    let counts: Vec<usize> = graph.levels().iter().map(|level| level.len()).collect();
    let all = counts[0];
    let mut inserted = 1.min(all);
    while inserted < all {
        let most = (inserted / SHARE_OF_INSERTED)
            .min(all / SHARE_OF_ALL)
            .max(1);
        let batch = inserted..(inserted + most).min(all);
        let lists = find(graph, space, &counts, batch.clone(), ef_construction, meter)?;
        link(graph, space, batch.start as u32, lists);
        meter.add(batch.len() as u64);
        inserted = batch.end;
    }
    Ok(())
}

/// Searches the graph for the neighbours of a batch.
fn find(
    graph: &Graph,
    space: &Space<'_>,
    counts: &[usize],
    batch: std::ops::Range<usize>,
    ef: usize,
    meter: &Meter<'_>,
) -> Result<Vec<Lists>> {
    let levels = graph.levels();
    let chunks: Vec<usize> = batch.clone().step_by(CHUNK).collect();
    let found: Result<Vec<Vec<Lists>>> = chunks
        .into_par_iter()
        .map_init(Beam::default, |beam, start| {
            meter.check()?;
            let vertices = start..(start + CHUNK).min(batch.end);
            let lists = vertices.map(|vertex| {
                let highest = counts.iter().take_while(|&&count| vertex < count).count() - 1;
                neighbors(space, &levels, vertex as u32, highest, (graph.m, ef), beam)
            });
            Ok(lists.collect())
        })
        .collect();
    Ok(found?.into_iter().flatten().collect())
}

/// Algorithm 1, up to the point where the graph changes.
fn neighbors(
    space: &Space<'_>,
    levels: &[Level<'_>],
    vertex: u32,
    highest: usize,
    (m, ef): (usize, usize),
    beam: &mut Beam,
) -> Lists {
    let near = Near::own(space, vertex);
    let mut lists = vec![Vec::new(); highest + 1];
    let mut selected = Vec::with_capacity(m);
    beam.descend(&near, levels, highest);
    for level in (0..=highest).rev() {
        beam.search(&near, levels[level], ef);
        select(space, &beam.pool, m, &mut selected);
        let mut pool = beam.pool.iter();
        // Selected in the order of the pool: what is between two of them is passed over.
        let kept = selected.iter();
        lists[level] = kept
            .filter_map(|&id| pool.find(|seen| seen.vertex() == id).copied())
            .collect();
    }
    lists
}

/// Writes the lists of a batch, and adds the edges back.
fn link(graph: &mut Graph, space: &Space<'_>, start: u32, lists: Vec<Lists>) {
    let mut wanted = Vec::new();
    for (vertex, lists) in (start..).zip(lists) {
        for (level, list) in lists.iter().enumerate() {
            let ids: Vec<u32> = list.iter().map(|seen| seen.vertex()).collect();
            graph.set(level, vertex, &ids);
            wanted.extend(list.iter().map(|seen| Wanted {
                level: level as u8,
                of: seen.vertex(),
                by: Seen::new(seen.distance(), vertex),
            }));
        }
    }
    wanted.par_sort_unstable();
    let groups: Vec<&[Wanted]> = wanted
        .chunk_by(|a, b| (a.level, a.of) == (b.level, b.of))
        .collect();
    let levels = graph.levels();
    let m = graph.m;
    let changed: Vec<Vec<u32>> = groups
        .par_iter()
        .with_min_len(CHUNK)
        .map(|group| {
            let level = usize::from(group[0].level);
            extended(space, levels[level], group, most_edges(m, level))
        })
        .collect();
    for (group, neighbors) in groups.iter().zip(changed) {
        graph.set(usize::from(group[0].level), group[0].of, &neighbors);
    }
}

/// The list of a vertex with the edges that are wanted of it; if there are too many, those that
/// [`select`] chooses.
fn extended(space: &Space<'_>, level: Level<'_>, wanted: &[Wanted], most: usize) -> Vec<u32> {
    let vertex = wanted[0].of;
    let old = level.neighbors(vertex);
    let new = wanted.iter().map(|edge| edge.by.vertex());
    if old.len() + wanted.len() <= most {
        return old.iter().copied().chain(new).collect();
    }
    let mut distances = vec![0.0; old.len()];
    space.distances(space.own(vertex), old, &mut distances);
    let old = old.iter().zip(&distances);
    let mut candidates: Vec<Seen> = old
        .map(|(&id, &distance)| Seen::new(distance, id))
        .chain(wanted.iter().map(|edge| edge.by))
        .collect();
    candidates.sort_unstable();
    let mut selected = Vec::with_capacity(most);
    select(space, &candidates, most, &mut selected);
    selected
}
