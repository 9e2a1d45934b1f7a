//! One exact self-join of a NumPy matrix; prints what it took as one line of JSON.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use lakefold_benches::{Matrix, cpu_seconds, peak_rss_bytes, use_threads};
use lakefold_manifold::{Metric, nearest_rows};
use ndarray_npy::WriteNpyExt;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// float32 or float64, C order
    #[arg(long)]
    input: PathBuf,
    #[arg(long, default_value_t = 12)]
    n_neighbors: usize,
    /// l2, cosine or inner_product
    #[arg(long, default_value = "l2", value_parser = |name: &str| Metric::parse(name))]
    metric: Metric,
    #[arg(long)]
    threads: Option<usize>,
    /// Where the neighbours' row numbers go, uint32
    #[arg(long)]
    output: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    use_threads(arguments.threads)?;
    let matrix = Matrix::read(&arguments.input)?;
    let (k, metric) = (arguments.n_neighbors, arguments.metric);
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let nearest = match &matrix {
        Matrix::F32(features) => nearest_rows(features.view(), k, metric, &())?,
        Matrix::F64(features) => nearest_rows(features.view(), k, metric, &())?,
    };
    println!(
        "{}",
        serde_json::json!({
            "seconds": start.elapsed().as_secs_f64(),
            "cpu_seconds": cpu_seconds() - cpu,
            "peak_rss_bytes": peak_rss_bytes(),
        })
    );
    if let Some(output) = arguments.output {
        nearest.ids.write_npy(std::fs::File::create(output)?)?;
    }
    Ok(())
}
