//! A request for messages, and what it says of its priority group.

use crate::identity::Timestamp;

/// A request for messages, `$JS.API.CONSUMER.MSG.NEXT.<stream>.<consumer>`.
#[derive(Clone, Debug, Default)]
pub struct Pull {
    /// Stream name.
    pub stream: Box<str>,
    /// Consumer name.
    pub consumer: Box<str>,
    /// Where messages and status go.
    pub inbox: Box<[u8]>,
    /// How many messages; 1 when not said.
    pub batch: u32,
    /// What it said instead, when that is less than one or more than a number here: what is left when it ends is told by this, as in nats-server.
    pub odd_batch: Option<i64>,
    /// Give up after this many milliseconds; `None`: never (a request without `expires` waits).
    pub expires_ms: Option<u64>,
    /// Answer 404 at once when nothing is there.
    pub no_wait: bool,
    /// Send an idle heartbeat when nothing came for so long, milliseconds.
    pub heartbeat_ms: Option<u64>,
    /// Stop before exceeding so many bytes.
    pub max_bytes: Option<u64>,
    /// What it said instead, when that was less than nothing: so many are left when it ends.
    pub odd_bytes: i64,
    /// It came as an object, and not as a number or nothing: then it must name its group where there are groups.
    pub is_object: bool,
    /// What it says of its group, if anything.
    pub group: Option<Box<PullGroup>>,
}

/// What a pull request says of its priority group (ADR-42).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullGroup {
    /// The group.
    pub group: Box<str>,
    /// Only when so many messages are left; 0: not said.
    pub min_pending: i64,
    /// Only when so many are unacknowledged; 0: not said.
    pub min_ack_pending: i64,
    /// The id that its client got with messages before; empty: none.
    pub pin: Box<str>,
    /// 0 to 9, lowest first.
    pub priority: i64,
}

/// A priority group as info requests show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupState {
    /// Its name.
    pub group: Box<str>,
    /// The pinned client's id, and since when it has it.
    pub pin: Option<(Box<str>, Timestamp)>,
}
