//! JetStream without I/O: streams, consumers, session queues, delivery, and the storage trait they stand on.
//!
//! The broker (core thread) turns API calls, publishes, acknowledgements and pulls into [`command::Command`]s, gathers them in a
//! [`command::Batch`] and hands it to the store thread. There [`JetStream`] applies them in order; `committer` then commits once and gives the
//! batch back with one [`command::Outcome`] per command, together with the deliveries and events that came of it.
//!
//! ```text
//!  core thread                              store thread
//!  broker ── Batch{arena, commands} ──────► JetStream::apply ──► Store (one transaction)
//!         ◄─ Batch + outcomes + Deliveries ─ commit (synced) ◄──┘
//! ```
//!
//! Promises: no acknowledgement leaves before its commit; verdicts on sequence, duplicates, limits and expected-* headers are given only
//! when a command is applied, with the time the command carries. No clock, randomness or I/O here.

mod account_limits;
pub mod advisory;
pub mod api_error;
pub mod api_level;
pub mod batching;
mod changes;
pub mod clock;
pub mod command;
pub mod config;
mod consumer;
pub mod direct_get;
pub mod forwarded;
mod header_block;
pub mod identity;
mod jetstream;
mod number;
pub mod origin;
mod pedantic;
mod queue;
mod record;
mod requests;
pub mod restore;
mod schedule;
pub mod snapshot;
pub mod store;
mod stored_config;
mod stream;
pub mod templates;

#[cfg(test)]
mod testing;

pub use account_limits::{AccountLimits, BatchLimits, RequestLimits};
pub use jetstream::{JetStream, Limits};
pub use stored_config::stream_name;
