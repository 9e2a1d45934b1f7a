use ndarray::{Array1, Array2, ArrayView2, s};
use proptest::prelude::*;

use super::*;
use crate::ManifoldError;
use crate::neighbors::distances::table;
use crate::points::dot;

const METRICS: [Metric; 3] = [Metric::L2, Metric::Cosine, Metric::InnerProduct];

/// Every pair, sorted by (key, id), with the formulas of [`Metric`] as they are written there.
fn brute_force<T: Feature>(
    base: ArrayView2<'_, T>,
    queries: ArrayView2<'_, T>,
    k: usize,
    metric: Metric,
    allowed: impl Fn(usize, usize) -> bool,
) -> Nearest {
    let base: Vec<Vec<T>> = base.rows().into_iter().map(|row| row.to_vec()).collect();
    let (mut ids, mut distances) = (Vec::new(), Vec::new());
    for (i, query) in queries.rows().into_iter().enumerate() {
        let query = query.to_vec();
        let mut all: Vec<(f64, u32)> = (0..base.len())
            .filter(|&j| allowed(i, j))
            .map(|j| {
                let product = dot(&query, &base[j]);
                let squares = dot(&query, &query) * dot(&base[j], &base[j]);
                let key = match metric {
                    Metric::L2 => squared_distance(&query, &base[j]),
                    Metric::Cosine => (1.0 - product / squares.sqrt()).max(0.0),
                    Metric::InnerProduct => -product,
                };
                (key, j as u32)
            })
            .collect();
        all.sort_by(|a, b| a.partial_cmp(b).unwrap());
        for (key, id) in all.into_iter().take(k) {
            ids.push(id);
            distances.push(match metric {
                Metric::L2 => key.sqrt(),
                Metric::Cosine => key,
                Metric::InnerProduct => -key,
            });
        }
    }
    Nearest {
        ids: table(ids, k).unwrap(),
        distances: table(distances, k).unwrap(),
    }
}

fn random(n: usize, dimensions: usize, seed: u64) -> Array2<f64> {
    let panel = crate::panel::Panel::random(n, dimensions, seed);
    Array2::from_shape_fn((n, dimensions), |(i, j)| panel.column(j)[i])
}

