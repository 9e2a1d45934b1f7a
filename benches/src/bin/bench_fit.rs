//! One fit of a NumPy matrix; prints what it took as one line of JSON.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Parser;
use lakefold_benches::{Matrix, peak_rss_bytes, use_threads};
use lakefold_manifold::{LandmarkChoice, Lle, NeighborsAlgorithm, Solver};
use ndarray::Array2;
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
    /// uniform, k-means++ or farthest
    #[arg(long, default_value = "uniform")]
    landmark_choice: String,
    /// auto, exact or hnsw
    #[arg(long, default_value = "auto")]
    neighbors_algorithm: String,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[arg(long)]
    threads: Option<usize>,
    /// Where the embedding goes, float64
    #[arg(long)]
    output: Option<PathBuf>,
    /// Rows to place with the fitted model, of the input's type
    #[arg(long, requires = "transform_output")]
    transform: Option<PathBuf>,
    /// Where their embedding goes, float64
    #[arg(long)]
    transform_output: Option<PathBuf>,
}

/// Places rows by a model.
type Place = dyn Fn(&Matrix) -> Result<Array2<f64>>;

fn nothing(_: &Matrix) -> Result<Array2<f64>> {
    bail!("no model was kept")
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    use_threads(arguments.threads)?;
    let mut lle = Lle::builder(arguments.n_components)
        .seed(arguments.seed)
        .landmark_choice(LandmarkChoice::parse(&arguments.landmark_choice)?)
        .neighbors_algorithm(NeighborsAlgorithm::parse(&arguments.neighbors_algorithm)?)
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
    let (fit, place): (_, Box<Place>) = match &matrix {
        Matrix::F32(features) if arguments.transform.is_some() => {
            let (fit, model) = lle.fit_model(features.view(), &())?;
            let place = move |rows: &Matrix| match rows {
                Matrix::F32(rows) => Ok(model.transform(rows.view(), &())?),
                Matrix::F64(_) => bail!("rows to place must be float32 as the input is"),
            };
            (fit, Box::new(place))
        }
        Matrix::F64(features) if arguments.transform.is_some() => {
            let (fit, model) = lle.fit_model(features.view(), &())?;
            let place = move |rows: &Matrix| match rows {
                Matrix::F64(rows) => Ok(model.transform(rows.view(), &())?),
                Matrix::F32(_) => bail!("rows to place must be float64 as the input is"),
            };
            (fit, Box::new(place))
        }
        Matrix::F32(features) => (lle.fit(features.view(), &())?, Box::new(nothing)),
        Matrix::F64(features) => (lle.fit(features.view(), &())?, Box::new(nothing)),
    };
    let seconds = start.elapsed().as_secs_f64();
    let mut transform_seconds = None;
    if let (Some(rows), Some(output)) = (&arguments.transform, &arguments.transform_output) {
        let rows = Matrix::read(rows)?;
        let start = Instant::now();
        let placed = place(&rows)?;
        transform_seconds = Some(start.elapsed().as_secs_f64());
        placed.write_npy(std::fs::File::create(output)?)?;
    }
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
            "transform_seconds": transform_seconds,
            "phases": phases,
            "peak_rss_bytes": peak_rss_bytes(),
            "diagnostics": {
                "rows": found.rows,
                "distinct_rows": found.distinct_rows,
                "closed_components": found.closed_components,
                "bridge_rounds": found.bridge_rounds,
                "bridged_edges": found.bridged_edges,
                "neighbors_algorithm": found.neighbors.name(),
                "neighbors_recall": found.neighbors_recall,
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
