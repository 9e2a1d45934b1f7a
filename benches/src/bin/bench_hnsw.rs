//! Builds an HNSW index and searches it: what `benches/peers/hnsw.py` runs. Prints what is known as a JSON line after
//! building and after each search: the last line tells all, also of a run that was ended early.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use lakefold_benches::engines::{Engine, EngineOptions, HnswRsOptions, Lakefold, build_hnsw_rs};
use lakefold_benches::{Matrix, peak_rss_bytes, use_threads};
use lakefold_manifold::{Metric, VectorStorage};
use ndarray::Array2;
use ndarray_npy::write_npy;

#[derive(Clone, Copy, ValueEnum)]
enum EngineName {
    Lakefold,
    #[value(name = "hnsw_rs")]
    HnswRs,
}

/// Build an index of the rows of a NumPy file and search it for those of another.
#[derive(Parser)]
struct Args {
    /// Rows to be searched: float32, (n, D).
    #[arg(long)]
    input: PathBuf,
    /// Rows to be searched for: float32, (m, D).
    #[arg(long)]
    queries: PathBuf,
    /// Where the neighbours go, one file for each ef: this name with `.ef.npy` after it.
    #[arg(long)]
    output: PathBuf,
    #[arg(long, value_enum, default_value = "lakefold")]
    engine: EngineName,
    #[command(flatten)]
    hnsw_rs: HnswRsOptions,
    #[arg(long, default_value = "l2")]
    metric: String,
    /// As what our own index keeps its vectors: auto, f32 or int8.
    #[arg(long, default_value = "auto")]
    storage: String,
    #[arg(long, default_value_t = 10)]
    k: usize,
    #[arg(long, default_value_t = 24)]
    m: usize,
    #[arg(long, default_value_t = 200)]
    ef_construction: usize,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Values of ef_search, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "64")]
    ef: Vec<usize>,
    /// Searches for each ef; the fastest counts.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    #[arg(long)]
    threads: Option<usize>,
}

fn read(path: &std::path::Path) -> Result<Array2<f32>> {
    match Matrix::read(path)? {
        Matrix::F32(matrix) => Ok(matrix),
        Matrix::F64(_) => bail!("{}: float32 is expected", path.display()),
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    use_threads(args.threads)?;
    let (rows, queries) = (read(&args.input)?, read(&args.queries)?);
    let options = EngineOptions {
        m: args.m,
        ef_construction: args.ef_construction,
        seed: args.seed,
    };
    let metric = Metric::parse(&args.metric)?;
    let storage = VectorStorage::parse(&args.storage)?;
    let mut storing_seconds = 0.0;
    let mut started = Instant::now();
    let index: Box<dyn Engine> = match args.engine {
        EngineName::Lakefold => {
            if args.hnsw_rs != HnswRsOptions::default() {
                bail!("options of hnsw_rs were given; add --engine hnsw_rs");
            }
            let built = Lakefold::build(rows.view(), metric, &options)?;
            let storing = Instant::now();
            let stored = built.stored(storage)?;
            storing_seconds = storing.elapsed().as_secs_f64();
            started += storing.elapsed();
            Box::new(stored)
        }
        EngineName::HnswRs => {
            if metric != Metric::L2 {
                bail!("hnsw_rs is compared under l2 only, not {metric}");
            }
            build_hnsw_rs(rows.view(), &options, &args.hnsw_rs)?
        }
    };
    let build_seconds = started.elapsed().as_secs_f64();
    let mut searches = Vec::new();
    let (audit, unreachable) = (index.account(), index.unreachable());
    let tell = |searches: &[serde_json::Value]| {
        let answer = serde_json::json!({
            "build_seconds": build_seconds,
            "storing_seconds": storing_seconds,
            "searches": searches,
            "audit": audit,
            "unreachable": unreachable,
            "peak_rss_bytes": peak_rss_bytes(),
        });
        println!("{answer}");
    };
    tell(&searches);
    for &ef in &args.ef {
        let mut best = f64::INFINITY;
        for _ in 0..args.repeat {
            let started = Instant::now();
            let found = index.search(queries.view(), args.k, ef)?;
            best = best.min(started.elapsed().as_secs_f64());
            let mut path = args.output.clone().into_os_string();
            path.push(format!(".{ef}.npy"));
            write_npy(PathBuf::from(path), &found)?;
        }
        let queries_per_second = queries.nrows() as f64 / best;
        searches.push(serde_json::json!({"ef": ef, "queries_per_second": queries_per_second}));
        tell(&searches);
    }
    Ok(())
}
