//! One exact self-join of a NumPy matrix; prints what it took as one line of JSON.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use lakefold_benches::{Matrix, peak_rss_bytes, use_threads};
use lakefold_manifold::nearest_neighbors;
use ndarray_npy::WriteNpyExt;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// float32 or float64, C order
    #[arg(long)]
    input: PathBuf,
    #[arg(long, default_value_t = 12)]
    n_neighbors: usize,
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
    let start = Instant::now();
    let ids = match &matrix {
        Matrix::F32(features) => nearest_neighbors(features.view(), arguments.n_neighbors, &())?,
        Matrix::F64(features) => nearest_neighbors(features.view(), arguments.n_neighbors, &())?,
    };
    println!(
        "{}",
        serde_json::json!({
            "seconds": start.elapsed().as_secs_f64(),
            "peak_rss_bytes": peak_rss_bytes(),
        })
    );
    if let Some(output) = arguments.output {
        ids.write_npy(std::fs::File::create(output)?)?;
    }
    Ok(())
}
