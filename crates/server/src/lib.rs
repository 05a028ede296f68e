//! Sockets, TLS, WebSocket and HTTP around the broker: the I/O shell.

mod announcement;
mod clock;
mod core_loop;
mod log;
mod store_queue;
mod transport;

pub use announcement::{PortsFile, write_pid_file};
pub use clock::Clock;
pub use core_loop::{Core, CoreHandle};
pub use log::{Log, LogOptions};
pub use store_queue::{StoreHandle, StoreMailbox, store_queue};
pub use transport::{ByteStream, Transport};
