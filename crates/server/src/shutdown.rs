//! Stopping: one token handed down, then stop accepting → drain → commit → close.

use std::time::Duration;

use broker::CloseReason;
use tokio_util::sync::CancellationToken;

use crate::core_loop::CoreHandle;

/// Stopping takes no longer than this, whatever clients do.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What everything that stops waits for.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    stop: CancellationToken,
    lame_duck: CancellationToken,
}

impl Shutdown {
    /// Nothing stops yet.
    #[must_use]
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Listeners end with this: at the stop, and when a lame duck takes no more clients.
    #[must_use]
    pub fn accepting(&self) -> CancellationToken {
        self.lame_duck.clone()
    }

    /// Everything else ends with this.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Takes no more clients; those that are there are told to leave by the lame duck's own schedule.
    pub fn become_lame_duck(&self) {
        self.lame_duck.cancel();
    }

    /// Begins the stop.
    pub fn stop(&self) {
        self.lame_duck.cancel();
        self.stop.cancel();
    }

    /// Closes every connection after its last write, and returns when all are gone or patience ends.
    pub async fn close_connections(&self, core: &CoreHandle) {
        core.with(|core| core.close_all(CloseReason::ServerShutdown));
        if tokio::time::timeout(PATIENCE, core.drained()).await.is_err() {
            tracing::warn!("connections are left that did not end in time");
        }
    }
}
