//! One fit of a NumPy matrix; prints what it took as one line of JSON.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use lakefold_benches::{Matrix, peak_rss_bytes, use_threads};
use lakefold_manifold::{Lle, Solver};
use ndarray_npy::WriteNpyExt;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// float32 or float64, C order
    #[arg(long)]
    input: PathBuf,
    #[arg(long, default_value_t = 2)]
    n_components: usize,
    /// A number or auto
    #[arg(long, default_value = "12")]
    n_neighbors: String,
    /// A number or auto
    #[arg(long, default_value = "0.001")]
    reg: String,
    /// auto, dense, exact or landmarks
    #[arg(long, default_value = "auto")]
    solver: String,
    #[arg(long)]
    n_landmarks: Option<usize>,
    #[arg(long)]
    landmark_neighbors: Option<usize>,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[arg(long)]
    threads: Option<usize>,
    /// Where the embedding goes, float64
    #[arg(long)]
    output: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    use_threads(arguments.threads)?;
    let mut lle = Lle::builder(arguments.n_components)
        .seed(arguments.seed)
        .solver(Solver::parse(&arguments.solver)?);
    lle = match arguments.n_neighbors.as_str() {
        "auto" => lle.auto_n_neighbors(),
        number => lle.n_neighbors(number.parse()?),
    };
    lle = match arguments.reg.as_str() {
        "auto" => lle.auto_reg(),
        number => lle.reg(number.parse()?),
    };
    if let Some(landmarks) = arguments.n_landmarks {
        lle = lle.n_landmarks(landmarks);
    }
    if let Some(neighbors) = arguments.landmark_neighbors {
        lle = lle.landmark_neighbors(neighbors);
    }
    let lle = lle.build()?;
    let matrix = Matrix::read(&arguments.input)?;
    let start = Instant::now();
    let fit = match &matrix {
        Matrix::F32(features) => lle.fit(features.view(), &())?,
        Matrix::F64(features) => lle.fit(features.view(), &())?,
    };
    let seconds = start.elapsed().as_secs_f64();
    let found = &fit.diagnostics;
    let phases: serde_json::Map<String, serde_json::Value> = found
        .seconds
        .iter()
        .map(|(phase, seconds)| (phase.name().to_owned(), (*seconds).into()))
        .collect();
    println!(
        "{}",
        serde_json::json!({
            "seconds": seconds,
            "phases": phases,
            "peak_rss_bytes": peak_rss_bytes(),
            "diagnostics": {
                "rows": found.rows,
                "distinct_rows": found.distinct_rows,
                "closed_components": found.closed_components,
                "bridge_rounds": found.bridge_rounds,
                "bridged_edges": found.bridged_edges,
                "solver": found.solver.name(),
                "landmarks": found.landmarks,
                "n_neighbors": found.parameters.n_neighbors(),
                "reg": found.parameters.reg(),
                "landmark_neighbors": found.parameters.landmark_neighbors(found.landmarks),
                "ordering": found.factor.map(|factor| factor.ordering.name()),
                "factor_entries": found.factor.map(|factor| factor.entries),
                "factor_flops": found.factor.map(|factor| factor.flops),
                "eigenvalues": found.eigenvalues,
                "residuals": found.residuals,
                "peak_reserved_bytes": found.peak_reserved_bytes,
            },
        })
    );
    if let Some(output) = arguments.output {
        fit.embedding.write_npy(std::fs::File::create(output)?)?;
    }
    Ok(())
}
