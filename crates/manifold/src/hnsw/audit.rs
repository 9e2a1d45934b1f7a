//! Vertices that searches do not find, and the edges that mend it.

use rayon::prelude::*;

use super::beam::{Beam, Seen};
use super::graph::Graph;
use super::near::Near;
use super::space::Space;
use crate::Result;
use crate::control::Meter;

/// What was found and mended after building.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HnswAudit {
    /// Distinct vectors: the vertices of the graph. Equal rows share one.
    pub vertices: usize,
    /// Levels above the lowest.
    pub upper_levels: usize,
    /// Vertices that no path led to from the entry point, before edges were added.
    pub unreachable_repaired: usize,
    /// Vertices that a search for themselves did not find, before edges were added.
    pub not_self_found_repaired: usize,
    /// Vertices that no path leads to after that: 0 unless lists ran out of room.
    pub unreachable: usize,
    /// Vertices that a search for themselves does not find after that: 0 unless lists ran out of room.
    pub not_self_found: usize,
    /// Edges that were added.
    pub edges_added: usize,
    /// Rounds of looking and adding.
    pub rounds: usize,
}

/// What a search for oneself keeps in view: less than any search for neighbours should.
pub(super) const OWN_EF: usize = 16;
/// Vertices in view while a way to an orphan is sought.
const ORPHAN_EF: usize = 64;
/// Each round looks at every vertex, and adds edges for those that were missed.
const ROUNDS: usize = 20;
const CHUNK: usize = 64;

/// Adds edges until every vertex is reached from the entry point and found by a search for itself, or no more
/// can be added.
pub(super) fn mend(graph: &mut Graph, space: &Space<'_>, meter: &Meter<'_>) -> Result<HnswAudit> {
    let mut audit = HnswAudit {
        vertices: graph.levels()[0].len(),
        upper_levels: graph.levels().len() - 1,
        ..HnswAudit::default()
    };
    loop {
        let first = audit.rounds == 0;
        audit.rounds += 1;
        let (orphans, edges) = reach(graph, space);
        let missed = missed(graph, space, OWN_EF, Some(meter))?;
        if first {
            audit.unreachable_repaired = orphans;
            audit.not_self_found_repaired = missed.len();
        }
        let before = audit.edges_added;
        audit.edges_added += edges;
        for (vertex, pool) in &missed {
            let from = pool.iter().find(|seen| graph.add(seen.vertex(), *vertex));
            audit.edges_added += usize::from(from.is_some());
        }
        let stuck = audit.edges_added == before || audit.rounds == ROUNDS;
        if missed.is_empty() || stuck {
            audit.not_self_found = missed.len();
            audit.unreachable = unreachable(graph).len();
            return Ok(audit);
        }
    }
}

/// Marks what can be reached from `start` on the lowest level.
fn spread(graph: &Graph, start: u32, reached: &mut [bool]) {
    let levels = graph.levels();
    let mut open = vec![start];
    reached[start as usize] = true;
    while let Some(vertex) = open.pop() {
        for &neighbor in levels[0].neighbors(vertex) {
            if !std::mem::replace(&mut reached[neighbor as usize], true) {
                open.push(neighbor);
            }
        }
    }
}

fn reached(graph: &Graph) -> Vec<bool> {
    let mut reached = vec![false; graph.levels()[0].len()];
    if !reached.is_empty() {
        spread(graph, 0, &mut reached);
    }
    reached
}

/// Vertices that no path leads to.
pub(super) fn unreachable(graph: &Graph) -> Vec<u32> {
    let reached = reached(graph);
    (0..reached.len() as u32)
        .filter(|&vertex| !reached[vertex as usize])
        .collect()
}

/// Leads an edge to every orphan from a reached vertex near it. Returns the orphans there were and the edges
/// that were needed.
fn reach(graph: &mut Graph, space: &Space<'_>) -> (usize, usize) {
    let orphans = unreachable(graph);
    let mut reached = reached(graph);
    let mut edges = 0;
    for &orphan in &orphans {
        if reached[orphan as usize] {
            continue;
        }
        let mut beam = Beam::default();
        search_own(graph, space, orphan, ORPHAN_EF, &mut beam);
        let near = beam.pool.iter().map(|seen| seen.vertex());
        let any = 0..reached.len() as u32;
        let from = near
            .chain(any)
            .find(|&vertex| reached[vertex as usize] && graph.add(vertex, orphan));
        if from.is_some() {
            edges += 1;
            spread(graph, orphan, &mut reached);
        }
    }
    (orphans.len(), edges)
}

fn search_own(graph: &Graph, space: &Space<'_>, vertex: u32, ef: usize, beam: &mut Beam) {
    let (near, levels) = (Near::own(space, vertex), graph.levels());
    beam.descend(&near, &levels, 0);
    beam.search(&near, levels[0], ef);
}

/// The vertices that a search for themselves does not find, nor another at their place, with what it found
/// instead, nearest first.
pub(super) fn missed(
    graph: &Graph,
    space: &Space<'_>,
    ef: usize,
    meter: Option<&Meter<'_>>,
) -> Result<Vec<(u32, Vec<Seen>)>> {
    let all = graph.levels()[0].len();
    let chunks: Vec<usize> = (0..all).step_by(CHUNK).collect();
    let missed: Result<Vec<_>> = chunks
        .into_par_iter()
        .map_init(Beam::default, |beam, start| {
            let vertices = start..(start + CHUNK).min(all);
            if let Some(meter) = meter {
                meter.check()?;
                meter.add(vertices.len() as u64);
            }
            let mut missed = Vec::new();
            for vertex in vertices {
                let vertex = vertex as u32;
                search_own(graph, space, vertex, ef, beam);
                if !is_found(space, vertex, &beam.pool) {
                    missed.push((vertex, beam.pool.clone()));
                }
            }
            Ok(missed)
        })
        .collect();
    Ok(missed?.concat())
}

/// Exact distances of rows at one place differ by rounding.
const SAME_PLACE: f64 = 1e-12;

fn is_found(space: &Space<'_>, vertex: u32, pool: &[Seen]) -> bool {
    pool.iter().any(|seen| seen.vertex() == vertex)
        || (space.metric == crate::Metric::Cosine
            && pool.first().is_some_and(|nearest| {
                space.key(space.vector(vertex), nearest.vertex()) <= SAME_PLACE
            }))
}
