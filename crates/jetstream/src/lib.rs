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
mod ack_subject;
pub mod advisory;
mod aging;
pub mod api_error;
pub mod api_level;
mod appending;
pub mod batching;
mod changes;
pub mod clock;
pub mod command;
pub mod config;
mod consumer;
mod consumer_check;
mod consumer_requests;
mod consuming;
mod counters;
mod cron;
mod delivery;
pub mod direct_get;
mod duplicates;
mod firing;
mod flat_json;
pub mod gaps;
mod header_block;
pub mod identity;
mod jetstream;
pub mod ledger;
mod mapping;
mod message_id;
mod message_ttl;
mod number;
pub mod origin;
mod owed;
mod own_messages;
mod pedantic;
mod pending;
mod priority;
mod publish_header;
mod pull_request;
mod purging;
mod push;
mod queue;
mod queue_blocks;
mod record;
mod requests;
mod resetting;
pub mod restore;
mod retention;
mod retention_check;
mod rewriting;
mod room;
mod schedule;
mod schedule_check;
mod scheduling;
pub mod snapshot;
mod sources;
pub mod store;
mod stored_config;
mod stream;
mod stream_check;
mod stream_requests;
mod subject_page;
mod sweep;
mod telling;
pub mod templates;
mod trimming;
mod zone;

#[cfg(test)]
mod batch_properties;
#[cfg(test)]
mod crowded;
#[cfg(test)]
mod ledger_properties;
#[cfg(test)]
mod owed_properties;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod queue_properties;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod stream_model;
#[cfg(test)]
mod stream_properties;
#[cfg(test)]
mod testscript_consumers;
#[cfg(test)]
mod testscript_forwards;
#[cfg(test)]
mod testscript_output;
#[cfg(test)]
mod testscripts;

pub use account_limits::{AccountLimits, BatchLimits, RequestLimits};
pub use jetstream::{JetStream, Limits};
pub use stored_config::stream_name;