/// The self-join, the index over its own rows in parts, and the index for other rows.
fn assert_exact<T: Feature + std::fmt::Debug>(rows: &Array2<T>, k: usize) {
    for metric in METRICS {
        let expected = brute_force(rows.view(), rows.view(), k, metric, |i, j| i != j);
        let found = nearest_rows(rows.view(), k, metric, &()).unwrap();
        assert_eq!(found, expected, "{metric}");
        let index = ExactIndex::new(rows.clone(), metric).unwrap();
        let middle = rows.nrows() / 3;
        for part in [0..middle, middle..rows.nrows()] {
            let found = index.nearest_others(part.clone(), k, &()).unwrap();
            assert_eq!(
                found.ids,
                expected.ids.slice(s![part.clone(), ..]),
                "{metric}"
            );
            let distances = expected.distances.slice(s![part, ..]);
            assert_eq!(found.distances, distances, "{metric}");
        }
        let (base, queries) = rows.view().split_at(ndarray::Axis(0), 2 * middle);
        let k = k.min(2 * middle);
        let index = ExactIndex::new(base.to_owned(), metric).unwrap();
        let found = index.nearest(queries, k, &()).unwrap();
        let expected = brute_force(base, queries, k, metric, |_, _| true);
        assert_eq!(found, expected, "{metric} across");
        for (i, expected) in expected.ids.rows().into_iter().enumerate().take(5) {
            let one = index.nearest(queries.slice(s![i..=i, ..]), k, &()).unwrap();
            assert_eq!(one.ids.row(0), expected, "{metric}, query {i} alone");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_pair_compared_says_the_same(
        n in 30usize..150, dimensions in 1usize..24, k in 1usize..19, seed: u64,
    ) {
        assert_exact(&random(n, dimensions, seed), k);
        assert_exact(&random(n, dimensions, seed).mapv(|v| v as f32), k);
    }

    /// Whole numbers tie, and many rows are equal: the smaller id must win.
    #[test]
    fn ties_and_duplicates(n in 30usize..150, dimensions in 1usize..6, k in 1usize..19, seed: u64) {
        // From 1 to 5: no row is zero.
        assert_exact(&random(n, dimensions, seed).mapv(|v| (v * 2.0).round() + 3.0), k);
    }

    /// Norms and magnitudes that differ from row to row.
    #[test]
    fn norms_of_all_sizes(n in 60usize..200, dimensions in 2usize..20, seed: u64) {
        let mut rows = random(n, dimensions, seed);
        for (i, mut row) in rows.rows_mut().into_iter().enumerate() {
            row *= 10f64.powi(i as i32 % 13 - 6);
        }
        assert_exact(&rows, 7);
    }

    /// Directions that hardly differ: products alone cannot tell them apart.
    #[test]
    fn far_from_the_origin(shift in 1.0f64..1e6, seed: u64) {
        assert_exact(&(random(120, 16, seed) + shift), 10);
    }
}

#[test]
fn several_blocks_and_a_tree() {
    assert_exact(&random(1300, 12, 7), 12);
    assert_exact(&random(1600, 2, 7), 3);
}

#[test]
fn up_to_every_other_row() {
    let rows = random(90, 10, 5);
    for k in [88, 89] {
        assert_exact(&rows, k);
    }
    assert_exact(&random(1200, 9, 5), 1199);
}

/// A power of two changes distances and products by itself alone, and cosine distances not at all.
#[test]
fn tiny_and_huge_values() {
    let (rows, queries) = (random(200, 12, 3), random(20, 12, 4));
    for metric in METRICS {
        let search = |rows: Array2<f64>, queries: Array2<f64>| {
            let index = ExactIndex::new(rows, metric).unwrap();
            index.nearest(queries.view(), 6, &()).unwrap()
        };
        let expected = search(rows.clone(), queries.clone());
        for exponent in [-900, -500, -300, 300, 460] {
            // Below that, products vanish as DataFusion's do.
            if metric == Metric::InnerProduct && exponent < -500 {
                continue;
            }
            let scale = |m: &Array2<f64>| m.mapv(|v| v.scaled_twice(exponent));
            let found = search(scale(&rows), scale(&queries));
            assert_eq!(found.ids, expected.ids, "{metric} 2^{exponent}");
            let factor = match metric {
                Metric::L2 => 1,
                Metric::Cosine => 0,
                Metric::InnerProduct => 2,
            };
            let distances = expected
                .distances
                .mapv(|v| (0..factor).fold(v, |v, _| v.scaled_twice(exponent)));
            assert_eq!(found.distances, distances, "{metric} 2^{exponent}");
        }
    }
}

/// Queries of another magnitude than the rows.
#[test]
fn queries_far_larger_or_smaller_than_the_rows() {
    let (rows, queries) = (random(300, 9, 1), random(5, 9, 2));
    for exponent in [-300i32, -60, 60, 300] {
        for metric in METRICS {
            let queries = queries.mapv(|v| v.scaled_twice(exponent));
            let index = ExactIndex::new(rows.clone(), metric).unwrap();
            let found = index.nearest(queries.view(), 4, &()).unwrap();
            let expected = brute_force(rows.view(), queries.view(), 4, metric, |_, _| true);
            assert_eq!(found, expected, "{metric} 2^{exponent}");
        }
    }
    // Rows that had to be enlarged so that queries overflow: everything is as far as the query is long.
    let tiny = rows.mapv(|v| v.scaled_twice(-900));
    let index = ExactIndex::new(tiny, Metric::L2).unwrap();
    let far = Array2::from_elem((1, 9), 1e100);
    let found = index.nearest(far.view(), 2, &()).unwrap();
    assert_eq!(found.ids, ndarray::arr2(&[[0, 1]]));
    assert!((found.distances[(0, 1)] / 3e100 - 1.0).abs() < 1e-15);
}

#[test]
fn equal_rows_are_at_cosine_distance_zero() {
    let mut rows = random(50, 37, 9);
    for i in 0..25 {
        let twin = rows.row(i).mapv(|v| v * 4.0);
        rows.row_mut(49 - i).assign(&twin);
    }
    let found = nearest_rows(rows.view(), 1, Metric::Cosine, &()).unwrap();
    for i in 0..50u32 {
        assert_eq!(found.ids[(i as usize, 0)], 49 - i);
        assert_eq!(found.distances[(i as usize, 0)], 0.0);
    }
}

#[test]
fn views_in_any_layout() {
    let rows = random(80, 11, 2);
    let transposed = rows.t().as_standard_layout().into_owned();
    for metric in METRICS {
        let expected = nearest_rows(rows.view(), 5, metric, &()).unwrap();
        assert_eq!(
            nearest_rows(transposed.t(), 5, metric, &()).unwrap(),
            expected
        );
        let index = ExactIndex::new(transposed.t().to_owned(), metric).unwrap();
        assert_eq!(index.nearest_others(0..80, 5, &()).unwrap(), expected);
    }
}

#[test]
fn one_row_and_none() {
    let one = Array2::from_elem((1, 3), 2.0);
    for metric in METRICS {
        assert!(nearest_rows(one.view(), 1, metric, &()).is_err());
        let index = ExactIndex::new(one.clone(), metric).unwrap();
        let found = index.nearest(one.view(), 1, &()).unwrap();
        assert_eq!(found.ids, Array2::<u32>::zeros((1, 1)));
        let expected = if metric == Metric::InnerProduct {
            12.0
        } else {
            0.0
        };
        assert_eq!(found.distances, Array2::from_elem((1, 1), expected));
        let none = Array2::zeros((0, 3));
        assert_eq!(
            index.nearest(none.view(), 1, &()).unwrap().ids.dim(),
            (0, 1)
        );
        let empty = ExactIndex::new(none, metric).unwrap();
        assert!(empty.is_empty());
        let error = empty.nearest(one.view(), 1, &()).unwrap_err().to_string();
        assert!(error.contains("found 0 rows"), "{error}");
    }
}

#[test]
fn errors_name_what_is_wrong() {
    let rows = random(10, 3, 1);
    let index = ExactIndex::new(rows.clone(), Metric::Cosine).unwrap();
    let message = |result: Result<Nearest>| result.unwrap_err().to_string();
    let nan = |row: usize| {
        let mut rows = rows.clone();
        rows[(row, 1)] = f64::NAN;
        rows
    };
    let zero = |row: usize| {
        let mut rows = rows.clone();
        rows.row_mut(row).assign(&Array1::zeros(3));
        rows
    };
    for (found, expected) in [
        (
            message(nearest_rows(rows.view(), 10, Metric::L2, &())),
            "k = 10 needs",
        ),
        (
            message(nearest_rows(rows.view(), 0, Metric::L2, &())),
            "k = 0 needs",
        ),
        (message(index.nearest(rows.view(), 11, &())), "k = 11 needs"),
        (
            message(index.nearest_others(0..10, 10, &())),
            "k = 10 needs",
        ),
        (message(index.nearest_others(5..11, 1, &())), "5..11"),
        (
            message(index.nearest(random(2, 4, 1).view(), 1, &())),
            "4 dimensions",
        ),
        (message(index.nearest(nan(7).view(), 1, &())), "row 7"),
        (
            message(nearest_rows(nan(3).view(), 1, Metric::InnerProduct, &())),
            "row 3",
        ),
        (
            message(index.nearest(zero(4).view(), 1, &())),
            "row 4 is all zeros",
        ),
        (
            message(nearest_rows(zero(6).view(), 1, Metric::Cosine, &())),
            "row 6 is all zeros",
        ),
        (
            ExactIndex::new(nan(2), Metric::L2).unwrap_err().to_string(),
            "row 2",
        ),
        (
            ExactIndex::new(zero(2), Metric::Cosine)
                .unwrap_err()
                .to_string(),
            "row 2 is all zeros",
        ),
        (
            Metric::parse("l3").unwrap_err().to_string(),
            "metric must be one of l2, cosine, ip, inner_product, got 'l3'",
        ),
    ] {
        assert!(
            found.contains(expected),
            "{found} does not contain {expected}"
        );
    }
    assert!(nearest_rows(zero(4).view(), 1, Metric::L2, &()).is_ok());
}

#[test]
fn names_are_read_back() {
    for metric in METRICS {
        assert_eq!(Metric::parse(&metric.name().to_uppercase()), Ok(metric));
    }
    assert_eq!(Metric::parse("ip"), Ok(Metric::InnerProduct));
    assert!(Metric::NAMES.iter().all(|name| Metric::parse(name).is_ok()));
}

#[test]
fn memory_is_asked_for_and_given_back() {
    #[derive(Default)]
    struct Limited {
        held: std::sync::atomic::AtomicUsize,
        limit: usize,
    }
    impl Control for Limited {
        fn reserve(&self, purpose: &str, bytes: usize) -> Result<(), crate::ReserveError> {
            let reserved = self.held.load(std::sync::atomic::Ordering::Relaxed);
            if reserved + bytes > self.limit {
                return Err(crate::ReserveError {
                    purpose: purpose.to_owned(),
                    requested: bytes,
                    reserved,
                    limit: Some(self.limit),
                });
            }
            self.held
                .fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
            Ok(())
        }
        fn release(&self, bytes: usize) {
            self.held
                .fetch_sub(bytes, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let rows = random(500, 12, 1);
    let index = ExactIndex::new(rows.clone(), Metric::L2).unwrap();
    for (limit, enough) in [(1000, false), (1 << 30, true)] {
        let control = Limited {
            limit,
            ..Limited::default()
        };
        let results = [
            nearest_rows(rows.view(), 5, Metric::L2, &control),
            index.nearest(rows.view(), 5, &control),
            index.nearest_others(0..500, 5, &control),
        ];
        for result in results {
            match result {
                Ok(_) => assert!(enough),
                Err(error) => assert!(
                    !enough && matches!(error, ManifoldError::Memory(_)),
                    "{error}"
                ),
            }
        }
        assert_eq!(control.held.into_inner(), 0);
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
    for n in [20, 600, 5000] {
        let rows = random(n, 3, 1);
        for metric in METRICS {
            let index = ExactIndex::new(rows.clone(), metric).unwrap();
            for result in [
                nearest_rows(rows.view(), 5, metric, &Cancelled),
                index.nearest(rows.view(), 5, &Cancelled),
            ] {
                assert_eq!(result, Err(ManifoldError::Cancelled), "{metric}, {n} rows");
            }
        }
    }
}
