//! scikit-learn's answers (tests/reference/generate.py) on data that has one right answer.

mod common;

use common::{basis, largest_angle_sine};
use lakefold_manifold::{Fit, LaplacianEigenmaps, Lle, Method, Solver};
use ndarray::{Array2, Axis};
use serde_json::Value;

struct Reference {
    json: Value,
    features: Array2<f64>,
}

impl Reference {
    fn read(name: &str) -> Self {
        let path = format!(
            "{}/../../tests/reference/{name}.json",
            env!("CARGO_MANIFEST_DIR")
        );
        let json: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let scale = json["input_scale"].as_f64().unwrap();
        let features = matrix(&json["input"]) / scale;
        Self { json, features }
    }

    fn fit(&self, n_components: usize, solver: Solver) -> Fit {
        Lle::builder(n_components)
            .n_neighbors(self.json["n_neighbors"].as_u64().unwrap() as usize)
            .reg(self.json["reg"].as_f64().unwrap())
            .solver(solver)
            .build()
            .unwrap()
            .fit(self.features.view(), &())
            .unwrap()
    }

    /// (n, d, scikit-learn's embedding, its objective)
    fn fits(&self) -> Vec<(usize, Array2<f64>, f64)> {
        let fit = |fit: &Value| {
            let d = fit["n_components"].as_u64().unwrap() as usize;
            let error = fit["reconstruction_error"].as_f64().unwrap();
            (d, matrix(&fit["embedding"]), error)
        };
        self.json["fits"]
            .as_array()
            .unwrap()
            .iter()
            .map(fit)
            .collect()
    }

    /// ‖(I − W) Q‖² for an orthonormal basis Q of the embedding, with W of plain NumPy's formula on
    /// scikit-learn's neighbours.
    fn objective(&self, embedding: &Array2<f64>) -> f64 {
        let q = basis(embedding);
        let neighbors = self.json["neighbors"].as_array().unwrap();
        let reg = self.json["reg"].as_f64().unwrap();
        let mut sum = 0.0;
        for (i, ids) in neighbors.iter().enumerate() {
            let ids: Vec<usize> = ids
                .as_array()
                .unwrap()
                .iter()
                .map(|v| v.as_u64().unwrap() as usize)
                .collect();
            let weights = textbook_weights(&self.features, i, &ids, reg);
            for column in q.columns() {
                let predicted: f64 = ids.iter().zip(&weights).map(|(&j, w)| w * column[j]).sum();
                sum += (column[i] - predicted).powi(2);
            }
        }
        sum
    }
}

fn matrix(rows: &Value) -> Array2<f64> {
    let rows = rows.as_array().unwrap();
    let d = rows[0].as_array().unwrap().len();
    Array2::from_shape_fn((rows.len(), d), |(i, j)| rows[i][j].as_f64().unwrap())
}

fn textbook_weights(x: &Array2<f64>, i: usize, ids: &[usize], reg: f64) -> Vec<f64> {
    use ndarray_linalg::Solve;
    let z = Array2::from_shape_fn((ids.len(), x.ncols()), |(a, j)| x[(ids[a], j)] - x[(i, j)]);
    let mut gram = z.dot(&z.t());
    let trace = gram.diag().sum();
    gram.diag_mut().mapv_inplace(|g| g + reg * trace);
    let w = gram.solve_into(ndarray::Array1::ones(ids.len())).unwrap();
    let total = w.sum();
    w.into_iter().map(|w| w / total).collect()
}

fn assert_same_answer(name: &str, solver: Solver) {
    let reference = Reference::read(name);
    for (d, expected, reconstruction_error) in reference.fits() {
        let fit = reference.fit(d, solver);
        let (ours, theirs) = (
            reference.objective(&fit.embedding),
            reference.objective(&expected),
        );
        assert!(
            (ours / theirs - 1.0).abs() < 1e-6,
            "{name}, d = {d}: {ours:e} against {theirs:e}"
        );
        let total: f64 = fit.diagnostics.eigenvalues.iter().sum();
        assert!((total / reconstruction_error - 1.0).abs() < 1e-6);
        let sine = largest_angle_sine(&fit.embedding, &expected);
        assert!(
            sine < 1e-6,
            "{name}, d = {d}: the subspaces differ by {sine:e}"
        );
        // Column by column, up to sign: eigenvalues are apart.
        for (ours, theirs) in fit.embedding.columns().into_iter().zip(expected.columns()) {
            let theirs = &theirs * (expected.nrows() as f64).sqrt();
            let sign = ours.dot(&theirs).signum();
            let difference = (&ours - &(theirs * sign))
                .mapv(f64::abs)
                .fold(0.0, |a: f64, b| a.max(*b));
            assert!(
                difference < 1e-4,
                "{name}, d = {d}: a column differs by {difference:e}"
            );
        }
    }
}

#[test]
fn swiss_roll() {
    assert_same_answer("swiss_roll", Solver::Exact);
    assert_same_answer("swiss_roll", Solver::Dense);
}

#[test]
fn s_curve() {
    assert_same_answer("s_curve", Solver::Exact);
}

#[test]
fn digits() {
    assert_same_answer("digits", Solver::Exact);
}

