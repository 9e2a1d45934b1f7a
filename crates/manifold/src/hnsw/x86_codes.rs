//! Steps of codes in the registers of x86-64.
//!
//! SAFETY of every block: these types are named by the functions at the end alone, which are compiled for the features
//! and chosen by [`super::code_sums::widest`] after they were detected. Loads take any alignment and stay inside their
//! arrays.

use std::arch::x86_64::{
    __m256i, __m512i, _mm_loadu_si128, _mm256_add_epi32, _mm256_cvtepu8_epi16, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_storeu_si256, _mm256_sub_epi16, _mm512_cvtepu8_epi16,
    _mm512_dpwssd_epi32, _mm512_loadu_si512, _mm512_reduce_add_epi32, _mm512_sub_epi16,
};

use super::code_sums::{CodeRows, STEP, Squares, code_sums};

/// One register of sums.
#[derive(Clone, Copy)]
struct Vnni(__m512i);

impl Squares for Vnni {
    // SAFETY: any bits are a valid register.
    const ZERO: Self = unsafe { std::mem::zeroed() };
    #[inline(always)]
    fn plus(self, query: &[i16; STEP], codes: &[u8; STEP]) -> Self {
        // SAFETY: see above.
        unsafe {
            let codes = _mm512_cvtepu8_epi16(_mm256_loadu_si256(codes.as_ptr().cast()));
            let query = _mm512_loadu_si512(query.as_ptr().cast());
            let difference = _mm512_sub_epi16(query, codes);
            Self(_mm512_dpwssd_epi32(self.0, difference, difference))
        }
    }
    #[inline(always)]
    fn sum(self) -> i32 {
        // SAFETY: see above.
        unsafe { _mm512_reduce_add_epi32(self.0) }
    }
}

/// One register of sums, two halves of a step after one another.
#[derive(Clone, Copy)]
struct Avx2(__m256i);

const HALF: usize = STEP / 2;

impl Squares for Avx2 {
    // SAFETY: any bits are a valid register.
    const ZERO: Self = unsafe { std::mem::zeroed() };
    #[inline(always)]
    fn plus(self, query: &[i16; STEP], codes: &[u8; STEP]) -> Self {
        let mut sums = self.0;
        let halves = query.as_chunks::<HALF>().0.iter();
        for (query, codes) in halves.zip(codes.as_chunks::<HALF>().0) {
            // SAFETY: see above.
            unsafe {
                let codes = _mm256_cvtepu8_epi16(_mm_loadu_si128(codes.as_ptr().cast()));
                let query = _mm256_loadu_si256(query.as_ptr().cast());
                let difference = _mm256_sub_epi16(query, codes);
                sums = _mm256_add_epi32(sums, _mm256_madd_epi16(difference, difference));
            }
        }
        Self(sums)
    }
    #[inline(always)]
    fn sum(self) -> i32 {
        let mut lanes = [0i32; 8];
        // SAFETY: see above.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), self.0) };
        lanes.into_iter().fold(0, i32::wrapping_add)
    }
}

/// Whether [`avx512_vnni`] runs on this processor.
pub(super) fn has_avx512_vnni() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
}

/// Four rows at once.
pub(super) fn avx512_vnni(query: &[i16], rows: CodeRows<'_>, ids: &[u32], out: &mut [f32]) {
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn wide(query: &[i16], rows: CodeRows<'_>, ids: &[u32], out: &mut [f32]) {
        code_sums::<Vnni, 4>(query, rows, ids, out);
    }
    // SAFETY: chosen after the features were detected.
    unsafe { wide(query, rows, ids, out) }
}

/// Four rows at once.
pub(super) fn avx2(query: &[i16], rows: CodeRows<'_>, ids: &[u32], out: &mut [f32]) {
    #[target_feature(enable = "avx2")]
    fn wide(query: &[i16], rows: CodeRows<'_>, ids: &[u32], out: &mut [f32]) {
        code_sums::<Avx2, 4>(query, rows, ids, out);
    }
    // SAFETY: chosen after the feature was detected.
    unsafe { wide(query, rows, ids, out) }
}
