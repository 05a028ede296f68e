//! Time, for measuring.

use std::time::Instant;

/// The current instant. The rest of the workspace takes time as an argument; a load generator measures it.
#[allow(clippy::disallowed_methods)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
