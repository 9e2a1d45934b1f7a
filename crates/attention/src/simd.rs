//! The same kernel, compiled for the widest vectors that the processor has.

/// A loop over numbers. `run` and all that it calls must be `#[inline(always)]`: only what is inlined
/// into the versions below is compiled for them.
pub(crate) trait Kernel {
    type Out;
    /// `FUSED`: a·b + c costs one instruction and is rounded once. Without it the same body multiplies
    /// and adds, because a processor without the instruction would call a library for each.
    fn run<const FUSED: bool>(self) -> Self::Out;
}

/// Runs `kernel` on the widest vectors that the processor has. All fused versions give the same bits.
#[inline]
pub(crate) fn widest<K: Kernel>(kernel: K) -> K::Out {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
        fn avx512<K: Kernel>(kernel: K) -> K::Out {
            kernel.run::<true>()
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2<K: Kernel>(kernel: K) -> K::Out {
            kernel.run::<true>()
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
            {
                // SAFETY: the features were just detected.
                return unsafe { avx512(kernel) };
            }
            // SAFETY: the features were just detected.
            return unsafe { avx2(kernel) };
        }
    }
    plain(kernel)
}

/// The twin without detection: what processors without AVX2 run, and what the tests compare with.
#[inline]
pub(crate) fn plain<K: Kernel>(kernel: K) -> K::Out {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
        kernel.run::<true>()
    } else {
        kernel.run::<false>()
    }
}
