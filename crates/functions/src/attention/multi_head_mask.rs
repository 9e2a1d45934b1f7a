//! Masks of sequences: lists of lists, or lists of lists of lists.

use std::ops::Range;

use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{ArrowNativeType, DataType};
use datafusion::common::{Result, exec_datafusion_err, exec_err, plan_datafusion_err};
use lakefold_attention::{HeadMask, Real};
use ndarray::{Array3, ArrayView3, Axis, CowArray, Ix3};

use super::coercion::{element, nested};
use super::sequences::{Argument, place};
use crate::float_lists::{FloatType, ListRows};

const NAME: &str = "attn_mask";

/// The type that a mask is coerced to: truth values stay, numbers become the sequences' float type.
pub(crate) fn coerced_mask(function: &str, mask: &DataType, float: FloatType) -> Result<DataType> {
    let wrong = || {
        plan_datafusion_err!(
            "{NAME} of {function} must be lists of truth values or numbers, L × S or num_heads × L × S \
             (L positions of query, S of key), got {mask}"
        )
    };
    let mut leaf = mask;
    let mut depth = 0;
    while let Some(field) = element(leaf) {
        leaf = field.data_type();
        depth += 1;
    }
    let number = match leaf {
        // Nothing in it says how deep it is: `NULL`, `[]` and `[[]]`.
        DataType::Null if depth <= 3 => return Ok(nested(mask, depth.max(2), DataType::Boolean)),
        DataType::Boolean => DataType::Boolean,
        other if other.is_numeric() => float.data_type(),
        _ => return Err(wrong()),
    };
    if !(2..=3).contains(&depth) {
        return Err(wrong());
    }
    Ok(nested(mask, depth, number))
}

/// Whether a mask's lists are three deep.
fn is_per_head(mask: &DataType) -> bool {
    let inner = element(mask).and_then(|field| element(field.data_type()));
    inner.is_some_and(|field| element(field.data_type()).is_some())
}

/// The mask of one row: heads (or 1 for all of them) × queries × keys.
#[derive(Debug)]
pub(crate) enum RowMask<'a, T> {
    None,
    Additive(CowArray<'a, T, Ix3>, bool),
    Boolean(Array3<bool>, bool),
}

impl<'a, T: Real + ArrowNativeType> RowMask<'a, T> {
    /// Reads the mask of `row`, which must be `queries` × `keys`, or that for each of some heads.
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
        let per_head = is_per_head(argument.array.data_type());
        let here = || place(function, NAME, row);
        let mut lists = outer.values();
        let heads = if per_head { range.len() } else { 1 };
        if per_head {
            range = level(lists, range, queries, "heads", &here)?;
            lists = ListRows::try_new(lists)?.values();
        } else if range.len() != queries {
            return exec_err!(
                "{}: it has {} lists, query has {queries} positions: a mask is L × S or num_heads × L × S \
                 (L positions of query, S of key)",
                here(),
                range.len()
            );
        }
        range = level(lists, range, keys, "queries", &here)?;
        let numbers = ListRows::try_new(lists)?.values();
        check_no_null(numbers, range.clone(), (queries, keys), &here)?;
        let shape = (heads, queries, keys);
        let changed = |error| exec_datafusion_err!("{}: {error}", here());
        if let Some(flags) = numbers.as_boolean_opt() {
            let flags = flags.slice(range.start, range.len());
            let flags = Array3::from_shape_vec(shape, flags.values().iter().collect());
            return Ok(Self::Boolean(flags.map_err(changed)?, per_head));
        }
        let values = &numbers.as_primitive::<A>().values()[range];
        let added = ArrayView3::from_shape(shape, values).map_err(changed)?;
        Ok(Self::Additive(added.into(), per_head))
    }

    /// Takes queries and keys out that are NULL, and leaves the places of all others alone.
    pub(crate) fn without(
        self,
        queries: Option<&NullBuffer>,
        keys: Option<&NullBuffer>,
        (n_queries, n_keys): (usize, usize),
    ) -> Self {
        if queries.is_none() && keys.is_none() {
            return self;
        }
        match self {
            Self::None => {
                let mut mask = Array3::from_elem((1, n_queries, n_keys), true);
                take_out(&mut mask, [queries, keys], false);
                Self::Boolean(mask, false)
            }
            Self::Boolean(mut mask, per_head) => {
                take_out(&mut mask, [queries, keys], false);
                Self::Boolean(mask, per_head)
            }
            Self::Additive(mask, per_head) => {
                let mut mask = mask.into_owned();
                take_out(&mut mask, [queries, keys], T::NEG_INFINITY);
                Self::Additive(mask.into(), per_head)
            }
        }
    }

    /// As the kernel takes it.
    pub(crate) fn view(&self) -> HeadMask<'_, T> {
        match self {
            Self::None => HeadMask::None,
            Self::Additive(mask, true) => HeadMask::AdditivePerHead(mask.view()),
            Self::Additive(mask, false) => HeadMask::Additive(mask.index_axis(Axis(0), 0)),
            Self::Boolean(mask, true) => HeadMask::BooleanPerHead(mask.view()),
            Self::Boolean(mask, false) => HeadMask::Boolean(mask.index_axis(Axis(0), 0)),
        }
    }
}

/// Fills the rows of NULL queries and the columns of NULL keys.
fn take_out<V: Copy>(mask: &mut Array3<V>, nulls: [Option<&NullBuffer>; 2], out: V) {
    for (axis, nulls) in nulls.into_iter().enumerate() {
        let places = nulls.into_iter().flat_map(|nulls| nulls.iter().enumerate());
        for (place, _) in places.filter(|(_, valid)| !valid) {
            mask.index_axis_mut(Axis(axis + 1), place).fill(out);
        }
    }
}

/// The elements of some lists, each of which must have `length` of them.
fn level(
    lists: &ArrayRef,
    range: Range<usize>,
    length: usize,
    of: &str,
    here: &dyn Fn() -> String,
) -> Result<Range<usize>> {
    let rows = ListRows::try_new(lists)?;
    let (side, sequence) = match of {
        "heads" => ("query", "L"),
        _ => ("key", "S"),
    };
    for (number, row) in range.clone().enumerate() {
        let Some(own) = rows.range(row) else {
            return exec_err!(
                "{}: list {number} of its {of} (counted from 0) is NULL: write a list of {length}",
                here()
            );
        };
        if own.len() != length {
            return exec_err!(
                "{}: list {number} of its {of} (counted from 0) has {} elements, {side} has {sequence} = \
                 {length} positions: a mask is L × S or num_heads × L × S",
                here(),
                own.len()
            );
        }
    }
    Ok(rows.span(range))
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
