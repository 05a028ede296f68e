//! Who is connected, who wants what, and where a message goes.
//!
//! Pure: bytes and times come in through [`Broker`]'s calls, bytes go out through the [`Outbox`], the rest as [`Effect`]s and as batches of
//! JetStream commands. See [`broker`] for the picture and for how a kind of client plugs in.

mod account;
mod advisories;
mod audience;
mod authorization;
pub mod broker;
mod capture;
mod connect;
mod connection;
mod consumers;
mod credit;
mod effect;
mod identity;
mod jetstream_api;
mod leaf;
#[cfg(test)]
mod model_tests;
mod monitoring;
mod mqtt_client;
mod nats_client;
mod origins;
mod outbox;
mod permissions;
mod plan;
mod pullers;
mod recall;
mod reload;
mod routing;
mod services;
mod settings;
mod snapshots;
mod subscription;
#[cfg(test)]
mod testscripts;
mod timers;
mod trace;
mod user_info;

pub use account::ServiceId;
pub use authorization::{Authorization, Credentials, Secret, User, Verdict, Way};
pub use broker::{Broker, Counters, MqttCounters, NewConnection, Protocol, Received, Refusal, TlsFacts, Transport};
pub use capture::SHELL_TICKET;
pub use effect::{CloseReason, Effect, Notice};
pub use identity::{ConnectionId, Now};
pub use leaf::{LinkCounters, LinkFacts, LinkPermissions};
pub use monitoring::{ConnectionInfo, SubscriptionInfo};
pub use origins::OriginRow;
pub use outbox::{CHUNK, CONGESTED, Frame, Outbox, OutboxLimits, Traffic};
pub use permissions::{Permissions, Responses, Rule, Subscribable};
pub use settings::{JetStreamSettings, LeafSettings, MqttSettings, ServerIdentity, Settings};
pub use subscription::SubscriptionId;
