use ndarray::Array2;
use proptest::prelude::*;

use super::*;
use crate::points::{DistinctRows, squared_distance};

/// Every pair, sorted by (distance, id).
fn brute_force(
    points: Points<'_, f64>,
    k: usize,
    allowed: impl Fn(usize, usize) -> bool,
) -> Vec<u32> {
    (0..points.len())
        .flat_map(|i| {
            let mut all: Vec<(f64, u32)> = (0..points.len())
                .filter(|&j| allowed(i, j))
                .map(|j| (squared_distance(points.row(i), points.row(j)), j as u32))
                .collect();
            all.sort_by(|a, b| a.partial_cmp(b).unwrap());
            all.into_iter()
                .take(k)
                .map(|(_, id)| id)
                .collect::<Vec<_>>()
        })
        .collect()
}

fn self_join_by(
    search: Search,
    points: Points<'_, f64>,
    k: usize,
    control: &dyn Control,
) -> crate::Result<Vec<u32>> {
    let found = match search {
        Search::Tree => tree::self_join(points, k, control),
        Search::Blocks => blocks::self_join(points, k, Metric::L2, control),
    };
    found.map(|found| found.ids)
}

fn random(n: usize, dimensions: usize, seed: u64) -> Array2<f64> {
    let panel = crate::panel::Panel::random(n, dimensions, seed);
    Array2::from_shape_fn((n, dimensions), |(i, j)| panel.column(j)[i])
}

fn assert_all_agree(features: &Array2<f64>, k: usize) {
    let rows = DistinctRows::new(features.view(), &()).unwrap();
    let points = rows.points();
    let expected = brute_force(points, k, |i, j| i != j);
    for search in [Search::Tree, Search::Blocks] {
        let found = self_join_by(search, points, k, &()).unwrap();
        assert_eq!(found, expected, "{search:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn both_searches_agree_with_all_pairs(
        n in 20usize..160, dimensions in 1usize..24, k in 1usize..19, seed: u64,
    ) {
        assert_all_agree(&random(n, dimensions, seed), k);
    }

    /// Whole numbers tie in most rows; the smaller id must win in both searches.
    #[test]
    fn ties_go_to_the_smaller_id(n in 30usize..200, dimensions in 1usize..6, k in 1usize..12, seed: u64) {
        let features = random(n, dimensions, seed).mapv(|v| (v * 3.0).round());
        let distinct = DistinctRows::new(features.view(), &()).unwrap().points().len();
        prop_assume!(distinct > k);
        assert_all_agree(&features, k);
    }

    /// Far from the origin plain f32 products lose the distances altogether.
    #[test]
    fn a_shift_changes_nothing(shift in 1.0f64..1e6, seed: u64) {
        assert_all_agree(&(random(120, 3, seed) + shift), 10);
        assert_all_agree(&(random(120, 16, seed) + shift), 10);
    }

    #[test]
    fn nearest_outside_skips_the_own_group(n in 20usize..150, dimensions in 1usize..20, groups in 2u32..6, seed: u64) {
        let features = random(n, dimensions, seed);
        let rows = DistinctRows::new(features.view(), &()).unwrap();
        let group: Vec<u32> = (0..n as u32).map(|i| i % groups).collect();
        let queries: Vec<u32> = (0..n as u32).collect();
        let expected = brute_force(rows.points(), 1, |i, j| group[i] != group[j]);
        prop_assert_eq!(&tree::nearest_outside(rows.points(), &queries, &group, &()).unwrap(), &expected);
        prop_assert_eq!(&blocks::nearest_outside(rows.points(), &queries, &group, &()).unwrap(), &expected);
    }
}

#[test]
fn several_blocks_agree_with_all_pairs() {
    assert_all_agree(&random(1500, 12, 7), 12);
}

/// Every pair of distinct unit vectors is equally far: no proposal can be certified before all are seen.
#[test]
fn all_points_at_one_distance() {
    assert_all_agree(&Array2::eye(150), 5);
}

#[test]
fn extreme_scales_stay_exact() {
    for scale in [1e-120, 1e-30, 1e30, 1e120] {
        assert_all_agree(&(random(200, 12, 3) * scale), 6);
    }
}

#[test]
fn a_cancelled_search_stops() {
    struct Cancelled;
    impl Control for Cancelled {
        fn is_cancelled(&self) -> bool {
            true
        }
    }
    let features = random(600, 12, 1);
    let rows = DistinctRows::new(features.view(), &()).unwrap();
    for search in [Search::Tree, Search::Blocks] {
        let stopped = self_join_by(search, rows.points(), 5, &Cancelled);
        assert_eq!(stopped, Err(crate::ManifoldError::Cancelled), "{search:?}");
    }
}

/// One point far off must not cost the others their digits.
#[test]
fn one_huge_outlier_changes_nothing_for_the_rest() {
    let mut features = random(300, 16, 11);
    features.row_mut(17).fill(1e9);
    assert_all_agree(&features, 8);
}

/// Squared differences of such values underflow unless they are scaled first.
#[test]
fn tiny_values_have_the_neighbours_of_their_large_copies() {
    for dimensions in [3, 16] {
        let features = random(200, dimensions, 5);
        let expected = nearest_neighbors(features.view(), 6, &()).unwrap();
        for exponent in [-500, -560, -900] {
            // A power of two: the copies differ in their exponents alone.
            let tiny = features.mapv(|v| v * 2f64.powi(exponent));
            assert_eq!(
                nearest_neighbors(tiny.view(), 6, &()).unwrap(),
                expected,
                "2^{exponent}"
            );
        }
    }
}

#[test]
fn rows_without_dimensions_are_an_error() {
    for rows in [0, 5] {
        assert!(nearest_neighbors(Array2::<f64>::zeros((rows, 0)).view(), 2, &()).is_err());
    }
}
