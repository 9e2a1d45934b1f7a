use std::sync::Arc;

use ndarray::{Array2, Axis, s};
use proptest::prelude::*;

use super::*;
use crate::{ExactIndex, nearest_rows};

const METRICS: [Metric; 3] = [Metric::L2, Metric::Cosine, Metric::InnerProduct];
/// Small lists and a small view, so that a few thousand rows are not all compared.
const SMALL: HnswOptions = HnswOptions {
    m: 6,
    ef_construction: 40,
    seed: 1,
};

/// Clusters, whose rows are near one another and far from the rest.
fn clustered(n: usize, dimensions: usize, seed: u64) -> Array2<f32> {
    let panel = crate::panel::Panel::random(n, dimensions, seed);
    Array2::from_shape_fn((n, dimensions), |(i, j)| {
        let centre = ((i % 37 * 31 + j * 17) % 23) as f64 - 11.0;
        (centre + 2.0 * panel.column(j)[i]) as f32
    })
}

fn build(features: &Array2<f32>, metric: Metric, options: &HnswOptions) -> (Hnsw, HnswAudit) {
    Hnsw::build(features.view(), metric, options, &()).unwrap()
}

fn bytes(index: &Hnsw) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = index.write_to(&mut bytes).unwrap();
    assert_eq!(written as usize, bytes.len());
    assert_eq!(index.byte_len(), bytes.len());
    bytes
}

fn open(bytes: Vec<u8>) -> Result<Hnsw> {
    let range = 0..bytes.len();
    Hnsw::from_bytes(Arc::new(bytes), range)
}

fn assert_sound(index: &Hnsw, audit: &HnswAudit) {
    assert_eq!(
        (audit.unreachable, audit.not_self_found),
        (0, 0),
        "{audit:?}"
    );
    assert_eq!(index.unreachable(), 0);
    assert_eq!(index.self_recall(audit::OWN_EF, &()).unwrap(), 1.0);
}

#[test]
fn most_of_the_exact_neighbours_are_found_with_their_exact_distances() {
    let (features, queries) = (clustered(4000, 24, 1), clustered(100, 24, 2));
    for metric in METRICS {
        let (index, audit) = build(&features, metric, &SMALL);
        assert_sound(&index, &audit);
        let found = index.search(queries.view(), 10, 80, &()).unwrap();
        let exact = ExactIndex::new(features.clone(), metric).unwrap();
        let exact = exact.nearest(queries.view(), 10, &()).unwrap();
        let mut right = 0;
        for i in 0..queries.nrows() {
            for (id, distance) in found.ids.row(i).iter().zip(found.distances.row(i)) {
                if let Some(place) = exact.ids.row(i).iter().position(|other| other == id) {
                    assert_eq!(distance.to_bits(), exact.distances[(i, place)].to_bits());
                    right += 1;
                }
            }
        }
        assert!(right > 950, "{metric}: {right} of 1000");
        let recall = index.recall(200, 10, &[10, 80], 3, &()).unwrap();
        assert!(
            recall[0].recall < recall[1].recall && recall[1].recall > 0.95,
            "{recall:?}"
        );
    }
}

#[test]
fn a_row_is_not_its_own_neighbour() {
    let features = clustered(3000, 12, 5);
    let (index, _) = build(&features, Metric::L2, &SMALL);
    let found = index.search_rows(1000..1100, 5, 100, &()).unwrap();
    let exact = nearest_rows(features.view(), 5, Metric::L2, &()).unwrap();
    let exact = exact.ids.slice(s![1000..1100, ..]);
    let same = exact.iter().zip(&found.ids).filter(|(a, b)| a == b).count();
    assert!(same > 480, "{same} of 500");
}

/// As `tests/threads.rs` has it: pools of other sizes, the same bits.
#[test]
fn threads_change_no_bit() {
    let features = clustered(3000, 20, 7);
    for metric in METRICS {
        let built = [1, 2, 5].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            bytes(&pool.unwrap().install(|| build(&features, metric, &SMALL).0))
        });
        assert!(built[0] == built[1] && built[0] == built[2], "{metric}");
    }
}

