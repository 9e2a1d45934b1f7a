//! The plan of a function that adds a column to its input.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, plan_datafusion_err, plan_err};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

use super::call::{Call, written};
use crate::embeddings::element;
use crate::float_lists::FloatType;
use crate::lle_embed::float_type;

/// The column added, unless told otherwise.
const OUTPUT_COLUMN: &str = "embedding";

/// An input's columns and an embedding of `n_components` dimensions beside them.
#[derive(Debug)]
pub(super) struct AddedColumn {
    pub(super) n_components: usize,
    pub(super) float: FloatType,
    /// The features as written, and which column of the plan they are.
    pub(super) column: String,
    pub(super) place: usize,
    /// Of the features.
    pub(super) data_type: DataType,
    /// Of the result: the input's columns, of which the plan may have one more, and the embedding.
    pub(super) schema: SchemaRef,
}

impl AddedColumn {
    /// From the arguments `input`, `features`, `n_components` (2 when omitted) and `output_column`, with the
    /// plan of what is to be read.
    pub(super) fn plan(call: &Call, function: &str) -> Result<(Self, LogicalPlan)> {
        let input = call.table("input")?;
        let output = call.text("output_column")?;
        let output = output.unwrap_or_else(|| OUTPUT_COLUMN.to_owned());
        let fields = input.schema().fields();
        if fields.iter().any(|field| *field.name() == output) {
            return plan_err!(
                "the input of {function} has a column '{output}' already: name the new one, \
                 output_column => '{output}_{function}', or leave the old one out"
            );
        }
        let n_components = call.whole_number("n_components", 1)?.unwrap_or(2) as usize;
        let size = i32::try_from(n_components).map_err(|_| {
            plan_datafusion_err!("n_components of {function} must be at most {}", i32::MAX)
        })?;
        let features = call.column("features")?;
        let column = written(&features);
        let width = fields.len();
        // A column of the input is there already; anything else is computed beside it.
        let place = match &features {
            Expr::Column(column) => input.schema().maybe_index_of_column(column),
            _ => None,
        };
        let mut columns: Vec<Expr> = (input.schema().columns().into_iter())
            .map(Expr::Column)
            .collect();
        if place.is_none() {
            columns.push(features.alias(format!("{function} of {column}")));
        }
        let place = place.unwrap_or(width);
        let input = LogicalPlanBuilder::from(input).project(columns)?.build()?;
        let data_type = input.schema().field(place).data_type().clone();
        let float = float_type(&data_type, function)?;
        let embedding = Field::new(output, DataType::FixedSizeList(element(float), size), true);
        let fields = input.schema().fields().iter().take(width).cloned();
        let fields = fields.chain([Arc::new(embedding)]).collect::<Vec<_>>();
        let added = Self {
            n_components,
            float,
            column,
            place,
            data_type,
            schema: Arc::new(Schema::new(fields)),
        };
        Ok((added, input))
    }
}
