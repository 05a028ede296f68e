//! One deadline per connection, in order.
//!
//! Deadlines are lazy: activity does not move them. When one fires, the connection looks at what has happened since and asks for the next.

use std::collections::BTreeSet;

use crate::identity::ConnectionId;

/// Deadlines in microseconds of monotonic time. The connection keeps its own, so that it can be moved.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    order: BTreeSet<(u64, ConnectionId)>,
}

impl Timers {
    /// The earliest.
    pub(crate) fn first(&self) -> Option<u64> {
        self.order.first().map(|(deadline, _)| *deadline)
    }

    /// Moves a connection's deadline from `old` (0: it had none) to `new` (0: none).
    pub(crate) fn set(&mut self, id: ConnectionId, old: u64, new: u64) {
        if old != 0 {
            self.order.remove(&(old, id));
        }
        if new != 0 {
            self.order.insert((new, id));
        }
    }

    /// Takes one whose deadline has passed.
    pub(crate) fn pop(&mut self, now: u64) -> Option<ConnectionId> {
        let first = self.order.first().copied().filter(|(deadline, _)| *deadline <= now)?;
        self.order.remove(&first);
        Some(first.1)
    }
}
