//! Linear layers as a Parquet file: one row an output feature.

use std::collections::BTreeMap;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::{cast, concat_batches, filter};
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::{
    DataFusionError, Result, exec_datafusion_err, exec_err, plan_datafusion_err,
};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use sha2::{Digest, Sha256};
use std::sync::{Arc, OnceLock};

use super::coercion::vector_float;
use crate::features::{Matrix, Site, extract, measure};
use crate::float_lists::FloatType;
use crate::model_file::hex;
use crate::model_store::{FileCache, StoredFile};

const WEIGHT: &str = "weight";
const BIAS: &str = "bias";
const LAYER: &str = "name";

/// The layers of one file by name; a file without the column `name` has one, `None`.
#[derive(Debug)]
pub(crate) struct LinearFile {
    layers: BTreeMap<Option<String>, Layer>,
    float: FloatType,
    /// SHA-256 of the file.
    id: String,
}

/// W, out_features × in_features, and b, as PyTorch's `nn.Linear` stores them.
#[derive(Debug)]
pub(crate) struct Layer {
    narrow: OnceLock<Numbers<f32>>,
    wide: Numbers<f64>,
}

/// A layer in one float type.
#[derive(Debug)]
pub(crate) struct Numbers<T> {
    weight: Array2<T>,
    bias: Option<Array1<T>>,
}

impl<T> Numbers<T> {
    pub(crate) fn weight(&self) -> ArrayView2<'_, T> {
        self.weight.view()
    }

    pub(crate) fn bias(&self) -> Option<ArrayView1<'_, T>> {
        self.bias.as_ref().map(|bias| bias.view())
    }
}

impl Layer {
    pub(crate) fn in_features(&self) -> usize {
        self.wide.weight.ncols()
    }

    pub(crate) fn out_features(&self) -> usize {
        self.wide.weight.nrows()
    }

    pub(crate) fn narrow(&self) -> &Numbers<f32> {
        self.narrow.get_or_init(|| Numbers {
            weight: self.wide.weight.mapv(|number| number as f32),
            bias: self
                .wide
                .bias
                .as_ref()
                .map(|bias| bias.mapv(|number| number as f32)),
        })
    }

    pub(crate) fn wide(&self) -> &Numbers<f64> {
        &self.wide
    }
}

impl LinearFile {
    /// The float type of the column `weight`, by the project's rule.
    pub(crate) fn float(&self) -> FloatType {
        self.float
    }

    /// The layer of that name, or the only one.
    pub(crate) fn layer(&self, name: Option<&str>, source: &str) -> Result<&Layer> {
        let found = match name {
            Some(name) => self.layers.get(&Some(name.to_owned())),
            None if self.layers.len() == 1 => self.layers.values().next(),
            None => None,
        };
        found.ok_or_else(|| {
            let names: Vec<&str> = self.layers.keys().flatten().map(String::as_str).collect();
            match (name, names.as_slice()) {
                (Some(name), []) => plan_datafusion_err!(
                    "'{source}' has no column '{LAYER}' to find '{name}' in: leave the name out"
                ),
                (Some(name), names) => plan_datafusion_err!(
                    "'{source}' has no layer '{name}', it has {}",
                    names.join(", ")
                ),
                (None, names) => plan_datafusion_err!(
                    "'{source}' has several layers: say which as the third argument, one of {}",
                    names.join(", ")
                ),
            }
        })
    }
}

impl StoredFile for LinearFile {
    const KIND: &'static str = "weights";
    const KINDS: &'static str = "weights";

    fn missing(text: &str) -> DataFusionError {
        exec_datafusion_err!(
            "no file of weights '{text}': write one with COPY (SELECT … AS {WEIGHT}, … AS {BIAS}, … AS \
             {LAYER} …) TO '{text}'"
        )
    }

    fn decode(bytes: bytes::Bytes, source: &str) -> Result<Self> {
        let broken = |error: &dyn std::fmt::Display| {
            exec_datafusion_err!("'{source}' is not a Parquet file of weights: {error}")
        };
        let id = hex(&Sha256::digest(&bytes));
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| broken(&error))?;
        let schema = Arc::clone(reader.schema());
        let reader = reader.build().map_err(|error| broken(&error))?;
        let batches = reader
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| broken(&error))?;
        from_batch(&concat_batches(&schema, &batches)?, source, id)
    }
}

