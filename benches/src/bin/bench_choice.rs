//! What every candidate of the automatic parameters scores on a sample of a NumPy matrix, as JSON lines.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use lakefold_benches::{Matrix, use_threads};
use lakefold_manifold::{ChoiceOptions, Lle, Solver, choose_parameters};

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// float32 or float64, C order
    #[arg(long)]
    input: PathBuf,
    #[arg(long, default_value_t = 2)]
    n_components: usize,
    #[arg(long, value_delimiter = ',', default_value = "12,30,60")]
    n_neighbors: Vec<usize>,
    #[arg(long, value_delimiter = ',', default_value = "0.001,0.1,1")]
    reg: Vec<f64>,
    /// Rows of the sample
    #[arg(long, default_value_t = 2000)]
    sample: usize,
    /// auto, dense, exact or landmarks
    #[arg(long, default_value = "exact")]
    solver: String,
    #[arg(long)]
    n_landmarks: Option<usize>,
    #[arg(long)]
    landmark_neighbors: Option<usize>,
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    use_threads(arguments.threads)?;
    let mut candidates = vec![];
    for &n_neighbors in &arguments.n_neighbors {
        for &reg in &arguments.reg {
            let mut lle = Lle::builder(arguments.n_components)
                .n_neighbors(n_neighbors)
                .reg(reg)
                .solver(Solver::parse(&arguments.solver)?);
            if let Some(landmarks) = arguments.n_landmarks {
                lle = lle.n_landmarks(landmarks);
            }
            if let Some(neighbors) = arguments.landmark_neighbors {
                lle = lle.landmark_neighbors(neighbors);
            }
            candidates.push(lle.build()?);
        }
    }
    let options = ChoiceOptions {
        sample: arguments.sample,
        ..ChoiceOptions::default()
    };
    let start = Instant::now();
    let choice = match Matrix::read(&arguments.input)? {
        Matrix::F32(features) => choose_parameters(features.view(), &candidates, &options, &())?,
        Matrix::F64(features) => choose_parameters(features.view(), &candidates, &options, &())?,
    };
    for trial in &choice.trials {
        println!("{trial:?}");
    }
    println!(
        "{:?} in {:.2} s",
        choice.best,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
