//! The Unix socket in the store folder on which the running process answers its own commands (`edge-gateway status`).
//!
//! Mode 0600: who may read the store may ask. The same HTTP as monitoring, plus `GET /status`, which is not on the network: it tells addresses
//! and reasons that are nobody else's business.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::http;
use crate::monitor::Monitor;

/// Name of the socket in the store folder.
pub const STATUS_SOCKET: &str = "edge-gateway.sock";
/// Connections at a time.
const MAX_CONNECTIONS: usize = 8;
/// For a request to arrive.
const PATIENCE: Duration = Duration::from_secs(5);

/// The bound socket; its file goes when this is dropped.
#[derive(Debug)]
pub struct StatusSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl StatusSocket {
    /// Binds it. One that a killed process left is replaced: the store's own lock has decided already that no other process runs on this folder.
    ///
    /// # Errors
    /// When the folder can't be written, or its path is too long for a socket (some 100 bytes).
    pub fn bind(store_dir: &Path) -> io::Result<StatusSocket> {
        let path = store_dir.join(STATUS_SOCKET);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(StatusSocket { listener, path })
    }

    /// Answers until the token is cancelled.
    pub async fn serve(self, monitor: Monitor, stop: CancellationToken) {
        let monitor = monitor.with_status_page();
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let monitor = monitor.clone();
            tokio::task::spawn_local(async move {
                http::serve(stream, monitor, PATIENCE).await;
                drop(place);
            });
        }
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
