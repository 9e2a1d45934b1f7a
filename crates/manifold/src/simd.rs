//! The same kernel, compiled for the widest vectors that the processor has.
//!
//! Only the width changes: Rust never fuses or reorders floating-point operations by itself, so every
//! version gives the same bits.

/// Runs `kernel`, which should be an `#[inline(always)]` closure: only what is inlined into the versions
/// below is compiled for them. (A closure that is called as `FnOnce` hides behind a shim that is not, so
/// this takes `FnMut`.)
#[inline(always)]
pub(crate) fn widest<R>(mut kernel: impl FnMut() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
        fn avx512<R>(kernel: &mut impl FnMut() -> R) -> R {
            kernel()
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2<R>(kernel: &mut impl FnMut() -> R) -> R {
            kernel()
        }
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
        {
            // SAFETY: the features were just detected; processors with AVX-512 have AVX2 and FMA.
            return unsafe { avx512(&mut kernel) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the features were just detected.
            return unsafe { avx2(&mut kernel) };
        }
    }
    kernel()
}
