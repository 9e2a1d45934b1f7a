//! The attention kernels: heads of a sequence, frames, states, weights and the linear layer.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lakefold_attention::{
    Blocked, GroupedStates, HeadMask, MultiHead, OnlineState, Query, Similarity, attention_weights,
    linear,
};
use lakefold_benches::curved_features;
use ndarray::Array2;

const HEADS: usize = 12;
const SIZE: usize = 64;

fn multi_head(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("multi_head");
    group.sample_size(10);
    for length in [128, 512, 2048] {
        let [q, k, v] = [1, 2, 3].map(|seed| curved_features(length, HEADS * SIZE, seed));
        let mut output = Array2::zeros((length, HEADS * SIZE));
        group.throughput(Throughput::Elements(
            (4 * length * length * HEADS * SIZE) as u64,
        ));
        for is_causal in [false, true] {
            let Ok(attention) = MultiHead::new(HEADS) else {
                unreachable!("the parameters are constants");
            };
            let attention = attention.is_causal(is_causal);
            let name = if is_causal { "causal" } else { "whole" };
            group.bench_function(BenchmarkId::new(name, length), |bencher| {
                bencher.iter(|| {
                    let mask = HeadMask::None;
                    attention.attend(q.view(), k.view(), v.view(), mask, output.view_mut())
                });
            });
        }
    }
    group.finish();
}

/// The time of a frame should not depend on the number of keys.
fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sliding frame");
    group.sample_size(10);
    for length in [4096, 16_384] {
        let [q, k, v] = [1, 2, 3].map(|seed| curved_features(length, SIZE, seed));
        let mut output = Array2::zeros((length, SIZE));
        group.throughput(Throughput::Elements(length as u64));
        for frame in [1, 16, 64, 256, 1024] {
            let name = format!("{frame} of {length}");
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    let blocked = Blocked::new(q.view(), k.view(), v.view())?;
                    blocked.attend(|i| (i + 1).saturating_sub(frame)..i + 1, output.view_mut())
                });
            });
        }
    }
    group.finish();
}

fn states(criterion: &mut Criterion) {
    const ROWS: usize = 100_000;
    let mut group = criterion.benchmark_group("states");
    group.sample_size(10);
    group.throughput(Throughput::Elements(ROWS as u64));
    let (keys, values) = (
        curved_features(ROWS, SIZE, 1),
        curved_features(ROWS, SIZE, 2),
    );
    let (Some(keys), Some(values)) = (keys.as_slice(), values.as_slice()) else {
        unreachable!("generated in C order");
    };
    let Ok(query) = Query::new(&keys[..SIZE], Similarity::Dot, None) else {
        unreachable!("the default scale is finite");
    };
    group.bench_function("one query", |bencher| {
        bencher.iter(|| {
            let mut state = OnlineState::new(SIZE);
            state.absorb(&query, keys, values, |_| true).map(|()| state)
        });
    });
    let mut scores = vec![0.0; ROWS];
    let groups: Vec<usize> = (0..ROWS).map(|row| row % (ROWS / 10)).collect();
    group.bench_function("groups of 10", |bencher| {
        bencher.iter(|| {
            let mut states = GroupedStates::new(SIZE);
            states.resize(ROWS / 10);
            query.scores_into(keys, &mut scores)?;
            states.absorb(&groups, &mut scores, values)?;
            Ok::<_, lakefold_attention::AttentionError>(states)
        });
    });
    group.bench_function("weights", |bencher| {
        bencher.iter(|| attention_weights::<f32, f32>(&query, keys, |_| true));
    });
    group.finish();
}

fn projection(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("linear");
    group.sample_size(10);
    let width = HEADS * SIZE;
    let (x, weight) = (
        curved_features(4096, width, 1),
        curved_features(width, width, 2),
    );
    let mut output = Array2::zeros((4096, width));
    group.throughput(Throughput::Elements((2 * 4096 * width * width) as u64));
    group.bench_function("4096 × 768 by 768", |bencher| {
        bencher.iter(|| linear(x.view(), weight.view(), None, output.view_mut()));
    });
    group.finish();
}

criterion_group!(benches, multi_head, frames, states, projection);
criterion_main!(benches);
