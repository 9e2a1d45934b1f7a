//! What `embedding_quality` keeps of the rows while they stream by, and what it measures on them.

use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use datafusion::arrow::compute::kernels::boolean::or;
use datafusion::arrow::compute::{is_null, nullif};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::{DataFusionError, Result, exec_err, internal_err};
use lakefold_manifold::{
    Control, LabelAccuracy, LabelOptions, ManifoldError, PairedSample, Quality, QualityOptions,
    check_features, embedding_quality, label_accuracy,
};
use ndarray::{Array2, Axis};

use super::embedding_quality::NAME;
use crate::features::{Matrix, Site, check_dimensions, extract, measure};
use crate::fit::row_error;
use crate::fit_task::fit_failed;
use crate::float_lists::FloatType;
use crate::memory::{Budget, resources_exhausted};

/// Rows of which label accuracy is measured at most: those with the smallest seeded hashes of their
/// embeddings. They are narrow, so that there is room for more of them than for features.
pub(super) const LABELLED_ROWS: usize = 100_000;

/// The columns' names in SQL, for errors.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    pub(super) features: String,
    pub(super) embedding: String,
    pub(super) label: Option<String>,
}

/// Samples of the rows, which depend neither on their order nor on how they come in batches.
pub(super) struct QualityInput {
    columns: Columns,
    /// Features with embeddings.
    sample: PairedSample<f64>,
    /// Embeddings with labels.
    labels: Option<Labels>,
    dimensions: Option<usize>,
    n_components: Option<usize>,
    /// Rows with features and embedding.
    pub(super) rows: usize,
    /// Rows without either of them.
    pub(super) null_rows: usize,
    reserved: usize,
}

struct Labels {
    sample: PairedSample<u8>,
    /// Makes bytes of labels, in the same order.
    converter: RowConverter,
}

impl QualityInput {
    /// `label` is the type of that column, which [`RowConverter`] must support.
    pub(super) fn new(
        columns: Columns,
        label: Option<&DataType>,
        sample_size: usize,
        seed: u64,
    ) -> Result<Self> {
        let labels = label.map(|data_type| {
            Ok::<_, DataFusionError>(Labels {
                sample: PairedSample::new(LABELLED_ROWS, seed),
                converter: RowConverter::new(vec![SortField::new(data_type.clone())])?,
            })
        });
        Ok(Self {
            columns,
            sample: PairedSample::new(sample_size, seed).distinct(),
            labels: labels.transpose()?,
            dimensions: None,
            n_components: None,
            rows: 0,
            null_rows: 0,
            reserved: 0,
        })
    }

    /// Adds rows of features, embedding and, where it is asked for, label.
    pub(super) fn add(&mut self, batch: &RecordBatch, budget: &Budget) -> Result<()> {
        let (features, embedding) = (batch.column(0), batch.column(1));
        let missing = or(&is_null(features)?, &is_null(embedding)?)?;
        self.null_rows += missing.true_count();
        let found = batch.num_rows() - missing.true_count();
        if found == 0 {
            return Ok(());
        }
        self.rows += found;
        let site = site(&self.columns.features, Some(batch));
        let features = matrix(features, &missing, &mut self.dimensions, &site)?;
        let site = self::site(&self.columns.embedding, Some(batch));
        let embedding = matrix(embedding, &missing, &mut self.n_components, &site)?;
        let Some(numbers) = embedding.as_slice() else {
            return internal_err!("the embedding is not row by row");
        };
        let width = embedding.ncols();
        let embedding_of = |row: usize| &numbers[row * width..(row + 1) * width];
        self.sample.add(features.view(), embedding_of);
        if let Some(labels) = &mut self.labels {
            labels.add(batch.column(2), &missing, &embedding)?;
        }
        let labelled = self.labels.as_ref().map_or(0, |l| l.sample.bytes());
        let bytes = self.sample.bytes() + labelled;
        if bytes > self.reserved {
            budget
                .reserve("the sample of features to measure", bytes - self.reserved)
                .map_err(|error| resources_exhausted(NAME, &error))?;
            self.reserved = bytes;
        }
        Ok(())
    }

