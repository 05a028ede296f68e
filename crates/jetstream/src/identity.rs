//! The small numbers that must not be mixed up: ids, sequences and the two kinds of time.

use std::fmt;

/// One instance of a stream: never given twice within a store, so that a deleted and re-created stream is another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

impl StreamId {
    /// "No stream captures this subject": the message is only queued for MQTT sessions.
    pub const NONE: StreamId = StreamId(0);
    /// The store's own stream of messages that only MQTT session queues refer to. Not visible in the API.
    pub const QUEUED: StreamId = StreamId(1);
    /// Where the ids of users' streams begin.
    pub const FIRST: StreamId = StreamId(16);
    /// Set in the ids of streams that are kept in memory.
    pub(crate) const VOLATILE: u32 = 1 << 31;

    /// Set in the ids of templates, which stand for streams that are not there yet.
    pub(crate) const TEMPLATE: u32 = 1 << 30;

    /// Stands for streams that a template makes, see [`crate::templates`].
    #[must_use]
    pub fn is_template(self) -> bool {
        self.0 & StreamId::TEMPLATE != 0
    }

    /// Kept in memory, not in the store: gone after a restart.
    #[must_use]
    pub fn is_volatile(self) -> bool {
        self.0 & StreamId::VOLATILE != 0
    }
}

/// One instance of a consumer, unique within a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(pub u32);

/// A stored MQTT session, unique within a store. Given by the broker, which owns the sessions' records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u32);

/// Position of a message in its stream; the first is 1, 0 means "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// Requests may name sequences up to this: far beyond what is ever reached, and far enough from where the numbers of storage engines end.
pub const HIGHEST_SEQUENCE: Sequence = Sequence(1 << 62);

impl Sequence {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Sequence {
        Sequence(self.0.saturating_add(1))
    }
}

/// Position of a delivery in its consumer, redeliveries counted; the first is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerSequence(pub u64);

/// Wall-clock time, nanoseconds since 1970. Shown to people; ages are never computed from it, because boxes boot in 1970 and jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// As RFC 3339 with as many digits as it has, which is how Go prints a time. 0 stands for "none" and is Go's zero time.
impl fmt::Display for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return out.write_str("0001-01-01T00:00:00Z");
        }
        // 64 bits of nanoseconds reach from 1677 to 2262, well inside of what a date can be.
        let Ok(at) = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0)) else {
            return out.write_str("0001-01-01T00:00:00Z");
        };
        let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
        write!(out, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())?;
        let fraction = format!("{:09}", at.nanosecond());
        match fraction.trim_end_matches('0') {
            "" => out.write_str("Z"),
            digits => write!(out, ".{digits}Z"),
        }
    }
}

/// The durable age clock, milliseconds: monotonic time while running, plus the wall-clock difference between runs when that is plausible
/// (0 to 30 days). All expiry is computed from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgeMillis(pub u64);

/// Both clocks, read once per turn and carried by commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Wall clock, for time stamps.
    pub wall: Timestamp,
    /// Age clock, for everything that expires.
    pub age: AgeMillis,
}
