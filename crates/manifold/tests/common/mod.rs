//! Shared by the integration tests.
#![allow(dead_code, missing_docs, unreachable_pub)]

use lakefold_manifold::{Fit, Lle, Method, Solver};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use ndarray_linalg::{QR, SVD};

/// A swiss roll with seeded coordinates, (n, 3).
pub fn swiss_roll(n: usize, seed: u64) -> Array2<f64> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut points = Array2::zeros((n, 3));
    for mut row in points.rows_mut() {
        let t = 1.5 * std::f64::consts::PI * (1.0 + 2.0 * uniform());
        row.assign(&Array1::from(vec![
            t * t.cos(),
            21.0 * uniform(),
            t * t.sin(),
        ]));
    }
    points
}

/// An orthonormal basis of the centred columns.
pub fn basis(columns: &Array2<f64>) -> Array2<f64> {
    let centred = columns - &columns.mean_axis(Axis(0)).unwrap();
    centred.qr().unwrap().0
}

/// The sine of the largest principal angle between the spans of centred columns.
pub fn largest_angle_sine(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    let (a, b) = (basis(a), basis(b));
    let outside = &b - &a.dot(&a.t().dot(&b));
    outside.svd(false, false).unwrap().1[0]
}

/// Two dimensions, ten neighbours, the standard method.
pub fn fit(features: ArrayView2<'_, f64>, solver: Solver) -> Fit {
    fit_variant(features, Method::Standard, solver)
}

/// The methods beside the standard one.
pub const VARIANTS: [Method; 3] = [Method::Modified, Method::Hessian, Method::Ltsa];

pub fn fit_variant(features: ArrayView2<'_, f64>, method: Method, solver: Solver) -> Fit {
    Lle::builder(2)
        .n_neighbors(10)
        .method(method)
        .solver(solver)
        .build()
        .unwrap()
        .fit(features, &())
        .unwrap()
}