#[test]
fn another_order_of_the_rows_gives_the_same_graph() {
    let features = clustered(2500, 9, 3);
    let order: Vec<usize> = (0..2500).map(|i| (i * 7 + 3) % 2500).collect();
    let shuffled = features.select(Axis(0), &order);
    let (index, audit) = build(&features, Metric::L2, &SMALL);
    let (other, other_audit) = build(&shuffled, Metric::L2, &SMALL);
    assert_eq!(audit, other_audit);
    let queries = clustered(50, 9, 4);
    let found = index.search(queries.view(), 7, 20, &()).unwrap();
    let others = other.search(queries.view(), 7, 20, &()).unwrap();
    assert_eq!(found.distances, others.distances);
    let renamed = others.ids.mapv(|id| order[id as usize] as u32);
    assert_eq!(found.ids, renamed);
    let seeded = HnswOptions { seed: 2, ..SMALL };
    let (seeded, _) = build(&features, Metric::L2, &seeded);
    assert_ne!(bytes(&seeded)[512..], bytes(&index)[512..]);
}

#[test]
fn duplicates_by_the_thousand_are_all_found() {
    let mut features = clustered(6000, 8, 11);
    for row in 0..4000 {
        let copy = features.row(row % 3).to_owned();
        features.row_mut(row).assign(&copy);
    }
    for metric in METRICS {
        let (index, audit) = build(&features, metric, &SMALL);
        assert_sound(&index, &audit);
        assert_eq!(audit.vertices, 2003);
    }
    let (index, _) = build(&features, Metric::L2, &SMALL);
    let found = index
        .search(features.slice(s![0..1, ..]), 1334, 10, &())
        .unwrap();
    let copies: Vec<u32> = (0..4000).step_by(3).collect();
    assert_eq!(found.ids.row(0).to_vec(), copies);
    let others = index.search_rows(3..4, 2, 10, &()).unwrap();
    assert_eq!(others.ids.row(0).to_vec(), [0, 6]);
    let equal = Array2::from_elem((5000, 3), 2.5f32);
    let (index, audit) = build(&equal, Metric::Cosine, &SMALL);
    assert_eq!(audit.vertices, 1);
    let found = index.search_rows(0..5000, 3, 10, &()).unwrap();
    assert_eq!(found.ids.row(1).to_vec(), [0, 2, 3]);
}

/// Other lengths of one direction are other vectors at cosine distance 0.
#[test]
fn one_direction_in_a_thousand_lengths() {
    let mut features = clustered(3000, 8, 12);
    for row in 0..1500 {
        let scaled = features.row(row % 2).mapv(|v| v * (1.0 + row as f32 / 3.0));
        features.row_mut(row).assign(&scaled);
    }
    let (index, audit) = build(&features, Metric::Cosine, &SMALL);
    assert_sound(&index, &audit);
    let (index, audit) = build(&features, Metric::InnerProduct, &SMALL);
    assert_sound(&index, &audit);
}

#[test]
fn filters_keep_returning_k_rows() {
    let features = clustered(4000, 16, 21);
    let (index, _) = build(&features, Metric::L2, &SMALL);
    let query = features.row(17).to_vec();
    let exact = index
        .search(features.slice(s![17..18, ..]), 4000, 10, &())
        .unwrap();
    for every in [1u32, 2, 10, 100, 1500, 5000] {
        let keep = |row: u32| row % every == 3 % every;
        let found = index.search_filtered(&query, 10, 40, &keep).unwrap();
        let expected: Vec<u32> = exact
            .ids
            .iter()
            .copied()
            .filter(|&row| keep(row))
            .take(10)
            .collect();
        assert_eq!(found.len(), expected.len(), "{every}");
        let right = found
            .iter()
            .filter(|(row, _)| expected.contains(row))
            .count();
        assert!(right * 10 >= expected.len() * 9, "{every}: {right}");
        assert!(found.is_sorted_by(|a, b| a.1 <= b.1));
    }
    assert_eq!(
        index.search_filtered(&query, 10, 40, &|_| false).unwrap(),
        []
    );
}

#[test]
fn rows_come_nearest_first_each_once() {
    let mut features = clustered(2000, 10, 31);
    let copy = features.row(5).to_owned();
    (100..200).for_each(|row| features.row_mut(row).assign(&copy));
    let (index, _) = build(&features, Metric::L2, &SMALL);
    let query = features.row(9).to_vec();
    let all: Vec<(u32, f64)> = index.nearest_first(&query, 50).unwrap().collect();
    let mut rows: Vec<u32> = all.iter().map(|&(row, _)| row).collect();
    assert!(all[..100].is_sorted_by(|a, b| a.1 <= b.1));
    rows.sort_unstable();
    assert_eq!(rows, (0..2000).collect::<Vec<u32>>());
}

