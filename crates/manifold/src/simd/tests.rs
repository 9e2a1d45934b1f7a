use super::*;
use crate::points::{Dots, SquaredDistances};
use proptest::prelude::*;

/// What [`eight`] may choose between, and the plain lanes.
fn everywhere<K: Kernel + Copy>(kernel: K) -> Vec<K::Out> {
    let mut results = vec![kernel.run::<[f64; LANES]>(), eight(kernel)];
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx")]
        fn avx<K: Kernel>(kernel: K) -> K::Out {
            kernel.run::<x86::Avx>()
        }
        if is_x86_feature_detected!("avx") {
            // SAFETY: the feature was just detected.
            results.push(unsafe { avx(kernel) });
        }
    }
    results
}

proptest! {
    #[test]
    fn every_width_gives_the_same_bits(
        pairs in prop::collection::vec((-1e3f64..1e3, -1e-3f64..1e-3), 0..70),
    ) {
        let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let single: Vec<f32> = a.iter().map(|&v| v as f32).collect();
        let other: Vec<f32> = b.iter().map(|&v| v as f32).collect();
        let results = [
            everywhere(SquaredDistances { a: &a, b: [b.as_slice()] }).concat(),
            everywhere(SquaredDistances { a: &single, b: [other.as_slice()] }).concat(),
            everywhere(Dots { a: [a.as_slice()], b: [b.as_slice()] }).concat().concat(),
            everywhere(Dots { a: [single.as_slice()], b: [other.as_slice()] }).concat().concat(),
        ];
        for results in results {
            prop_assert!(results.iter().all(|r| r.to_bits() == results[0].to_bits()), "{results:?}");
        }
    }

    #[test]
    fn distances_together_have_the_bits_of_single_ones(values in prop::collection::vec(-1e3f64..1e3, 1..40)) {
        let rows: Vec<Vec<f64>> = (1..=4).map(|s| values.iter().map(|v| (v * f64::from(s)).sin()).collect()).collect();
        let others = [rows[1].as_slice(), &rows[2], &rows[3]];
        for distances in everywhere(SquaredDistances { a: &rows[0], b: others }) {
            for (distance, other) in distances.iter().zip(others) {
                let single = crate::points::squared_distance(&rows[0], other);
                prop_assert_eq!(distance.to_bits(), single.to_bits());
            }
        }
    }

    /// A tile of products is the products one by one.
    #[test]
    fn tiles_have_the_bits_of_single_products(values in prop::collection::vec(-1e3f64..1e3, 1..40)) {
        let rows: Vec<Vec<f64>> = (1..=4).map(|s| values.iter().map(|v| (v * f64::from(s)).sin()).collect()).collect();
        let rows: [&[f64]; 4] = std::array::from_fn(|i| rows[i].as_slice());
        for tiles in everywhere(Dots { a: [rows[0], rows[1]], b: [rows[2], rows[3]] }) {
            for (i, tile) in tiles.iter().enumerate() {
                for (j, product) in tile.iter().enumerate() {
                    let single = crate::points::dot(rows[i], rows[2 + j]);
                    prop_assert_eq!(product.to_bits(), single.to_bits());
                }
            }
        }
    }
}
