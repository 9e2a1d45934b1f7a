//! Lists of a fixed size on their way through repartitions and sorts.
//!
//! Both copy rows. Arrow's `take` copies a `FixedSizeList` number by number, by an index that it makes for each; of a
//! `LargeList` it copies rows. Between the two only offsets have to be made, so fixed lists travel as lists.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, LargeListArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, internal_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

type Plan = Arc<dyn ExecutionPlan>;

/// `plan` with a list of any size for each `FixedSizeList` of numbers that none of `users` needs as it is: expressions
/// other than bare columns were planned for the types that they found.
///
/// Its offsets are wide, because nobody can refuse a batch here that holds more numbers than narrow ones count. Lists
/// of numbers that cannot be NULL stay, because theirs are where the list is.
pub(crate) fn as_lists(plan: Plan, users: &[Arc<dyn PhysicalExpr>]) -> Result<Plan> {
    let needed: HashSet<Column> = users.iter().flat_map(collect_columns).collect();
    let schema = plan.schema();
    let mut any = false;
    let fields = schema.fields().iter().enumerate();
    let columns = fields.map(|(place, field)| {
        let is_needed = needed.iter().any(|column| column.index() == place);
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), place));
        let column = match field.data_type() {
            DataType::FixedSizeList(number, _)
                if number.data_type().is_primitive() && number.is_nullable() && !is_needed =>
            {
                any = true;
                let list = DataType::LargeList(Arc::clone(number));
                Arc::new(CastExpr::new(column, list, None))
            }
            _ => column,
        };
        ProjectionExpr::new(column, field.name())
    });
    let columns: Vec<ProjectionExpr> = columns.collect();
    if !any {
        return Ok(plan);
    }
    Ok(Arc::new(ProjectionExec::try_new(columns, plan)?))
}

/// A column that has travelled, as `data_type` again; others as they are.
pub(crate) fn restored(column: ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if column.data_type() == data_type {
        return Ok(column);
    }
    let Some(list) = column.as_list_opt::<i64>() else {
        return internal_err!("expected {data_type}, got {}", column.data_type());
    };
    // Arrow's cast takes the numbers from the first one on, wherever the rows of a slice begin.
    let (field, offsets, numbers, nulls) = list.clone().into_parts();
    let (first, last) = (offsets[0], offsets[list.len()]);
    let numbers = numbers.slice(first as usize, (last - first) as usize);
    let offsets = OffsetBuffer::new(offsets.iter().map(|offset| offset - first).collect());
    let list = LargeListArray::try_new(field, offsets, numbers, nulls)?;
    Ok(compute::cast(&list, data_type)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::FixedSizeListArray;
    use datafusion::arrow::datatypes::Float32Type;

    #[test]
    fn slices_return_as_they_left() {
        let row = |first: f32| Some(vec![Some(first), None]);
        let rows = vec![row(1.0), None, row(2.0), row(3.0), None];
        let fixed = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows, 2);
        let DataType::FixedSizeList(number, _) = fixed.data_type() else {
            unreachable!();
        };
        let away = compute::cast(&fixed, &DataType::LargeList(Arc::clone(number))).unwrap();
        for (start, length) in [(0, 5), (2, 2), (1, 3), (2, 3), (4, 1), (3, 0)] {
            let back = restored(away.slice(start, length), fixed.data_type()).unwrap();
            let expected: ArrayRef = Arc::new(fixed.slice(start, length));
            assert_eq!(&back, &expected, "{start} {length}");
        }
        // Rows that were copied on the way have no room where they are NULL.
        let indices = datafusion::arrow::array::UInt32Array::from(vec![4, 3, 1, 0]);
        let moved = compute::take(&away, &indices, None).unwrap().slice(1, 3);
        let expected = compute::take(&fixed, &indices, None).unwrap().slice(1, 3);
        assert_eq!(&restored(moved, fixed.data_type()).unwrap(), &expected);
    }
}
