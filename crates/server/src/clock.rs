//! The one place where time is read.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use broker::Now;

/// Monotonic time since the process began, and the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts at zero.
    #[must_use]
    #[allow(clippy::disallowed_methods)] // this is the source the lint points to
    pub fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// Both clocks.
    #[must_use]
    #[allow(clippy::disallowed_methods)] // this is the source the lint points to
    pub fn now(&self) -> Now {
        let micros = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { micros, wall_ns: i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX) }
    }

    /// The instant of a monotonic time, for timers.
    #[must_use]
    pub fn instant(&self, micros: u64) -> Instant {
        self.origin + std::time::Duration::from_micros(micros)
    }
}
