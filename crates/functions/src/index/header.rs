//! What an index file says about itself, before its sections.

use lakefold_manifold::VectorStorage;
use serde::{Deserialize, Serialize};

/// What a search of the index with some `ef_search` finds, measured when the index was built.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RecallPoint {
    /// Candidates that the search keeps.
    pub ef_search: usize,
    /// Of the [`IndexHeader::recall_k`] nearest rows, the share that was found; from 0 to 1.
    pub recall: f64,
}

/// What a search finds through codes of the vectors and through the vectors themselves, measured when the index was
/// built.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StorageRecall {
    /// Candidates that the search keeps.
    pub ef_search: usize,
    /// Of the [`IndexHeader::recall_k`] nearest rows, the share that is found through the vectors; from 0 to 1.
    pub f32: f64,
    /// The share that is found through codes of eight bits.
    pub int8: f64,
}

/// One file that was indexed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Its path below the directory that the index belongs to.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// ETag in an object store, time of modification on a local disk.
    pub version: String,
    /// Its rows, those without a vector included.
    pub rows: u64,
}

/// A part of the file after the header.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Section {
    /// From the end of the header, a multiple of 64.
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    /// XXH64 with seed 0, in hexadecimal: JSON has no whole numbers of 64 bits.
    pub(crate) checksum: String,
}

/// The description of an index.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct IndexHeader {
    /// Of the program that wrote it.
    pub written_by: String,
    /// The index's name, unique in its directory.
    pub name: String,
    /// The file, glob or (when empty) the whole directory that was indexed, below the directory that the
    /// index belongs to.
    pub table: String,
    /// The table's directory, where the index is elsewhere.
    pub table_directory: Option<String>,
    /// The column of vectors.
    pub column: String,
    /// The column whose values name the rows in the results of `lakefold index search`.
    pub id_column: Option<String>,
    /// `l2`, `cosine` or `inner_product`.
    pub metric: String,
    /// Links of a node a layer.
    pub m: usize,
    /// Candidates kept while a row was inserted.
    pub ef_construction: usize,
    /// Of the levels.
    pub seed: u64,
    /// As what its vectors are walked through: `f32`, or `int8` where there are codes beside them.
    #[serde(default = "f32_storage", skip_serializing_if = "is_f32")]
    pub storage: String,
    /// What was asked for: `auto`, `f32` or `int8`.
    #[serde(default = "auto_storage", skip_serializing_if = "is_auto")]
    pub storage_option: String,
    /// Where codes were tried, whether or not they were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_recall: Option<StorageRecall>,
    /// Numbers of a vector.
    pub dimensions: usize,
    /// Rows in the index: those with a vector.
    pub rows: u64,
    /// Rows without one.
    pub null_rows: u64,
    /// Whether the column holds exactly the numbers that are indexed: `FLOAT` or smaller. Others were rounded.
    pub exact_values: bool,
    /// Every file of the table, in the order in which its rows are counted.
    pub sources: Vec<SourceFile>,
    /// Rows that could not be reached from the entry point until they were given links.
    pub unreachable_repaired: usize,
    /// Rows that a search for their own vector did not find until they were given links.
    pub not_self_found_repaired: usize,
    /// Neighbours that recall was measured with.
    pub recall_k: usize,
    /// Rows that recall was measured on.
    pub recall_sample: usize,
    /// By `ef_search`, growing.
    pub recall: Vec<RecallPoint>,
    pub(crate) graph: Section,
    /// `None` where the rows of the index are all rows of the table.
    pub(crate) positions: Option<Section>,
    pub(crate) ids: Option<Section>,
}

// What every index was before there were codes is left out, so that the file of one without them stays as it was.

fn f32_storage() -> String {
    VectorStorage::F32.name().to_owned()
}

fn is_f32(storage: &str) -> bool {
    storage == VectorStorage::F32.name()
}

fn auto_storage() -> String {
    VectorStorage::Auto.name().to_owned()
}

fn is_auto(storage: &str) -> bool {
    storage == VectorStorage::Auto.name()
}

impl IndexHeader {
    /// Whether there are codes beside the vectors.
    pub fn has_codes(&self) -> bool {
        self.storage == VectorStorage::Int8.name()
    }

    /// Rows of the table.
    pub fn table_rows(&self) -> u64 {
        self.sources.iter().map(|file| file.rows).sum()
    }

    /// The recall to expect of a search with `ef_search`: read from the line between the two nearest
    /// measurements, on a logarithmic axis. Below the first measurement that one's, above the last that one's;
    /// `None` where nothing was measured.
    pub fn expected_recall(&self, ef_search: usize) -> Option<f64> {
        let above = self
            .recall
            .iter()
            .find(|point| point.ef_search >= ef_search);
        let below = self
            .recall
            .iter()
            .rev()
            .find(|point| point.ef_search <= ef_search);
        match (below, above) {
            (Some(below), Some(above)) if below.ef_search < above.ef_search => {
                let log = |ef: usize| (ef as f64).ln();
                let part = (log(ef_search) - log(below.ef_search))
                    / (log(above.ef_search) - log(below.ef_search));
                Some(below.recall + part * (above.recall - below.recall))
            }
            (Some(point), _) | (None, Some(point)) => Some(point.recall),
            (None, None) => None,
        }
    }

    pub(crate) fn sections(&self) -> impl Iterator<Item = (&'static str, &Section)> {
        [
            ("graph", Some(&self.graph)),
            ("positions", self.positions.as_ref()),
            ("ids", self.ids.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, section)| Some((name, section?)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn header() -> IndexHeader {
        IndexHeader {
            name: "points".to_owned(),
            column: "v".to_owned(),
            metric: "l2".to_owned(),
            m: 16,
            ef_construction: 200,
            storage: f32_storage(),
            storage_option: auto_storage(),
            dimensions: 2,
            exact_values: true,
            recall_k: 10,
            ..IndexHeader::default()
        }
    }

    #[test]
    fn what_an_index_had_before_there_were_codes_is_not_written() {
        let header = header();
        let json = serde_json::to_string(&header).unwrap();
        assert!(!json.contains("storage"), "{json}");
        assert_eq!(serde_json::from_str::<IndexHeader>(&json).unwrap(), header);
        let coded = IndexHeader {
            storage: "int8".to_owned(),
            storage_option: "int8".to_owned(),
            storage_recall: Some(StorageRecall {
                ef_search: 64,
                f32: 0.75,
                int8: 0.5,
            }),
            ..header
        };
        let json = serde_json::to_string(&coded).unwrap();
        assert_eq!(serde_json::from_str::<IndexHeader>(&json).unwrap(), coded);
    }

    #[test]
    fn recall_is_read_between_measurements() {
        let mut header = header();
        assert_eq!(header.expected_recall(100), None);
        let point = |ef_search, recall| RecallPoint { ef_search, recall };
        header.recall = vec![point(10, 0.8), point(40, 0.9), point(160, 1.0)];
        assert_eq!(header.expected_recall(5), Some(0.8));
        assert_eq!(header.expected_recall(10), Some(0.8));
        let between = header.expected_recall(20).unwrap();
        assert!((between - 0.85).abs() < 1e-12, "{between}");
        assert_eq!(header.expected_recall(1000), Some(1.0));
    }
}
