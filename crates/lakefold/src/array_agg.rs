//! `array_agg(… ORDER BY …)` with its memory counted once.
//!
//! DataFusion's accumulator keeps a slice of a whole state for each element that it merges, and counts every slice as
//! if it were alone: 5 MB of vectors that are gathered into sequences would reserve gigabytes, and fail (DataFusion
//! issue 16517). This is the same aggregate, whose accumulators say what they were given.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, GroupsAccumulator, ReversedUDAF,
    Signature,
};
use lakefold_functions::array_bytes;

/// DataFusion's `array_agg`, to be registered in its place.
pub(crate) fn array_agg() -> AggregateUDF {
    counted(array_agg_udaf().as_ref().clone())
}

fn counted(inner: AggregateUDF) -> AggregateUDF {
    AggregateUDF::from(CountedArrayAgg { inner })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CountedArrayAgg {
    inner: AggregateUDF,
}

impl AggregateUDFImpl for CountedArrayAgg {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }

    fn with_beneficial_ordering(
        self: Arc<Self>,
        beneficial_ordering: bool,
    ) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        let inner = self.inner.clone();
        let inner = inner.with_beneficial_ordering(beneficial_ordering)?;
        Ok(inner.map(|inner| Arc::new(Self { inner }) as _))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let is_miscounted = !args.order_bys.is_empty() && !args.is_distinct;
        let inner = self.inner.accumulator(args)?;
        Ok(if is_miscounted {
            Box::new(Counted { inner, bytes: 0 })
        } else {
            inner
        })
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match self.inner.reverse_udf() {
            ReversedUDAF::Reversed(inner) => {
                ReversedUDAF::Reversed(Arc::new(counted(inner.as_ref().clone())))
            }
            other => other,
        }
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.inner.supports_null_handling_clause()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// What an element costs beside its bytes: a scalar of its own, and for a list an array of one row.
const ELEMENT: usize = 512;

#[derive(Debug)]
struct Counted {
    inner: Box<dyn Accumulator>,
    bytes: usize,
}

impl Counted {
    fn count(&mut self, elements: usize, arrays: &[ArrayRef]) {
        let bytes: usize = arrays.iter().map(|array| array_bytes(array.as_ref())).sum();
        self.bytes += bytes + elements * arrays.len() * ELEMENT;
    }
}

impl Accumulator for Counted {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.count(values.first().map_or(0, Array::len), values);
        self.inner.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = states
            .first()
            .and_then(|states| states.as_list_opt::<i32>());
        let elements = lists.map_or(0, |lists| {
            let offsets = lists.value_offsets();
            let ends = offsets.first().zip(offsets.last());
            ends.map_or(0, |(first, last)| (last - first) as usize)
        });
        self.count(elements, states);
        self.inner.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.inner.evaluate()
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.bytes
    }
}
