//! What the benchmark programs share: reading NumPy files, generated data, measuring themselves, and the
//! engines that they compare.

pub mod engines;

use anyhow::{Context, Result};
use ndarray::{Array2, ArrayView2};
use ndarray_npy::ReadNpyExt;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// A matrix of either float type.
pub enum Matrix {
    /// float32
    F32(Array2<f32>),
    /// float64
    F64(Array2<f64>),
}

impl Matrix {
    /// Reads a C-ordered NumPy file of float32 or float64.
    ///
    /// # Errors
    /// When the file is missing or holds anything else.
    pub fn read(path: &Path) -> Result<Self> {
        let open = || -> Result<_> {
            Ok(BufReader::new(
                File::open(path).with_context(|| path.display().to_string())?,
            ))
        };
        if let Ok(matrix) = Array2::<f32>::read_npy(open()?) {
            return Ok(Matrix::F32(matrix));
        }
        let matrix = Array2::<f64>::read_npy(open()?)
            .with_context(|| format!("{}: not a float32 or float64 matrix", path.display()))?;
        Ok(Matrix::F64(matrix))
    }
}

/// Sizes rayon's pool; all cores if `None`.
///
/// # Errors
/// When the pool exists already.
pub fn use_threads(threads: Option<usize>) -> Result<()> {
    if let Some(threads) = threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()?;
    }
    Ok(())
}

/// The largest resident set of this process so far, in bytes (Linux; 0 elsewhere).
#[must_use]
pub fn peak_rss_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map_or(0, |kibibytes| kibibytes * 1024)
}

/// Processor seconds of all threads of this process so far (Linux; 0 elsewhere).
#[must_use]
pub fn cpu_seconds() -> f64 {
    // Nanoseconds of every thread, dead ones excepted; rayon's live as long as the process.
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return 0.0;
    };
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok())
        .filter_map(|line| line.split_whitespace().next()?.parse::<f64>().ok())
        .sum::<f64>()
        / 1e9
}

/// A swiss roll of `n` points: (n, 3), from a linear congruential generator, the same everywhere.
#[must_use]
pub fn swiss_roll(n: usize, seed: u64) -> Array2<f64> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut points = Array2::zeros((n, 3));
    for mut row in points.rows_mut() {
        let t = 1.5 * std::f64::consts::PI * (1.0 + 2.0 * uniform());
        row[0] = t * t.cos();
        row[1] = 21.0 * uniform();
        row[2] = t * t.sin();
    }
    points
}

/// Points of `dimensions` dimensions near a smooth surface of 8, with noise: (n, dimensions), `f32`.
#[must_use]
pub fn curved_features(n: usize, dimensions: usize, seed: u64) -> Array2<f32> {
    let hidden = swiss_roll(n * 3, seed);
    let hidden: ArrayView2<'_, f64> = hidden.view();
    Array2::from_shape_fn((n, dimensions), |(i, j)| {
        let phase = j as f64 * 0.7;
        let sum: f64 = (0..8)
            .map(|h| {
                (hidden[(i * 3 + h / 3, h % 3)] * (0.03 + 0.01 * ((h + j) % 5) as f64) + phase)
                    .sin()
            })
            .sum();
        sum as f32
    })
}
