//! Window frames as ranges of rows.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::compute::SortOptions;
use datafusion::common::Result;
use datafusion::logical_expr::WindowFrame;
use datafusion::logical_expr::window_state::WindowFrameContext;

/// The frame of each row, as a range among all rows. Partitions are the ranges `partitions`, one after the
/// other; `order` has the columns of ORDER BY, in which the rows are sorted.
pub(crate) fn frames(
    frame: &Arc<WindowFrame>,
    order: &[ArrayRef],
    options: &[SortOptions],
    partitions: &[Range<usize>],
) -> Result<Vec<Range<usize>>> {
    let rows = partitions.last().map_or(0, |last| last.end);
    let mut frames = Vec::with_capacity(rows);
    let whole = frame.start_bound.is_unbounded() && frame.end_bound.is_unbounded();
    for partition in partitions {
        if whole {
            frames.extend(std::iter::repeat_n(partition.clone(), partition.len()));
            continue;
        }
        let order: Vec<ArrayRef> = order
            .iter()
            .map(|column| column.slice(partition.start, partition.len()))
            .collect();
        let mut context = WindowFrameContext::new(Arc::clone(frame), options.to_vec());
        let mut last = 0..0;
        for row in 0..partition.len() {
            last = context.calculate_range(&order, &last, partition.len(), row)?;
            frames.push(partition.start + last.start..partition.start + last.end);
        }
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::Int64Array;
    use datafusion::common::ScalarValue;
    use datafusion::logical_expr::{WindowFrameBound, WindowFrameUnits};

    fn all(
        units: WindowFrameUnits,
        start: WindowFrameBound,
        end: WindowFrameBound,
    ) -> Vec<Range<usize>> {
        let order: ArrayRef = Arc::new(Int64Array::from(vec![1, 1, 2, 5, 7, 7]));
        let frame = Arc::new(WindowFrame::new_bounds(units, start, end));
        frames(&frame, &[order], &[SortOptions::default()], &[0..4, 4..6]).unwrap()
    }

    #[test]
    fn rows_ranges_and_peers_stay_in_their_partition() {
        use WindowFrameBound::{CurrentRow, Following, Preceding};
        let unbounded = || Preceding(ScalarValue::UInt64(None));
        let one = || Preceding(ScalarValue::UInt64(Some(1)));
        let to_the_end = Following(ScalarValue::UInt64(None));
        assert_eq!(
            all(WindowFrameUnits::Rows, unbounded(), to_the_end),
            [0..4, 0..4, 0..4, 0..4, 4..6, 4..6]
        );
        assert_eq!(
            all(WindowFrameUnits::Rows, unbounded(), CurrentRow),
            [0..1, 0..2, 0..3, 0..4, 4..5, 4..6]
        );
        assert_eq!(
            all(WindowFrameUnits::Rows, one(), CurrentRow),
            [0..1, 0..2, 1..3, 2..4, 4..5, 4..6]
        );
        // Peers are in the frame.
        let range = Preceding(ScalarValue::Int64(None));
        assert_eq!(
            all(WindowFrameUnits::Range, range, CurrentRow),
            [0..2, 0..2, 0..3, 0..4, 4..6, 4..6]
        );
        let range = Preceding(ScalarValue::Int64(Some(1)));
        assert_eq!(
            all(WindowFrameUnits::Range, range, CurrentRow),
            [0..2, 0..2, 0..3, 3..4, 4..6, 4..6]
        );
    }
}
