//! Where HNSW overtakes exact search, and what many builds of one table have in common. One JSON line each.
//!
//! `bench_hnsw_scale --rows 10000,100000` compares the self-joins of generated rows: 64 dimensions, 1,000
//! clusters whose centres and spread are uniform (neighbours of real vectors are clustered too; rows without
//! any structure are harder for a graph); or, with `--input X.npy`, of the first rows of a table.
//! `--input X.npy --builds 20` builds a table with many seeds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Parser;
use lakefold_benches::{Matrix, use_threads};
use lakefold_manifold::{ExactIndex, Hnsw, HnswOptions, Metric, NeighborCost, nearest_rows};
use ndarray::{Array2, s};

/// Compare exact and HNSW self-joins, or build one table many times.
#[derive(Parser)]
struct Args {
    /// Numbers of generated rows, separated by commas.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<usize>,
    /// Exact search of more rows than this is not run, but estimated by its pairs from the run before.
    #[arg(long, default_value_t = 200_000)]
    largest_exact: usize,
    /// Search exactly in parts too, as `knn` does.
    #[arg(long)]
    parts: bool,
    #[arg(long, default_value_t = 64)]
    dimensions: usize,
    #[arg(long, default_value_t = 12)]
    k: usize,
    #[arg(long, default_value_t = HnswOptions::DEFAULT_EF_SEARCH)]
    ef: usize,
    #[arg(long, default_value_t = HnswOptions::DEFAULT_M)]
    m: usize,
    /// A float32 table.
    #[arg(long)]
    input: Option<PathBuf>,
    /// Builds of the whole table, with as many seeds.
    #[arg(long, requires = "input", conflicts_with = "rows")]
    builds: Option<u64>,
    #[arg(long)]
    threads: Option<usize>,
}

/// Rows around 1,000 centres; the same everywhere.
fn clustered(n: usize, dimensions: usize) -> Array2<f32> {
    let mut state = 1u64;
    let mut uniform = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let centres = Array2::from_shape_fn((1000, dimensions), |_| uniform());
    Array2::from_shape_fn((n, dimensions), |(i, j)| {
        centres[(i % 1000, j)] + 0.5 * uniform()
    })
}

fn seconds<R>(work: impl FnOnce() -> lakefold_manifold::Result<R>) -> Result<(R, f64)> {
    let started = Instant::now();
    let done = work()?;
    Ok((done, started.elapsed().as_secs_f64()))
}

/// The neighbours of all rows, some rows at a time.
fn parts(index: &ExactIndex<f32>, k: usize) -> lakefold_manifold::Result<()> {
    const ROWS: usize = 4096;
    for start in (0..index.len()).step_by(ROWS) {
        index.nearest_others(start..index.len().min(start + ROWS), k, &())?;
    }
    Ok(())
}

fn cross(args: &Args, table: Option<&Array2<f32>>, options: &HnswOptions) -> Result<()> {
    let mut before: Option<(usize, f64)> = None;
    for &n in &args.rows {
        let features = match table {
            Some(table) if n <= table.nrows() => table.slice(s![..n, ..]).to_owned(),
            Some(table) => bail!("the table has {} rows, not {n}", table.nrows()),
            None => clustered(n, args.dimensions),
        };
        let exact = match before {
            Some((rows, seconds)) if n > args.largest_exact => {
                seconds * (n as f64 / rows as f64).powi(2)
            }
            _ => seconds(|| nearest_rows(features.view(), args.k, Metric::L2, &()))?.1,
        };
        let mut in_parts = None;
        if n <= args.largest_exact {
            before = Some((n, exact));
            if args.parts {
                let index = ExactIndex::new(features.clone(), Metric::L2)?;
                in_parts = Some(seconds(|| parts(&index, args.k))?.1);
            }
        }
        let ((index, _), build) =
            seconds(|| Hnsw::build(features.view(), Metric::L2, options, &()))?;
        let (_, search) = seconds(|| index.search_rows(0..n, args.k, args.ef, &()))?;
        let recall = index.recall(500, args.k, &[args.ef], 1, &())?[0].recall;
        let mut bytes = Vec::with_capacity(index.byte_len());
        index.write_to(&mut bytes)?;
        let range = 0..bytes.len();
        let (_, reopen) = seconds(|| Hnsw::from_bytes(Arc::new(bytes), range))?;
        let cost = NeighborCost {
            rows: n,
            queries: n,
            self_join: true,
            dimensions: features.ncols(),
            k: args.k,
            metric: Metric::L2,
            options: *options,
            ef_search: args.ef,
            is_built: false,
        };
        let choice = cost.choose();
        let line = serde_json::json!({
            "rows": n,
            "exact_seconds": exact,
            "exact_is_estimated": n > args.largest_exact,
            "exact_in_parts_seconds": in_parts,
            "build_seconds": build,
            "search_seconds": search,
            "recall": recall,
            "reopen_seconds": reopen,
            "auto": choice.method.name(),
            // By how much the graph is slower, as it is expected and as it was measured.
            "auto_ratio": choice.hnsw_work / choice.exact_work,
            "ratio": (build + search) / exact,
            "auto_recall": cost.expected_recall(),
        });
        println!("{line}");
    }
    Ok(())
}

fn main() -> Result<()> {
    let args = Args::parse();
    use_threads(args.threads)?;
    let mut options = HnswOptions {
        m: args.m,
        ..HnswOptions::default()
    };
    let table = match &args.input {
        None => None,
        Some(path) => match Matrix::read(path)? {
            Matrix::F32(table) => Some(table),
            Matrix::F64(_) => bail!("{}: float32 is expected", path.display()),
        },
    };
    let (Some(builds), Some(features)) = (args.builds, &table) else {
        return cross(&args, table.as_ref(), &options);
    };
    for seed in 0..builds {
        options.seed = seed;
        let ((index, audit), build) =
            seconds(|| Hnsw::build(features.view(), Metric::L2, &options, &()))?;
        let line = serde_json::json!({
            "seed": seed,
            "build_seconds": build,
            "unreachable": index.unreachable(),
            "self_recall": index.self_recall(16, &())?,
            "unreachable_repaired": audit.unreachable_repaired,
            "not_self_found_repaired": audit.not_self_found_repaired,
            "rounds": audit.rounds,
        });
        println!("{line}");
    }
    Ok(())
}
