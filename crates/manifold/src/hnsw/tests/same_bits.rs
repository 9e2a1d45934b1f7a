//! What must not change a bit.

use ndarray::Axis;
use proptest::prelude::*;

use super::lanes::{LANES, Sums, sums};
use super::*;

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
    let order: Vec<u32> = order.iter().map(|&row| row as u32).collect();
    assert!(bytes(&index.reordered(&order).unwrap()) == bytes(&other));
    let seeded = HnswOptions { seed: 2, ..SMALL };
    let (seeded, _) = build(&features, Metric::L2, &seeded);
    assert_ne!(bytes(&seeded)[512..], bytes(&index)[512..]);
}

#[test]
fn an_index_is_reordered_as_if_it_had_been_built_so() {
    // Equal rows share a vertex.
    let features = clustered(90, 3, 5);
    let rows: Vec<usize> = (0..2000).map(|i| i * i % 90).collect();
    let features = features.select(Axis(0), &rows);
    let order: Vec<usize> = (0..2000).map(|i| (i * 1_231 + 77) % 2000).collect();
    let shuffled = features.select(Axis(0), &order);
    let mut order: Vec<u32> = order.iter().map(|&row| row as u32).collect();
    for metric in METRICS {
        let index = open(bytes(&build(&features, metric, &SMALL).0)).unwrap();
        let reordered = index.reordered(&order).unwrap();
        assert!(bytes(&reordered) == bytes(&build(&shuffled, metric, &SMALL).0));
    }
    let (index, _) = build(&features, Metric::L2, &SMALL);
    assert!(index.reordered(&order[1..]).is_err());
    order[1] = order[0];
    assert!(index.reordered(&order).is_err());
    order[1] = 2000;
    assert!(index.reordered(&order).is_err());
}

/// Sums of the plain lanes, with this many rows at a time, and of every kind of lanes that this processor has.
fn all_sums<const DOT: bool>() -> Vec<(&'static str, Sums)> {
    let mut all: Vec<(&str, Sums)> = vec![
        ("plain, 1 row", sums::<[f32; LANES], DOT, 1>),
        ("plain, 3 rows", sums::<[f32; LANES], DOT, 3>),
        ("the chosen ones", lanes::widest::<DOT>()),
    ];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            all.push(("AVX2", x86::avx2::<DOT>));
        }
        if is_x86_feature_detected!("avx512f") {
            all.push(("AVX-512", x86::avx512::<DOT>));
        }
    }
    all
}

/// The first of [`all_sums`], after comparing the others with it.
fn agreed<const DOT: bool>(query: &[f32], rows: Rows<'_>, ids: &[u32]) -> Vec<f32> {
    let summed = all_sums::<DOT>().into_iter().map(|(name, sums)| {
        let mut out = vec![f32::NAN; ids.len()];
        sums(query, rows, ids, &mut out);
        (name, out)
    });
    let summed: Vec<(&str, Vec<f32>)> = summed.collect();
    let bits = |sums: &[f32]| sums.iter().map(|sum| sum.to_bits()).collect::<Vec<_>>();
    for (name, other) in &summed[1..] {
        assert_eq!(bits(&summed[0].1), bits(other), "{name}, products: {DOT}");
    }
    summed[0].1.clone()
}

proptest! {
    /// Lengths of an odd and an even number of steps; so many rows that groups of 2, 3 and 4 leave some over;
    /// magnitudes that a space sums in `f32`.
    #[test]
    fn every_kind_of_lanes_gives_the_same_sums(
        steps in 1usize..30,
        ids in prop::collection::vec(0u32..9, 0..14),
        exponent in -36i32..36,
        seed: u64,
    ) {
        let stride = steps * LANES;
        let scale = 2.0f32.powi(exponent);
        let values = clustered(10, stride, seed).mapv(|v| v * scale).into_raw_vec_and_offset().0;
        let (query, values) = values.split_at(stride);
        let rows = Rows { values, stride };
        let differences = agreed::<false>(query, rows, &ids);
        let products = agreed::<true>(query, rows, &ids);
        for (place, &id) in ids.iter().enumerate() {
            let row = rows.row(id);
            let length = crate::points::dot(query, query) + crate::points::dot(row, row);
            let close = |sum: f32, exact: f64| (f64::from(sum) - exact).abs() <= 1e-6 * length;
            prop_assert!(close(differences[place], crate::points::squared_distance(query, row)));
            prop_assert!(close(products[place], crate::points::dot(query, row)));
        }
    }
}
