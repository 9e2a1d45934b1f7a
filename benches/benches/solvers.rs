//! The dense and the sparse eigensolver on the same small inputs: where `solver => 'auto'` should change
//! from one to the other. Times are of the whole fit; everything before the solver is the same.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lakefold_benches::{curved_features, swiss_roll};
use lakefold_manifold::{Lle, Solver};

fn solvers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("solvers");
    group.sample_size(10);
    for n in [25, 50, 100, 200, 400] {
        let inputs = [
            ("3 dimensions", swiss_roll(n, 1)),
            ("64 dimensions", curved_features(n, 64, 1).mapv(f64::from)),
        ];
        for (name, features) in inputs {
            for solver in [Solver::Dense, Solver::Exact] {
                let Ok(lle) = Lle::builder(2).solver(solver).build() else {
                    unreachable!("the parameters are constants");
                };
                let id = BenchmarkId::new(format!("{}, {name}", solver.name()), n);
                group.bench_with_input(id, &features, |bencher, features| {
                    bencher.iter(|| lle.fit(features.view(), &()));
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, solvers);
criterion_main!(benches);
