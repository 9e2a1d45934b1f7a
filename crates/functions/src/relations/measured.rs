//! Which queries of a search are also compared with all rows, to see what it missed.

use std::ops::Range;

use crate::indexed_rows::{HeldRows, SearchedBy};

/// One query of so many, no more.
const EVERY: usize = 64;
/// So many queries at most.
const MOST: usize = 100;
/// Where a graph was built for the call, which took so long that this does not matter.
const LEAST: usize = 4;
/// A graph compares a query with some thousand rows, a measurement with all of them: one more query is measured for
/// as many as look at the rows so many times over, and takes some hundredths of their time.
const LOOKED_AT: usize = 20;

/// Queries are chosen as they come, the same ones in whatever parts that is.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    taken: usize,
}

impl Chosen {
    /// The next of `queries`, numbered in the order in which they came, that are measured.
    pub(super) fn of(&mut self, queries: Range<usize>, held: &HeldRows) -> Vec<usize> {
        self.chosen(queries, held.searched_by(), held.len())
    }

    fn chosen(&mut self, queries: Range<usize>, by: SearchedBy, rows: usize) -> Vec<usize> {
        let first = queries.start.next_multiple_of(EVERY);
        let candidates = (first..queries.end).step_by(EVERY);
        let chosen = candidates.filter(|query| {
            let is_chosen = self.taken < allowed(query + 1, by, rows);
            self.taken += usize::from(is_chosen);
            is_chosen
        });
        chosen.collect()
    }
}

/// How many of so many queries may be measured.
fn allowed(queries: usize, by: SearchedBy, rows: usize) -> usize {
    let paid = queries.saturating_mul(LOOKED_AT) / rows.max(1);
    match by {
        // One more look at all rows is little.
        SearchedBy::Comparing => MOST,
        SearchedBy::BuiltGraph => LEAST.saturating_add(paid).min(MOST),
        SearchedBy::StoredGraph => paid.min(MOST),
    }
}

#[cfg(test)]
mod tests {
    use super::SearchedBy::{BuiltGraph, Comparing, StoredGraph};
    use super::*;

    #[test]
    fn few_queries_of_many_rows_are_measured_less() {
        assert_eq!(allowed(1, BuiltGraph, 0), 24);
        assert_eq!(allowed(5_000, BuiltGraph, 55_000), 5);
        assert_eq!(allowed(5_000, StoredGraph, 55_000), 1);
        assert_eq!(allowed(1_000, StoredGraph, 1_000_000), 0);
        assert_eq!(allowed(1_000_000, BuiltGraph, 1_000_000), 24);
        assert_eq!(allowed(10_000, StoredGraph, 1_000), 100);
        assert_eq!(allowed(1, Comparing, 1_000_000), 100);
    }

    #[test]
    fn the_same_queries_are_chosen_however_they_are_cut() {
        for (by, rows, expected) in [
            (Comparing, 300, vec![0, 64, 128, 192, 256]),
            (BuiltGraph, 100_000, vec![0, 64, 128, 192]),
            (StoredGraph, 2_000, vec![128, 256]),
        ] {
            assert_eq!(Chosen::default().chosen(0..300, by, rows), expected);
            let mut chosen = Chosen::default();
            let parts = [0..1, 1..64, 64..65, 65..65, 65..300].into_iter();
            let cut = parts.flat_map(|part| chosen.chosen(part, by, rows));
            assert_eq!(cut.collect::<Vec<_>>(), expected);
        }
    }
}
