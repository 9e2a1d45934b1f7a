//! Memory taken from `DataFusion`'s pool, with errors that say what to do.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::DataFusionError;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use lakefold_manifold::{ReserveError, bytes};

use crate::float_lists::ListRows;

/// Memory of one part of a computation; given back when dropped.
#[derive(Debug)]
pub(crate) struct Budget {
    pool: Arc<dyn MemoryPool>,
    reservation: MemoryReservation,
}

impl Budget {
    pub(crate) fn new(pool: &Arc<dyn MemoryPool>, consumer: &str) -> Self {
        Self {
            pool: Arc::clone(pool),
            reservation: MemoryConsumer::new(consumer).register(pool),
        }
    }

    /// An empty budget of the same consumer.
    pub(crate) fn sibling(&self) -> Self {
        Self {
            pool: Arc::clone(&self.pool),
            reservation: self.reservation.new_empty(),
        }
    }

    /// # Errors
    /// When the pool refuses. `reserved` is then the whole pool's, because a neighbour's memory counts
    /// against the limit as much as ours.
    pub(crate) fn reserve(&self, purpose: &str, bytes: usize) -> Result<(), ReserveError> {
        self.reservation.try_grow(bytes).map_err(|_| ReserveError {
            purpose: purpose.to_owned(),
            requested: bytes,
            reserved: self.pool.reserved().max(self.reservation.size()),
            limit: match self.pool.memory_limit() {
                MemoryLimit::Finite(limit) => Some(limit),
                MemoryLimit::Infinite | MemoryLimit::Unknown => None,
            },
        })
    }

    /// Gives back at most what was reserved.
    pub(crate) fn release(&self, bytes: usize) {
        // Fails only if another thread released in between; the rest goes back on drop.
        let _ = self
            .reservation
            .try_shrink(bytes.min(self.reservation.size()));
    }
}

/// The purpose of [`Budget::reserve`] for the rows that a fit waits for.
pub(crate) const INPUT: &str = "one more batch of the input";

/// The error of a query whose fit does not fit. `subject` is what was to be computed.
pub(crate) fn resources_exhausted(subject: &str, error: &ReserveError) -> DataFusionError {
    let limit = match error.limit {
        Some(limit) => format!("the limit is {}", bytes(limit)),
        None => "the memory pool has less".to_owned(),
    };
    DataFusionError::ResourcesExhausted(format!(
        "{subject}: no memory for {}, which takes about {} on top of {} already held: it needs at least {} \
         in all, {limit}; try a higher memory limit, fewer rows (WHERE or a sample), or {}",
        error.purpose,
        bytes(error.requested),
        bytes(error.reserved),
        bytes(error.requested.saturating_add(error.reserved)),
        remedy(&error.purpose)
    ))
}

/// What else makes `purpose` take less, beside fewer rows.
fn remedy(purpose: &str) -> &'static str {
    if purpose == INPUT {
        "fewer columns in the query"
    } else if purpose.contains("features") || purpose.contains("feature matrix") {
        "features of fewer dimensions"
    } else if purpose.contains("embedding") {
        "fewer n_components"
    } else if purpose.contains("dense solver") {
        "'solver=exact'"
    } else {
        "fewer n_neighbors"
    }
}

/// Bytes that a batch's rows take.
pub(crate) fn batch_bytes(batch: &RecordBatch) -> usize {
    batch
        .columns()
        .iter()
        .map(|column| array_bytes(column.as_ref()))
        .sum()
}

/// Bytes that an array's rows take. Buffers shared with other slices are counted by the part used, so
/// that slices of one large array add up to it; Arrow's own `get_slice_memory_size` counts all elements
/// of a sliced list and none of a view's text.
pub fn array_bytes(array: &dyn Array) -> usize {
    const VIEW: usize = size_of::<u128>();
    match array.data_type() {
        DataType::Utf8View => {
            let views = array.as_string_view();
            views.total_buffer_bytes_used() + views.len() * VIEW
        }
        DataType::BinaryView => {
            let views = array.as_binary_view();
            views.total_buffer_bytes_used() + views.len() * VIEW
        }
        _ => match ListRows::try_new(array) {
            Ok(rows) => {
                let elements = rows.span(0..rows.len());
                let elements = rows.values().slice(elements.start, elements.len());
                array_bytes(elements.as_ref()) + rows.len() * size_of::<i64>()
            }
            Err(_) => array
                .to_data()
                .get_slice_memory_size()
                .unwrap_or_else(|_| array.get_array_memory_size()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{
        ArrayRef, FixedSizeListArray, ListArray, StringArray, StringViewArray,
    };
    use datafusion::arrow::datatypes::Int32Type;
    use datafusion::execution::memory_pool::{GreedyMemoryPool, UnboundedMemoryPool};

    #[test]
    fn a_refusal_tells_need_holding_and_limit() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 20));
        let held = Budget::new(&pool, "lle_embed");
        held.reserve("the input", 512 << 10).unwrap();
        let fit = held.sibling();
        let error = fit.reserve("factorisation", 1 << 20).unwrap_err();
        let message = resources_exhausted("lle_embed on 5 rows x 3", &error).to_string();
        assert_eq!(
            message,
            "Resources exhausted: lle_embed on 5 rows x 3: no memory for factorisation, which takes about \
             1.0 MiB on top of 512.0 KiB already held: it needs at least 1.5 MiB in all, the limit is 1.0 \
             MiB; try a higher memory limit, fewer rows (WHERE or a sample), or fewer n_neighbors"
        );
        fit.reserve("weights", 100).unwrap();
        fit.release(usize::MAX);
        drop(held);
        assert_eq!(pool.reserved(), 0);
    }

    #[test]
    fn the_remedy_fits_the_purpose() {
        for (purpose, expected) in [
            (INPUT, "fewer columns in the query"),
            (
                "a sorted copy of the features",
                "features of fewer dimensions",
            ),
            ("the feature matrix", "features of fewer dimensions"),
            ("the embedding", "fewer n_components"),
            ("the dense solver (9 × 9 numbers)", "'solver=exact'"),
            ("barycentre weights", "fewer n_neighbors"),
        ] {
            assert_eq!(remedy(purpose), expected, "{purpose}");
        }
    }

    #[test]
    fn no_limit_never_refuses() {
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        Budget::new(&pool, "lle_embed")
            .reserve("everything", usize::MAX / 2)
            .unwrap();
    }

    #[test]
    fn slices_of_an_array_add_up_to_it() {
        let numbers = |row: i32| Some(vec![Some(row); 10]);
        let arrays: [ArrayRef; 4] = [
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
                (0..100).map(numbers),
            )),
            Arc::new(FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
                (0..100).map(numbers),
                10,
            )),
            Arc::new(StringViewArray::from_iter_values(
                (0..100).map(|row| format!("a text longer than twelve bytes, {row:3}")),
            )),
            Arc::new(StringArray::from_iter_values(
                (0..100).map(|row| format!("{row:40}")),
            )),
        ];
        for array in arrays {
            let whole = array_bytes(&array);
            assert!(
                (4000..6000).contains(&whole),
                "{}: {whole}",
                array.data_type()
            );
            let parts = (0..100)
                .step_by(10)
                .map(|start| array_bytes(&array.slice(start, 10)));
            let parts: usize = parts.sum();
            assert!(
                parts.abs_diff(whole) < 100,
                "{}: {parts} {whole}",
                array.data_type()
            );
        }
    }
}
