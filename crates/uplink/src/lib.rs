//! The leaf link's dialling side without its socket: whom to dial and when, the handshake, deadlines, liveness, back-off.
//!
//! The owner of the socket reports what happened (`handle_*`), then drains [`Uplink::poll_action`] and sleeps until
//! [`Uplink::poll_timeout`]. Times are milliseconds of any monotonic clock; randomness comes from the seed given at construction, so the same
//! inputs give the same outputs.
//!
//! Promises: it dials for ever; back-off is exponential with jitter; a link is judged by the *bytes received*, so a slow link under load is
//! never taken for a dead one; a link given up is closed with a reset before the next dial, or the kernel would still deliver what it holds,
//! behind what the next link brings.
//!
//! It does not read or write interest and messages, does no TLS or WebSocket itself, and knows nothing of streams.

mod address;
mod backoff;
mod config;
mod connect;
mod credentials;
mod info;
mod link;
mod pool;
mod status;

#[cfg(test)]
mod script;

pub use address::{Address, AddressError, MAX_ADDRESS_LENGTH, Scheme};
pub use backoff::{Backoff, Random};
pub use config::{Config, ConfigError, LocalServer, Timings};
pub use credentials::{Credentials, CredentialsError};
pub use info::{InfoError, MAX_DISCOVERED, check_port};
pub use link::{Action, PeerInfo, Target, Uplink};
pub use status::{PhaseName, Status};
