//! Masks of sequences: lists of keys, of queries and keys, or of heads, queries and keys.

use std::ops::Range;

use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{ArrowNativeType, DataType};
use datafusion::common::{Result, exec_datafusion_err, exec_err, plan_err};
use lakefold_attention::{HeadMask, Real};
use ndarray::{Array3, ArrayView3, Axis, CowArray, Ix3};

use super::coercion::{element, nested};
use super::sequences::{Argument, place};
use crate::float_lists::{FloatType, ListRows};

const NAME: &str = "attn_mask";

/// The type that a mask is coerced to: truth values stay, numbers become the sequences' float type.
pub(crate) fn coerced_mask(function: &str, mask: &DataType, float: FloatType) -> Result<DataType> {
    let depth = depth(mask);
    let mut leaf = mask;
    while let Some(field) = element(leaf) {
        leaf = field.data_type();
    }
    match leaf {
        // Nothing in it says how deep it is: `NULL`, `[]` and `[[]]`.
        DataType::Null if depth <= 3 => Ok(nested(mask, depth.max(2), DataType::Boolean)),
        DataType::Boolean if (1..=3).contains(&depth) => Ok(nested(mask, depth, DataType::Boolean)),
        other if other.is_numeric() && (1..=3).contains(&depth) => {
            Ok(nested(mask, depth, float.data_type()))
        }
        _ => plan_err!(
            "{NAME} of {function} must be lists of truth values or numbers, L × S or num_heads × L × S (L \
             positions of query, S of key), or one list of S for every query, got {mask}"
        ),
    }
}

/// How deep a mask's lists are.
fn depth(mask: &DataType) -> usize {
    std::iter::successors(element(mask), |field| element(field.data_type())).count()
}

/// The mask of one row: heads × queries × keys, 1 for all heads or all queries, as the kernel takes it.
#[derive(Debug)]
pub(crate) enum RowMask<'a, T> {
    None,
    Additive(CowArray<'a, T, Ix3>),
    Boolean(Array3<bool>),
}

impl<'a, T: Real + ArrowNativeType> RowMask<'a, T> {
    /// Reads the mask of `row`, whose sizes are still to be compared with those of the sequences. `queries` and
    /// `keys` are how many there are, for a mask that has no list to tell.
    pub(crate) fn read<A: ArrowPrimitiveType<Native = T>>(
        function: &str,
        argument: Option<&'a Argument>,
        row: usize,
        (queries, keys): (usize, usize),
    ) -> Result<Self> {
        let Some(argument) = argument else {
            return Ok(Self::None);
        };
        let outer = ListRows::try_new(&argument.array)?;
        let Some(mut range) = outer.range(argument.row(row)) else {
            return Ok(Self::None);
        };
        let here = || place(function, NAME, row);
        let first = 4 - depth(argument.array.data_type()).clamp(1, 3);
        let mut shape = [1, 1, keys];
        let mut numbers = outer.values();
        shape[first - 1] = range.len();
        for (axis, of, unknown) in [(1, "heads", queries), (2, "queries", keys)] {
            if axis >= first {
                let lists = ListRows::try_new(numbers)?;
                shape[axis] = uniform_length(&lists, range.clone(), of, &here)?.unwrap_or(unknown);
                range = lists.span(range);
                numbers = lists.values();
            }
        }
        check_no_null(numbers, range.clone(), (shape[1], shape[2]), &here)?;
        let changed = |error| exec_datafusion_err!("{}: {error}", here());
        if let Some(flags) = numbers.as_boolean_opt() {
            let flags = flags.slice(range.start, range.len());
            let flags = Array3::from_shape_vec(shape, flags.values().iter().collect());
            return Ok(Self::Boolean(flags.map_err(changed)?));
        }
        let values = &numbers.as_primitive::<A>().values()[range];
        let added = ArrayView3::from_shape(shape, values).map_err(changed)?;
        Ok(Self::Additive(added.into()))
    }

    /// Takes queries and keys out that are NULL, and leaves the places of all others alone.
    pub(crate) fn without(
        self,
        queries: Option<&NullBuffer>,
        keys: Option<&NullBuffer>,
        n_keys: usize,
    ) -> Self {
        if queries.is_none() && keys.is_none() {
            return self;
        }
        match self {
            Self::None => {
                let all = Array3::from_elem((1, 1, n_keys), true);
                Self::Boolean(taken_out(all.into(), [queries, keys], false))
            }
            Self::Boolean(mask) => Self::Boolean(taken_out(mask.into(), [queries, keys], false)),
            Self::Additive(mask) => {
                Self::Additive(taken_out(mask, [queries, keys], T::NEG_INFINITY).into())
            }
        }
    }

    /// As the kernel takes it.
    pub(crate) fn view(&self) -> HeadMask<'_, T> {
        match self {
            Self::None => HeadMask::None,
            Self::Additive(mask) => HeadMask::Additive(mask.view()),
            Self::Boolean(mask) => HeadMask::Boolean(mask.view()),
        }
    }
}

/// Fills the rows of NULL queries and the columns of NULL keys.
fn taken_out<V: Copy>(
    mask: CowArray<'_, V, Ix3>,
    nulls: [Option<&NullBuffer>; 2],
    out: V,
) -> Array3<V> {
    let (heads, rows, keys) = mask.dim();
    // A row that stands for all queries does so until one of them is NULL.
    let spread = nulls[0]
        .filter(|_| rows == 1)
        .and_then(|queries| mask.broadcast((heads, queries.len(), keys)))
        .map(|mask| mask.to_owned());
    let mut mask = spread.unwrap_or_else(|| mask.into_owned());
    for (axis, nulls) in nulls.into_iter().enumerate() {
        let axis = Axis(axis + 1);
        let places = nulls.into_iter().flat_map(|nulls| nulls.iter().enumerate());
        // A mask may have fewer keys; where it has fewer queries, the kernel refuses it.
        for (place, _) in places.take(mask.len_of(axis)).filter(|(_, valid)| !valid) {
            mask.index_axis_mut(axis, place).fill(out);
        }
    }
    mask
}

/// The one length of some lists, none of which may be NULL; `None` where there is no list.
fn uniform_length(
    lists: &ListRows<'_>,
    range: Range<usize>,
    of: &str,
    here: &dyn Fn() -> String,
) -> Result<Option<usize>> {
    let mut length = None;
    for (number, row) in range.enumerate() {
        let Some(own) = lists.range(row) else {
            return exec_err!(
                "{}: list {number} of its {of} is NULL: write a list of truth values or numbers",
                here()
            );
        };
        let length = *length.get_or_insert(own.len());
        if own.len() != length {
            return exec_err!(
                "{}: list {number} of its {of} has {} elements, those before it have {length}: a mask's lists \
                 need one length",
                here(),
                own.len()
            );
        }
    }
    Ok(length)
}

fn check_no_null(
    numbers: &ArrayRef,
    range: Range<usize>,
    (queries, keys): (usize, usize),
    here: &dyn Fn() -> String,
) -> Result<()> {
    let Some(nulls) = numbers.nulls() else {
        return Ok(());
    };
    let nulls = nulls.slice(range.start, range.len());
    let Some(place) = nulls.iter().position(|valid| !valid) else {
        return Ok(());
    };
    let (list, key) = (place / keys, place % keys);
    exec_err!(
        "{}: the element for query {} and key {key} of mask {} (all counted from 0) is NULL: write true or \
         false, or the number to add",
        here(),
        list % queries,
        list / queries
    )
}
