//! Which rows of a vector column a model can take.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::compute::{cast, nullif};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use datafusion::common::{exec_datafusion_err, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

const NAME: &str = "valid_vector";

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Invalid {
    Dimensions(usize),
    Null(usize),
    NotFinite(usize, f64),
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Invalid::Dimensions(found) => write!(f, "has {found} dimensions"),
            Invalid::Null(at) => write!(f, "has NULL in dimension {at}"),
            Invalid::NotFinite(at, value) => write!(f, "has {value} in dimension {at}"),
        }
    }
}

/// The first thing wrong with each row; `None` for good rows and for NULL.
///
/// # Errors
/// For what is no column of lists of numbers.
pub(crate) fn invalid_rows(lists: &ArrayRef, dimensions: usize) -> Result<Vec<Option<Invalid>>> {
    let (values, ranges) = rows(lists)?;
    let double;
    let finite: Box<dyn Fn(usize) -> (bool, f64)> = match values.data_type() {
        DataType::Float32 => {
            let numbers = values.as_primitive::<Float32Type>().values();
            Box::new(|at| (numbers[at].is_finite(), f64::from(numbers[at])))
        }
        DataType::Float64 => {
            let numbers = values.as_primitive::<Float64Type>().values();
            Box::new(|at| (numbers[at].is_finite(), numbers[at]))
        }
        _ => {
            double = cast(&values, &DataType::Float64)?;
            let numbers = double.as_primitive::<Float64Type>().values();
            Box::new(|at| (numbers[at].is_finite(), numbers[at]))
        }
    };
    let check = |row: usize| {
        let range = ranges[row].clone();
        if lists.is_null(row) {
            return None;
        }
        if range.len() != dimensions {
            return Some(Invalid::Dimensions(range.len()));
        }
        let start = range.start;
        range.into_iter().find_map(|at| {
            if values.is_null(at) {
                return Some(Invalid::Null(at - start));
            }
            match finite(at) {
                (true, _) => None,
                (false, value) => Some(Invalid::NotFinite(at - start, value)),
            }
        })
    };
    Ok((0..lists.len()).map(check).collect())
}

/// The elements, and the place of each row's in them.
fn rows(lists: &ArrayRef) -> Result<(ArrayRef, Vec<std::ops::Range<usize>>)> {
    let wrong = || exec_datafusion_err!("a vector is a list of numbers, not {}", lists.data_type());
    Ok(match lists.data_type() {
        DataType::List(_) => {
            let list = lists.as_list::<i32>();
            let offsets = list.value_offsets().windows(2);
            let ranges = offsets.map(|pair| pair[0] as usize..pair[1] as usize);
            (Arc::clone(list.values()), ranges.collect())
        }
        DataType::LargeList(_) => {
            let list = lists.as_list::<i64>();
            let offsets = list.value_offsets().windows(2);
            let ranges = offsets.map(|pair| pair[0] as usize..pair[1] as usize);
            (Arc::clone(list.values()), ranges.collect())
        }
        DataType::FixedSizeList(_, size) => {
            let size = *size as usize;
            let list = lists.as_fixed_size_list();
            let ranges = (0..list.len()).map(|row| {
                let start = list.value_offset(row) as usize;
                start..start + size
            });
            (Arc::clone(list.values()), ranges.collect())
        }
        _ => return Err(wrong()),
    })
}

/// A function that makes NULL of invalid vectors and counts them.
#[derive(Debug)]
pub(crate) struct ValidVector {
    name: String,
    signature: Signature,
    dimensions: usize,
    /// `None` where rows are looked at a second time.
    invalid: Option<Arc<AtomicUsize>>,
}

impl ValidVector {
    pub(crate) fn new(dimensions: usize, invalid: Option<Arc<AtomicUsize>>) -> Self {
        Self {
            name: NAME.to_owned(),
            signature: Signature::any(1, Volatility::Immutable),
            dimensions,
            invalid,
        }
    }

    /// For a session that has it under a name of its own.
    pub(crate) fn named(self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self
        }
    }
}

// Equal calls may be merged into one, which counts once.
impl PartialEq for ValidVector {
    fn eq(&self, other: &Self) -> bool {
        let same_counter = match (&self.invalid, &other.invalid) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        self.name == other.name && self.dimensions == other.dimensions && same_counter
    }
}

impl Eq for ValidVector {}

impl Hash for ValidVector {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.dimensions.hash(state);
    }
}

impl ScalarUDFImpl for ValidVector {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(arg_types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let field = &args.arg_fields[0];
        Ok(Arc::new(Field::new(
            field.name(),
            field.data_type().clone(),
            true,
        )))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [vectors] = args.args.as_slice() else {
            return internal_err!("{NAME} takes one argument");
        };
        let lists = vectors.to_array(args.number_rows)?;
        let invalid = invalid_rows(&lists, self.dimensions)?;
        let invalid: BooleanArray = invalid.iter().map(|row| Some(row.is_some())).collect();
        let count = invalid.true_count();
        if count == 0 {
            return Ok(ColumnarValue::Array(lists));
        }
        if let Some(counter) = &self.invalid {
            counter.fetch_add(count, Ordering::Relaxed);
        }
        Ok(ColumnarValue::Array(nullif(&lists, &invalid)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{FixedSizeListArray, ListArray};
    use datafusion::arrow::datatypes::Int64Type;

    #[test]
    fn each_kind_of_bad_row_is_told_apart() {
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>([
            Some(vec![Some(9.0)]),
            Some(vec![Some(1.0), Some(2.0)]),
            None,
            Some(vec![Some(1.0), None]),
            Some(vec![Some(f32::INFINITY), Some(2.0)]),
            Some(vec![]),
        ]));
        let found = invalid_rows(&lists.slice(1, 5), 2).unwrap();
        assert_eq!(
            found,
            [
                None,
                None,
                Some(Invalid::Null(1)),
                Some(Invalid::NotFinite(0, f64::INFINITY)),
                Some(Invalid::Dimensions(0)),
            ]
        );
    }

    #[test]
    fn slices_of_fixed_lists_and_whole_numbers() {
        let rows = (0..4).map(|row| (row != 2).then(|| vec![Some(row), Some(row)]));
        let fixed: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Int64Type, _, _>(
            rows, 2,
        ));
        assert_eq!(
            invalid_rows(&fixed.slice(1, 3), 2).unwrap(),
            [None, None, None]
        );
        let numbers: ArrayRef = Arc::new(datafusion::arrow::array::Int64Array::from(vec![1]));
        assert!(invalid_rows(&numbers, 1).is_err());
    }
}
