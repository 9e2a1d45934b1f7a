//! Codes of eight bits: their sums, their grid, and when they are kept.

use proptest::prelude::*;

use super::code_sums::{self, CodeRows, CodeSums, STEP, code_sums};
use super::*;
use crate::Control;
use crate::hnsw::codes::reach;

const QUERIES: usize = 300;

fn stored(index: Hnsw, storage: VectorStorage) -> (Hnsw, Option<CodesRecall>) {
    let sample = index.recall_sample(QUERIES, 10, 3, &()).unwrap();
    index.stored(storage, &sample, &()).unwrap()
}

/// With codes, whatever they lose.
fn coded(features: &Array2<f32>, metric: Metric) -> Hnsw {
    stored(build(features, metric, &SMALL).0, VectorStorage::Int8).0
}

/// Sums of the plain loop, with this many rows at a time, and of every kind of lanes that this processor has.
fn all_sums() -> Vec<(&'static str, CodeSums)> {
    let mut all: Vec<(&str, CodeSums)> = vec![
        ("plain, 3 rows", code_sums::<i32, 3>),
        ("the chosen ones", code_sums::widest()),
    ];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") {
            all.push(("AVX2", x86_codes::avx2));
        }
        if x86_codes::has_avx512_vnni() {
            all.push(("AVX-512 VNNI", x86_codes::avx512_vnni));
        }
    }
    all
}

proptest! {
    /// Any codes, and queries as far from them as they may be: rows of up to 33,025 dimensions, so many that groups leave
    /// some over.
    #[test]
    fn every_kind_of_lanes_gives_the_exact_sum(
        dimensions in prop_oneof![1usize..200, 1usize..=33_025],
        ids in prop::collection::vec(0u32..9, 0..14),
        extreme: bool,
        seed: u64,
    ) {
        let stride = dimensions.next_multiple_of(STEP);
        let reach = reach(dimensions);
        let mut state = seed;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as i32
        };
        let mut codes = vec![0u8; 9 * stride];
        let mut query = vec![0i16; stride];
        for (place, code) in codes.iter_mut().enumerate() {
            if place % stride < dimensions {
                *code = if extreme { 0 } else { next() as u8 };
            }
        }
        for place in &mut query[..dimensions] {
            *place = if extreme { reach } else { 255 - reach + next() % (2 * reach - 254) } as i16;
        }
        let rows = CodeRows { codes: &codes, stride };
        let mut exact = vec![f32::NAN; ids.len()];
        code_sums::<i32, 1>(&query, rows, &ids, &mut exact);
        for (&id, &exact) in ids.iter().zip(&exact) {
            let row = &codes[id as usize * stride..][..stride];
            let squares = query.iter().zip(row).map(|(&q, &c)| (i64::from(q) - i64::from(c)).pow(2));
            let sum: i64 = squares.sum();
            prop_assert!(sum < 1 << 31);
            prop_assert_eq!(exact, sum as f32);
        }
        for (name, sums) in all_sums() {
            let mut out = vec![f32::NAN; ids.len()];
            sums(&query, rows, &ids, &mut out);
            prop_assert_eq!(&out, &exact, "{}", name);
        }
    }

    /// A value's code is the nearest place of its dimension's grid, wherever the values lie and however wide they are.
    #[test]
    fn codes_are_the_nearest_places(
        dimensions in 1usize..40,
        exponent in -116i32..116,
        offset in -1000.0f32..1000.0,
        seed: u64,
    ) {
        let scale = 2.0f32.powi(exponent);
        let features = clustered(300, dimensions, seed).mapv(|v| (v + offset) * scale);
        let index = coded(&features, Metric::L2);
        let codes = index.codes.as_ref().unwrap();
        let (space, rows) = (index.space(), codes.rows());
        let mut places = Vec::new();
        for vertex in 0..index.vertices.len() as u32 {
            codes.place_query(Metric::L2, space.vector(vertex), &mut places);
            let row = &rows.codes[vertex as usize * rows.stride..][..rows.stride];
            for (dimension, (&place, &code)) in places.iter().zip(row).enumerate() {
                prop_assert_eq!(place.clamp(0, 255), i16::from(code));
                let Some(&value) = space.vector(vertex).get(dimension) else {
                    prop_assert_eq!((place, code), (0, 0));
                    continue;
                };
                // All but one in a thousand at each end are within half a step; 300 rows lose none.
                let stands_for = codes.value(dimension, code);
                let off = (f64::from(value) - stands_for).abs() / codes.step;
                prop_assert!(off <= 0.5 + 1e-6, "{} is off by {} steps", value, off);
            }
        }
    }
}

