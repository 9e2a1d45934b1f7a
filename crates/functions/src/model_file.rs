//! A model as a Parquet file: one row a landmark, everything else in the key-value metadata.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Schema};
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::metadata::KeyValue;
use datafusion::parquet::file::properties::WriterProperties;
use lakefold_manifold::{Lle, Model, NeighborMethod};
use ndarray::Array2;
use object_store::PutPayload;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::embeddings::{element, embedding_array};
use crate::features::{Matrix, Site, extract, measure};
use crate::float_lists::FloatType;
use crate::lle_model::{LleModel, Typed};

/// The newest layout of model files, which this version writes. Older ones stay readable.
pub const MODEL_VERSION: u32 = 1;

const VERSION_KEY: &str = "lakefold.model.version";
const DESCRIPTION_KEY: &str = "lakefold.model";
const CHECKSUM_KEY: &str = "lakefold.model.sha256";
const FEATURES: &str = "features";
const EMBEDDING: &str = "embedding";

/// What a model file says beside its rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelDescription {
    /// Of the program that wrote it.
    pub written_by: String,
    /// Neighbours a row of the fit (k).
    pub n_neighbors: usize,
    /// Regularisation of the weights, of the fit's and of those that place a row.
    pub reg: f64,
    /// Which local geometry was preserved.
    pub method: String,
    /// The solver that ran.
    pub solver: String,
    /// Seed of samples and landmarks.
    pub seed: u64,
    /// Landmarks that a row is a combination of.
    pub landmark_neighbors: usize,
    /// How a row's nearest landmarks are found: `exact` or `hnsw`. Files of older versions do not say: exactly.
    #[serde(default = "exact", skip_serializing_if = "is_exact")]
    pub landmark_search: String,
    /// Distinct rows that the fit saw.
    pub fitted_rows: usize,
    /// Eigenvalues, one a component.
    pub eigenvalues: Vec<f64>,
    /// Of a sample of the fitted rows, where it was measured.
    pub trustworthiness: Option<f64>,
    /// Of a sample of the fitted rows, where it was measured.
    pub continuity: Option<f64>,
}

fn exact() -> String {
    NeighborMethod::Exact.name().to_owned()
}

/// The rule of most models is not written, so that their bytes are those of older versions.
fn is_exact(search: &str) -> bool {
    search == NeighborMethod::Exact.name()
}

/// A model read from a file.
#[derive(Debug, Clone)]
pub(crate) struct StoredModel {
    pub(crate) typed: Typed,
    /// The SHA-256 of the file's contents proper: the model's name.
    pub(crate) id: String,
}

/// The bytes of a model file. They depend on the model and its parameters alone.
pub(crate) fn encode(model: &LleModel, lle: &Lle) -> Result<(PutPayload, String)> {
    let found = &model.diagnostics;
    let description = ModelDescription {
        written_by: format!("lakefold {}", env!("CARGO_PKG_VERSION")),
        n_neighbors: found.parameters.n_neighbors(),
        reg: found.parameters.reg(),
        method: lle.method().name().to_owned(),
        solver: found.solver.name().to_owned(),
        seed: lle.seed(),
        landmark_neighbors: model.typed.landmark_neighbors(),
        landmark_search: model.typed.search().name().to_owned(),
        fitted_rows: found.distinct_rows,
        eigenvalues: found.eigenvalues.clone(),
        trustworthiness: model.quality.map(|quality| quality.trustworthiness),
        continuity: model.quality.map(|quality| quality.continuity),
    };
    let description = serde_json::to_string(&description)
        .map_err(|error| exec_datafusion_err!("a model's parameters cannot be written: {error}"))?;
    let batch = to_batch(&model.typed)?;
    let checksum = checksum(&batch, &description)?;
    let pairs = [
        (VERSION_KEY, MODEL_VERSION.to_string()),
        (DESCRIPTION_KEY, description),
        (CHECKSUM_KEY, checksum.clone()),
    ];
    let pairs = pairs.map(|(key, value)| KeyValue::new(key.to_owned(), value));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by("lakefold".to_owned())
        .set_key_value_metadata(Some(pairs.to_vec()))
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok((bytes.into(), checksum))
}

