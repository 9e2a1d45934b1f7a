//! Attention of many rows over their frames, computed in blocks.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, new_null_array};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{ArrowNativeType, DataType, Float32Type, Float64Type};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, internal_err};
use lakefold_attention::{AttentionError, Blocked, Real, Score, Similarity};
use ndarray::{Array2, ArrayView2, Axis, CowArray, Ix2, s};

use super::arguments::Scoring;
use super::vectors::{Column, Columns, check_comparable};
use crate::embeddings::vectors_array;
use crate::features::Site;
use crate::float_lists::FloatType;

/// Multiplications after which somebody asks whether the query was cancelled: some tenths of a second.
const BLOCK: usize = 1 << 33;

/// What `self_attention` is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    pub(crate) columns: Columns,
    pub(crate) scoring: Scoring,
    /// A list of floats.
    pub(crate) data_type: DataType,
}

/// Lists of query, key and value, coerced; keys have as many rows as values.
#[derive(Debug, Clone)]
pub(crate) struct Lists {
    pub(crate) query: ArrayRef,
    pub(crate) key: ArrayRef,
    pub(crate) value: ArrayRef,
}

impl Request {
    /// The attention of each query over the keys of its frame. `site` names rows in errors.
    pub(crate) fn attend(
        &self,
        lists: &Lists,
        frames: &[Range<usize>],
        site: &Site,
        cancelled: &AtomicBool,
    ) -> Result<ArrayRef> {
        match FloatType::of_list(&self.data_type) {
            Some(FloatType::Float32) => {
                self.attend_typed::<Float32Type>(lists, frames, site, cancelled)
            }
            Some(FloatType::Float64) => {
                self.attend_typed::<Float64Type>(lists, frames, site, cancelled)
            }
            None => internal_err!("{} gives lists, not {}", site.function, self.data_type),
        }
    }

    fn attend_typed<P: ArrowPrimitiveType<Native: Real>>(
        &self,
        lists: &Lists,
        frames: &[Range<usize>],
        site: &Site,
        cancelled: &AtomicBool,
    ) -> Result<ArrayRef> {
        let column = |list, name: &str| {
            let site = Site {
                column: name.to_owned(),
                ..site.clone()
            };
            Column::<P::Native>::read::<P>(list, &site)
        };
        let query = column(&lists.query, &self.columns.query)?;
        let key = column(&lists.key, &self.columns.key)?;
        let value = column(&lists.value, &self.columns.value)?;
        check_comparable(&query.extent, &key.extent, &self.columns, site.function)?;
        let pairs = Rows::new(&key.extent.present & &value.extent.present);
        let queries = Rows::new(query.extent.present.clone());
        if queries.places.is_empty() || pairs.places.is_empty() {
            return Ok(new_null_array(&self.data_type, lists.query.len()));
        }
        let dimensions = query.extent.dimensions;
        let scale = self
            .scoring
            .scale_for(dimensions)
            .map_err(|error| exec_datafusion_err!("{}: {error}", site.function))?;
        let problem = Problem {
            queries: queries.matrix(&query)?,
            keys: pairs.matrix(&key)?,
            values: pairs.matrix(&value)?,
            similarity: self.scoring.similarity,
            scale,
        };
        let visible: Vec<Range<usize>> = queries
            .places
            .iter()
            .map(|&row| pairs.before[frames[row].start]..pairs.before[frames[row].end])
            .collect();
        let failed = |error: AttentionError| {
            score_error(&error, &queries.places, &pairs.places, &self.columns, site)
        };
        let (means, attended) = problem
            .solve(&visible, cancelled)
            .map_err(|stop| match stop {
                Stop::Cancelled => exec_datafusion_err!("{} was cancelled", site.function),
                Stop::Failed(error) => failed(error),
            })?;
        let mut present = vec![false; lists.query.len()];
        for (&row, &attended) in queries.places.iter().zip(&attended) {
            present[row] = attended;
        }
        let width = value.extent.dimensions;
        let numbers = kept(means, &attended);
        vectors_array::<P>(
            &self.data_type,
            numbers,
            width,
            BooleanBuffer::from(present),
        )
    }
}

/// The rows that have a mean, one after the other.
fn kept<T: Real>(means: Array2<T>, attended: &[bool]) -> Vec<T> {
    if attended.iter().all(|&attended| attended) {
        return means.into_raw_vec_and_offset().0;
    }
    let rows = means.rows().into_iter().zip(attended);
    let kept = rows.filter(|(_, attended)| **attended);
    kept.flat_map(|(row, _)| row.to_vec()).collect()
}

/// Which rows of a column take part.
struct Rows {
    places: Vec<usize>,
    /// How many of them stand before each row, and before the end.
    before: Vec<usize>,
}

impl Rows {
    fn new(present: BooleanBuffer) -> Self {
        let mut before = Vec::with_capacity(present.len() + 1);
        before.push(0);
        let mut count = 0;
        for present in &present {
            count += usize::from(present);
            before.push(count);
        }
        Self {
            places: present.set_indices().collect(),
            before,
        }
    }

