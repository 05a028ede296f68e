//! Streams that take their messages from others: mirrors, and streams with sources.
//!
//! ```text
//!  origin (here or behind a link)     broker (core thread)                store thread
//!   consumer ── deliver subject ────► Puller::handle_message ─ Take ────► JetStream::take ─ position, message: one commit
//!            ◄─ create, answers ───── Puller::poll_step      ◄─ outcome ─┘
//! ```
//!
//! [`Puller`] is one origin's side of the conversation, without I/O. What it received is stored by [`crate::command::Command::Take`].
//!
//! Promise: nothing is missing, nothing is there twice, the order is kept. Each message says which one the origin sent before it, and is stored only if
//! that is the last one taken: whatever was lost or refused in between, everything behind it is refused as well, until the puller has asked anew from
//! where the store stands. The position is written with the messages, in one transaction; opening a store reads no message for it.

mod check;
mod index;
mod places;
mod puller;
mod request;
#[cfg(test)]
mod simulation;

use crate::command::{Event, Span, Ticket};
use crate::config::{Source, StreamConfig};
use crate::identity::{AgeMillis, Now, Sequence, StreamId, Timestamp};

pub use check::check;
pub use index::{Index, short_hash};
pub(crate) use places::{Places, Taken};
pub use puller::{Begun, OriginState, Puller, Stage, Step, Taking};
pub use request::{Ask, Asked, Created};

/// Most sources of a stream.
pub const MOST_SOURCES: usize = 256;

/// Which of a stream's origins: the same for the same configuration of a source, whatever stands beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginId(pub u64);

impl OriginId {
    /// A mirror has one.
    pub(crate) const MIRROR: OriginId = OriginId(0);
}

/// A message of a stream's origin, as it is to be stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Take {
    /// The stream.
    pub stream: StreamId,
    /// Which of its origins.
    pub origin: OriginId,
    /// Whom the outcome is for.
    pub ticket: Ticket,
    /// Its sequence at the origin.
    pub sequence: Sequence,
    /// The sequence of the one that the origin sent before it: it is stored only if that one was taken last.
    pub previous: Sequence,
    /// When it was stored there.
    pub time: Timestamp,
    /// Literal subject.
    pub subject: Span,
    /// Header block or empty.
    pub headers: Span,
    /// Body.
    pub payload: Span,
}

/// What is known of an origin that begins to deliver.
#[derive(Clone, Copy, Debug, Default)]
pub struct Begin {
    /// The stream.
    pub stream: StreamId,
    /// Which of its origins.
    pub origin: OriginId,
    /// What tells the origin from one that is made again under its name; empty: not known.
    pub identity: Span,
    /// It is another one than before: its first message comes next.
    pub is_anew: bool,
    /// For a mirror: nothing up to here will come.
    pub skip_to: Sequence,
}

/// An origin, and how far the stream has come with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginFacts {
    /// Which one.
    pub id: OriginId,
    /// Where messages come from.
    pub source: Source,
    /// The last one that was taken; 0: none.
    pub position: Sequence,
    /// What tells the origin from one that was made again under its name, as it was last heard; empty: not known.
    pub identity: Box<str>,
    /// What its consumer is called: the same each time, and another for each stream and store.
    pub consumer: Box<str>,
}

/// The announcement of a stream's origins: all of them, also when there are none any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins {
    /// The stream's name.
    pub name: Box<str>,
    /// It is a mirror of its only origin.
    pub is_mirror: bool,
    /// It answers direct gets for that origin.
    pub mirror_direct: bool,
    /// In the order of the configuration.
    pub origins: Vec<OriginFacts>,
}

/// Does the stream take its messages from others?
pub(crate) fn has_origins(config: &StreamConfig) -> bool {
    config.mirror.is_some() || !config.sources.is_empty()
}

/// All that makes a source another one: what it takes, and from where. Not where it began.
pub(crate) fn identity_of(source: &Source) -> Vec<u8> {
    let mut text = Vec::new();
    let mut put = |part: &str| {
        text.extend_from_slice(&(part.len() as u32).to_be_bytes());
        text.extend_from_slice(part.as_bytes());
    };
    put(&source.name);
    put(source.external.as_ref().map_or("", |external| &external.api));
    put(source.consumer.as_ref().map_or("", |consumer| &consumer.name));
    put(if source.filter.is_empty() { ">" } else { &source.filter });
    for transform in &source.transforms {
        put(&transform.source);
        put(&transform.destination);
    }
    text
}

/// The stream's subject filters of an origin; empty: everything.
pub(crate) fn filters(source: &Source) -> Vec<subject::Filter> {
    let texts: Vec<&str> = match (&source.transforms[..], &*source.filter) {
        ([], "") => Vec::new(),
        ([], filter) => vec![filter],
        (transforms, _) => {
            transforms.iter().map(|one| if one.source.is_empty() { ">" } else { &*one.source }).collect()
        }
    };
    texts.into_iter().filter(|text| *text != ">").filter_map(|text| subject::Filter::parse(text).ok()).collect()
}

impl Event {
    /// The origins of a stream, to be told with it.
    pub(crate) fn origins(stream: StreamId, origins: Origins) -> Event {
        Event::Origins { stream, origins: Box::new(origins) }
    }
}

/// A message is believed to be up to 30 days old.
const PLAUSIBLE_MILLIS: u64 = 30 * 24 * 3_600_000;

/// When a message was stored, by both clocks: the origin's time of it, as far as it is in the past.
pub(crate) fn age_at(now: Now, time: Timestamp) -> AgeMillis {
    let passed = u64::try_from(now.wall.0.saturating_sub(time.0)).unwrap_or(0) / 1_000_000;
    // Longer than that, and it is more likely the clock: rather kept for too long than lost.
    let passed = if passed <= PLAUSIBLE_MILLIS { passed } else { 0 };
    AgeMillis(now.age.0.saturating_sub(passed))
}
