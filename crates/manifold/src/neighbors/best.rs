//! The k smallest (squared distance, id) pairs seen so far.

/// Sorted, nearest first; ties go to the smaller id.
pub(super) struct Best {
    k: usize,
    found: Vec<(f64, u32)>,
}

impl Best {
    pub(super) fn new(k: usize) -> Self {
        Self {
            k,
            found: Vec::with_capacity(k + 1),
        }
    }

    pub(super) fn clear(&mut self) {
        self.found.clear();
    }

    /// Points farther than this cannot enter.
    #[inline(always)]
    pub(super) fn worst(&self) -> f64 {
        if self.found.len() < self.k {
            f64::INFINITY
        } else {
            self.found[self.k - 1].0
        }
    }

    #[inline(always)]
    pub(super) fn offer(&mut self, distance: f64, id: u32) {
        if distance > self.worst() {
            return;
        }
        let place = self
            .found
            .partition_point(|&(d, i)| d < distance || (d == distance && i < id));
        if place < self.k {
            self.found.insert(place, (distance, id));
            self.found.truncate(self.k);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.found.len() == self.k
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.found.iter().map(|&(_, id)| id)
    }
}
