//! The symmetric neighbour graph, made connected, and its normalised Laplacian as an operator.

use rayon::prelude::*;

use crate::control::stop_if_cancelled;
use crate::matrix::{Lower, by_chunks};
use crate::neighbors::{self, Neighbors};
use crate::panel::Panel;
use crate::points::{Feature, Points, squared_distance};
use crate::solver::Operator;
use crate::{Control, Phase, Result};

const CHUNK: usize = 1024;

/// What connecting the graph found and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Connections {
    /// Connected components before any was added to.
    pub(super) components: usize,
    /// Edges added.
    pub(super) edges: usize,
}

/// L = I − D^(−1/2) W D^(−1/2) for symmetric weights W with row sums D, as AᵀA: an edge {i, j} is the row
/// √wᵢⱼ (vᵢ/√dᵢ − vⱼ/√dⱼ) of A v. Its null vector is D^(1/2) 1.
pub(super) struct Laplacian {
    /// The neighbours of point i are `ids[start[i]..start[i + 1]]`, ascending.
    start: Vec<usize>,
    ids: Vec<u32>,
    weights: Vec<f64>,
    /// Which row of A each place is; the rows of a point's edges to larger points follow one another.
    rows: Vec<usize>,
    row_start: Vec<usize>,
    root_degrees: Vec<f64>,
}

impl Laplacian {
    /// W = ½ (A + Aᵀ) for the 0/1 adjacency A of the k nearest neighbours (scikit-learn's
    /// `affinity='nearest_neighbors'`). Where W falls apart, every component but the largest is joined to the
    /// point nearest to it, by an edge of weight 1, until one is left: a component more would be a null
    /// vector more, and a dimension that tells nothing but where it lies.
    pub(super) fn connected<T: Feature>(
        points: Points<'_, T>,
        graph: &Neighbors,
        control: &dyn Control,
    ) -> Result<(Self, Connections)> {
        control.progress(Phase::Components, 0, 1);
        let mut edges: Vec<(u32, u32, f64)> = (0..graph.len() as u32)
            .flat_map(|i| graph.row(i as usize).iter().map(move |&j| (i, j)))
            .map(|(i, j)| (i.min(j), i.max(j), 0.5))
            .collect();
        edges.par_sort_unstable_by_key(|&(i, j, _)| (i, j));
        edges.dedup_by(|next, kept| {
            let same = (next.0, next.1) == (kept.0, kept.1);
            kept.2 += if same { next.2 } else { 0.0 };
            same
        });
        let mut connections = Connections::default();
        loop {
            stop_if_cancelled(control)?;
            let component = components(graph.len(), &edges);
            let mut sizes = vec![0usize; graph.len()];
            component.iter().for_each(|&c| sizes[c as usize] += 1);
            let count = sizes.iter().filter(|&&size| size > 0).count();
            if connections.components == 0 {
                connections.components = count;
            }
            if count == 1 {
                break;
            }
            let added = nearest_pairs(points, &component, &sizes, control)?;
            connections.edges += added.len();
            edges.extend(added.into_iter().map(|(i, j)| (i, j, 1.0)));
        }
        edges.par_sort_unstable_by_key(|&(i, j, _)| (i, j));
        control.progress(Phase::Components, 1, 1);
        Ok((Self::new(graph.len(), &edges), connections))
    }

    /// `edges` are distinct, (smaller, larger, weight), ascending.
    fn new(n: usize, edges: &[(u32, u32, f64)]) -> Self {
        let mut start = vec![0; n + 1];
        let mut row_start = vec![0; n + 1];
        for &(i, j, _) in edges {
            start[i as usize + 1] += 1;
            start[j as usize + 1] += 1;
            row_start[i as usize + 1] += 1;
        }
        for i in 0..n {
            start[i + 1] += start[i];
            row_start[i + 1] += row_start[i];
        }
        let mut next = start.clone();
        let places = 2 * edges.len();
        let (mut ids, mut weights, mut rows) =
            (vec![0; places], vec![0.0; places], vec![0; places]);
        // A point's smaller neighbours come first: edges are sorted by their smaller end.
        for upper in [false, true] {
            for (row, &(i, j, weight)) in edges.iter().enumerate() {
                let (point, other) = if upper { (i, j) } else { (j, i) };
                let place = next[point as usize];
                next[point as usize] += 1;
                (ids[place], weights[place], rows[place]) = (other, weight, row);
            }
        }
        let root_degrees = (0..n)
            .map(|i| weights[start[i]..start[i + 1]].iter().sum::<f64>().sqrt())
            .collect();
        Self {
            start,
            ids,
            weights,
            rows,
            row_start,
            root_degrees,
        }
    }

    /// Bytes of a graph of n points and k neighbours each, with what building it takes.
    pub(super) fn predicted_bytes(n: usize, k: usize) -> usize {
        let (edge, place) = (size_of::<(u32, u32, f64)>(), 4 + 8 + 8);
        n * k * (2 * edge + 2 * place) + 6 * n * size_of::<usize>()
    }

    pub(super) fn root_degrees(&self) -> &[f64] {
        &self.root_degrees
    }

