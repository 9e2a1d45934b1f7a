//! Exact neighbours as the number of dimensions grows: where the k-d tree gives way to products.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lakefold_benches::curved_features;
use lakefold_manifold::nearest_neighbors;

fn neighbors(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("neighbors");
    group.sample_size(10);
    for dimensions in [3, 8, 9, 64, 384] {
        let features = curved_features(10_000, dimensions, 1);
        let id = BenchmarkId::new("10000 rows, k 12", format!("{dimensions} dimensions"));
        group.bench_with_input(id, &features, |bencher, features| {
            bencher.iter(|| nearest_neighbors(features.view(), 12, &()));
        });
    }
    group.finish();
}

criterion_group!(benches, neighbors);
criterion_main!(benches);
