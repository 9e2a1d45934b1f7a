//! Multi-head attention of one sequence, and the bare product of two matrices beside it; prints seconds and
//! GFLOP/s as one line of JSON.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use lakefold_attention::{Blocked, HeadMask, MultiHead};
use lakefold_benches::{Matrix, cpu_seconds, curved_features, peak_rss_bytes, use_threads};
use ndarray::{Array2, s};
use ndarray_npy::WriteNpyExt;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// Rows of query, key and value, where they are not read
    #[arg(long, default_value_t = 512)]
    length: usize,
    #[arg(long, default_value_t = 12)]
    num_heads: usize,
    /// Numbers of a head's query, key and value, where they are not read
    #[arg(long, default_value_t = 64)]
    head_size: usize,
    /// float32, C order: rows × num_heads·head_size
    #[arg(long, requires_all = ["key", "value"])]
    query: Option<PathBuf>,
    #[arg(long)]
    key: Option<PathBuf>,
    #[arg(long)]
    value: Option<PathBuf>,
    #[arg(long)]
    causal: bool,
    /// Every query sees so many keys up to its own
    #[arg(long, conflicts_with = "causal")]
    frame: Option<usize>,
    /// The fastest of so many runs counts
    #[arg(long, default_value_t = 5)]
    repeat: usize,
    #[arg(long)]
    threads: Option<usize>,
    /// Where the result goes, float32
    #[arg(long)]
    output: Option<PathBuf>,
}

fn read(path: &Path) -> Result<Array2<f32>> {
    match Matrix::read(path)? {
        Matrix::F32(matrix) => Ok(matrix),
        Matrix::F64(_) => anyhow::bail!("{} is not float32", path.display()),
    }
}

/// Seconds of the fastest run, and its processor seconds.
fn fastest(repeat: usize, mut work: impl FnMut() -> Result<()>) -> Result<(f64, f64)> {
    let mut best = (f64::INFINITY, f64::INFINITY);
    for _ in 0..repeat {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        work()?;
        let seconds = start.elapsed().as_secs_f64();
        if seconds < best.0 {
            best = (seconds, cpu_seconds() - cpu);
        }
    }
    Ok(best)
}

/// GFLOP/s of the product of two matrices on all threads.
fn product_rate(repeat: usize) -> Result<f64> {
    const SIZE: usize = 2048;
    let a = Mat::from_fn(SIZE, SIZE, |i, j| ((i * 7 + j * 3) % 11) as f32);
    let mut out = Mat::<f32>::zeros(SIZE, SIZE);
    let (seconds, _) = fastest(repeat, || {
        let threads = Par::rayon(0);
        matmul(
            out.as_mut(),
            Accum::Replace,
            a.as_ref(),
            a.as_ref(),
            1.0,
            threads,
        );
        std::hint::black_box(&mut out);
        Ok(())
    })?;
    Ok(2.0 * (SIZE as f64).powi(3) / seconds / 1e9)
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    use_threads(arguments.threads)?;
    let heads = arguments.num_heads;
    let matrix = |path: &Option<PathBuf>, seed| match path {
        Some(path) => read(path),
        None => Ok(curved_features(
            arguments.length,
            heads * arguments.head_size,
            seed,
        )),
    };
    let (query, key, value) = (
        matrix(&arguments.query, 1)?,
        matrix(&arguments.key, 2)?,
        matrix(&arguments.value, 3)?,
    );
    let ((length, width), keys) = (query.dim(), key.nrows());
    ensure!(
        width % heads == 0 && key.ncols() == width,
        "heads of equal size"
    );
    let size = width / heads;
    let attention = MultiHead::new(heads)?.is_causal(arguments.causal);
    let mut output = Array2::zeros((length, attention.output_width(width, width, value.ncols())?));
    let visible = |i: usize| -> Range<usize> {
        match arguments.frame {
            Some(frame) => (i + 1).saturating_sub(frame)..(i + 1).min(keys),
            None if arguments.causal => 0..(i + 1).min(keys),
            None => 0..keys,
        }
    };
    let value_size = value.ncols() / heads;
    let (seconds, cpu) = fastest(arguments.repeat, || {
        if arguments.frame.is_none() {
            let (q, k, v) = (query.view(), key.view(), value.view());
            attention.attend(q, k, v, HeadMask::None, output.view_mut())?;
            return Ok(());
        }
        for head in 0..heads {
            let columns = |size: usize| s![.., head * size..(head + 1) * size];
            let (q, k) = (query.slice(columns(size)), key.slice(columns(size)));
            let blocked = Blocked::new(q, k, value.slice(columns(value_size)))?;
            blocked.attend(visible, output.slice_mut(columns(value_size)))?;
        }
        Ok(())
    })?;
    let pairs: usize = (0..length).map(|i| visible(i).len()).sum();
    let flops = 2.0 * (pairs * heads) as f64 * (size + value_size) as f64;
    let product = product_rate(arguments.repeat)?;
    let rate = flops / seconds / 1e9;
    println!(
        "{}",
        serde_json::json!({
            "length": length,
            "keys": keys,
            "num_heads": heads,
            "head_size": size,
            "causal": arguments.causal,
            "frame": arguments.frame,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "gigaflops": rate,
            "product_gigaflops": product,
            "share_of_product": rate / product,
            "peak_rss_bytes": peak_rss_bytes(),
        })
    );
    if let Some(path) = &arguments.output {
        let file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
        output.write_npy(file)?;
    }
    Ok(())
}
