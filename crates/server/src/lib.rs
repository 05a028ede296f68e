//! Sockets, TLS, WebSocket and HTTP around the broker: the I/O shell.
//!
//! [`run`] makes the calling thread the core thread; [`CoreHandle`] owns the broker there, with the flush, timer and store tasks around it;
//! [`listen`] accepts, and [`CoreHandle::attach`] takes whatever carries bytes as a [`Transport`]. Promises: the broker is called plainly, on
//! one thread, without locks; nothing here decides what a message means.

mod announcement;
mod clock;
mod connection;
mod core_loop;
mod frame_memory;
mod handshake;
mod http;
mod listener;
mod log;
mod monitor;
mod notices;
mod operations;
mod passwords;
mod shutdown;
mod socket;
mod statistics;
pub mod status;
mod status_socket;
mod store_queue;
#[cfg(test)]
mod tests;
pub mod tls;
mod transport;
mod upgrade;
mod websocket;

pub use announcement::{PortsFile, write_pid_file};
pub use clock::Clock;
pub use core_loop::{Core, CoreHandle, Request, run};
pub use handshake::Handshakes;
pub use http::{accept_http, accept_http_with};
pub use listener::{accept_plain, accept_tls, bind, listen};
pub use log::{Log, LogOptions};
pub use monitor::{Monitor, Page, timestamp};
pub use operations::{OperationAnswer, Operations};
pub use shutdown::{PATIENCE, Shutdown};
pub use status_socket::{STATUS_SOCKET, StatusSocket};
pub use store_queue::{StoreHandle, StoreMailbox, store_queue};
pub use transport::{ByteStream, Session, Transport};
pub use websocket::{LeafWebSocket, Upgrade, WebSocketBytes, WebSocketOptions, accept_websocket};
