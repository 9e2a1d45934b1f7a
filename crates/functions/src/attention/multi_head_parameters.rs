//! The parameters of `multi_head_attention`, of constants and of rows.

use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, plan_datafusion_err, plan_err};
use lakefold_attention::MultiHead;

use super::coercion::{check_number, check_whole};
use super::multi_head_mask::coerced_mask;
use super::sequences::Arguments;
use crate::float_lists::FloatType;

/// The name in SQL.
pub(crate) const NAME: &str = "multi_head_attention";

/// Names of the arguments, in order.
pub(crate) const PARAMETERS: [&str; 10] = [
    "query",
    "key",
    "value",
    "num_heads",
    "kv_num_heads",
    "is_causal",
    "scale",
    "softcap",
    ATTN_MASK,
    "query_offset",
];
const ATTN_MASK: &str = "attn_mask";
const FIRST: usize = 3;

/// The place of the mask.
pub(crate) const MASK: usize = 8;

/// The types of all arguments after query, key and value.
pub(crate) fn coerced_parameters(types: &[DataType], float: FloatType) -> Result<Vec<DataType>> {
    let parameters = PARAMETERS[FIRST..].iter().zip(types);
    let coerced = parameters.map(|(&name, found)| match name {
        // 1 and 0, as ONNX spells it, are told from other numbers when they are read.
        "is_causal" if found.is_integer() => Ok(DataType::Int64),
        "is_causal" if matches!(found, DataType::Boolean | DataType::Null) => Ok(DataType::Boolean),
        "is_causal" => plan_err!("{name} of {NAME} must be true or false, got {found}"),
        "scale" | "softcap" => check_number(NAME, name, found),
        ATTN_MASK => coerced_mask(NAME, found, float),
        _ => check_whole(NAME, name, found),
    });
    coerced.collect()
}

/// Everything but the mask; `None` is NULL or left out.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Settings {
    num_heads: Option<i64>,
    kv_num_heads: Option<i64>,
    /// 0 and 1 are false and true.
    is_causal: Option<i64>,
    scale: Option<f64>,
    softcap: Option<f64>,
    query_offset: Option<i64>,
}

impl Settings {
    fn of_row(arguments: &Arguments, row: usize) -> Self {
        let whole = |place| arguments.value::<Int64Type>(place, row);
        let number = |place| arguments.value::<Float64Type>(place, row);
        Self {
            num_heads: whole(FIRST),
            kv_num_heads: whole(FIRST + 1),
            is_causal: whole(FIRST + 2).or_else(|| arguments.flag(FIRST + 2, row).map(i64::from)),
            scale: number(FIRST + 3),
            softcap: number(FIRST + 4),
            query_offset: whole(FIRST + 6),
        }
    }

    fn of_constants(constants: &[Option<&ScalarValue>]) -> Result<Self> {
        let constant = |place: usize, data_type| match constants.get(place) {
            Some(Some(value)) => value.cast_to(&data_type),
            _ => Ok(ScalarValue::Null),
        };
        let whole = |place| {
            Ok::<_, datafusion::error::DataFusionError>(match constant(place, DataType::Int64)? {
                ScalarValue::Int64(number) => number,
                _ => None,
            })
        };
        let number = |place| {
            Ok::<_, datafusion::error::DataFusionError>(match constant(place, DataType::Float64)? {
                ScalarValue::Float64(number) => number,
                _ => None,
            })
        };
        Ok(Self {
            num_heads: whole(FIRST)?,
            kv_num_heads: whole(FIRST + 1)?,
            is_causal: whole(FIRST + 2)?,
            scale: number(FIRST + 3)?,
            softcap: number(FIRST + 4)?,
            query_offset: whole(FIRST + 6)?,
        })
    }

    /// What the kernel takes, or what is wrong with it.
    fn build(self) -> Result<MultiHead, String> {
        let Some(num_heads) = self.num_heads else {
            return Err(
                "num_heads is NULL and has no default: write the number of heads".to_owned(),
            );
        };
        let heads = |name, number: i64| {
            usize::try_from(number)
                .ok()
                .filter(|&number| number >= 1)
                .ok_or_else(|| format!("{name} must be a whole number of at least 1, got {number}"))
        };
        let text = |error: lakefold_attention::AttentionError| error.to_string();
        let mut kernel = MultiHead::new(heads("num_heads", num_heads)?).map_err(text)?;
        if let Some(kv_num_heads) = self.kv_num_heads {
            let kv_num_heads = heads("kv_num_heads", kv_num_heads)?;
            kernel = kernel.kv_num_heads(kv_num_heads).map_err(text)?;
        }
        if let Some(scale) = self.scale {
            kernel = kernel.scale(scale).map_err(text)?;
        }
        if let Some(softcap) = self.softcap {
            kernel = kernel.softcap(softcap).map_err(text)?;
        }
        let is_causal = self.is_causal.unwrap_or_default();
        if !(0..=1).contains(&is_causal) {
            return Err(format!(
                "is_causal must be true or false, or 1 or 0, got {is_causal}"
            ));
        }
        Ok(kernel
            .is_causal(is_causal == 1)
            .query_offset(self.query_offset.unwrap_or_default()))
    }
}

/// Heads of a row, for the widths that no vector tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) query: usize,
    pub(crate) key: usize,
}

/// The kernel of a row.
pub(crate) fn kernel_of_row(arguments: &Arguments, row: usize) -> Result<(MultiHead, Heads)> {
    let settings = Settings::of_row(arguments, row);
    let kernel = settings.build().map_err(|problem| {
        exec_datafusion_err!("{NAME}, row {row} of its batch (counted from 0): {problem}")
    })?;
    // Positive, or the kernel would not have been built.
    let query = settings.num_heads.map_or(1, |heads| heads as usize);
    let key = settings.kv_num_heads.map_or(query, |heads| heads as usize);
    Ok((kernel, Heads { query, key }))
}

/// Refuses constants that fit no row, before any row is read.
pub(crate) fn check_constants(constants: &[Option<&ScalarValue>]) -> Result<()> {
    let mut settings = Settings::of_constants(constants)?;
    if settings.num_heads.is_none() {
        // A column, which may be anything, or NULL, which rows that are NULL themselves may have.
        settings.num_heads = Some(1);
        settings.kv_num_heads = None;
    }
    match settings.build() {
        Ok(_) => Ok(()),
        Err(problem) => Err(plan_datafusion_err!("{NAME}: {problem}")),
    }
}
