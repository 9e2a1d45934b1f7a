//! The phases of a fit by themselves, as the fit itself times them: weights, ordering, factorisation,
//! eigenvectors.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lakefold_benches::{curved_features, swiss_roll};
use lakefold_manifold::{Lle, Phase, Solver};
use ndarray::Array2;

fn phase_seconds(lle: &Lle, features: &Array2<f64>, phase: Phase) -> Duration {
    let seconds = lle.fit(features.view(), &()).map(|fit| {
        let own = fit.diagnostics.seconds.iter().filter(|(p, _)| *p == phase);
        own.map(|(_, seconds)| seconds).sum::<f64>()
    });
    match seconds {
        Ok(seconds) => Duration::from_secs_f64(seconds),
        Err(error) => unreachable!("the inputs are fixed: {error}"),
    }
}

fn phases(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("phases");
    group.sample_size(10);
    let Ok(lle) = Lle::builder(2).solver(Solver::Exact).build() else {
        unreachable!("the parameters are constants");
    };
    let inputs = [
        ("swiss roll 20000", swiss_roll(20_000, 1)),
        (
            "64 dimensions 5000",
            curved_features(5_000, 64, 1).mapv(f64::from),
        ),
    ];
    for (name, features) in inputs {
        for phase in [Phase::Weights, Phase::Order, Phase::Factorize, Phase::Eigen] {
            group.bench_with_input(
                BenchmarkId::new(phase.name(), name),
                &features,
                |bencher, features| {
                    bencher.iter_custom(|times| {
                        (0..times)
                            .map(|_| phase_seconds(&lle, features, phase))
                            .sum()
                    });
                },
            );
        }
    }
    group.finish();
}

criterion_group!(benches, phases);
criterion_main!(benches);