#[test]
fn whole_numbers_of_a_byte_are_their_own_codes() {
    let features = clustered(2000, 12, 7).mapv(|v| (v.abs() * 9.0).floor().min(255.0));
    let index = coded(&features, Metric::L2);
    let (space, rows) = (index.space(), index.codes.as_ref().unwrap().rows());
    for vertex in 0..index.vertices.len() as u32 {
        let row = &rows.codes[vertex as usize * rows.stride..];
        let values = space.vector(vertex);
        assert!(values.iter().zip(row).all(|(v, c)| *v == f32::from(*c)));
    }
    let with = index.search(features.view(), 5, 40, &()).unwrap();
    let (without, _) = stored(index, VectorStorage::F32);
    assert_eq!(with, without.search(features.view(), 5, 40, &()).unwrap());
}

#[test]
fn distances_are_exact_and_nearly_all_is_found() {
    let features = clustered(3000, 20, 71);
    let queries = clustered(100, 20, 72);
    for metric in METRICS {
        let (index, audit) = build(&features, metric, &SMALL);
        let plain = index.recall(QUERIES, 10, &[64], 3, &()).unwrap()[0].recall;
        let (index, measured) = stored(index, VectorStorage::Auto);
        let measured = measured.unwrap();
        assert_eq!((measured.ef, measured.f32), (64, plain));
        assert!(measured.int8 > plain - 0.02, "{metric}: {measured:?}");
        let index = stored(index, VectorStorage::Int8).0;
        assert_eq!(index.storage(), VectorStorage::Int8);
        assert_sound(&index, &audit);
        let found = index.search(queries.view(), 10, 64, &()).unwrap();
        let exact = |query: usize, row: u32| {
            let key = index.space().key(
                queries.row(query).as_slice().unwrap(),
                index.vertices.vertex_of_row.as_slice()[row as usize],
            );
            search::distance(metric, key)
        };
        for ((query, place), &row) in found.ids.indexed_iter() {
            assert_eq!(found.distances[(query, place)], exact(query, row));
        }
        // The other ways to search walk through codes as well.
        let query = queries.row(0).to_vec();
        let filtered = index
            .search_filtered(&query, 10, 64, &|row| row % 2 == 0)
            .unwrap();
        assert!(
            filtered
                .iter()
                .all(|&(row, d)| row % 2 == 0 && d == exact(0, row))
        );
        let all: Vec<(u32, f64)> = index.nearest_first(&query, 64).unwrap().collect();
        assert_eq!(all.len(), 3000);
        assert!(all.iter().all(|&(row, d)| d == exact(0, row)));
    }
}

#[test]
fn codes_of_other_vectors_are_noticed() {
    let features = clustered(500, 9, 6);
    for metric in METRICS {
        let index = coded(&features, metric);
        let mut written = bytes(&index);
        let read = |written: &[u8]| open(written.to_vec()).unwrap().miscoded(&()).unwrap();
        assert_eq!(read(&written), Some(0), "{metric}");
        let rows = index.codes.as_ref().unwrap().rows();
        let vertex = &rows.codes[7 * rows.stride..][..rows.stride];
        let places = written.windows(vertex.len());
        let place = places.into_iter().position(|codes| codes == vertex);
        written[place.unwrap()] ^= 1;
        assert_eq!(read(&written), Some(1), "{metric}");
        let (plain, _) = stored(index, VectorStorage::F32);
        assert_eq!(plain.miscoded(&()).unwrap(), None);
    }
}