#[test]
fn extreme_values_are_searched_like_others() {
    let features = clustered(2000, 12, 41);
    for scale in [1e-38f32, 1e-20, 1e18, 1e36] {
        let scaled = features.mapv(|v| v * scale);
        for metric in METRICS {
            let (index, audit) = build(&scaled, metric, &SMALL);
            assert_sound(&index, &audit);
            let recall = index.recall(100, 5, &[100], 1, &()).unwrap()[0].recall;
            assert!(recall > 0.9, "{scale} {metric}: {recall}");
        }
    }
    let (index, _) = build(&features, Metric::L2, &SMALL);
    let far = Array2::from_elem((1, 12), 3e38f32);
    let found = index.search(far.view(), 3, 50, &()).unwrap();
    assert!(found.distances.iter().all(|d| d.is_finite()));
}

#[test]
fn bad_input_is_an_error() {
    let features = clustered(50, 4, 1);
    let invalid = |m, ef_construction| {
        let options = HnswOptions {
            m,
            ef_construction,
            seed: 0,
        };
        Hnsw::build(features.view(), Metric::L2, &options, &())
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(invalid(1, 9), "m must be from 2 to 256, got 1");
    assert_eq!(invalid(257, 900), "m must be from 2 to 256, got 257");
    assert_eq!(
        invalid(16, 15),
        "ef_construction must be from 16 to 1048576, got 15"
    );
    let error = |features: Array2<f32>, metric| {
        Hnsw::build(features.view(), metric, &SMALL, &())
            .map(|_| ())
            .unwrap_err()
    };
    let mut broken = features.clone();
    broken[(7, 2)] = f32::NAN;
    let nan = error(broken.clone(), Metric::L2);
    assert!(
        matches!(
            nan,
            ManifoldError::NonFinite {
                row: 7,
                dimension: 2,
                ..
            }
        ),
        "{nan}"
    );
    broken.row_mut(7).fill(0.0);
    assert_eq!(
        error(broken, Metric::Cosine),
        ManifoldError::ZeroVector { row: 7 }
    );
    assert!(Hnsw::build(Array2::zeros((5, 0)).view(), Metric::L2, &SMALL, &()).is_err());

    let (index, _) = build(&features, Metric::Cosine, &SMALL);
    let search = |queries: Array2<f32>, k, ef| index.search(queries.view(), k, ef, &());
    assert!(
        search(Array2::zeros((1, 3)), 1, 1)
            .unwrap_err()
            .to_string()
            .contains("4 dimensions")
    );
    assert_eq!(
        search(Array2::zeros((1, 4)), 1, 1),
        Err(ManifoldError::ZeroVector { row: 0 })
    );
    assert!(search(Array2::ones((1, 4)), 0, 1).is_err());
    assert!(search(Array2::ones((1, 4)), 1, 0).is_err());
    assert!(search(Array2::from_elem((1, 4), f32::INFINITY), 1, 1).is_err());
    assert!(index.search_rows(0..51, 1, 1, &()).is_err());
    assert_eq!(
        search(Array2::ones((2, 4)), 70, 1).unwrap().ids.dim(),
        (2, 50)
    );
    assert_eq!(
        index.search_rows(0..3, 70, 1, &()).unwrap().ids.dim(),
        (3, 49)
    );
}

#[test]
fn tables_of_none_and_one_row() {
    for n in [0, 1] {
        let (index, audit) = build(&Array2::ones((n, 3)), Metric::L2, &SMALL);
        assert_sound(&index, &audit);
        let found = index
            .search(Array2::ones((2, 3)).view(), 4, 10, &())
            .unwrap();
        assert_eq!(found.ids.dim(), (2, n));
        assert_eq!(
            index.search_rows(0..n, 4, 10, &()).unwrap().ids.dim(),
            (n, 0)
        );
        assert_eq!(
            index
                .search_filtered(&[0.0; 3], 1, 9, &|_| true)
                .unwrap()
                .len(),
            n
        );
        assert_eq!(index.nearest_first(&[0.0; 3], 9).unwrap().count(), n);
        assert_eq!(index.recall(5, 2, &[9], 0, &()).unwrap()[0].recall, 1.0);
        assert_eq!(open(bytes(&index)).unwrap().len(), n);
    }
}

#[test]
fn memory_is_asked_for_and_given_back() {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    struct Limit(usize, AtomicUsize);
    impl Control for Limit {
        fn reserve(&self, purpose: &str, bytes: usize) -> Result<(), crate::ReserveError> {
            if bytes > self.0 {
                return Err(crate::ReserveError {
                    purpose: purpose.to_owned(),
                    requested: bytes,
                    reserved: 0,
                    limit: Some(self.0),
                });
            }
            self.1.fetch_add(bytes, Relaxed);
            Ok(())
        }
        fn release(&self, bytes: usize) {
            self.1.fetch_sub(bytes, Relaxed);
        }
    }
    let features = clustered(500, 6, 1);
    let needed = Hnsw::predicted_bytes(500, 6, &SMALL);
    let refused = Hnsw::build(
        features.view(),
        Metric::L2,
        &SMALL,
        &Limit(needed - 1, 0.into()),
    );
    assert!(matches!(refused, Err(ManifoldError::Memory(_))));
    let enough = Limit(needed, 0.into());
    let (index, _) = Hnsw::build(features.view(), Metric::L2, &SMALL, &enough).unwrap();
    assert_eq!(enough.1.load(Relaxed), 0);
    assert!(index.byte_len() < needed);
}

#[test]
fn a_cancelled_build_stops() {
    struct Cancelled;
    impl Control for Cancelled {
        fn is_cancelled(&self) -> bool {
            true
        }
    }
    let features = clustered(300, 6, 1);
    let stopped = Hnsw::build(features.view(), Metric::L2, &SMALL, &Cancelled);
    assert!(matches!(stopped, Err(ManifoldError::Cancelled)));
    let (index, _) = build(&features, Metric::L2, &SMALL);
    let stopped = index.search(features.view(), 3, 9, &Cancelled);
    assert_eq!(stopped, Err(ManifoldError::Cancelled));
}

#[test]
fn bytes_are_the_index() {
    let features = clustered(1500, 10, 51);
    for metric in METRICS {
        let (index, _) = build(&features, metric, &SMALL);
        let written = bytes(&index);
        let opened = open(written.clone()).unwrap();
        assert_eq!(bytes(&opened), written);
        assert_eq!((opened.metric(), opened.options()), (metric, &SMALL));
        assert_eq!(opened.vector(1234), features.row(1234).as_slice().unwrap());
        let queries = clustered(20, 10, 52);
        assert_eq!(
            opened.search(queries.view(), 5, 30, &()).unwrap(),
            index.search(queries.view(), 5, 30, &()).unwrap()
        );
        // Within a larger file, and where numbers must not stand.
        let mut shifted = vec![0; 64];
        shifted.extend(&written);
        let range = 64..shifted.len();
        assert!(Hnsw::from_bytes(Arc::new(shifted.clone()), range).is_ok());
        shifted.insert(0, 0);
        let range = 65..shifted.len();
        assert!(Hnsw::from_bytes(Arc::new(shifted), range).is_err());
    }
}

/// Uses whatever opens: nothing may panic.
fn use_all(index: &Hnsw) {
    let query = vec![1.0; index.dimensions()];
    let _ = index.search_rows(0..index.len().min(20), 3, 4, &());
    let _ = index.search_filtered(&query, 3, 4, &|row| row % 3 == 0);
    let _ = index
        .nearest_first(&query, 4)
        .map(|found| found.take(30).count());
    let _ = index.unreachable();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_make_it_panic(
        cut in 0.0f64..1.2,
        flips in prop::collection::vec((0.0f64..1.0, 0u8..8, any::<bool>()), 0..6),
    ) {
        static WRITTEN: std::sync::LazyLock<Vec<u8>> =
            std::sync::LazyLock::new(|| bytes(&build(&clustered(400, 5, 61), Metric::Cosine, &SMALL).0));
        let mut damaged = WRITTEN.clone();
        let whole = damaged.len();
        damaged.truncate((whole as f64 * cut) as usize);
        let is_cut = damaged.len() < whole;
        for (place, bit, in_head) in flips {
            let end = if in_head { damaged.len().min(400) } else { damaged.len() };
            if let Some(byte) = damaged.get_mut((place * end as f64) as usize) {
                *byte ^= 1 << bit;
            }
        }
        let opened = open(damaged);
        prop_assert!(!is_cut || opened.is_err());
        if let Ok(index) = opened {
            use_all(&index);
        }
    }

    #[test]
    fn small_tables_are_searched_whole(n in 1usize..60, dimensions in 1usize..20, k in 1usize..12, seed: u64) {
        let features = clustered(n, dimensions, seed);
        let options = HnswOptions { m: 2, ef_construction: 4, seed };
        let (index, audit) = build(&features, Metric::L2, &options);
        prop_assert_eq!(audit.unreachable, 0);
        let exact = ExactIndex::new(features.clone(), Metric::L2).unwrap();
        let k = k.min(n);
        prop_assert_eq!(
            index.search(features.view(), k, 10, &()).unwrap(),
            exact.nearest(features.view(), k, &()).unwrap()
        );
    }
}
