//! Bad input, too little memory, and being told to stop.

use super::*;
use crate::{Control, ManifoldError};

#[test]
fn bad_input_is_an_error() {
    let features = clustered(50, 4, 1);
    let invalid = |m, ef_construction| {
        let options = HnswOptions {
            m,
            ef_construction,
            seed: 0,
        };
        Hnsw::build(features.view(), Metric::L2, &options, &())
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(invalid(1, 9), "m must be from 2 to 256, got 1");
    assert_eq!(invalid(257, 900), "m must be from 2 to 256, got 257");
    assert_eq!(
        invalid(16, 15),
        "ef_construction must be from 16 to 1048576, got 15"
    );
    let error = |features: Array2<f32>, metric| {
        Hnsw::build(features.view(), metric, &SMALL, &())
            .map(|_| ())
            .unwrap_err()
    };
    let mut broken = features.clone();
    broken[(7, 2)] = f32::NAN;
    let nan = error(broken.clone(), Metric::L2);
    assert!(
        matches!(
            nan,
            ManifoldError::NonFinite {
                row: 7,
                dimension: 2,
                ..
            }
        ),
        "{nan}"
    );
    broken.row_mut(7).fill(0.0);
    assert_eq!(
        error(broken, Metric::Cosine),
        ManifoldError::ZeroVector { row: 7 }
    );
    assert!(Hnsw::build(Array2::zeros((5, 0)).view(), Metric::L2, &SMALL, &()).is_err());

    let (index, _) = build(&features, Metric::Cosine, &SMALL);
    let search = |queries: Array2<f32>, k, ef| index.search(queries.view(), k, ef, &());
    assert!(
        search(Array2::zeros((1, 3)), 1, 1)
            .unwrap_err()
            .to_string()
            .contains("4 dimensions")
    );
    assert_eq!(
        search(Array2::zeros((1, 4)), 1, 1),
        Err(ManifoldError::ZeroVector { row: 0 })
    );
    assert!(search(Array2::ones((1, 4)), 0, 1).is_err());
    assert!(search(Array2::ones((1, 4)), 1, 0).is_err());
    assert!(search(Array2::from_elem((1, 4), f32::INFINITY), 1, 1).is_err());
    assert!(index.search_rows(0..51, 1, 1, &()).is_err());
    assert_eq!(
        search(Array2::ones((2, 4)), 70, 1).unwrap().ids.dim(),
        (2, 50)
    );
    assert_eq!(
        index.search_rows(0..3, 70, 1, &()).unwrap().ids.dim(),
        (3, 49)
    );
}

#[test]
fn memory_is_asked_for_and_given_back() {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    struct Limit(usize, AtomicUsize);
    impl Control for Limit {
        fn reserve(&self, purpose: &str, bytes: usize) -> Result<(), crate::ReserveError> {
            if bytes > self.0 {
                return Err(crate::ReserveError {
                    purpose: purpose.to_owned(),
                    requested: bytes,
                    reserved: 0,
                    limit: Some(self.0),
                });
            }
            self.1.fetch_add(bytes, Relaxed);
            Ok(())
        }
        fn release(&self, bytes: usize) {
            self.1.fetch_sub(bytes, Relaxed);
        }
    }
    let features = clustered(500, 6, 1);
    let needed = Hnsw::predicted_bytes(500, 6, &SMALL);
    let refused = Hnsw::build(
        features.view(),
        Metric::L2,
        &SMALL,
        &Limit(needed - 1, 0.into()),
    );
    assert!(matches!(refused, Err(ManifoldError::Memory(_))));
    let enough = Limit(needed, 0.into());
    let (index, _) = Hnsw::build(features.view(), Metric::L2, &SMALL, &enough).unwrap();
    assert_eq!(enough.1.load(Relaxed), 0);
    assert!(index.byte_len() < needed);
}

#[test]
fn a_cancelled_build_stops() {
    struct Cancelled;
    impl Control for Cancelled {
        fn is_cancelled(&self) -> bool {
            true
        }
    }
    let features = clustered(300, 6, 1);
    let stopped = Hnsw::build(features.view(), Metric::L2, &SMALL, &Cancelled);
    assert!(matches!(stopped, Err(ManifoldError::Cancelled)));
    let (index, _) = build(&features, Metric::L2, &SMALL);
    let stopped = index.search(features.view(), 3, 9, &Cancelled);
    assert_eq!(stopped, Err(ManifoldError::Cancelled));
}