fn from_batch(batch: &RecordBatch, source: &str, id: String) -> Result<LinearFile> {
    let Some(weight) = batch.column_by_name(WEIGHT) else {
        return exec_err!(
            "'{source}' has no column '{WEIGHT}': a file of weights has one row an output feature, with \
             its list of weights, and may have '{BIAS}' and '{LAYER}'"
        );
    };
    let float = vector_float(source, WEIGHT, weight.data_type())?.unwrap_or(FloatType::Float64);
    let bias = match batch.column_by_name(BIAS) {
        None => None,
        Some(bias) if bias.data_type().is_numeric() => Some(cast(bias, &DataType::Float64)?),
        Some(bias) if bias.data_type().is_null() => None,
        Some(bias) => {
            return exec_err!(
                "'{BIAS}' of '{source}' must be a number, got {}",
                bias.data_type()
            );
        }
    };
    let names = match batch.column_by_name(LAYER) {
        None => None,
        Some(names) if names.data_type().is_string() || is_dictionary(names.data_type()) => {
            Some(cast(names, &DataType::Utf8)?)
        }
        Some(names) => {
            return exec_err!(
                "'{LAYER}' of '{source}' must be text, got {}",
                names.data_type()
            );
        }
    };
    let name_of = |row: usize| {
        let names = names.as_ref()?.as_string::<i32>();
        names.is_valid(row).then(|| names.value(row).to_owned())
    };
    let mut rows: BTreeMap<Option<String>, Vec<bool>> = BTreeMap::new();
    for row in 0..batch.num_rows() {
        let chosen = rows.entry(name_of(row)).or_default();
        chosen.resize(row, false);
        chosen.push(true);
    }
    if rows.is_empty() {
        return exec_err!("'{source}' has no rows: a layer has one row an output feature");
    }
    let layers = rows.into_iter().map(|(name, mut chosen)| {
        chosen.resize(batch.num_rows(), false);
        let chosen = BooleanArray::from(chosen);
        let weight = filter(weight, &chosen)?;
        let bias = bias
            .as_ref()
            .map(|bias| filter(bias, &chosen))
            .transpose()?;
        let column = match &name {
            Some(name) => format!("'{WEIGHT}' of layer '{name}' of '{source}'"),
            None => format!("'{WEIGHT}' of '{source}'"),
        };
        let layer = layer(weight, bias.as_ref(), column)?;
        Ok((name, layer))
    });
    Ok(LinearFile {
        layers: layers.collect::<Result<_>>()?,
        float,
        id,
    })
}

fn is_dictionary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Dictionary(_, value) if value.is_string())
}

/// One layer of the rows of its name, in the order of the file.
fn layer(weight: ArrayRef, bias: Option<&ArrayRef>, column: String) -> Result<Layer> {
    if weight.null_count() > 0 {
        return exec_err!("{column} is NULL in some row: every output feature needs its weights");
    }
    let site = Site {
        function: super::linear::NAME,
        column: column.clone(),
        ..Site::default()
    };
    let lists = [weight];
    let extent = measure(&lists, &site)?;
    let Matrix::Float64(weight) = extract(&lists, extent, FloatType::Float64)?.matrix else {
        unreachable!("asked for f64")
    };
    let bias = match bias {
        // A layer without bias in a file whose other layers have one.
        Some(bias) if bias.null_count() == bias.len() => None,
        Some(bias) if bias.null_count() > 0 => {
            return exec_err!(
                "{column}: '{BIAS}' is NULL in {} of {} rows: a layer has a bias in every row or in none",
                bias.null_count(),
                bias.len()
            );
        }
        Some(bias) => Some(bias.as_primitive::<Float64Type>().values().to_vec().into()),
        None => None,
    };
    let weight = weight.into_owned();
    let bias: Option<Array1<f64>> = bias;
    let mut all = weight.iter().chain(bias.iter().flatten());
    if !all.all(|number| number.is_finite()) {
        return exec_err!("{column}: a weight or bias is NaN or infinite: write finite numbers");
    }
    Ok(Layer {
        narrow: OnceLock::new(),
        wide: Numbers { weight, bias },
    })
}

/// Files of weights that were read for `linear`, kept for as long as they do not change.
#[derive(Debug, Default)]
pub struct LinearFiles(FileCache<LinearFile>);

impl LinearFiles {
    /// The SHA-256 of the file last loaded from `text`.
    pub fn id(&self, text: &str) -> Option<String> {
        self.0.get(text).map(|file| file.id.clone())
    }

    /// Reads the file of weights that `text`, a path or URL, names, unless it is known and unchanged.
    ///
    /// # Errors
    /// For a file that is missing, or no Parquet file of weights.
    pub async fn load(&self, text: &str, env: &RuntimeEnv) -> Result<()> {
        self.0.load(text, env).await
    }

    /// The file last loaded from `text`; if there is none, it is read from a local file.
    pub(crate) fn get_or_read(&self, text: &str) -> Result<Arc<LinearFile>> {
        self.0.get_or_read(text)
    }
}

/// A float type that layers are kept in.
pub(crate) trait InLayer: datafusion::arrow::array::ArrowPrimitiveType {
    /// The layer's numbers in it.
    fn numbers(layer: &Layer) -> &Numbers<Self::Native>;
}

impl InLayer for Float32Type {
    fn numbers(layer: &Layer) -> &Numbers<f32> {
        layer.narrow()
    }
}

impl InLayer for Float64Type {
    fn numbers(layer: &Layer) -> &Numbers<f64> {
        layer.wide()
    }
}
