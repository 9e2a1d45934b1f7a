//! What the tests of this crate share.

use lakefold::{Session, SessionBuilder};

/// A session of two threads and 1 GiB.
pub(crate) fn session() -> Session {
    SessionBuilder::new()
        .threads(2)
        .memory_limit(1 << 30)
        .build()
        .unwrap()
}
