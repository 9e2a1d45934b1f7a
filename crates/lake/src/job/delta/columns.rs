//! The table's columns.

use datafusion::arrow::datatypes::Field;
use datafusion::common::plan_datafusion_err;
use datafusion::common::plan_err;
use datafusion::error::Result;
use deltalake::kernel::StructType;
use deltalake::table::state::DeltaTableState;

use super::DeltaOutput;
use crate::delta::{column, differences};
use crate::job::expressions::Expressions;
use crate::job::plan::JobPlan;

impl JobPlan {
    /// The columns of the output as a log has them: those of the files, then those of the directories.
    ///
    /// # Errors
    /// For names and types that Delta Lake does not have.
    pub(crate) fn delta_columns(&self) -> Result<StructType> {
        let schema = self.expressions.as_ref().map(Expressions::schema);
        let partitions = &self.input.partitions;
        let fields = partitions.columns.iter().zip(&partitions.types);
        let fields = fields.map(|(name, data_type)| Field::new(name, data_type.clone(), true));
        let fields: Vec<Field> = schema
            .iter()
            .flat_map(|schema| schema.fields().iter().map(|field| field.as_ref().clone()))
            .chain(fields)
            .collect();
        for (index, field) in fields.iter().enumerate() {
            let name = field.name();
            let twice = fields[..index]
                .iter()
                .find(|other| other.name().eq_ignore_ascii_case(name));
            if let Some(twice) = twice {
                return plan_err!(
                    "columns '{}' and '{name}' are one to Delta Lake, which does not tell capital letters \
                     from small ones: rename one in --select",
                    twice.name()
                );
            }
        }
        let columns = fields.iter().map(column).collect::<Result<Vec<_>>>()?;
        StructType::try_new(columns).map_err(|error| {
            plan_datafusion_err!("the output cannot be a Delta Lake table: {error}")
        })
    }
}

impl DeltaOutput {
    /// # Errors
    /// When the table has other columns than the output.
    pub(super) fn check_columns(&self, table: &DeltaTableState, plan: &JobPlan) -> Result<()> {
        let mut found = differences(&table.schema(), &plan.delta_columns()?);
        let partitions = &plan.input.partitions.columns;
        let known = table.metadata().partition_columns();
        if known != partitions.as_slice() {
            found.push(format!(
                "partition columns are {known:?} in the table and {partitions:?} in the output"
            ));
        }
        if found.is_empty() {
            return Ok(());
        }
        plan_err!(
            "the Delta Lake table '{}' has other columns than the output ({}): choose another output, name \
             the columns in --select, or replace all of the table with --overwrite",
            self.place.text(),
            found.join("; ")
        )
    }
}
