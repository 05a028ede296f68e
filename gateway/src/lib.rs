//! Edge gateway: NATS, MQTT and WebSocket clients, a local JetStream, store and forward over a leaf link.
//!
//! The binary is thin: arguments → [`config::Config`] → [`gateway::run`] → exit code.

pub mod arguments;
pub mod config;
pub mod dialler;
pub mod forwarder;
pub mod gateway;
pub mod notices;
pub mod status;
pub mod version;
