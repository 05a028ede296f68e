//! Free ports on loopback, below the range from which the system takes ports for outgoing connections.
//!
//! A server that is killed and started again must find its port free; one from the ephemeral range may meanwhile belong to
//! somebody's outgoing connection. So they are taken from 20000–31999, beginning at a place that depends on the process, and
//! no port is handed out twice by one process. Another process may still be faster: who starts a server retries.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};

const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;
/// Processes that run side by side begin this far apart.
const STRIDE: u32 = 397;

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// A port on 127.0.0.1 that nothing listens on.
///
/// # Errors
/// When a whole turn through the range found none.
pub fn free() -> Result<u16> {
    for _ in 0..COUNT {
        let step = TAKEN.fetch_add(1, Ordering::Relaxed);
        let offset = std::process::id().wrapping_mul(STRIDE).wrapping_add(step) % COUNT;
        let port = u16::try_from(FIRST + offset)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port on 127.0.0.1 between {FIRST} and {}", FIRST + COUNT - 1)
}
