//! The k smallest (key, id) pairs seen so far.

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
    pub(super) fn offer(&mut self, key: f64, id: u32) {
        if key > self.worst() {
            return;
        }
        let place = self
            .found
            .partition_point(|&(other, i)| other < key || (other == key && i < id));
        if place < self.k {
            self.found.insert(place, (key, id));
            self.found.truncate(self.k);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.found.len() == self.k
    }

    /// Nearest first.
    pub(super) fn write(&self, ids: &mut [u32], keys: &mut [f64]) {
        for (&(key, id), (out_id, out_key)) in self.found.iter().zip(ids.iter_mut().zip(keys)) {
            (*out_id, *out_key) = (id, key);
        }
    }

    pub(super) fn nearest(&self) -> Option<u32> {
        self.found.first().map(|&(_, id)| id)
    }
}
