//! The whole fit.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lakefold_benches::{curved_features, swiss_roll};
use lakefold_manifold::Lle;

fn fit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fit");
    group.sample_size(10);
    let Ok(lle) = Lle::builder(2).build() else {
        unreachable!("the parameters are constants");
    };
    for n in [1_000, 10_000, 50_000] {
        let features = swiss_roll(n, 1);
        group.bench_with_input(
            BenchmarkId::new("swiss roll", n),
            &features,
            |bencher, features| {
                bencher.iter(|| lle.fit(features.view(), &()));
            },
        );
    }
    let features = curved_features(5_000, 384, 1);
    group.bench_with_input(
        BenchmarkId::new("384 dimensions", 5_000),
        &features,
        |bencher, features| {
            bencher.iter(|| lle.fit(features.view(), &()));
        },
    );
    group.finish();
}

criterion_group!(benches, fit);
criterion_main!(benches);
