//! Clauses around a window function that mean nothing to one that sees whole partitions.

use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::expr::{NullTreatment, WindowFunction};
use datafusion::logical_expr::{WindowFrameBound, WindowFrameUnits};

/// Refuses frames, DISTINCT and IGNORE NULLS in a call of `name`.
pub(crate) fn check_clauses(call: &WindowFunction, name: &str) -> Result<()> {
    let frame = &call.params.window_frame;
    let whole = frame.start_bound.is_unbounded() && frame.end_bound.is_unbounded();
    // With ORDER BY and no frame, SQL's default runs to the current row; nobody asked for that.
    let default = frame.start_bound.is_unbounded()
        && frame.end_bound == WindowFrameBound::CurrentRow
        && frame.units != WindowFrameUnits::Groups
        && !call.params.order_by.is_empty();
    if !whole && !default {
        return plan_err!(
            "{name} fits whole partitions, it cannot follow the window frame {frame}: leave the frame out"
        );
    }
    if call.params.distinct {
        return plan_err!(
            "{name} takes no DISTINCT: equal rows are merged in the fit and get equal results anyway"
        );
    }
    if call.params.null_treatment == Some(NullTreatment::IgnoreNulls) {
        return plan_err!(
            "{name} takes no IGNORE NULLS: rows with NULL features never take part in the fit"
        );
    }
    Ok(())
}
