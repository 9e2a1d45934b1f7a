//! Written, read, and damaged between.

use proptest::prelude::*;

use super::*;

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

#[test]
fn only_codes_make_a_newer_version() {
    let features = clustered(1500, 10, 51);
    for metric in METRICS {
        let (index, _) = build(&features, metric, &SMALL);
        let sample = index.recall_sample(50, 5, 1, &()).unwrap();
        let plain = bytes(&index);
        assert_eq!(plain[8], 1);
        let (index, _) = index.stored(VectorStorage::Int8, &sample, &()).unwrap();
        let written = bytes(&index);
        assert_eq!((written[8], index.storage()), (2, VectorStorage::Int8));
        // What was there before stays as it is: the head's version and step aside, codes are added.
        assert!(written[384..plain.len()] == plain[384..]);
        let opened = open(written.clone()).unwrap();
        assert_eq!(opened.storage(), VectorStorage::Int8);
        assert!(bytes(&opened) == written);
        let queries = clustered(20, 10, 52);
        assert_eq!(
            opened.search(queries.view(), 5, 30, &()).unwrap(),
            index.search(queries.view(), 5, 30, &()).unwrap()
        );
        let (without, _) = opened.stored(VectorStorage::F32, &sample, &()).unwrap();
        assert!(bytes(&without) == plain);
        let mut newer = plain;
        newer[8] = 3;
        assert!(open(newer).is_err());
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
    let _ = index.miscoded(&());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn no_bytes_make_it_panic(
        cut in 0.0f64..1.2,
        flips in prop::collection::vec((0.0f64..1.0, 0u8..8, any::<bool>()), 0..6),
        kind in 0usize..3,
    ) {
        static WRITTEN: std::sync::LazyLock<[Vec<u8>; 3]> = std::sync::LazyLock::new(|| {
            let index = |metric| build(&clustered(400, 5, 61), metric, &SMALL).0;
            let coded = |metric| {
                let index = index(metric);
                let sample = index.recall_sample(10, 5, 1, &()).unwrap();
                index.stored(VectorStorage::Int8, &sample, &()).unwrap().0
            };
            let kinds = [index(Metric::Cosine), coded(Metric::Cosine), coded(Metric::InnerProduct)];
            kinds.map(|index| bytes(&index))
        });
        let mut damaged = WRITTEN[kind].clone();
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
}
