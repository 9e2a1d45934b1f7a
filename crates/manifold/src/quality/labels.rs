//! Do neighbours in the embedding share their label?

use std::cmp::Ordering;

use ndarray::ArrayView2;
use rayon::prelude::*;

use super::ranks::Nearest;
use super::{check_embedding, invalid, needs_more};
use crate::control::{Budget, Meter};
use crate::points::{Points, enlarge, squared_distance};
use crate::sample::{compare, hash_values};
use crate::{Control, ManifoldError, Phase, Result};

/// Which rows teach and which are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Split {
    /// By the lowest bit of each embedding row's seeded hash: even rows train, odd rows test. The same for
    /// any order of the rows, and equal rows stay on one side.
    #[default]
    Hashed,
    /// By place: rows 0, 2, 4, … train, rows 1, 3, 5, … test.
    EvenOdd,
}

/// How [`label_accuracy`] measures. The defaults are those of [`LabelOptions::default`].
#[derive(Debug, Clone, PartialEq)]
pub struct LabelOptions {
    /// Training rows that vote (k), at least 1. Default 10.
    pub n_neighbors: usize,
    /// Which rows train and which test. Default [`Split::Hashed`].
    pub split: Split,
    /// At most this many rows are tested: those with the smallest seeded hashes. Default 5,000; `None`
    /// tests all.
    pub max_test_rows: Option<usize>,
    /// Seed of the split and of the choice of test rows. Default 0.
    pub seed: u64,
}

impl Default for LabelOptions {
    fn default() -> Self {
        Self {
            n_neighbors: 10,
            split: Split::default(),
            max_test_rows: Some(5000),
            seed: 0,
        }
    }
}

/// What [`label_accuracy`] found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelAccuracy {
    /// Share of the tested rows whose label won the vote.
    pub accuracy: f64,
    /// Rows that voted.
    pub train_rows: usize,
    /// Rows that were tested.
    pub test_rows: usize,
}

/// Share of the test rows whose label wins the vote of their k nearest training rows in the embedding
/// (n, d), its columns standardised to mean 0 and variance 1 over all rows.
///
/// `labels` are one class number a row. Every vote counts the same, and of classes with equally many votes
/// the smallest number wins, as in scikit-learn's `KNeighborsClassifier`. Of training rows at equal
/// distance those come first whose embedding and label are smaller.
///
/// # Errors
/// [`ManifoldError::InvalidParameter`] for an embedding that is not finite or has another number of
/// rows than `labels`, or for zero neighbours or test rows; [`ManifoldError::ParameterNeedsMoreData`]
/// if a side of the split has too few rows; [`ManifoldError::Memory`] and
/// [`ManifoldError::Cancelled`].
pub fn label_accuracy(
    embedding: ArrayView2<'_, f64>,
    labels: &[i64],
    options: &LabelOptions,
    control: &dyn Control,
) -> Result<LabelAccuracy> {
    let k = options.n_neighbors;
    check_options(embedding, labels, options)?;
    let (n, dimensions) = embedding.dim();
    let budget = Budget::new(control);
    let bytes = n * (2 * dimensions * size_of::<f64>() + 4 * size_of::<usize>());
    budget.reserve("the standardised embedding", bytes)?;

    // Sorted by value and label, so that sums and ties do not depend on the order of the rows.
    let hashes: Vec<u64> = (0..n)
        .into_par_iter()
        .map(|row| hash_values(options.seed, embedding.row(row)))
        .collect();
    let by_value = |&a: &usize, &b: &usize| {
        compare(embedding.row(a), embedding.row(b)).then(labels[a].cmp(&labels[b]))
    };
    let mut order: Vec<usize> = (0..n).collect();
    order.par_sort_by(by_value);
    let mut values: Vec<f64> = (order.iter())
        .flat_map(|&row| embedding.row(row).into_iter().copied())
        .collect();
    standardise(&mut values, dimensions);
    let all = Points::new(&values, dimensions);

    // Places among the sorted rows.
    let trains = |place: &usize| match options.split {
        Split::Hashed => hashes[order[*place]].is_multiple_of(2),
        Split::EvenOdd => order[*place].is_multiple_of(2),
    };
    let (train, mut test): (Vec<usize>, Vec<usize>) = (0..n).partition(trains);
    if train.len() < k || test.is_empty() {
        let requirement = format!("at least {k} rows to train and 1 to test");
        let found = format!("{} and {}", train.len(), test.len());
        return Err(needs_more(k, requirement, found));
    }
    test.sort_by_key(|&place| (hashes[order[place]], place));
    test.truncate(options.max_test_rows.unwrap_or(usize::MAX));

    let train_values: Vec<f64> = train.iter().flat_map(|&p| all.row(p)).copied().collect();
    let train_labels: Vec<i64> = train.iter().map(|&p| labels[order[p]]).collect();
    let training = Training {
        points: Points::new(&train_values, dimensions),
        labels: &train_labels,
    };
    let scratch = rayon::current_num_threads() * train.len() * size_of::<f64>();
    budget.reserve("distances to all training rows", scratch)?;
    let meter = Meter::new(control, Phase::Neighbors, test.len() as u64);
    let right: usize = test
        .par_chunks(64)
        .map_init(
            || (vec![0.0; train.len()], Nearest::new(k), Vec::new()),
            |(distances, nearest, votes), places| {
                meter.check()?;
                let right = places.iter().filter(|&&place| {
                    let label = training.vote(all.row(place), distances, nearest, votes);
                    label == labels[order[place]]
                });
                let right = right.count();
                meter.add(places.len() as u64);
                Ok::<usize, ManifoldError>(right)
            },
        )
        .try_reduce(|| 0, |a, b| Ok(a + b))?;
    Ok(LabelAccuracy {
        accuracy: right as f64 / test.len() as f64,
        train_rows: train.len(),
        test_rows: test.len(),
    })
}

