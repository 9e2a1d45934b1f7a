//! Finds the functions in FROM among table factors.

use std::fmt;
use std::sync::Arc;

use datafusion::catalog::CatalogProviderList;
use datafusion::common::{Result, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{ObjectName, ObjectNamePart, TableFactor};
use futures::FutureExt;

use super::call::Call;
use super::{SIGNATURES, Signature};

/// Plans [`super::relation_functions`].
pub struct LakefoldRelations {
    catalogs: Catalogs,
}

impl LakefoldRelations {
    /// For a session with these catalogs, in which tables named as arguments are looked up.
    pub fn new(catalogs: Arc<dyn CatalogProviderList>) -> Self {
        Self {
            catalogs: Catalogs(catalogs),
        }
    }
}

impl fmt::Debug for LakefoldRelations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LakefoldRelations").finish_non_exhaustive()
    }
}

impl RelationPlanner for LakefoldRelations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let (signature, arguments, alias) = match relation {
            TableFactor::Table {
                ref name,
                args: Some(_),
                ..
            } => match signature(name) {
                None => return Ok(RelationPlanning::Original(Box::new(relation))),
                Some(signature) => {
                    let TableFactor::Table {
                        args: Some(arguments),
                        alias,
                        ..
                    } = relation
                    else {
                        unreachable!("matched just now");
                    };
                    (signature, arguments.args, alias)
                }
            },
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let call = Call::parse(signature, arguments, &self.catalogs, context)?;
        let plan = LogicalPlanBuilder::from((signature.plan)(&call)?)
            .alias(signature.name)?
            .build()?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(
            plan, alias,
        ))))
    }
}

fn signature(name: &ObjectName) -> Option<&'static Signature> {
    let [ObjectNamePart::Identifier(name)] = name.0.as_slice() else {
        return None;
    };
    let name = match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    };
    SIGNATURES.into_iter().find(|known| known.name == name)
}

/// Where tables are that were named as arguments: the planner resolves the names in FROM beforehand, but
/// not these.
pub(crate) struct Catalogs(Arc<dyn CatalogProviderList>);

impl Catalogs {
    pub(crate) fn plan(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<LogicalPlan> {
        let TableFactor::Table { name, .. } = &relation else {
            return context.plan(relation);
        };
        let reference = context.object_name_to_table_reference(name.clone())?;
        match context.plan(relation) {
            Ok(plan) => Ok(plan),
            Err(error) => self.find(&reference, context).unwrap_or(Err(error)),
        }
    }

    fn find(
        &self,
        reference: &TableReference,
        context: &dyn RelationPlannerContext,
    ) -> Option<Result<LogicalPlan>> {
        let options = context.context_provider().options();
        let catalog = &options.catalog;
        let resolved = reference
            .clone()
            .resolve(&catalog.default_catalog, &catalog.default_schema);
        let schema = self
            .0
            .catalog(&resolved.catalog)?
            .schema(&resolved.schema)?;
        // A catalog that has to ask somebody first is left to subqueries, whose tables are resolved
        // before planning.
        let table = schema.table(&resolved.table).now_or_never()?.ok()??;
        let scan = LogicalPlanBuilder::scan(reference.clone(), provider_as_source(table), None);
        Some(scan.and_then(LogicalPlanBuilder::build))
    }
}
