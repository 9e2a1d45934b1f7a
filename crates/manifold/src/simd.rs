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

/// Eight numbers that are added and multiplied lane by lane. The compiler does not find these sums' wide
/// form by itself (it shuffles, or gives up); every implementation gives the bits of the plain one.
pub trait Eight: Copy {
    const ZERO: Self;
    fn load(values: &[f64; LANES]) -> Self;
    fn widen(values: &[f32; LANES]) -> Self;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    fn lanes(self) -> [f64; LANES];
}

pub(crate) const LANES: usize = 8;

impl Eight for [f64; LANES] {
    const ZERO: Self = [0.0; LANES];
    #[inline(always)]
    fn load(values: &[f64; LANES]) -> Self {
        *values
    }
    #[inline(always)]
    fn widen(values: &[f32; LANES]) -> Self {
        values.map(f64::from)
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] + other[lane])
    }
    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] - other[lane])
    }
    #[inline(always)]
    fn times(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] * other[lane])
    }
    #[inline(always)]
    fn lanes(self) -> [f64; LANES] {
        self
    }
}

/// Numbers that eight lanes of `f64` can be made of.
pub trait Wide: Sized {
    fn lanes<V: Eight>(values: &[Self; LANES]) -> V;
}

impl Wide for f32 {
    #[inline(always)]
    fn lanes<V: Eight>(values: &[Self; LANES]) -> V {
        V::widen(values)
    }
}

impl Wide for f64 {
    #[inline(always)]
    fn lanes<V: Eight>(values: &[Self; LANES]) -> V {
        V::load(values)
    }
}

/// A computation on eight lanes, whatever they are made of. `run` should be inlined always.
pub(crate) trait Kernel {
    type Out;
    fn run<V: Eight>(self) -> Self::Out;
}

/// Runs `kernel` on the widest lanes that the processor has.
#[inline(always)]
pub(crate) fn eight<K: Kernel>(kernel: K) -> K::Out {
    #[cfg(target_arch = "x86_64")]
    {
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn avx512<K: Kernel>(kernel: K) -> K::Out {
            kernel.run::<x86::Avx512>()
        }
        #[inline]
        #[target_feature(enable = "avx")]
        fn avx<K: Kernel>(kernel: K) -> K::Out {
            kernel.run::<x86::Avx>()
        }
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature was just detected.
            return unsafe { avx512(kernel) };
        }
        if is_x86_feature_detected!("avx") {
            // SAFETY: the feature was just detected.
            return unsafe { avx(kernel) };
        }
    }
    kernel.run::<[f64; LANES]>()
}

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;
