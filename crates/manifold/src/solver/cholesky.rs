//! Left-looking supernodal Cholesky factorisation, on the structure that faer's symbolic analysis finds
//! and with faer's dense kernels.
//!
//! faer has this loop too, as one call. Minutes long for tens of thousands of rows of real vectors, it has
//! to report progress, stop when asked and use all cores, so it is written out here. Wide supernodes are
//! cut into panels; a panel is updated by all panels before it that reach into its columns, strip by
//! strip, each strip by one thread: the result does not depend on the number of threads.

use faer::dyn_stack::{MemBuffer, MemStack, StackReq};
use faer::linalg::cholesky::llt::factor::{
    LltRegularization, cholesky_in_place, cholesky_in_place_scratch,
};
use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::sparse::linalg::cholesky::supernodal::SymbolicSupernodalCholesky;
use faer::{Accum, MatMut, MatRef, Par, Spec};
use rayon::prelude::*;

use crate::Result;
use crate::control::Meter;
use crate::matrix::Lower;

/// Widest panel, in columns.
const PANEL: usize = 512;
/// Columns of a panel that one thread updates.
const STRIP: usize = 64;
/// Rows below a panel that one thread solves for.
const ROWS: usize = 512;

/// Adjacent columns that are factored together.
struct Panel {
    supernode: usize,
    /// First and last-but-one column, counted within the supernode.
    start: usize,
    end: usize,
}

/// The layout of the factor: supernodes one after the other, each column-major with all of its rows.
struct Layout {
    panels: Vec<Panel>,
    /// The rows of each supernode: its own columns, then those below.
    rows: Vec<Vec<usize>>,
    /// Where the values of each supernode begin.
    offset: Vec<usize>,
    panel_of_column: Vec<u32>,
}

impl Layout {
    fn new(symbolic: &SymbolicSupernodalCholesky<usize>) -> Self {
        let mut layout = Self {
            panels: Vec::new(),
            rows: Vec::with_capacity(symbolic.n_supernodes()),
            offset: symbolic.col_ptr_for_val().to_vec(),
            panel_of_column: Vec::with_capacity(symbolic.nrows()),
        };
        for supernode in 0..symbolic.n_supernodes() {
            let (begin, finish) = (
                symbolic.supernode_begin()[supernode],
                symbolic.supernode_end()[supernode],
            );
            for start in (0..finish - begin).step_by(PANEL) {
                let end = (start + PANEL).min(finish - begin);
                let number = layout.panels.len() as u32;
                layout
                    .panel_of_column
                    .extend(std::iter::repeat_n(number, end - start));
                layout.panels.push(Panel {
                    supernode,
                    start,
                    end,
                });
            }
            let mut rows: Vec<usize> = (begin..finish).collect();
            rows.extend_from_slice(symbolic.supernode(supernode).pattern());
            layout.rows.push(rows);
        }
        layout
    }

    fn height(&self, panel: &Panel) -> usize {
        self.rows[panel.supernode].len()
    }

    /// The values of the panel's columns.
    fn values(&self, panel: &Panel) -> std::ops::Range<usize> {
        let (offset, height) = (self.offset[panel.supernode], self.height(panel));
        offset + panel.start * height..offset + panel.end * height
    }

    /// The operations of the panel itself and of what it does to later ones.
    fn flops(&self, panel: &Panel) -> f64 {
        let columns = panel.start..panel.end;
        columns
            .map(|c| ((self.height(panel) - c) as f64).powi(2))
            .sum()
    }
}

/// The part of an earlier panel that reaches into the columns of the current one.
struct Update {
    panel: usize,
    /// The first of its supernode's rows that lies in the current panel, and the first behind it.
    first: usize,
    behind: usize,
}

