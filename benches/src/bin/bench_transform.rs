//! Rows of a NumPy matrix placed by a model of landmarks, and the bare matrix product of the same rows and
//! landmarks beside it; prints both rates as one line of JSON.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use lakefold_benches::{Matrix, cpu_seconds, peak_rss_bytes, use_threads};
use lakefold_manifold::Model;
use ndarray::{Array2, ArrayView2, s};
use ndarray_npy::{ReadNpyExt, WriteNpyExt};
use rayon::prelude::*;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// float32, C order: the first `landmarks` rows are the landmarks, the others are placed
    #[arg(long)]
    input: PathBuf,
    #[arg(long, default_value_t = 2000)]
    landmarks: usize,
    #[arg(long, default_value_t = 12)]
    landmark_neighbors: usize,
    #[arg(long, default_value_t = 1e-3)]
    reg: f64,
    /// The landmarks' embeddings, float64; by default their first 16 features
    #[arg(long)]
    embedding: Option<PathBuf>,
    /// Both are run so often, in turn; the fastest run of each counts
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    #[arg(long)]
    threads: Option<usize>,
    /// Where the rows' embeddings go, float64
    #[arg(long)]
    output: Option<PathBuf>,
}

/// Rows and landmarks of a block of products, as in the search.
const BLOCK: usize = 512;

/// Seconds, and of how many processor seconds.
#[derive(Clone, Copy)]
struct Taken {
    seconds: f64,
    cpu_seconds: f64,
}

impl Taken {
    const NEVER: Taken = Taken {
        seconds: f64::INFINITY,
        cpu_seconds: f64::INFINITY,
    };

    fn by<R>(work: impl FnOnce() -> R) -> (Self, R) {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        let result = work();
        let taken = Self {
            seconds: start.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds() - cpu,
        };
        (taken, result)
    }

    fn min(self, other: Self) -> Self {
        Self {
            seconds: self.seconds.min(other.seconds),
            cpu_seconds: self.cpu_seconds.min(other.cpu_seconds),
        }
    }
}

/// Every product of a row and a landmark once, in blocks that are overwritten.
fn products(rows: &[f32], landmarks: &[f32], dimensions: usize) {
    rows.par_chunks(BLOCK * dimensions).for_each_init(
        || vec![0.0f32; BLOCK * BLOCK],
        |products, rows| {
            let count = rows.len() / dimensions;
            let rows = MatRef::from_row_major_slice(rows, count, dimensions);
            for columns in landmarks.chunks(BLOCK * dimensions) {
                let width = columns.len() / dimensions;
                let columns = MatRef::from_row_major_slice(columns, width, dimensions);
                let out = &mut products[..count * width];
                let out = MatMut::from_row_major_slice_mut(out, count, width);
                matmul(
                    out,
                    Accum::Replace,
                    rows,
                    columns.transpose(),
                    1.0,
                    Par::Seq,
                );
            }
            std::hint::black_box(products);
        },
    );
}

fn embedding(path: Option<&PathBuf>, landmarks: ArrayView2<'_, f32>) -> Result<Array2<f64>> {
    let Some(path) = path else {
        let columns = landmarks.ncols().min(16);
        return Ok(landmarks.slice(s![.., ..columns]).mapv(f64::from));
    };
    let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    Ok(Array2::read_npy(file)?)
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    use_threads(arguments.threads)?;
    let Matrix::F32(matrix) = Matrix::read(&arguments.input)? else {
        anyhow::bail!("{} is not float32", arguments.input.display());
    };
    let (n, dimensions) = matrix.dim();
    ensure!(
        arguments.landmarks < n,
        "{n} rows leave none beside {} landmarks",
        arguments.landmarks
    );
    let (landmarks, rows) = matrix
        .view()
        .split_at(ndarray::Axis(0), arguments.landmarks);
    let model = Model::new(
        landmarks,
        embedding(arguments.embedding.as_ref(), landmarks)?,
        arguments.landmark_neighbors,
        arguments.reg,
    )?;
    let (row_values, landmark_values) = (
        rows.to_slice().context("rows in C order")?,
        landmarks.to_slice().context("landmarks in C order")?,
    );
    let (mut transform, mut product) = (Taken::NEVER, Taken::NEVER);
    let mut placed = Array2::zeros((0, 0));
    for _ in 0..arguments.repeat {
        let (taken, result) = Taken::by(|| model.transform(rows, &()));
        (transform, placed) = (transform.min(taken), result?);
        let (taken, ()) = Taken::by(|| products(row_values, landmark_values, dimensions));
        product = product.min(taken);
    }
    let rate = |taken: Taken| rows.nrows() as f64 / taken.seconds;
    println!(
        "{}",
        serde_json::json!({
            "rows": rows.nrows(),
            "seconds": transform.seconds,
            "rows_per_second": rate(transform),
            "product_rows_per_second": rate(product),
            "share_of_product": rate(transform) / rate(product),
            "cpu_seconds": transform.cpu_seconds,
            "product_cpu_seconds": product.cpu_seconds,
            "peak_rss_bytes": peak_rss_bytes(),
        })
    );
    if let Some(output) = arguments.output {
        placed.write_npy(std::fs::File::create(output)?)?;
    }
    Ok(())
}
