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
//! Promises: a message counts as confirmed only after a PubAck of the expected stream and domain that names a
//! sequence; after every interruption the hub is asked what it has before anything is sent again; a fence keeps a late entry from being
//! stored behind our back; what limits "once" is in [`Status::at_least_once`] and what stops the flow in [`Status::reason`].
//!
//! # Rules
//!
//! What a hub does was measured with nats-server 2.15.1, older versions where one is named; the ways of sending in batches are ADR-50's.
//!
//! - **Identity.** Edge, incarnation, stream instance and sequence go as headers and make the `Nats-Msg-Id` ([`identity`]). The sender's own
//!   `Nats-` headers are renamed ([`headers`]). What a forward writes at the hub, its *filter*, must be this edge's alone.
//! - **Asking**, at each link-up, of the stream's leader (replicas may be behind): a stream made anew, or one that lost its tail, is noticed
//!   here, and the newest of our messages there confirms all before it. *In doubt* is only what was sent and not confirmed.
//! - **Fence.** What is in doubt may still be stored after the answer (a change of leader, bytes of a dead link). So the message that follows
//!   carries `Nats-Expected-Last-Subject-Sequence` for the filter, with what is newest there *now*, 0 for nothing; the sequence of the last
//!   PubAck would be refused for ever after a purge. Fast ingest skips a repeated id before it looks at the fence: therefore a session
//!   begins with one plain message. Hubs before 2.11 compare with the message's own subject: no fence there, one message at a time.
//! - **Confirming.** The answer `seq: 0` to a batch's start confirms nothing, and a flow ack no hub sequence: so batches are kept short. No
//!   interest at the hub means no answer at all.
//! - **Asking in vain.** Work-queue and interest streams can't be asked, nor can a hub that denies its API: what was in doubt is sent again,
//!   and the hub's duplicate window is all that keeps it from being stored twice.
//! - **Refusals** ([`refusal`]): again later, ask again, another way, park the message, or stop and report. What is parked is committed in the
//!   local stream `REJECTED` before anything behind it is sent. A hub stream is created if it is missing and never changed: an update replaces
//!   the list of subjects, so that two edges which add theirs would erase each other's.
//! - **The link.** One that is given up is closed with a reset before the next dial, or the kernel would deliver its bytes behind the new
//!   fence. No more is on the way than the link drains in about a second, so that acknowledgements and PONGs never wait long.
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
