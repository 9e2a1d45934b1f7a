//! Eight lanes in the registers of x86-64.
//!
//! SAFETY of every block: these types are named by [`super::eight`] alone, in functions compiled for the
//! feature, after it was detected. Loads and stores take any alignment and stay inside their arrays.

use std::arch::x86_64::{
    __m256d, __m512d, _mm_loadu_ps, _mm256_add_pd, _mm256_cvtps_pd, _mm256_loadu_pd,
    _mm256_loadu_ps, _mm256_mul_pd, _mm256_storeu_pd, _mm256_sub_pd, _mm512_add_pd,
    _mm512_cvtps_pd, _mm512_loadu_pd, _mm512_mul_pd, _mm512_storeu_pd, _mm512_sub_pd,
};

use super::{Eight, LANES};

/// One register.
#[derive(Clone, Copy)]
pub(super) struct Avx512(__m512d);

impl Eight for Avx512 {
    // SAFETY: any bits are a valid register; all zero is eight times 0.0.
    const ZERO: Self = unsafe { std::mem::zeroed() };
    #[inline(always)]
    fn load(values: &[f64; LANES]) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_loadu_pd(values.as_ptr()) })
    }
    #[inline(always)]
    fn widen(values: &[f32; LANES]) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_cvtps_pd(_mm256_loadu_ps(values.as_ptr())) })
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_add_pd(self.0, other.0) })
    }
    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_sub_pd(self.0, other.0) })
    }
    #[inline(always)]
    fn times(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_mul_pd(self.0, other.0) })
    }
    #[inline(always)]
    fn lanes(self) -> [f64; LANES] {
        let mut lanes = [0.0; LANES];
        // SAFETY: see above.
        unsafe { _mm512_storeu_pd(lanes.as_mut_ptr(), self.0) };
        lanes
    }
}

/// Two registers.
#[derive(Clone, Copy)]
pub(super) struct Avx(__m256d, __m256d);

const HALF: usize = LANES / 2;

impl Eight for Avx {
    // SAFETY: any bits are valid registers; all zero is eight times 0.0.
    const ZERO: Self = unsafe { std::mem::zeroed() };
    #[inline(always)]
    fn load(values: &[f64; LANES]) -> Self {
        let (low, high) = values.split_at(HALF);
        // SAFETY: see above.
        unsafe {
            Self(
                _mm256_loadu_pd(low.as_ptr()),
                _mm256_loadu_pd(high.as_ptr()),
            )
        }
    }
    #[inline(always)]
    fn widen(values: &[f32; LANES]) -> Self {
        let (low, high) = values.split_at(HALF);
        // SAFETY: see above.
        unsafe {
            Self(
                _mm256_cvtps_pd(_mm_loadu_ps(low.as_ptr())),
                _mm256_cvtps_pd(_mm_loadu_ps(high.as_ptr())),
            )
        }
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            Self(
                _mm256_add_pd(self.0, other.0),
                _mm256_add_pd(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            Self(
                _mm256_sub_pd(self.0, other.0),
                _mm256_sub_pd(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    fn times(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            Self(
                _mm256_mul_pd(self.0, other.0),
                _mm256_mul_pd(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    fn lanes(self) -> [f64; LANES] {
        let mut lanes = [0.0; LANES];
        let (low, high) = lanes.split_at_mut(HALF);
        // SAFETY: see above.
        unsafe {
            _mm256_storeu_pd(low.as_mut_ptr(), self.0);
            _mm256_storeu_pd(high.as_mut_ptr(), self.1);
        }
        lanes
    }
}
