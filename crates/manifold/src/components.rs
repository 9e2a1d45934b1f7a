//! Closed components of the neighbour graph, and the bridges that open them.
//!
//! (I − W)ᵀ(I − W) has a null vector for every *closed* strongly connected component: one that no edge
//! leaves. Each null vector beyond the constant one would be returned as a dimension that only tells a
//! few tiny clusters from the rest, so closed components are opened first.
//!
//! One has to remain closed, and it should be the bulk of the data. Where the largest strongly connected
//! component leaks into a small closed one, keeping that one would leave a dimension that is nearly as
//! bad: on 10,000 rows of Debian's packages 86 % of the first dimension's variance lay on 186 rows.

use crate::neighbors::{self, Neighbors};
use crate::points::{Feature, Points};
use crate::{Control, Phase, Result};

/// Two rounds suffice on real data; opening a component can close a larger one around it.
const PATIENT_ROUNDS: usize = 16;

/// What bridging found and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bridges {
    /// Closed components before the first round.
    pub(crate) closed_components: usize,
    pub(crate) rounds: usize,
    /// Neighbours that were replaced.
    pub(crate) edges: usize,
}

/// The strongly connected component of each point.
struct Components {
    of: Vec<u32>,
    count: usize,
}

/// Tarjan's algorithm (1972), with its recursion kept on a vector.
fn strongly_connected(graph: &Neighbors) -> Components {
    const UNSEEN: u32 = u32::MAX;
    let n = graph.len();
    let mut index = vec![UNSEEN; n];
    let mut low = vec![0u32; n];
    let mut of = vec![UNSEEN; n];
    let mut count = 0;
    let mut next_index = 0;
    let mut open: Vec<u32> = Vec::new();
    // A frame is a point and how many of its neighbours were followed.
    let mut frames: Vec<(u32, u32)> = Vec::new();
    for root in 0..n as u32 {
        if index[root as usize] != UNSEEN {
            continue;
        }
        frames.push((root, 0));
        while let Some(&mut (point, ref mut followed)) = frames.last_mut() {
            let p = point as usize;
            if *followed == 0 {
                index[p] = next_index;
                low[p] = next_index;
                next_index += 1;
                open.push(point);
            }
            if let Some(&neighbor) = graph.row(p).get(*followed as usize) {
                *followed += 1;
                let q = neighbor as usize;
                if index[q] == UNSEEN {
                    frames.push((neighbor, 0));
                } else if of[q] == UNSEEN {
                    low[p] = low[p].min(index[q]);
                }
                continue;
            }
            frames.pop();
            if let Some(&(parent, _)) = frames.last() {
                low[parent as usize] = low[parent as usize].min(low[p]);
            }
            if low[p] == index[p] {
                while let Some(member) = open.pop() {
                    of[member as usize] = count;
                    if member == point {
                        break;
                    }
                }
                count += 1;
            }
        }
    }
    Components {
        of,
        count: count as usize,
    }
}

/// For each component whether no edge leaves it.
fn closed(graph: &Neighbors, components: &Components) -> Vec<bool> {
    let mut closed = vec![true; components.count];
    for point in 0..graph.len() {
        let own = components.of[point];
        if graph
            .row(point)
            .iter()
            .any(|&q| components.of[q as usize] != own)
        {
            closed[own as usize] = false;
        }
    }
    closed
}

/// Until the largest strongly connected component (of equals, the one that holds the smallest point) is
/// the only closed one, every member of the other closed components swaps its farthest neighbour for the
/// nearest point outside its component.
///
/// After [`PATIENT_ROUNDS`] the bridges go to the largest component itself. Whatever is closed then must
/// contain it, so that round is the last.
pub(crate) fn bridge<T: Feature>(
    points: Points<'_, T>,
    graph: &mut Neighbors,
    control: &dyn Control,
) -> Result<Bridges> {
    let mut bridges = Bridges::default();
    control.progress(Phase::Components, 0, 1);
    loop {
        let components = strongly_connected(graph);
        let closed = closed(graph, &components);
        let found = closed.iter().filter(|&&c| c).count();
        if bridges.rounds == 0 {
            bridges.closed_components = found;
        }
        let mut sizes = vec![0usize; components.count];
        components.of.iter().for_each(|&c| sizes[c as usize] += 1);
        // Points come in ascending order, so the first of the largest size wins.
        let mut keep = 0;
        let mut largest = 0;
        for &component in &components.of {
            if sizes[component as usize] > largest {
                (keep, largest) = (component, sizes[component as usize]);
            }
        }
        let members: Vec<u32> = (0..graph.len() as u32)
            .filter(|&p| {
                let component = components.of[p as usize];
                closed[component as usize] && component != keep
            })
            .collect();
        if members.is_empty() {
            control.progress(Phase::Components, 1, 1);
            return Ok(bridges);
        }
        let groups: Vec<u32> = if bridges.rounds < PATIENT_ROUNDS {
            components.of
        } else {
            components
                .of
                .iter()
                .map(|&c| u32::from(c == keep))
                .collect()
        };
        let outside = neighbors::nearest_outside(points, &members, &groups, control)?;
        let k = graph.k;
        for (&member, &outside) in members.iter().zip(&outside) {
            graph.ids[member as usize * k + k - 1] = outside;
        }
        bridges.rounds += 1;
        bridges.edges += members.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(k: usize, ids: &[u32]) -> Neighbors {
        Neighbors {
            k,
            ids: ids.to_vec(),
        }
    }

    #[test]
    fn a_component_that_points_into_another_is_not_closed() {
        // 0 and 1 know each other, 2 and 3 know each other, 1 also knows 2.
        let graph = graph(2, &[1, 1, 0, 2, 3, 3, 2, 2]);
        let components = strongly_connected(&graph);
        assert_eq!(components.count, 2);
        let closed = closed(&graph, &components);
        assert!(!closed[components.of[0] as usize]);
        assert!(closed[components.of[2] as usize]);
    }

    #[test]
    fn two_far_clusters_are_bridged_by_real_neighbours() {
        let values = [0.0, 1.0, 2.0, 3.0, 100.0, 101.0, 102.0];
        let features = ndarray::Array2::from_shape_vec((7, 1), values.to_vec()).unwrap();
        let rows = crate::points::DistinctRows::new(features.view(), &()).unwrap();
        let mut graph = neighbors::self_join(rows.points(), 2, &()).unwrap();
        let bridges = bridge(rows.points(), &mut graph, &()).unwrap();
        assert_eq!(bridges.closed_components, 2);
        assert_eq!((bridges.rounds, bridges.edges), (1, 3));
        assert_eq!(graph.row(4), [5, 3]);
        assert_eq!(
            graph.row(0),
            [1, 2],
            "the largest component keeps its neighbours"
        );
    }
}
