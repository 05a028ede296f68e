//! A local stream into a hub stream, once and in order, over a link that comes and goes: the gateway's push.
//!
//! One [`Forward`] per declared forward. It does no I/O: the caller tells it what happened (`handle_*`), then drains
//! [`Forward::poll_send`] and [`Forward::poll_action`], and calls [`Forward::handle_timeout`] at [`Forward::poll_timeout`]. Times are
//! milliseconds of the durable age clock, which runs on over restarts and knows no steps.
//!
//! ```text
//!  local stream ─ Read/slice ─► Forward ─ poll_send ─► leaf link ─► hub stream
//!                                │  ▲                                 │
//!  position record ◄── Persist ──┘  └── handle_reply: PubAcks, answers┘
//!  REJECTED stream ◄── Park ──┘
//! ```
//!
//! Promises (`reference/forward.md`): a message counts as confirmed only after a PubAck of the expected stream and domain that names a
//! sequence; after every interruption the hub is asked what it has before anything is sent again; a fence keeps a late entry from being
//! stored behind our back; what limits "once" is in [`Status::at_least_once`] and what stops the flow in [`Status::reason`].
//!
//! It does not decide what the local stream evicts ([`Forward::releasable`] says what may go), does not know whether the hub has
//! interest (the caller says so), and does not close links.

mod answer;
mod asking;
mod backlog;
mod buffer;
pub mod config;
pub mod create;
pub mod headers;
pub mod identity;
mod pacing;
mod question;
pub mod record;
pub mod refusal;
mod sender;
mod session;
mod status;
pub mod way;

#[cfg(test)]
mod testing;

pub use buffer::{Outgoing, SendBuffer};
pub use config::{Batch, Config, Timings};
pub use create::{Create, Placement, Retention, Storage};
pub use identity::{Identity, Incarnation, IncarnationId, Incarnations};
pub use record::{Record, RecordError};
pub use session::{Action, Forward, ForwardError, Hub, Local};
pub use status::{AtLeastOnce, State, Status};