    /// Measures what was kept.
    pub(super) fn measure(
        self,
        options: &QualityOptions,
        control: &dyn Control,
    ) -> Result<(Quality, Option<LabelAccuracy>)> {
        let rows = self.rows;
        if rows == 0 {
            return exec_err!(
                "{NAME}: all {} rows are NULL in {} or {}, there is nothing to measure",
                self.null_rows,
                self.columns.features,
                self.columns.embedding
            );
        }
        let (features, companions) = self.sample.into_pairs();
        let width = self.n_components.unwrap_or(0);
        let numbers = companions.iter().flat_map(|row| row.iter().copied());
        let embedding = Array2::from_shape_vec((features.nrows(), width), numbers.collect());
        let Ok(embedding) = embedding else {
            return internal_err!("embeddings of the sample differ in length");
        };
        // The sample is chosen already.
        let options = QualityOptions {
            sample: usize::MAX,
            ..options.clone()
        };
        let failed = |error: ManifoldError, column: &str| {
            let error = in_terms_of_k(error);
            fit_failed(&error, &site(column, None), features.nrows())
        };
        let quality = embedding_quality(features.view(), embedding.view(), &options, control)
            .map_err(|error| failed(error, &self.columns.features))?;
        let accuracy = match (self.labels, &self.columns.label) {
            (Some(labels), Some(column)) => {
                if labels.sample.seen() == 0 {
                    return exec_err!(
                        "{}: all {rows} rows are NULL: name a column that has labels, or leave label out",
                        site(column, None)
                    );
                }
                let options = LabelOptions {
                    seed: options.seed,
                    ..LabelOptions::default()
                };
                let accuracy = labels.accuracy(&options, control);
                Some(accuracy.map_err(|error| fit_failed(&error, &site(column, None), rows))?)
            }
            _ => None,
        };
        Ok((quality, accuracy))
    }
}

impl Labels {
    fn add(
        &mut self,
        column: &ArrayRef,
        missing: &BooleanArray,
        embedding: &Array2<f64>,
    ) -> Result<()> {
        let bytes = self
            .converter
            .convert_columns(std::slice::from_ref(column))?;
        let unlabelled = is_null(column)?;
        // Rows of the batch that have an embedding, and of these the ones that have a label.
        let embedded = (0..missing.len()).filter(|&row| !missing.value(row));
        let labelled = embedded.enumerate();
        let labelled = labelled.filter(|&(_, row)| !unlabelled.value(row));
        let (places, rows): (Vec<usize>, Vec<usize>) = labelled.unzip();
        let embedding = embedding.select(Axis(0), &places);
        self.sample
            .add(embedding.view(), |place| bytes.row(rows[place]).data());
        Ok(())
    }

    fn accuracy(
        self,
        options: &LabelOptions,
        control: &dyn Control,
    ) -> Result<LabelAccuracy, ManifoldError> {
        let (embedding, labels) = self.sample.into_pairs();
        let mut classes: Vec<&[u8]> = labels.iter().map(AsRef::as_ref).collect();
        classes.sort_unstable();
        classes.dedup();
        // Every label is among the classes.
        let class = |label: &[u8]| classes.binary_search(&label).unwrap_or_default() as i64;
        let labels: Vec<i64> = labels.iter().map(|label| class(label)).collect();
        label_accuracy(embedding.view(), &labels, options, control).map_err(|error| match error {
            ManifoldError::ParameterNeedsMoreData {
                requirement, found, ..
            } => ManifoldError::ParameterNeedsMoreData {
                name: "the vote of the nearest rows",
                value: options.n_neighbors,
                requirement,
                found,
                remedy: "measure more rows, or leave label out".to_owned(),
            },
            other => other,
        })
    }
}

fn site(column: &str, batch: Option<&RecordBatch>) -> Site {
    Site {
        function: NAME,
        column: column.to_owned(),
        batches: batch.into_iter().cloned().collect(),
        streamed: batch.is_some(),
        ..Site::default()
    }
}

/// The rows of a list column that are not `missing`.
fn matrix(
    lists: &ArrayRef,
    missing: &BooleanArray,
    dimensions: &mut Option<usize>,
    site: &Site,
) -> Result<Array2<f64>> {
    let lists = [nullif(lists, missing)?];
    let extent = measure(&lists, site)?;
    check_dimensions(dimensions, &extent, site)?;
    let features = extract(&lists, extent, FloatType::Float64)?;
    let Matrix::Float64(matrix) = features.matrix else {
        return internal_err!("asked for f64");
    };
    check_features(matrix.view()).map_err(|error| row_error(&error, site, &features.present))?;
    Ok(matrix.into_owned())
}

/// The kernel's n_neighbors is this function's k.
fn in_terms_of_k(error: ManifoldError) -> ManifoldError {
    match error {
        ManifoldError::ParameterNeedsMoreData {
            name: "n_neighbors",
            value,
            requirement,
            found,
            remedy,
        } => ManifoldError::ParameterNeedsMoreData {
            name: "k",
            value,
            requirement,
            found,
            remedy: remedy.replace("n_neighbors", "k"),
        },
        other => other,
    }
}
