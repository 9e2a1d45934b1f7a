//! The rows of a table in the order of their distance to a query, as far as an index tells.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::{Result, exec_datafusion_err};

use super::open::OpenIndex;
use super::scan::IndexScan;
use crate::fit_task::blocking;

/// Where a row is: its file among the sources of the index, and its number in it.
pub(crate) type Place = (usize, u64);

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// Among the sources of the index.
    pub(crate) file: usize,
    /// Its number in that file.
    pub(crate) row: u64,
    /// Its number in the index; `None` for a row without a vector.
    pub(crate) vertex: Option<u32>,
}

impl Candidate {
    fn new((file, row): Place, vertex: Option<u32>) -> Self {
        Self { file, row, vertex }
    }
}

/// Rows of the files that a scan reads, each given once.
pub(crate) struct Candidates {
    index: Arc<OpenIndex>,
    scan: Arc<IndexScan>,
    /// Rows of the index that were given.
    seen: HashSet<u32>,
    /// Rows without a vector that were given.
    nulls_seen: usize,
    exhausted: bool,
}

impl Candidates {
    pub(crate) fn new(index: Arc<OpenIndex>, scan: Arc<IndexScan>) -> Self {
        Self {
            index,
            scan,
            seen: HashSet::new(),
            nulls_seen: 0,
            exhausted: false,
        }
    }

    /// Rows that were given.
    pub(crate) fn examined(&self) -> usize {
        self.seen.len() + self.nulls_seen
    }

    /// Whether every row was given.
    pub(crate) fn are_exhausted(&self) -> bool {
        self.exhausted
    }

    /// What is new among the first `wanted` rows. Rows without a vector come where the query wants those whose
    /// distance is NULL.
    pub(crate) async fn up_to(&mut self, wanted: usize) -> Result<Vec<Candidate>> {
        let mut found = Vec::new();
        let nulls_first = self.scan.query.nulls_first;
        let mut left = wanted;
        if nulls_first {
            left -= self.nulls(wanted, &mut found)?;
        }
        if left > 0 {
            left -= self.vectors(left, &mut found).await?;
        }
        if left > 0 && !nulls_first {
            left -= self.nulls(left, &mut found)?;
        }
        self.exhausted = left > 0;
        Ok(found)
    }

    /// Searches for the nearest `wanted` rows; gives how many there are.
    async fn vectors(&mut self, wanted: usize, found: &mut Vec<Candidate>) -> Result<usize> {
        let (index, scan) = (Arc::clone(&self.index), Arc::clone(&self.scan));
        let nearest = blocking(move || {
            let is_read = |row| {
                let place = index.place(row);
                place.is_ok_and(|(file, _)| scan.files[file].is_some())
            };
            let ef_search = scan.ef_search.max(wanted);
            let nearest = if scan.files.iter().all(Option::is_some) {
                index
                    .graph
                    .search_filtered(&scan.query.query, wanted, ef_search, &|_| true)
            } else {
                index
                    .graph
                    .search_filtered(&scan.query.query, wanted, ef_search, &is_read)
            };
            let name = &index.header.name;
            nearest.map_err(|error| exec_datafusion_err!("searching the index '{name}': {error}"))
        })
        .await?;
        for (row, _) in &nearest {
            if self.seen.insert(*row) {
                found.push(Candidate::new(self.index.place(*row)?, Some(*row)));
            }
        }
        Ok(nearest.len())
    }

    /// The first `wanted` rows without a vector; gives how many there are.
    fn nulls(&mut self, wanted: usize, found: &mut Vec<Candidate>) -> Result<usize> {
        let mut count = 0;
        for row in self.index.positions.without_vector() {
            if count == wanted {
                break;
            }
            let place = self.index.place_of_table_row(row)?;
            if self.scan.files[place.0].is_none() {
                continue;
            }
            count += 1;
            if count > self.nulls_seen {
                found.push(Candidate::new(place, None));
            }
        }
        self.nulls_seen = self.nulls_seen.max(count);
        Ok(count)
    }
}