#[test]
fn threads_and_the_order_of_rows_change_no_code() {
    let features = clustered(2500, 9, 3);
    let order: Vec<u32> = (0..2500).map(|i| (i * 7 + 3) % 2500).collect();
    let places: Vec<usize> = order.iter().map(|&row| row as usize).collect();
    let shuffled = features.select(ndarray::Axis(0), &places);
    for metric in METRICS {
        let made = [1, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            bytes(&pool.unwrap().install(|| coded(&features, metric)))
        });
        assert!(made[0] == made[1], "{metric}");
        let reordered = open(made[0].clone()).unwrap().reordered(&order).unwrap();
        assert!(bytes(&reordered) == bytes(&coded(&shuffled, metric)));
        let queries = clustered(20, 9, 4);
        assert_eq!(
            reordered
                .search(queries.view(), 5, 30, &())
                .unwrap()
                .distances,
            coded(&features, metric)
                .search(queries.view(), 5, 30, &())
                .unwrap()
                .distances
        );
    }
}

/// A dimension a thousand times as wide as the others, in which all rows lie apart: a step is wider than what tells near
/// rows apart.
fn one_wide_dimension() -> Array2<f32> {
    let mut features = clustered(4000, 24, 5);
    features.column_mut(3).iter_mut().for_each(|v| *v *= 1000.0);
    features
}

/// Clusters far apart, whose rows differ by less than a step.
fn tight_clusters() -> Array2<f32> {
    let panel = crate::panel::Panel::random(4000, 24, 6);
    Array2::from_shape_fn((4000, 24), |(i, j)| {
        let centre = ((i % 37 * 31 + j * 17) % 23) as f64;
        (centre + 0.002 * panel.column(j)[i]) as f32
    })
}

#[test]
fn codes_that_lose_too_much_are_not_kept_unless_they_are_asked_for() {
    for (name, features) in [("wide", one_wide_dimension()), ("tight", tight_clusters())] {
        let (index, _) = build(&features, Metric::L2, &SMALL);
        let before = bytes(&index);
        let (index, measured) = stored(index, VectorStorage::Auto);
        let measured = measured.unwrap();
        assert!(measured.int8 < measured.f32 - 0.01, "{name}: {measured:?}");
        assert_eq!(index.storage(), VectorStorage::F32, "{name}");
        assert!(bytes(&index) == before);
        let (index, again) = stored(index, VectorStorage::Int8);
        assert_eq!(
            (index.storage(), again),
            (VectorStorage::Int8, Some(measured))
        );
    }
    let features = clustered(4000, 64, 8);
    let (index, measured) = stored(build(&features, Metric::L2, &SMALL).0, VectorStorage::Auto);
    assert_eq!(index.storage(), VectorStorage::Int8, "{measured:?}");
}

#[test]
fn few_or_short_rows_have_no_codes_unless_they_are_asked_for() {
    let features = clustered(500, 40, 8);
    let (index, measured) = stored(
        build(&features, Metric::Cosine, &SMALL).0,
        VectorStorage::Auto,
    );
    assert_eq!((index.storage(), measured), (VectorStorage::F32, None));
    // Nor do short ones.
    let features = clustered(2000, 16, 8);
    let (index, measured) = stored(build(&features, Metric::L2, &SMALL).0, VectorStorage::Auto);
    assert_eq!((index.storage(), measured), (VectorStorage::F32, None));
    for n in [0, 1, 2] {
        let (index, _) = build(&Array2::ones((n, 3)), Metric::InnerProduct, &SMALL);
        let (index, measured) = stored(index, VectorStorage::Int8);
        assert_eq!(index.storage(), VectorStorage::Int8);
        assert_eq!(measured.unwrap().int8, 1.0);
        let opened = open(bytes(&index)).unwrap();
        let found = opened
            .search(Array2::ones((2, 3)).view(), 4, 10, &())
            .unwrap();
        assert_eq!(found.ids.dim(), (2, n));
    }
    let zeros = build(&Array2::zeros((900, 3)), Metric::InnerProduct, &SMALL).0;
    let (index, _) = stored(zeros, VectorStorage::Int8);
    assert_eq!(
        index
            .search(Array2::zeros((1, 3)).view(), 4, 10, &())
            .unwrap()
            .ids
            .row(0)
            .to_vec(),
        [0, 1, 2, 3]
    );
}

