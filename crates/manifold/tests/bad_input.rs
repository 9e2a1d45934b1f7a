//! Impossible requests say what to do.

mod common;

use common::swiss_roll;
use lakefold_manifold::{Lle, Method, Solver};
use ndarray::{Array2, array};

#[test]
fn rows_without_dimensions_are_an_error() {
    let lle = Lle::builder(1).n_neighbors(2).build().unwrap();
    for rows in [0, 5] {
        assert!(
            lle.fit(Array2::<f64>::zeros((rows, 0)).view(), &())
                .is_err()
        );
    }
}

fn error(features: &Array2<f64>, lle: &Lle) -> String {
    lle.fit(features.view(), &()).unwrap_err().to_string()
}

fn few_neighbors(method: Method, d: usize, k: usize) -> String {
    let lle = |k| Lle::builder(d).n_neighbors(k).method(method).build();
    lle(k + 1)
        .unwrap()
        .fit(swiss_roll(200, 0).view(), &())
        .unwrap();
    lle(k).unwrap_err().to_string()
}

#[test]
fn impossible_requests_say_what_to_do() {
    let default = Lle::builder(2).build().unwrap();
    let messages = [
        error(&Array2::zeros((0, 3)), &default),
        error(&swiss_roll(1, 0), &default),
        error(&Array2::ones((50, 3)), &default),
        error(&swiss_roll(10, 0), &default),
        error(&swiss_roll(50, 0), &Lle::builder(4).build().unwrap()),
        error(
            &swiss_roll(4, 0),
            &Lle::builder(3).n_neighbors(2).build().unwrap(),
        ),
        error(
            &swiss_roll(7000, 0),
            &Lle::builder(2).solver(Solver::Dense).build().unwrap(),
        ),
        error(&array![[1.0, 2.0], [3.0, f64::NAN]], &default),
        error(&array![[f64::INFINITY, 2.0], [3.0, 4.0]], &default),
        error(&array![[1e200, 2.0], [3.0, 4.0]], &default),
        Lle::builder(0).build().unwrap_err().to_string(),
        Lle::builder(1)
            .n_neighbors(0)
            .build()
            .unwrap_err()
            .to_string(),
        Lle::builder(1)
            .reg(f64::NAN)
            .build()
            .unwrap_err()
            .to_string(),
        Solver::parse("magic").unwrap_err().to_string(),
        Method::parse("magic").unwrap_err().to_string(),
        few_neighbors(Method::Modified, 3, 2),
        few_neighbors(Method::Ltsa, 3, 3),
        few_neighbors(Method::Hessian, 3, 9),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}