/// `Ok(false)` if the matrix is not positive definite.
///
/// `matrix` has `shift` added to its diagonal, its rows and columns move to `place`, and `values` becomes
/// the factor in the layout of `symbolic`.
pub(super) fn factorize(
    symbolic: &SymbolicSupernodalCholesky<usize>,
    matrix: &Lower,
    shift: f64,
    place: &[usize],
    values: &mut [f64],
    meter: &Meter<'_>,
) -> Result<bool> {
    let layout = Layout::new(symbolic);
    scatter(&layout, matrix, shift, place, values);
    // For each panel the earlier ones that update it next, as (panel, first row of its supernode).
    let mut waiting: Vec<Vec<(usize, usize)>> = Vec::new();
    waiting.resize_with(layout.panels.len(), Vec::new);
    let mut local = vec![0; matrix.len()];
    let mut buffer = MemBuffer::new(scratch());
    for (number, panel) in layout.panels.iter().enumerate() {
        meter.check()?;
        let rows = &layout.rows[panel.supernode];
        for (i, &row) in rows.iter().enumerate().skip(panel.start) {
            local[row] = i;
        }
        let last_column = rows[panel.end - 1];
        let updates: Vec<Update> = std::mem::take(&mut waiting[number])
            .into_iter()
            .map(|(earlier, first)| {
                let rows = &layout.rows[layout.panels[earlier].supernode];
                let behind = first + rows[first..].partition_point(|&row| row <= last_column);
                Update {
                    panel: earlier,
                    first,
                    behind,
                }
            })
            .collect();
        let (factored, own) = values.split_at_mut(layout.values(panel).start);
        let own = &mut own[..layout.values(panel).len()];
        let height = rows.len();
        own.par_chunks_mut(STRIP * height)
            .enumerate()
            .for_each_init(Vec::new, |product, (strip, own)| {
                let start = panel.start + strip * STRIP;
                let columns = rows[start]..=rows[start + own.len() / height - 1];
                for update in &updates {
                    apply(
                        &layout,
                        update,
                        factored,
                        columns.clone(),
                        &local,
                        height,
                        own,
                        product,
                    );
                }
            });
        if !eliminate(own, height, panel, &mut buffer) {
            return Ok(false);
        }
        for (earlier, first) in updates
            .iter()
            .map(|update| (update.panel, update.behind))
            .chain([(number, panel.end)])
        {
            let rows = &layout.rows[layout.panels[earlier].supernode];
            if let Some(&row) = rows.get(first) {
                waiting[layout.panel_of_column[row] as usize].push((earlier, first));
            }
        }
        meter.add(layout.flops(panel) as u64);
    }
    Ok(true)
}

/// Writes the permuted matrix into the zeroed layout of the factor.
fn scatter(layout: &Layout, matrix: &Lower, shift: f64, place: &[usize], values: &mut [f64]) {
    values.fill(0.0);
    for old_column in 0..matrix.len() {
        let entries = matrix.column_start[old_column]..matrix.column_start[old_column + 1];
        for entry in entries {
            let (a, b) = (place[old_column], place[matrix.rows[entry]]);
            let (column, row) = (a.min(b), a.max(b));
            let panel = &layout.panels[layout.panel_of_column[column] as usize];
            let rows = &layout.rows[panel.supernode];
            let within = column - rows[0];
            let below = rows[within..].partition_point(|&r| r < row);
            let on_diagonal = if a == b { shift } else { 0.0 };
            values[layout.offset[panel.supernode] + within * rows.len() + within + below] +=
                matrix.values[entry] + on_diagonal;
        }
    }
}

/// own −= (rows of the earlier panel) · (those of its rows that are our columns)ᵀ.
#[expect(
    clippy::too_many_arguments,
    reason = "the inner loop of the factorisation"
)]
fn apply(
    layout: &Layout,
    update: &Update,
    factored: &[f64],
    columns: std::ops::RangeInclusive<usize>,
    local: &[usize],
    height: usize,
    own: &mut [f64],
    product: &mut Vec<f64>,
) {
    let panel = &layout.panels[update.panel];
    let rows = &layout.rows[panel.supernode];
    let reach = &rows[update.first..update.behind];
    let first = update.first + reach.partition_point(|row| row < columns.start());
    let behind = update.first + reach.partition_point(|row| row <= columns.end());
    if first == behind {
        return;
    }
    let values = MatRef::from_column_major_slice(
        &factored[layout.values(panel)],
        rows.len(),
        panel.end - panel.start,
    );
    let (below, across) = (
        values.subrows(first, rows.len() - first),
        values.subrows(first, behind - first),
    );
    product.clear();
    product.resize(below.nrows() * across.nrows(), 0.0);
    let out = MatMut::from_column_major_slice_mut(product, below.nrows(), across.nrows());
    matmul(
        out,
        Accum::Replace,
        below,
        across.transpose(),
        1.0,
        Par::Seq,
    );
    for (j, product) in product.chunks(below.nrows()).enumerate() {
        let column = &mut own[(rows[first + j] - columns.start()) * height..][..height];
        // Rows above the diagonal belong to nobody.
        for (&row, value) in rows[first + j..].iter().zip(&product[j..]) {
            column[local[row]] -= value;
        }
    }
}

fn scratch() -> StackReq {
    cholesky_in_place_scratch::<f64>(PANEL, Par::Seq, Spec::default())
}

/// Factors the panel's triangle and solves for the rows below it. False if a pivot is not positive.
fn eliminate(own: &mut [f64], height: usize, panel: &Panel, buffer: &mut MemBuffer) -> bool {
    let width = panel.end - panel.start;
    let own = MatMut::from_column_major_slice_mut(own, height, width);
    let (mut triangle, below) = own
        .subrows_mut(panel.start, height - panel.start)
        .split_at_row_mut(width);
    let factored = cholesky_in_place(
        triangle.as_mut(),
        LltRegularization::default(),
        Par::Seq,
        MemStack::new(buffer),
        Spec::default(),
    );
    if factored.is_err() {
        return false;
    }
    let triangle = triangle.as_ref();
    below.par_row_chunks_mut(ROWS).for_each(|below| {
        solve_lower_triangular_in_place(triangle, below.transpose_mut(), Par::Seq);
    });
    true
}
