//! Squared Euclidean distance for `hnsw_rs`: sixteen lanes in two sets, as our own index sums them, one pair
//! of rows at a time, because that is all the crate asks for.

use hnsw_rs::prelude::Distance;

const LANES: usize = 16;

/// Orders rows as the distance does, without a square root. Made once: the processor is asked then.
pub(super) struct Squared(fn(&[f32], &[f32]) -> f32);

impl Squared {
    pub(super) fn new() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Self(avx2);
        }
        Self(sum)
    }
}

impl Distance<f32> for Squared {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        self.0(a, b)
    }
}

#[cfg(target_arch = "x86_64")]
fn avx2(a: &[f32], b: &[f32]) -> f32 {
    #[target_feature(enable = "avx2,fma")]
    fn wide(a: &[f32], b: &[f32]) -> f32 {
        sum(a, b)
    }
    // SAFETY: chosen after the features were detected.
    unsafe { wide(a, b) }
}

#[inline(always)]
fn sum(a: &[f32], b: &[f32]) -> f32 {
    let (a, rest_a) = a.as_chunks::<LANES>();
    let (b, rest_b) = b.as_chunks::<LANES>();
    let mut sums = [[0.0f32; LANES]; 2];
    let (pairs_a, last_a) = a.as_chunks::<2>();
    let (pairs_b, last_b) = b.as_chunks::<2>();
    for (a, b) in pairs_a.iter().zip(pairs_b) {
        for half in 0..2 {
            add(&mut sums[half], &a[half], &b[half]);
        }
    }
    for (a, b) in last_a.iter().zip(last_b) {
        add(&mut sums[0], a, b);
    }
    let rest = rest_a.iter().zip(rest_b).map(|(a, b)| (a - b) * (a - b));
    let lanes: f32 = sums[0].iter().zip(&sums[1]).map(|(a, b)| a + b).sum();
    lanes + rest.sum::<f32>()
}

#[inline(always)]
fn add(sums: &mut [f32; LANES], a: &[f32; LANES], b: &[f32; LANES]) {
    for lane in 0..LANES {
        let difference = a[lane] - b[lane];
        sums[lane] = difference.mul_add(difference, sums[lane]);
    }
}
