//! The two float types that the kernels compute in, and their exponential.
#![expect(
    clippy::excessive_precision,
    reason = "the parts of ln 2 are written as they are exact"
)]

use std::cell::RefCell;
use std::ops::{AddAssign, MulAssign};
use std::thread::LocalKey;

use ndarray::LinalgScalar;

use crate::Score;
use crate::workspace::Workspace;

/// A number type that attention is computed in: `f32` or `f64`. Products, weights and sums have this type.
pub trait Real:
    Score + LinalgScalar + PartialOrd + AddAssign + MulAssign + std::fmt::Debug
{
    /// −∞
    const NEG_INFINITY: Self;
    /// Not a number.
    const NAN: Self;

    #[doc(hidden)]
    #[must_use]
    fn is_nan(self) -> bool;

    /// This thread's.
    #[doc(hidden)]
    #[must_use]
    fn workspace() -> &'static LocalKey<RefCell<Workspace<Self>>>;

    /// eˣ for x ≤ 0, −∞ and NaN included, within 2 units in the last place; results below the smallest
    /// normal number are 0. The body has no branch, so that a loop over it is compiled to vectors.
    #[doc(hidden)]
    #[must_use]
    fn exp_nonpositive<const FUSED: bool>(self) -> Self;
}

/// a·b + c, rounded once or twice.
macro_rules! multiply_add {
    ($a:expr, $b:expr, $c:expr) => {
        if FUSED {
            $a.mul_add($b, $c)
        } else {
            $a * $b + $c
        }
    };
}

/// Both exponentials are Cody and Waite's (1980): x = n·ln 2 + r with |r| ≤ ln 2 / 2, e^x = 2ⁿ·eʳ, and eʳ by
/// its Taylor polynomial. Adding 1.5·2^(bits of the fraction) rounds to the integer n and leaves n in the
/// low bits. ln 2 is subtracted in two parts, the first short enough for n times it to be exact.
macro_rules! real {
    ($type:ident, $signed:ident, $rounder:expr, $fraction:expr, $bias:expr, $smallest:expr,
     $high:expr, $low:expr, [$first:expr $(, $coefficient:expr)*]) => {
        impl Real for $type {
            const NEG_INFINITY: Self = $type::NEG_INFINITY;
            const NAN: Self = $type::NAN;

            #[inline(always)]
            fn is_nan(self) -> bool {
                self.is_nan()
            }

            fn workspace() -> &'static LocalKey<RefCell<Workspace<Self>>> {
                thread_local! {
                    static WORKSPACE: RefCell<Workspace<$type>> = const { RefCell::new(Workspace::new()) };
                }
                &WORKSPACE
            }

            #[inline(always)]
            fn exp_nonpositive<const FUSED: bool>(self) -> Self {
                const ROUNDER: $type = $rounder;
                let shifted = multiply_add!(self, std::$type::consts::LOG2_E, ROUNDER);
                let n = shifted - ROUNDER;
                let r = multiply_add!(n, -$high, self);
                let r = multiply_add!(n, -$low, r);
                let sum: $type = $first;
                $(let sum = multiply_add!(sum, r, $coefficient);)*
                let exponent = (shifted.to_bits() as $signed).wrapping_sub(ROUNDER.to_bits() as $signed);
                let power = $type::from_bits((exponent.wrapping_add($bias) << $fraction) as _);
                if self < $smallest { 0.0 } else { sum * power }
            }
        }
    };
}

