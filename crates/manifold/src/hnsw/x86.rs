//! Sixteen lanes in the registers of x86-64.
//!
//! SAFETY of every block: these types are named by the functions at the end alone, which are compiled for
//! the feature and chosen by [`super::lanes::widest`] after it was detected. Loads and stores take any
//! alignment and stay inside their arrays.

use std::arch::x86_64::{
    __m256, __m512, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_storeu_ps,
    _mm256_sub_ps, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_storeu_ps,
    _mm512_sub_ps,
};

use super::lanes::{LANES, Rows, Sixteen, sums};

/// One register.
#[derive(Clone, Copy)]
struct Avx512(__m512);

impl Sixteen for Avx512 {
    // SAFETY: any bits are a valid register; all zero is sixteen times 0.0.
    const ZERO: Self = unsafe { std::mem::zeroed() };
    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_loadu_ps(values.as_ptr()) })
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn times_plus(self, factor: Self, sum: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, sum.0) })
    }
    #[inline(always)]
    fn lanes(self) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), self.0) };
        lanes
    }
}

/// Two registers.
#[derive(Clone, Copy)]
struct Avx2(__m256, __m256);

const HALF: usize = LANES / 2;

impl Sixteen for Avx2 {
    // SAFETY: any bits are valid registers; all zero is sixteen times 0.0.
    const ZERO: Self = unsafe { std::mem::zeroed() };
    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        let (low, high) = values.split_at(HALF);
        // SAFETY: see above.
        unsafe {
            Self(
                _mm256_loadu_ps(low.as_ptr()),
                _mm256_loadu_ps(high.as_ptr()),
            )
        }
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            Self(
                _mm256_add_ps(self.0, other.0),
                _mm256_add_ps(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            Self(
                _mm256_sub_ps(self.0, other.0),
                _mm256_sub_ps(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    fn times_plus(self, factor: Self, sum: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            Self(
                _mm256_fmadd_ps(self.0, factor.0, sum.0),
                _mm256_fmadd_ps(self.1, factor.1, sum.1),
            )
        }
    }
    #[inline(always)]
    fn lanes(self) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        let (low, high) = lanes.split_at_mut(HALF);
        // SAFETY: see above.
        unsafe {
            _mm256_storeu_ps(low.as_mut_ptr(), self.0);
            _mm256_storeu_ps(high.as_mut_ptr(), self.1);
        }
        lanes
    }
}

/// Four rows at once: eight chains of additions hide one another's latency.
pub(super) fn avx512<const DOT: bool>(query: &[f32], rows: Rows<'_>, ids: &[u32], out: &mut [f32]) {
    #[target_feature(enable = "avx512f")]
    fn wide<const DOT: bool>(query: &[f32], rows: Rows<'_>, ids: &[u32], out: &mut [f32]) {
        sums::<Avx512, DOT, 4>(query, rows, ids, out);
    }
    // SAFETY: chosen after the feature was detected.
    unsafe { wide::<DOT>(query, rows, ids, out) }
}

/// Two rows at once: more sums would not fit in sixteen registers.
pub(super) fn avx2<const DOT: bool>(query: &[f32], rows: Rows<'_>, ids: &[u32], out: &mut [f32]) {
    #[target_feature(enable = "avx2,fma")]
    fn wide<const DOT: bool>(query: &[f32], rows: Rows<'_>, ids: &[u32], out: &mut [f32]) {
        sums::<Avx2, DOT, 2>(query, rows, ids, out);
    }
    // SAFETY: chosen after the features were detected.
    unsafe { wide::<DOT>(query, rows, ids, out) }
}
