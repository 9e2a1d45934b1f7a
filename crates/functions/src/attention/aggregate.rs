//! `attention(query, key, value [, scale [, similarity]])`, the aggregate.

use std::fmt::Debug;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType};
use datafusion::arrow::datatypes::{
    ArrowNativeType, DataType, Field, FieldRef, Float32Type, Float64Type,
};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{
    AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs,
};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, EmitTo, Expr, GroupsAccumulator, Signature,
    Volatility,
};
use datafusion_macros::user_doc;
use lakefold_attention::Real;

use super::arguments::{PARAMETERS, Scoring, coerce};
use super::constant_query;
use super::group_states::{TypedGroups, state_types};
use super::groups::AttentionGroups;
use super::vectors::Columns;
use crate::float_lists::FloatType;

/// The name in SQL.
pub(crate) const NAME: &str = "attention";

/// The aggregate function `attention`.
#[user_doc(
    doc_section(label = "Attention"),
    description = "The softmax-weighted mean of a group's values: each row's weight is exp(scale · similarity(query, key)), divided by the sum of these over the group (Vaswani et al. 2017, equation 1). A group has one query.

It is a true aggregate: its state is one maximum, one sum and one vector of the width of a value, whatever the number of rows (Milakov and Gimelshein 2018), so that groups of any size are computed in constant memory, in partial and final phases, and are spilled as every aggregate is. Sums are taken in `DOUBLE`; different partitions of the rows give the same result but for rounding.

Rows in which query, key or value is NULL are skipped; a group without any other row gives NULL. A score of minus infinity weighs nothing. NaN and a score of plus infinity are errors that name the row, as are queries that differ within a group: for a query in every row there is `self_attention`. An infinite value that has a weight is an error too, which names the row where groups are few.",
    syntax_example = "attention(query, key, value [, scale [, similarity]])",
    sql_example = r"The digits nearest in kind to the first one, blended:

```sql
SELECT label, array_length(attention(q.pixels, d.pixels, d.pixels, 0.01, 'l2')) AS width
FROM 'sample_data/digits.parquet' AS d, (SELECT pixels FROM 'sample_data/digits.parquet' WHERE id = 0) AS q
GROUP BY label
ORDER BY label
LIMIT 3
```",
    argument(
        name = "query",
        description = "A list of numbers, the same in every row of a group."
    ),
    argument(name = "key", description = "A list of as many numbers."),
    argument(
        name = "value",
        description = "A list of numbers, of any length that is the same in all rows. The result is the same kind of list. `Float16`, `Float32` and integers of 8 and 16 bits are returned as `Float32`, if all three arguments hold such numbers, everything else as `Float64`."
    ),
    argument(
        name = "scale",
        description = "A constant that similarities are multiplied with. NULL or left out: 1/√d for `dot` with d the numbers of a query, 1 for `cosine`, 1/(2√d) for `l2`."
    ),
    argument(
        name = "similarity",
        description = "`'dot'`: the product of query and key. `'cosine'`: the cosine of their angle, 0 where one is zero. `'l2'`: minus the squared distance. `dot` when NULL or left out."
    )
)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attention {
    signature: Signature,
}

impl Attention {
    /// The function, to be wrapped in an `AggregateUDF`.
    ///
    /// # Errors
    /// Never in practice: only if `DataFusion` rejects the parameter names.
    pub fn try_new() -> Result<Self> {
        let signature = Signature::user_defined(Volatility::Immutable)
            .with_parameter_names(PARAMETERS.to_vec())?;
        Ok(Self { signature })
    }

    fn groups<T: Real + ArrowNativeType>(args: &AccumulatorArgs) -> Result<AttentionGroups<T>> {
        if args.is_distinct {
            return plan_err!(
                "{NAME}(DISTINCT …) is not supported: take the distinct rows in a subquery"
            );
        }
        if args.exprs.len() < 3 {
            return plan_err!("{NAME} needs query, key and value");
        }
        let columns = Columns::of_call(args.exprs, args.name);
        let scoring = Scoring::of_arguments(NAME, args.exprs)?;
        Ok(AttentionGroups::new(
            columns,
            scoring,
            args.return_type().clone(),
        ))
    }
}

fn is_double(args: &AccumulatorArgs) -> bool {
    FloatType::of_list(args.return_type()) == Some(FloatType::Float64)
}

impl AggregateUDFImpl for Attention {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        coerce(NAME, arg_types)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let types = coerce(NAME, arg_types)?;
        Ok(types[2].clone())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let fields = state_types().map(|(name, data_type)| {
            Arc::new(Field::new(
                format_state_name(args.name, name),
                data_type,
                true,
            ))
        });
        Ok(fields.to_vec())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(if is_double(&args) {
            Box::new(OneGroup::<Float64Type>::new(Self::groups(&args)?))
        } else {
            Box::new(OneGroup::<Float32Type>::new(Self::groups(&args)?))
        })
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(if is_double(&args) {
            Box::new(TypedGroups::<Float64Type>(Self::groups(&args)?))
        } else {
            Box::new(TypedGroups::<Float32Type>(Self::groups(&args)?))
        })
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        Some(Box::new(|mut call, _| {
            if let Some(query) = call.params.args.first_mut() {
                constant_query::keep_once(query);
            }
            Ok(Expr::AggregateFunction(call))
        }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}

/// All rows as one group, where there is no GROUP BY.
#[derive(Debug)]
struct OneGroup<P: ArrowPrimitiveType> {
    groups: TypedGroups<P>,
    /// As many zeros as the largest batch had rows.
    indices: Vec<usize>,
}

impl<P: ArrowPrimitiveType<Native: Real>> OneGroup<P> {
    fn new(mut groups: AttentionGroups<P::Native>) -> Self {
        groups.make(1);
        Self {
            groups: TypedGroups(groups),
            indices: vec![],
        }
    }

    /// As many zeros as there are rows.
    fn zeros(&mut self, rows: &[ArrayRef]) -> usize {
        let rows = rows.first().map_or(0, Array::len);
        self.indices.resize(rows.max(self.indices.len()), 0);
        rows
    }
}

impl<P: ArrowPrimitiveType<Native: Real> + Debug> Accumulator for OneGroup<P> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = self.zeros(values);
        self.groups
            .update_batch(values, &self.indices[..rows], None, 1)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = self.zeros(states);
        self.groups.merge_batch(states, &self.indices[..rows], 1)
    }

    // Over a growing window frame, an aggregate is evaluated many times.
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let means = TypedGroups::<P>(self.groups.0.clone()).evaluate(EmitTo::All)?;
        ScalarValue::try_from_array(&means, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let states = TypedGroups::<P>(self.groups.0.clone()).state(EmitTo::All)?;
        let states = states.iter();
        states
            .map(|state| ScalarValue::try_from_array(state, 0))
            .collect()
    }

    fn size(&self) -> usize {
        self.groups.size() + self.indices.capacity() * size_of::<usize>()
    }
}
