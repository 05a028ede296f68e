//! Edge gateway: NATS, MQTT and WebSocket clients, a local JetStream, store and forward over a leaf link.
//!
//! The binary is thin: arguments → [`config::Config`] → [`gateway::run`] → exit code.

pub mod arguments;
pub mod config;
mod declared;
pub mod dialler;
pub mod forwarder;
pub mod gateway;
mod listening;
mod memory;
pub mod notices;
mod operations;
pub mod own_commands;
mod queue_drops;
pub mod rehearsal;
mod reload;
mod settings;
pub mod signal;
mod slices;
pub mod status;
mod store_thread;
mod syncing;
pub mod version;
