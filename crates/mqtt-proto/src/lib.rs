//! MQTT 3.1.1 and 5: packets, topics, sessions.
//!
//! Bytes and protocol state as the standard words them: no routing, no policy, no I/O, no clock. Norms are cited as
//! `[MQTT-x.y.z-n]`; where the two versions differ, the number's version is named.
//!
//! - [`packet`]: bytes ↔ packets, borrowed and without allocation; [`property`], [`reason`]: the tables of MQTT 5;
//!   [`error`]: why bytes are refused, and what is answered.
//! - [`topic`]: the exact and reversible map between MQTT topics and NATS subjects.
//! - [`session`]: packet identifiers, acknowledgements, subscriptions, expiry and keep alive; [`alias`]: topic aliases;
//!   [`record`]: the durable rows.

pub mod alias;
pub mod error;
pub mod packet;
pub mod property;
pub mod protocol;
pub mod reason;
pub mod record;
pub mod session;
#[cfg(test)]
mod tests;
pub mod topic;
mod wire;

pub use error::{DecodeError, Phase};
pub use packet::{Packet, decode, decode_from, frame_length};
pub use protocol::{PacketId, PacketType, Qos, Sender, Version};
pub use reason::ReasonCode;
