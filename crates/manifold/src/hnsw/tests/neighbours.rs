//! What is found, beside exact search.

use ndarray::s;
use proptest::prelude::*;

use super::*;
use crate::{ExactIndex, nearest_rows};

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

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
