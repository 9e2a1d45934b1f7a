mod bytes;
mod codes;
mod limits;
mod neighbours;
mod odd_tables;
mod same_bits;

use std::sync::Arc;

use ndarray::Array2;

use super::*;
use crate::Result;

const METRICS: [Metric; 3] = [Metric::L2, Metric::Cosine, Metric::InnerProduct];
/// Small lists and a small view, so that a few thousand rows are not all compared.
const SMALL: HnswOptions = HnswOptions {
    m: 6,
    ef_construction: 40,
    seed: 1,
};

/// Clusters, whose rows are near one another and far from the rest.
fn clustered(n: usize, dimensions: usize, seed: u64) -> Array2<f32> {
    let panel = crate::panel::Panel::random(n, dimensions, seed);
    Array2::from_shape_fn((n, dimensions), |(i, j)| {
        let centre = ((i % 37 * 31 + j * 17) % 23) as f64 - 11.0;
        (centre + 2.0 * panel.column(j)[i]) as f32
    })
}

fn build(features: &Array2<f32>, metric: Metric, options: &HnswOptions) -> (Hnsw, HnswAudit) {
    Hnsw::build(features.view(), metric, options, &()).unwrap()
}

fn bytes(index: &Hnsw) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = index.write_to(&mut bytes).unwrap();
    assert_eq!(written as usize, bytes.len());
    assert_eq!(index.byte_len(), bytes.len());
    bytes
}

fn open(bytes: Vec<u8>) -> Result<Hnsw> {
    let range = 0..bytes.len();
    Hnsw::from_bytes(Arc::new(bytes), range)
}

fn assert_sound(index: &Hnsw, audit: &HnswAudit) {
    assert_eq!(
        (audit.unreachable, audit.not_self_found),
        (0, 0),
        "{audit:?}"
    );
    assert_eq!(index.unreachable(), 0);
    assert_eq!(index.self_recall(audit::OWN_EF, &()).unwrap(), 1.0);
}
