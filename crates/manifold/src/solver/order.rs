//! Fill-reducing orders for the sparse factorisation.

use std::sync::Mutex;

use crate::matrix::Lower;
use crate::{ManifoldError, Result};

/// METIS draws from the C library's global generator: two fits at once would disturb each other's
/// sequence, and with it the last bits of their results.
static METIS: Mutex<()> = Mutex::new(());

/// The nested dissection order of METIS (Karypis and Kumar 1998): (forward, inverse) permutations.
pub(super) fn nested_dissection(matrix: &Lower) -> Result<(Vec<usize>, Vec<usize>)> {
    use metis_sys::{METIS_NodeND, METIS_SetDefaultOptions, idx_t};
    let failed = |detail: String| ManifoldError::LinearAlgebra {
        operation: "METIS nested dissection",
        detail,
    };
    let too_large = |_| failed("more entries than METIS's indices can count".to_owned());
    let (start, neighbors) = adjacency(matrix);
    let mut start: Vec<idx_t> = start
        .into_iter()
        .map(idx_t::try_from)
        .collect::<Result<_, _>>()
        .map_err(too_large)?;
    let mut neighbors = neighbors;
    let n = matrix.len();
    let mut count = idx_t::try_from(n).map_err(too_large)?;
    let mut options = [0; metis_sys::METIS_NOPTIONS as usize];
    let (mut order, mut inverse) = (vec![0; n], vec![0; n]);
    let guard = METIS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    // SAFETY: `start` has n + 1 ascending offsets into `neighbors`, whose entries are below n; `order` and
    // `inverse` have room for n; METIS keeps no pointer.
    let status = unsafe {
        METIS_SetDefaultOptions(options.as_mut_ptr());
        options[metis_sys::moptions_et_METIS_OPTION_SEED as usize] = 1;
        METIS_NodeND(
            &raw mut count,
            start.as_mut_ptr(),
            neighbors.as_mut_ptr(),
            std::ptr::null_mut(),
            options.as_mut_ptr(),
            order.as_mut_ptr(),
            inverse.as_mut_ptr(),
        )
    };
    drop(guard);
    if status != metis_sys::rstatus_et_METIS_OK {
        return Err(failed(format!("status {status}")));
    }
    let index = |v: Vec<idx_t>| v.into_iter().map(|i| i as usize).collect();
    Ok((index(order), index(inverse)))
}

/// The graph of the matrix without its diagonal, both triangles.
fn adjacency(matrix: &Lower) -> (Vec<usize>, Vec<metis_sys::idx_t>) {
    let n = matrix.len();
    let entries = |column: usize| {
        let range = matrix.column_start[column]..matrix.column_start[column + 1];
        matrix.rows[range]
            .iter()
            .copied()
            .filter(move |&row| row != column)
    };
    let mut start = vec![0; n + 1];
    for column in 0..n {
        for row in entries(column) {
            start[column + 1] += 1;
            start[row + 1] += 1;
        }
    }
    for i in 0..n {
        start[i + 1] += start[i];
    }
    let mut next = start.clone();
    let mut neighbors = vec![0; start[n]];
    for column in 0..n {
        for row in entries(column) {
            neighbors[next[column]] = row as metis_sys::idx_t;
            neighbors[next[row]] = column as metis_sys::idx_t;
            next[column] += 1;
            next[row] += 1;
        }
    }
    (start, neighbors)
}