    /// Their lists: the column's own memory where no row is left out.
    fn matrix<'a, T: Real + ArrowNativeType>(
        &self,
        column: &Column<'a, T>,
    ) -> Result<CowArray<'a, T, Ix2>> {
        let shape = (self.places.len(), column.extent.dimensions);
        let changed = |error| exec_datafusion_err!("rows changed while they were read: {error}");
        if self.places.len() + 1 == self.before.len() {
            let view = ArrayView2::from_shape(shape, column.span(0..self.places.len()));
            return Ok(view.map_err(changed)?.into());
        }
        let mut numbers = Vec::with_capacity(shape.0 * shape.1);
        for &row in &self.places {
            numbers.extend_from_slice(column.span(row..row + 1));
        }
        Ok(Array2::from_shape_vec(shape, numbers)
            .map_err(changed)?
            .into())
    }
}

enum Stop {
    Cancelled,
    Failed(AttentionError),
}

impl From<AttentionError> for Stop {
    fn from(error: AttentionError) -> Self {
        Stop::Failed(error)
    }
}

struct Problem<'a, T> {
    queries: CowArray<'a, T, Ix2>,
    keys: CowArray<'a, T, Ix2>,
    values: CowArray<'a, T, Ix2>,
    similarity: Similarity,
    scale: f64,
}

impl<T: Real> Problem<'_, T> {
    /// The means, a row a query, and which queries have one.
    fn solve(
        self,
        visible: &[Range<usize>],
        cancelled: &AtomicBool,
    ) -> Result<(Array2<T>, Vec<bool>), Stop> {
        if self.similarity != Similarity::L2 {
            return self.attend(visible, cancelled);
        }
        // Distances are differences of products: they are centred first and taken in f64, because what is left
        // of large numbers decides.
        let mut keys = self.keys.mapv(Score::to_f64);
        let mut queries = self.queries.mapv(Score::to_f64);
        if let Some(centre) = keys.mean_axis(Axis(0)) {
            keys -= &centre;
            queries -= &centre;
        }
        let problem = Problem {
            queries: queries.into(),
            keys: keys.into(),
            values: self.values.mapv(Score::to_f64).into(),
            similarity: self.similarity,
            scale: self.scale,
        };
        let (means, attended) = problem.attend(visible, cancelled)?;
        Ok((means.mapv(T::from_f64), attended))
    }

    fn attend(
        &self,
        visible: &[Range<usize>],
        cancelled: &AtomicBool,
    ) -> Result<(Array2<T>, Vec<bool>), Stop> {
        let width = self.values.ncols();
        let mut means = Array2::zeros((visible.len(), width));
        let mut attended = Vec::with_capacity(visible.len());
        let each = self.queries.ncols() + width;
        let mut start = 0;
        while start < visible.len() {
            if cancelled.load(Ordering::Relaxed) {
                return Err(Stop::Cancelled);
            }
            let mut work = 0;
            let mut end = start;
            while end < visible.len() && work < BLOCK {
                work += each * visible[end].len();
                end += 1;
            }
            let block = Blocked::new(
                self.queries.slice(s![start..end, ..]),
                self.keys.view(),
                self.values.view(),
            )?;
            let rows = means.slice_mut(s![start..end, ..]);
            let found = block
                .similarity(self.similarity)
                .scale(self.scale)?
                .attend(|query| visible[start + query].clone(), rows)
                .map_err(|error| from_query(error, start))?;
            attended.extend(found);
            start = end;
        }
        Ok((means, attended))
    }
}

/// The kernel counts queries from `start` on.
fn from_query(error: AttentionError, start: usize) -> AttentionError {
    match error {
        AttentionError::InvalidScore {
            head,
            query,
            key,
            score,
        } => AttentionError::InvalidScore {
            head,
            query: query.map(|query| query + start),
            key,
            score,
        },
        AttentionError::InvalidValue {
            head,
            query,
            column,
            value,
        } => AttentionError::InvalidValue {
            head,
            query: query + start,
            column,
            value,
        },
        other => other,
    }
}

fn score_error(
    error: &AttentionError,
    queries: &[usize],
    pairs: &[usize],
    columns: &Columns,
    site: &Site,
) -> DataFusionError {
    let function = site.function;
    match error {
        AttentionError::InvalidScore {
            query: Some(query),
            key,
            score,
            ..
        } => exec_datafusion_err!(
            "{function}: the query {} of {} has a score of {score} with the key {} of {}: one of them holds \
             NaN or infinity, or the scale is too large; filter the row out or replace the number",
            columns.query,
            site.row(queries[*query]),
            columns.key,
            site.row(pairs[*key])
        ),
        AttentionError::InvalidValue {
            query,
            column,
            value,
            ..
        } => exec_datafusion_err!(
            "{function}: the values {} that {} may see give {value} in dimension {column} (counted from 0): \
             filter out the rows with NaN or infinity, or replace them",
            columns.value,
            site.row(queries[*query])
        ),
        other => exec_datafusion_err!("{function}: {other}"),
    }
}
