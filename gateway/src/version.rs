//! Which nats-server we are compatible with, and our own name and version.

/// What `--version`, INFO and `/varz` say: clients and tools gate features on it.
pub const COMPATIBLE: &str = "2.15.1";

/// Our own name.
pub const NAME: &str = "edge-gateway";

/// Our own version.
pub const OWN: &str = env!("CARGO_PKG_VERSION");
