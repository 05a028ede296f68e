//! The shell on loopback sockets: listeners with TLS and WebSocket, monitoring over HTTP. One core thread, clients on the same runtime.

#![allow(clippy::unwrap_used)] // tests; the lint's own exception knows only functions marked as such

mod monitoring;
mod place;
mod secure;
mod websocket;
