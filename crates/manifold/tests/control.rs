//! Cancellation and memory: a fit stops in every phase and gives back what it took.

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::swiss_roll;
use lakefold_manifold::{
    Control, LaplacianEigenmaps, Lle, ManifoldError, Method, Phase, ReserveError, Solver,
};

/// The phases of an exact fit.
const PHASES: [Phase; 7] = [
    Phase::Deduplicate,
    Phase::Neighbors,
    Phase::Components,
    Phase::Weights,
    Phase::Order,
    Phase::Factorize,
    Phase::Eigen,
];

#[test]
fn a_cancelled_fit_stops_in_every_phase() {
    struct StopAt(Phase, Mutex<bool>);
    impl Control for StopAt {
        fn is_cancelled(&self) -> bool {
            *self.1.lock().unwrap()
        }
        fn progress(&self, phase: Phase, _done: u64, _total: u64) {
            *self.1.lock().unwrap() |= phase == self.0;
        }
    }
    let features = swiss_roll(3000, 4);
    let lle = Lle::builder(2).solver(Solver::Exact).build().unwrap();
    for phase in PHASES {
        let stopped = lle.fit(features.view(), &StopAt(phase, Mutex::new(false)));
        assert_eq!(
            stopped.map(|_| ()).unwrap_err(),
            ManifoldError::Cancelled,
            "{phase}"
        );
    }
    // Small enough that LAPACK, which nothing stops, ends soon. It needs no order.
    let features = swiss_roll(300, 4);
    for method in [Method::Standard, Method::Modified, Method::Hessian] {
        let lle = Lle::builder(2).method(method).solver(Solver::Dense);
        let lle = lle.build().unwrap();
        for phase in PHASES.into_iter().filter(|&phase| phase != Phase::Order) {
            let stopped = lle.fit(features.view(), &StopAt(phase, Mutex::new(false)));
            let error = stopped.map(|_| ()).unwrap_err();
            assert_eq!(error, ManifoldError::Cancelled, "{method:?}, {phase}");
        }
    }
    let laplacian = LaplacianEigenmaps::builder(2).solver(Solver::Exact);
    let laplacian = laplacian.build().unwrap();
    for phase in PHASES.into_iter().filter(|&phase| phase != Phase::Weights) {
        let stopped = laplacian.fit(features.view(), &StopAt(phase, Mutex::new(false)));
        let error = stopped.map(|_| ()).unwrap_err();
        assert_eq!(error, ManifoldError::Cancelled, "{phase}");
    }
}

/// Grants up to a limit and checks that everything is given back.
struct Limit {
    limit: usize,
    held: AtomicUsize,
}

impl Control for Limit {
    fn reserve(&self, purpose: &str, bytes: usize) -> Result<(), ReserveError> {
        let held = self.held.load(Ordering::SeqCst);
        if held + bytes > self.limit {
            return Err(ReserveError {
                purpose: purpose.to_owned(),
                requested: bytes,
                reserved: held,
                limit: Some(self.limit),
            });
        }
        self.held.fetch_add(bytes, Ordering::SeqCst);
        Ok(())
    }
    fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::SeqCst);
    }
}

#[test]
fn memory_is_asked_for_before_it_is_used_and_given_back() {
    let features = swiss_roll(600, 4);
    let methods = [Method::Standard, Method::Modified, Method::Hessian];
    for (solver, method) in [Solver::Exact, Solver::Dense]
        .into_iter()
        .flat_map(|s| methods.map(|m| (s, m)))
    {
        let lle = Lle::builder(2)
            .solver(solver)
            .method(method)
            .build()
            .unwrap();
        let peak = lle
            .fit(features.view(), &())
            .unwrap()
            .diagnostics
            .peak_reserved_bytes;
        for limit in [0, 100_000, peak / 2, peak - 1] {
            let control = Limit {
                limit,
                held: 0.into(),
            };
            let refused = lle.fit(features.view(), &control).map(|_| ()).unwrap_err();
            assert!(
                matches!(refused, ManifoldError::Memory(_)),
                "{limit}: {refused}"
            );
            assert_eq!(control.held.into_inner(), 0);
        }
        let control = Limit {
            limit: peak,
            held: 0.into(),
        };
        lle.fit(features.view(), &control).unwrap();
        assert_eq!(control.held.into_inner(), 0);
    }
}
