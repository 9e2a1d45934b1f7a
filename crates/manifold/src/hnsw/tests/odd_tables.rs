//! Tables that a graph could stumble over: equal rows, one direction, extreme values, hardly any rows.

use ndarray::s;

use super::*;

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
