//! What the suites share: real binaries in folders of their own, a link that can be cut, the peers, raw sockets.
//!
//! Everything here runs on plain threads, so that it works from any test and from `cargo xtask demo`. Every wait has a
//! deadline and every error says what was awaited and shows the end of the server's log. Nothing outlives its guard: a
//! server is killed by its own process id when dropped.
//!
//! ```text
//! test ── RawNats / RawMqtt / NatsCli / scripts ──► Gateway ──► Proxy ──► StockHub
//! ```
#![allow(
    clippy::disallowed_methods,
    reason = "the harness waits for real processes; the product's clock is `server::clock`"
)]

pub mod http;
pub mod mqtt_raw;
pub mod nats_cli;
pub mod node;
pub mod peers;
pub mod ports;
pub mod process;
pub mod program;
pub mod proxy;
pub mod python;
pub mod raw;
pub mod servers;
mod wire;

pub use mqtt_raw::RawMqtt;
pub use nats_cli::NatsCli;
pub use peers::Peer;
pub use process::Server;
pub use proxy::{Direction, Proxy};
pub use raw::{RawListener, RawNats};
pub use servers::{Gateway, Mosquitto, StockHub};
