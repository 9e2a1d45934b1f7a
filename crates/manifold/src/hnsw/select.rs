//! Which of the vertices that were found become neighbours: Algorithm 4 of Malkov and Yashunin (2018), as
//! hnswlib has it: no candidates are added, and of those left out none is taken back.

use super::beam::Seen;
use super::space::Space;

/// Selected neighbours that a candidate is compared with at once.
const AT_ONCE: usize = 4;

/// Up to `most` of `candidates`, which come nearest first: those that are nearer to the vertex than to any
/// one selected before. All, if there are fewer than `most`.
pub(super) fn select(space: &Space<'_>, candidates: &[Seen], most: usize, selected: &mut Vec<u32>) {
    selected.clear();
    if candidates.len() < most {
        selected.extend(candidates.iter().map(|seen| seen.vertex()));
        return;
    }
    for (place, &candidate) in candidates.iter().enumerate() {
        if selected.len() == most {
            return;
        }
        if let Some(next) = candidates.get(place + 1) {
            space.rows.prefetch(next.vertex());
        }
        if !is_covered(space, candidate, selected) {
            selected.push(candidate.vertex());
        }
    }
}

/// Whether a selected vertex is nearer to the candidate than the candidate is to the vertex whose neighbours
/// are sought, or at the very place of the candidate.
fn is_covered(space: &Space<'_>, candidate: Seen, selected: &[u32]) -> bool {
    let query = space.own(candidate.vertex());
    let reach = candidate.distance();
    let mut distances = [0.0; AT_ONCE];
    let coincide = space.least();
    selected.chunks(AT_ONCE).any(|ids| {
        let distances = &mut distances[..ids.len()];
        space.distances(query, ids, distances);
        distances.iter().any(|&d| d < reach || d <= coincide)
    })
}
