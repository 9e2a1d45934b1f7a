//! The search of one level: Algorithm 2 of Malkov and Yashunin (2018).

use super::graph::Level;
use super::near::Near;

/// A vertex and how far it is, in one number that orders as the two do: the distance's bits, the vertex, and
/// whether its neighbours have been looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seen(u64);

impl Seen {
    pub(super) fn new(distance: f32, vertex: u32) -> Self {
        // Adding zero: -0.0 and 0.0 are one distance.
        let bits = (distance + 0.0).to_bits();
        let negative = ((bits as i32) >> 31) as u32;
        let ordered = bits ^ (negative | 1 << 31);
        Self(u64::from(ordered) << 32 | u64::from(vertex) << 1)
    }

    pub(super) fn vertex(self) -> u32 {
        (self.0 as u32) >> 1
    }

    pub(super) fn distance(self) -> f32 {
        let ordered = (self.0 >> 32) as u32;
        let negative = ((!ordered as i32) >> 31) as u32;
        f32::from_bits(ordered ^ (negative | 1 << 31))
    }

    fn is_expanded(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Which vertices a search has seen: a stamp each, so that nothing is cleared between searches.
#[derive(Default)]
pub(super) struct Visited {
    stamps: Vec<u8>,
    epoch: u8,
}

impl Visited {
    pub(super) fn start(&mut self, vertices: usize) {
        if self.stamps.len() < vertices || self.epoch == u8::MAX {
            self.stamps.clear();
            self.stamps.resize(vertices, 0);
            self.epoch = 0;
        }
        self.epoch += 1;
    }

    /// Whether this is the first time.
    #[inline(always)]
    pub(super) fn insert(&mut self, vertex: u32) -> bool {
        let stamp = &mut self.stamps[vertex as usize];
        let fresh = *stamp != self.epoch;
        *stamp = self.epoch;
        fresh
    }
}

/// What one thread needs for one search after another.
#[derive(Default)]
pub(super) struct Beam {
    pub(super) visited: Visited,
    /// The nearest vertices so far, nearest first.
    pub(super) pool: Vec<Seen>,
    fresh: Vec<u32>,
    distances: Vec<f32>,
    /// Vertices compared with the query.
    pub(super) compared: u64,
}

impl Beam {
    /// The `ef` nearest vertices of `level` that are found from those in the pool, which stay in it.
    pub(super) fn search(&mut self, near: &Near<'_>, level: Level<'_>, ef: usize) {
        self.visited.start(level.len());
        for seen in &mut self.pool {
            self.visited.insert(seen.vertex());
            seen.0 &= !1;
        }
        let mut next = 0;
        while let Some(seen) = self.pool.get_mut(next) {
            if seen.is_expanded() {
                next += 1;
                continue;
            }
            seen.0 |= 1;
            let vertex = seen.vertex();
            self.expand(near, level, vertex);
            next = next.min(self.keep(ef));
        }
    }

    /// Compares the neighbours that have not been seen.
    #[inline(always)]
    fn expand(&mut self, near: &Near<'_>, level: Level<'_>, vertex: u32) {
        self.fresh.clear();
        for &neighbor in level.neighbors(vertex) {
            if self.visited.insert(neighbor) {
                if self.fresh.len() < 4 {
                    near.prefetch(neighbor);
                }
                self.fresh.push(neighbor);
            }
        }
        self.compared += self.fresh.len() as u64;
        self.distances.resize(self.fresh.len(), 0.0);
        near.distances(&self.fresh, &mut self.distances);
    }

    /// Takes what was compared into the pool; returns the first place that changed.
    #[inline(always)]
    fn keep(&mut self, ef: usize) -> usize {
        let mut first = usize::MAX;
        for (&vertex, &distance) in self.fresh.iter().zip(&self.distances) {
            let seen = Seen::new(distance, vertex);
            if self.pool.len() >= ef {
                match self.pool.last() {
                    Some(&last) if seen < last => self.pool.pop(),
                    _ => continue,
                };
            }
            let place = self.pool.partition_point(|&other| other < seen);
            self.pool.insert(place, seen);
            first = first.min(place);
        }
        first
    }

    /// From the entry point down to the nearest vertex on the level above `lowest`: the start of a search
    /// of that level.
    pub(super) fn descend(&mut self, near: &Near<'_>, levels: &[Level<'_>], lowest: usize) {
        self.pool.clear();
        self.pool.push(Seen::new(near.distance(0), 0));
        for level in levels.iter().skip(lowest + 1).rev() {
            self.search(near, *level, 1);
        }
    }
}
