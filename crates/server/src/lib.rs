//! Sockets, TLS, WebSocket and HTTP around the broker: the I/O shell.

mod clock;
mod core_loop;
mod store_queue;
mod transport;

pub use clock::Clock;
pub use core_loop::{Core, CoreHandle};
pub use store_queue::{StoreHandle, StoreMailbox, store_queue};
pub use transport::{ByteStream, Transport};