    /// (neighbour, weight, row of A) of every edge of a point.
    fn edges(&self, point: usize) -> impl Iterator<Item = (usize, f64, usize)> + '_ {
        (self.start[point]..self.start[point + 1]).map(|place| {
            (
                self.ids[place] as usize,
                self.weights[place],
                self.rows[place],
            )
        })
    }
}

impl Operator for Laplacian {
    fn len(&self) -> usize {
        self.root_degrees.len()
    }

    fn rows(&self) -> usize {
        self.row_start[self.len()]
    }

    fn null_vector(&self) -> Panel {
        let mut null = Panel::constant(self.len());
        let length = self.root_degrees.iter().map(|s| s * s).sum::<f64>().sqrt();
        let entries = null.column_mut(0).iter_mut().zip(&self.root_degrees);
        entries.for_each(|(v, s)| *v = s / length);
        null
    }

    fn apply(&self, v: &Panel, out: &mut Panel) {
        for column in 0..v.columns() {
            let v = v.column(column);
            let scaled = |i: usize| v[i] / self.root_degrees[i];
            let out = by_chunks(out.column_mut(column), &self.row_start, CHUNK);
            out.into_par_iter().enumerate().for_each(|(chunk, out)| {
                let points = chunk * CHUNK..((chunk + 1) * CHUNK).min(self.len());
                let edges = points.flat_map(|i| {
                    let larger = self.edges(i).filter(move |&(j, ..)| j > i);
                    larger.map(move |(j, weight, _)| (i, j, weight))
                });
                for (out, (i, j, weight)) in out.iter_mut().zip(edges) {
                    *out = weight.sqrt() * (scaled(i) - scaled(j));
                }
            });
        }
    }

    fn apply_transposed(&self, u: &Panel, out: &mut Panel) {
        for column in 0..u.columns() {
            let u = u.column(column);
            let out = out.column_mut(column).par_chunks_mut(CHUNK).enumerate();
            out.for_each(|(chunk, out)| {
                for (offset, out) in out.iter_mut().enumerate() {
                    let i = chunk * CHUNK + offset;
                    let sum: f64 = self
                        .edges(i)
                        .map(|(j, weight, row)| {
                            let value = weight.sqrt() * u[row];
                            if i < j { value } else { -value }
                        })
                        .sum();
                    *out = sum / self.root_degrees[i];
                }
            });
        }
    }

    /// Lᵢᵢ = 1.
    fn largest_diagonal(&self) -> f64 {
        1.0
    }

    fn lower_entries_at_most(&self) -> usize {
        self.len() + self.rows()
    }

    fn lower(&self, control: &dyn Control) -> Result<Lower> {
        stop_if_cancelled(control)?;
        let entries = self.lower_entries_at_most();
        let mut lower = Lower {
            column_start: Vec::with_capacity(self.len() + 1),
            rows: Vec::with_capacity(entries),
            values: Vec::with_capacity(entries),
        };
        lower.column_start.push(0);
        for i in 0..self.len() {
            lower.rows.push(i);
            lower.values.push(1.0);
            for (j, weight, _) in self.edges(i).filter(|&(j, ..)| j > i) {
                lower.rows.push(j);
                let degrees = self.root_degrees[i] * self.root_degrees[j];
                lower.values.push(-weight / degrees);
            }
            lower.column_start.push(lower.rows.len());
        }
        Ok(lower)
    }
}

/// For every point the smallest point of its connected component.
fn components(n: usize, edges: &[(u32, u32, f64)]) -> Vec<u32> {
    let mut parent: Vec<u32> = (0..n as u32).collect();
    let find = |parent: &mut Vec<u32>, mut i: u32| {
        while parent[i as usize] != i {
            parent[i as usize] = parent[parent[i as usize] as usize];
            i = parent[i as usize];
        }
        i
    };
    for &(i, j, _) in edges {
        let (a, b) = (find(&mut parent, i), find(&mut parent, j));
        parent[a.max(b) as usize] = a.min(b);
    }
    (0..n as u32).map(|i| find(&mut parent, i)).collect()
}

/// For every component but the largest (of equals, the one with the smallest point) the pair of a point in it
/// and one outside that lie nearest; each pair once, (smaller, larger), ascending.
fn nearest_pairs<T: Feature>(
    points: Points<'_, T>,
    component: &[u32],
    sizes: &[usize],
    control: &dyn Control,
) -> Result<Vec<(u32, u32)>> {
    let largest = (0..sizes.len()).fold(0, |best, c| if sizes[c] > sizes[best] { c } else { best });
    let members: Vec<u32> = (0..component.len() as u32)
        .filter(|&i| component[i as usize] as usize != largest)
        .collect();
    let outside = neighbors::nearest_outside(points, &members, component, control)?;
    let mut nearest = vec![(f64::INFINITY, 0, 0); sizes.len()];
    for (&member, &other) in members.iter().zip(&outside) {
        let (a, b) = (points.row(member as usize), points.row(other as usize));
        let pair = (squared_distance(a, b), member.min(other), member.max(other));
        let best = &mut nearest[component[member as usize] as usize];
        if pair < *best {
            *best = pair;
        }
    }
    let mut pairs: Vec<(u32, u32)> = nearest
        .into_iter()
        .filter(|&(distance, ..)| distance.is_finite())
        .map(|(_, i, j)| (i, j))
        .collect();
    pairs.sort_unstable();
    pairs.dedup();
    Ok(pairs)
}
