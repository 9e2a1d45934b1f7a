//! Which points become landmarks.

use rayon::prelude::*;

use crate::control::stop_if_cancelled;
use crate::points::{Feature, Points, squared_distance};
use crate::{Control, LandmarkChoice, Result, row_hash};

/// Points whose distances one thread updates at a time; sums over them are added in this order.
const CHUNK: usize = 1024;

/// The ids of `count` landmarks, ascending. They depend on the points' values and the seed alone.
pub(crate) fn choose<T: Feature>(
    points: Points<'_, T>,
    choice: LandmarkChoice,
    count: usize,
    seed: u64,
    control: &dyn Control,
) -> Result<Vec<u32>> {
    let mut ids = match choice {
        LandmarkChoice::Uniform => smallest_hashes(points, count, seed),
        LandmarkChoice::Farthest => spread(points, count, seed, control, |_, nearest| {
            // Of equals the first, which is the smallest row.
            let far = nearest.iter().enumerate();
            far.fold(
                (0, -1.0),
                |best, (id, &d)| if d > best.1 { (id, d) } else { best },
            )
            .0
        })?,
        LandmarkChoice::KMeansPlusPlus => spread(points, count, seed, control, |step, nearest| {
            by_weight(nearest, row_hash(seed, &[step as f64]))
        })?,
    };
    ids.sort_unstable();
    Ok(ids)
}

/// The points with the smallest seeded hashes, smallest first.
pub(crate) fn smallest_hashes<T: Feature>(
    points: Points<'_, T>,
    count: usize,
    seed: u64,
) -> Vec<u32> {
    let mut hashed: Vec<(u64, u32)> = (0..points.len())
        .into_par_iter()
        .map(|i| (row_hash(seed, points.row(i)), i as u32))
        .collect();
    hashed.par_sort_unstable();
    hashed.truncate(count);
    hashed.into_iter().map(|(_, id)| id).collect()
}

/// From the point with the smallest hash on, `next(step, squared distances to the landmarks so far)`.
fn spread<T: Feature>(
    points: Points<'_, T>,
    count: usize,
    seed: u64,
    control: &dyn Control,
    next: impl Fn(usize, &[f64]) -> usize,
) -> Result<Vec<u32>> {
    let mut ids = smallest_hashes(points, 1, seed);
    let mut nearest = vec![f64::INFINITY; points.len()];
    while ids.len() < count {
        stop_if_cancelled(control)?;
        let last = points.row(ids[ids.len() - 1] as usize);
        nearest
            .par_chunks_mut(CHUNK)
            .enumerate()
            .for_each(|(chunk, nearest)| {
                for (place, nearest) in nearest.iter_mut().enumerate() {
                    let own = points.row(chunk * CHUNK + place);
                    *nearest = nearest.min(squared_distance(own, last));
                }
            });
        ids.push(next(ids.len(), &nearest) as u32);
    }
    Ok(ids)
}

/// A draw with probability proportional to `weights`, of which one at least is positive.
fn by_weight(weights: &[f64], bits: u64) -> usize {
    let sums: Vec<f64> = weights
        .chunks(CHUNK)
        .map(|chunk| chunk.iter().sum())
        .collect();
    let total: f64 = sums.iter().sum();
    let mut left = (bits >> 11) as f64 / (1u64 << 53) as f64 * total;
    let mut last = 0;
    for (chunk, sum) in sums.iter().enumerate() {
        if left >= *sum {
            left -= sum;
            continue;
        }
        for (place, weight) in weights[chunk * CHUNK..].iter().take(CHUNK).enumerate() {
            if *weight > 0.0 {
                last = chunk * CHUNK + place;
                if left < *weight {
                    return last;
                }
            }
            left -= weight;
        }
    }
    // Rounding ate the rest: the last point that may be drawn, or any that is no landmark yet.
    if weights[last] > 0.0 {
        return last;
    }
    weights.iter().position(|weight| *weight > 0.0).unwrap_or(0)
}