real!(
    f32,
    i32,
    12_582_912.0,
    23,
    127,
    -87.336_54,
    0.693_359_375,
    -2.121_944_4e-4,
    [
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0
    ]
);
real!(
    f64,
    i64,
    6_755_399_441_055_744.0,
    52,
    1023,
    -708.396_418_532_264_1,
    0.693_147_180_369_123_816_490,
    1.908_214_929_270_587_700_02e-10,
    [
        1.0 / 6_227_020_800.0,
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0
    ]
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Kernel, plain, widest};

    struct Exponentials<'a, T>(&'a mut [T]);

    impl<T: Real> Kernel for Exponentials<'_, T> {
        type Out = ();
        #[inline(always)]
        fn run<const FUSED: bool>(self) {
            for value in self.0 {
                *value = value.exp_nonpositive::<FUSED>();
            }
        }
    }

    #[test]
    fn f32_is_within_two_units_of_std_over_the_whole_range() {
        // Every 97th number from −0 to −104, by its bits.
        let arguments: Vec<f32> = (0..=104.0f32.to_bits())
            .step_by(97)
            .map(|bits| -f32::from_bits(bits))
            .collect();
        let (mut wide, mut narrow) = (arguments.clone(), arguments.clone());
        widest(Exponentials(&mut wide));
        plain(Exponentials(&mut narrow));
        for ((&x, &wide), &narrow) in arguments.iter().zip(&wide).zip(&narrow) {
            let exact = f64::from(x).exp();
            for result in [wide, narrow] {
                if exact < 1.1755e-38 {
                    assert!(f64::from(result) <= 1.1756e-38, "exp({x}) = {result}");
                } else {
                    let error = (f64::from(result) - exact).abs() / exact;
                    assert!(error < 2.0 * f64::from(f32::EPSILON), "exp({x}) = {result}");
                }
            }
        }
    }

    #[test]
    fn f64_is_within_two_units_of_std_over_the_whole_range() {
        let arguments: Vec<f64> = (0..2_000_000u32)
            .map(|i| -710.0 * f64::from(i) / 2e6)
            .chain((0..300).map(|i| -(0.5f64.powi(i))))
            .collect();
        let (mut wide, mut narrow) = (arguments.clone(), arguments.clone());
        widest(Exponentials(&mut wide));
        plain(Exponentials(&mut narrow));
        for ((&x, &wide), &narrow) in arguments.iter().zip(&wide).zip(&narrow) {
            let exact = x.exp();
            for result in [wide, narrow] {
                if exact < 2.2251e-308 {
                    assert!(result <= 2.2251e-308, "exp({x}) = {result}");
                } else {
                    let error = (result - exact).abs() / exact;
                    assert!(error < 2.0 * f64::EPSILON, "exp({x}) = {result}");
                }
            }
        }
    }

    #[test]
    fn every_version_gives_the_bits_of_the_fused_body() {
        #[cfg(target_arch = "x86_64")]
        if !std::arch::is_x86_feature_detected!("fma") {
            return;
        }
        let arguments: Vec<f32> = (0..100_000u32).map(|i| -(i as f32) / 1000.0).collect();
        let mut wide = arguments.clone();
        widest(Exponentials(&mut wide));
        for (x, wide) in arguments.iter().zip(wide) {
            assert_eq!(x.exp_nonpositive::<true>().to_bits(), wide.to_bits(), "{x}");
        }
    }

    #[test]
    fn limits() {
        for fused in [true, false] {
            let exp = |x: f32| {
                if fused {
                    x.exp_nonpositive::<true>()
                } else {
                    x.exp_nonpositive::<false>()
                }
            };
            assert_eq!(exp(0.0), 1.0);
            assert_eq!(exp(-0.0), 1.0);
            assert_eq!(exp(f32::NEG_INFINITY), 0.0);
            assert_eq!(exp(f32::MIN), 0.0);
            assert!(exp(f32::NAN).is_nan());
            let exp = |x: f64| {
                if fused {
                    x.exp_nonpositive::<true>()
                } else {
                    x.exp_nonpositive::<false>()
                }
            };
            assert_eq!(exp(0.0), 1.0);
            assert_eq!(exp(f64::NEG_INFINITY), 0.0);
            assert_eq!(exp(f64::MIN), 0.0);
            assert!(exp(f64::NAN).is_nan());
        }
    }
}
