//! Who is connected, who wants what, and where a message goes.
//!
//! Pure: bytes and times come in through [`Broker`]'s calls, bytes go out through the [`Outbox`], the rest as [`Effect`]s and as batches of
//! JetStream commands. See [`broker`] for the picture and for how a kind of client plugs in.

mod authorization;
pub mod broker;
mod effect;
mod identity;
mod outbox;
mod settings;
mod subscription;

pub use authorization::{Authorization, Credentials, Secret, User, Verdict};
pub use broker::{Broker, NewConnection, Protocol, Received, Refusal, TlsFacts, Transport};
pub use effect::{CloseReason, Effect};
pub use identity::{ConnectionId, Now};
pub use outbox::{Frame, Outbox, OutboxLimits, Traffic};
pub use settings::{JetStreamSettings, ServerIdentity, Settings};
pub use subscription::SubscriptionId;
