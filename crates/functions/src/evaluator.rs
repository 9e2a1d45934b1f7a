//! `lle_embed` inside `DataFusion`'s own window operator, for plans made without our optimizer rule.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::PartitionEvaluator;
use lakefold_manifold::Lle;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::features::{Site, measure};
use crate::fit::{copy_features, fit_features};
use crate::float_lists::FloatType;

/// Fits a whole partition at once. No memory is reserved and nothing can cancel it: that is what
/// [`crate::LleExec`] is for.
#[derive(Debug)]
pub(crate) struct LleEvaluator {
    pub(crate) lle: Lle,
    pub(crate) float: FloatType,
    pub(crate) data_type: DataType,
    pub(crate) column: String,
}

impl PartitionEvaluator for LleEvaluator {
    fn evaluate_all(&mut self, values: &[ArrayRef], num_rows: usize) -> Result<ArrayRef> {
        let [features] = values else {
            return internal_err!("lle_embed expected one array, got {}", values.len());
        };
        // The operator does not tell the partition's key, so rows are named within it.
        let site = Site {
            column: self.column.clone(),
            ..Site::default()
        };
        let fit = || {
            let lists = std::slice::from_ref(features);
            let extent = measure(lists, &site)?;
            let features = copy_features(lists, extent, self.float, &site, &())?;
            fit_features(features, &self.lle, &self.data_type, &site, &())
        };
        off_the_async_threads(fit)?.next_rows(num_rows)
    }
}

/// Lets the other tasks of this thread move elsewhere, where the runtime has an elsewhere.
pub(crate) fn off_the_async_threads<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