#[test]
fn extreme_values_have_codes_like_others() {
    let features = clustered(2000, 12, 41);
    for scale in [1e-38f32, 1e-20, 1e18, 1e36] {
        let scaled = features.mapv(|v| v * scale);
        for metric in METRICS {
            let index = coded(&scaled, metric);
            let recall = index.recall(100, 5, &[100], 1, &()).unwrap()[0].recall;
            assert!(recall > 0.9, "{scale} {metric}: {recall}");
        }
    }
    let index = coded(&features, Metric::L2);
    let far = Array2::from_elem((1, 12), 3e38f32);
    let found = index.search(far.view(), 3, 50, &()).unwrap();
    assert!(found.distances.iter().all(|d| d.is_finite()));
}

#[test]
fn too_many_dimensions_are_an_error_or_without_codes() {
    for (metric, most) in [(Metric::L2, 33_025), (Metric::InnerProduct, 33_024)] {
        let features = Array2::from_shape_fn((3, most), |(i, j)| ((i * 7 + j) % 5) as f32);
        let index = coded(&features, metric);
        assert_eq!(
            index.search_rows(0..1, 2, 9, &()).unwrap().ids.dim(),
            (1, 2)
        );
        let features = Array2::from_shape_fn((3, most + 1), |(i, j)| ((i + j) % 5) as f32);
        let (index, _) = build(&features, metric, &SMALL);
        let sample = index.recall_sample(3, 1, 0, &()).unwrap();
        let refused = index.clone().stored(VectorStorage::Int8, &sample, &());
        assert_eq!(
            refused.map(|_| ()).unwrap_err().to_string(),
            format!(
                "storage must be 'f32' or 'auto' for vectors of more than {most} dimensions, got 'int8' for {} dimensions",
                most + 1
            )
        );
        let (index, _) = index.stored(VectorStorage::Auto, &sample, &()).unwrap();
        assert_eq!(index.storage(), VectorStorage::F32);
    }
}

#[test]
fn memory_is_asked_for_and_samples_are_of_the_index() {
    struct Nothing;
    impl Control for Nothing {
        fn reserve(&self, purpose: &str, bytes: usize) -> Result<(), crate::ReserveError> {
            Err(crate::ReserveError {
                purpose: purpose.to_owned(),
                requested: bytes,
                reserved: 0,
                limit: Some(0),
            })
        }
    }
    let (index, _) = build(&clustered(700, 6, 1), Metric::Cosine, &SMALL);
    let sample = index.recall_sample(9, 3, 0, &()).unwrap();
    let refused = index.clone().stored(VectorStorage::Int8, &sample, &Nothing);
    assert!(matches!(refused, Err(ManifoldError::Memory(_))));
    let (with, _) = index
        .clone()
        .stored(VectorStorage::Int8, &sample, &())
        .unwrap();
    let codes = Hnsw::code_bytes(index.len(), 6, Metric::Cosine);
    assert!(with.byte_len() - index.byte_len() <= codes.next_multiple_of(64) + 64);
    let (smaller, _) = build(&clustered(5, 6, 1), Metric::Cosine, &SMALL);
    assert!(smaller.stored(VectorStorage::Int8, &sample, &()).is_err());
    assert_eq!(VectorStorage::parse("INT8").unwrap(), VectorStorage::Int8);
    assert_eq!(
        VectorStorage::parse("f16").unwrap_err().to_string(),
        "storage must be one of auto, f32, int8, got 'f16'"
    );
}