struct Training<'a> {
    points: Points<'a, f64>,
    labels: &'a [i64],
}

impl Training<'_> {
    /// The most frequent label of the nearest rows; of equals the smallest.
    fn vote(
        &self,
        query: &[f64],
        distances: &mut [f64],
        nearest: &mut Nearest,
        votes: &mut Vec<i64>,
    ) -> i64 {
        crate::simd::widest(
            #[inline(always)]
            || {
                for (row, distance) in distances.iter_mut().enumerate() {
                    *distance = squared_distance(query, self.points.row(row));
                }
            },
        );
        votes.clear();
        let near = nearest.among(distances);
        votes.extend(near.iter().map(|&(_, row)| self.labels[row as usize]));
        votes.sort_unstable();
        let runs = votes.chunk_by(|a, b| a == b);
        // The first of the longest runs; `max_by` would keep the last.
        runs.reduce(|best, run| match run.len().cmp(&best.len()) {
            Ordering::Greater => run,
            _ => best,
        })
        .map_or(0, |run| run[0])
    }
}

/// Mean 0 and variance 1 in every column; a constant column becomes zero.
fn standardise(values: &mut [f64], dimensions: usize) {
    enlarge(values);
    let n = (values.len() / dimensions) as f64;
    for j in 0..dimensions {
        let column = || values.iter().skip(j).step_by(dimensions);
        let mean = column().sum::<f64>() / n;
        let variance = column().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
        let constant = column().all(|v| *v == values[j]);
        let scale = if constant { 0.0 } else { 1.0 / variance.sqrt() };
        let column = values.iter_mut().skip(j).step_by(dimensions);
        column.for_each(|v| *v = (*v - mean) * scale);
    }
}

fn check_options(
    embedding: ArrayView2<'_, f64>,
    labels: &[i64],
    options: &LabelOptions,
) -> Result<()> {
    if labels.len() != embedding.nrows() {
        return Err(invalid(
            "labels",
            format!("{} labels", labels.len()),
            format!("one for each of the {} rows", embedding.nrows()),
        ));
    }
    check_embedding(embedding, labels.len())?;
    if options.n_neighbors == 0 {
        return Err(invalid("n_neighbors", "0".to_owned(), "at least 1"));
    }
    if options.max_test_rows == Some(0) {
        return Err(invalid("max_test_rows", "0".to_owned(), "at least 1"));
    }
    Ok(())
}