/// Reads a model file; `source` is its path or URL, for errors.
pub(crate) fn decode(bytes: impl Into<bytes::Bytes>, source: &str) -> Result<StoredModel> {
    let broken = |detail: String| {
        exec_datafusion_err!(
            "'{source}' is not a whole model file: {detail}; fit the model again with lle_fit or \
             `lakefold fit`"
        )
    };
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.into())
        .map_err(|error| broken(error.to_string()))?;
    let metadata: HashMap<String, String> = reader
        .metadata()
        .file_metadata()
        .key_value_metadata()
        .into_iter()
        .flatten()
        .filter_map(|pair| Some((pair.key.clone(), pair.value.clone()?)))
        .collect();
    let Some(version) = metadata.get(VERSION_KEY) else {
        return exec_err!(
            "'{source}' is a Parquet file but not a model: it has no '{VERSION_KEY}' in its metadata; \
             write one with lle_fit or `lakefold fit`"
        );
    };
    match version.parse::<u32>() {
        Ok(1..=MODEL_VERSION) => {}
        Ok(newer) if newer > MODEL_VERSION => {
            return exec_err!(
                "'{source}' is a model of version {newer}, this program reads up to {MODEL_VERSION}: \
                 update Lakefold"
            );
        }
        _ => return Err(broken(format!("its version is '{version}'"))),
    }
    let description = metadata
        .get(DESCRIPTION_KEY)
        .ok_or_else(|| broken("it has no parameters".to_owned()))?;
    let schema = Arc::clone(reader.schema());
    let batches = reader
        .build()
        .map_err(|error| broken(error.to_string()))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| broken(error.to_string()))?;
    let batch = concat_batches(&schema, &batches)?;
    let found = checksum(&batch, description)?;
    if metadata.get(CHECKSUM_KEY) != Some(&found) {
        return Err(broken(
            "its checksum does not match, it was altered".to_owned(),
        ));
    }
    let description: ModelDescription =
        serde_json::from_str(description).map_err(|error| broken(error.to_string()))?;
    let typed = from_batch(&batch, &description, source)?;
    Ok(StoredModel { typed, id: found })
}

fn to_batch(model: &Typed) -> Result<RecordBatch> {
    let float = model.float();
    let (landmarks, dimensions): (Vec<f64>, usize) = match model {
        Typed::Float32(model) => (
            model.landmarks().iter().map(|v| f64::from(*v)).collect(),
            model.dimensions(),
        ),
        Typed::Float64(model) => (model.landmarks().into_iter().collect(), model.dimensions()),
    };
    let embedding = model.embedding();
    let fixed =
        |float: FloatType, size: usize| DataType::FixedSizeList(element(float), size as i32);
    let present = BooleanBuffer::new_set(embedding.nrows());
    let list = |float, numbers: Vec<f64>, size| {
        let numbers = numbers.into_iter();
        embedding_array(&fixed(float, size), float, numbers, size, present.clone())
    };
    let n_components = embedding.ncols();
    let embedding: Vec<f64> = embedding.iter().copied().collect();
    let columns: [ArrayRef; 2] = [
        list(float, landmarks, dimensions)?,
        list(FloatType::Float64, embedding, n_components)?,
    ];
    let fields = [FEATURES, EMBEDDING].into_iter().zip(&columns);
    let fields = fields.map(|(name, column)| Field::new(name, column.data_type().clone(), false));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    Ok(RecordBatch::try_new(Arc::new(schema), columns.to_vec())?)
}

fn from_batch(batch: &RecordBatch, description: &ModelDescription, source: &str) -> Result<Typed> {
    let site = |column: &str| Site {
        column: format!("'{column}' of '{source}'"),
        ..Site::default()
    };
    let column = |name: &str| {
        let column = batch.column_by_name(name);
        column.ok_or_else(|| exec_datafusion_err!("'{source}' has no column '{name}'"))
    };
    let matrix = |name: &str, float| {
        let lists = std::slice::from_ref(column(name)?);
        let extent = measure(lists, &site(name))?;
        extract(lists, extent, float)
    };
    let features = column(FEATURES)?.data_type();
    let Some(float) = FloatType::of_list(features) else {
        return exec_err!("'{source}': features must be lists of numbers, got {features}");
    };
    let embedding: Array2<f64> = match matrix(EMBEDDING, FloatType::Float64)?.matrix {
        Matrix::Float64(matrix) => matrix.into_owned(),
        Matrix::Float32(_) => unreachable!("asked for f64"),
    };
    let (per_row, reg) = (description.landmark_neighbors, description.reg);
    let search = [NeighborMethod::Exact, NeighborMethod::Hnsw]
        .into_iter()
        .find(|method| method.name() == description.landmark_search);
    let Some(search) = search else {
        return exec_err!(
            "'{source}' finds landmarks by '{}', which this program does not know: update Lakefold",
            description.landmark_search
        );
    };
    let seed = description.seed;
    let typed = match matrix(FEATURES, float)?.matrix {
        Matrix::Float32(rows) => Model::new(rows.view(), embedding, per_row, reg)
            .map(|model| Typed::Float32(model.with_search(search, seed))),
        Matrix::Float64(rows) => Model::new(rows.view(), embedding, per_row, reg)
            .map(|model| Typed::Float64(model.with_search(search, seed))),
    };
    typed.map_err(|error| exec_datafusion_err!("'{source}' is not a usable model: {error}"))
}

/// Two digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter();
    digits.fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// SHA-256 over the parameters and the numbers of both columns.
fn checksum(batch: &RecordBatch, description: &str) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(description.as_bytes());
    for column in batch.columns() {
        let Some(list) = column.as_fixed_size_list_opt() else {
            return exec_err!(
                "a model's columns are lists of one length, not {}",
                column.data_type()
            );
        };
        hash.update(list.value_length().to_le_bytes());
        let values = datafusion::arrow::compute::cast(list.values(), &DataType::Float64)?;
        for number in values.as_primitive::<Float64Type>().values() {
            hash.update(number.to_le_bytes());
        }
    }
    Ok(hex(&hash.finalize()))
}