/// The other methods. scikit-learn's Hessian LLE is LTSA to the last digits (it keeps all functionals that
/// vanish on the tangent coordinates), so ours is compared with the paper's formula in NumPy.
fn assert_same_variants(name: &str, solver: Solver) {
    let reference = Reference::read(name);
    let variants = &reference.json["variants"];
    let rows = variants["rows"].as_array().unwrap().iter();
    let rows: Vec<usize> = rows.map(|v| v.as_u64().unwrap() as usize).collect();
    let features = reference.features.select(Axis(0), &rows);
    for fit in variants["fits"].as_array().unwrap() {
        let by = fit["by"].as_str().unwrap();
        let method = match (fit["method"].as_str().unwrap(), by) {
            ("hessian", "scikit-learn") => Method::Ltsa,
            (name, _) => Method::parse(name).unwrap(),
        };
        let expected = matrix(&fit["embedding"]);
        let ours = Lle::builder(expected.ncols())
            .n_neighbors(reference.json["n_neighbors"].as_u64().unwrap() as usize)
            .method(method)
            .solver(solver)
            .build()
            .unwrap()
            .fit(features.view(), &())
            .unwrap();
        let total: f64 = ours.diagnostics.eigenvalues.iter().sum();
        let ratio = total / fit["reconstruction_error"].as_f64().unwrap();
        assert!(
            (ratio - 1.0).abs() < 1e-6,
            "{name}, {method:?} by {by}: {ratio}"
        );
        let sine = largest_angle_sine(&ours.embedding, &expected);
        assert!(sine < 1e-6, "{name}, {method:?} by {by}: {sine:e}");
    }
}

#[test]
fn variants_of_the_swiss_roll() {
    assert_same_variants("swiss_roll", Solver::Exact);
}

#[test]
fn variants_of_the_s_curve() {
    assert_same_variants("s_curve", Solver::Exact);
    assert_same_variants("s_curve", Solver::Dense);
}

#[test]
fn variants_of_the_digits() {
    assert_same_variants("digits", Solver::Exact);
}

#[test]
fn laplacian_eigenmaps_of_every_data_set() {
    for name in ["swiss_roll", "s_curve", "digits"] {
        let reference = Reference::read(name);
        let fit = &reference.json["laplacian"];
        let expected = matrix(&fit["embedding"]);
        for solver in [Solver::Exact, Solver::Auto] {
            let ours = LaplacianEigenmaps::builder(expected.ncols())
                .n_neighbors(reference.json["n_neighbors"].as_u64().unwrap() as usize)
                .solver(solver)
                .build()
                .unwrap()
                .fit(reference.features.view(), &())
                .unwrap();
            assert_eq!(ours.diagnostics.connected_components, 1);
            let theirs = fit["eigenvalues"].as_array().unwrap();
            for (ours, theirs) in ours.diagnostics.eigenvalues.iter().zip(theirs) {
                let ratio = ours / theirs.as_f64().unwrap();
                assert!((ratio - 1.0).abs() < 1e-9, "{name}: {ratio}");
            }
            // Column by column, up to sign, shift and scale.
            for (ours, theirs) in ours.embedding.columns().into_iter().zip(expected.columns()) {
                let theirs = &theirs - theirs.mean().unwrap();
                let cosine = ours.dot(&theirs) / (ours.dot(&ours) * theirs.dot(&theirs)).sqrt();
                assert!(1.0 - cosine.abs() < 1e-12, "{name}: {cosine}");
            }
        }
    }
}

/// Seven of the digits are nobody's neighbour at k = 15. scikit-learn's Hessian LLE and LTSA have a null
/// vector for each: its sparse solver fails ("Factor is exactly singular"), its dense one returns them.
#[test]
fn rows_that_are_nobodys_neighbour_give_no_junk_dimension() {
    let features = Reference::read("digits").features;
    for method in [Method::Modified, Method::Hessian, Method::Ltsa] {
        let fit = Lle::builder(2)
            .n_neighbors(15)
            .method(method)
            .build()
            .unwrap()
            .fit(features.view(), &())
            .unwrap();
        assert!(
            fit.diagnostics.eigenvalues[0] > 1e-4,
            "{method:?}: {:?}",
            fit.diagnostics.eigenvalues
        );
        // A column that tells one row from the others reaches √n = 42 there.
        let largest = fit.embedding.iter().fold(0.0f64, |a, v| a.max(v.abs()));
        assert!(largest < 15.0, "{method:?}: {largest}");
    }
}

/// scikit-learn's first columns are constant on every closed component; ours tell rows within them apart.
#[test]
fn closed_components_give_no_junk_dimension() {
    for name in ["three_clusters", "tiny_component"] {
        let reference = Reference::read(name);
        let components = reference.json["closed_components"].as_array().unwrap();
        let (d, theirs, _) = reference.fits().remove(0);
        let varies = |embedding: &Array2<f64>, column: usize| {
            components.iter().any(|rows| {
                let values: Vec<f64> = rows
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|row| embedding[(row.as_u64().unwrap() as usize, column)])
                    .collect();
                let (low, high) = values
                    .iter()
                    .fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
                high - low > 1e-6
            })
        };
        let junk = reference.json["junk_columns"].as_u64().unwrap() as usize;
        let theirs = theirs.mapv(|v| v * (reference.features.nrows() as f64).sqrt());
        assert_eq!(
            (0..d).filter(|&j| !varies(&theirs, j)).count(),
            junk,
            "scikit-learn, {name}"
        );
        for solver in [Solver::Exact, Solver::Dense] {
            let fit = reference.fit(d, solver);
            assert_eq!(fit.diagnostics.closed_components, components.len());
            assert!(fit.diagnostics.bridge_rounds > 0);
            assert!(
                fit.diagnostics.eigenvalues[0] > 1e-12,
                "{:?}",
                fit.diagnostics.eigenvalues
            );
            assert!(
                (0..d).all(|j| varies(&fit.embedding, j)),
                "{name}, {solver:?}"
            );
        }
    }
}
