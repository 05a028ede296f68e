//! Under which subject a stream stores a message, and where it publishes again what it has stored.
//!
//! The first happens before a message is judged: limits, expectations and consumers see the new subject. The second happens with the commit: what
//! is published again is stored, so a subscriber that counts by its headers misses nothing without noticing.

use std::collections::BTreeSet;
use std::io::Write as _;

use subject::{Filter, Transform, TransformError};

use crate::api_error::{self, ApiError};
use crate::command::{Append, Deliveries, Delivery, Span};
use crate::config::{StreamConfig, SubjectTransform};
use crate::consumer::delivery::put_message;
use crate::identity::{Sequence, StreamId, Timestamp};
use crate::jetstream::{Context, JetStream};
use crate::stream::Incoming;

/// Longest destination, bytes: one that names a wildcard many times makes a long subject out of a short one.
const LONGEST_DESTINATION: usize = 1024;
/// Longest subject a message may get, bytes.
const LONGEST_SUBJECT: usize = 4096;

/// A stream's transforms, ready to be applied.
#[derive(Debug, Default)]
pub(crate) struct Mapping {
    stored_as: Option<Transform>,
    republished: Option<Transform>,
    headers_only: bool,
}

/// What has to be known of a message before it is stored, to publish it again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    /// The last sequence on its subject; 0: there was none.
    last: Sequence,
}

impl Mapping {
    /// Of a configuration that was checked.
    pub(crate) fn new(config: &StreamConfig) -> Mapping {
        let republish = config.republish.as_ref();
        Mapping {
            stored_as: config.subject_transform.as_ref().and_then(|transform| compile(transform).ok().flatten()),
            republished: republish.and_then(|republish| compile(&republish.subjects).ok().flatten()),
            headers_only: republish.is_some_and(|republish| republish.headers_only),
        }
    }

    /// Writes the subject that the message gets; false: it keeps its own.
    fn rename(&self, subject: &[u8], draw: u64, into: &mut Vec<u8>) -> bool {
        self.stored_as.as_ref().is_some_and(|transform| transform.apply(subject, draw, into))
    }

    /// Writes the message, its place in the stream added to its headers, to those who listen.
    fn republish(&self, stream: &str, message: &Incoming<'_>, place: &Place, deliveries: &mut Deliveries) {
        let Some(transform) = &self.republished else { return };
        let start = deliveries.arena.len();
        if !transform.apply(message.subject, draw(place.time, place.sequence.0), &mut deliveries.arena) {
            return;
        }
        let to = span(start, deliveries.arena.len());
        let headers = self.headers(stream, message, place);
        let payload = if self.headers_only { b"" } else { message.payload };
        let start = deliveries.arena.len();
        let (headers, payload) = put_message(&mut deliveries.arena, &headers, None, payload);
        let tail = span(start, deliveries.arena.len());
        let reply = Span::default();
        deliveries.entries.push(Delivery { from: None, to, subject: to, tail, reply, headers, payload, queue: None });
    }

    fn headers(&self, stream: &str, message: &Incoming<'_>, place: &Place) -> Vec<u8> {
        let mut block = message.headers.strip_suffix(b"\r\n").unwrap_or(b"NATS/1.0\r\n").to_vec();
        // Writing into a vector does not fail.
        let _ = write!(block, "Nats-Stream: {stream}\r\nNats-Subject: ");
        block.extend_from_slice(message.subject);
        let Place { sequence, time, before } = place;
        let _ = write!(block, "\r\nNats-Sequence: {}\r\nNats-Time-Stamp: {time}\r\n", sequence.0);
        let _ = write!(block, "Nats-Last-Sequence: {}\r\n", before.last.0);
        if self.headers_only {
            let _ = write!(block, "Nats-Msg-Size: {}\r\n", message.payload.len());
        }
        block.extend_from_slice(b"\r\n");
        block
    }
}

/// Where a message was stored.
struct Place {
    sequence: Sequence,
    time: Timestamp,
    before: Before,
}

/// What random numbers in subjects follow from: the time that a command carries, and what tells its messages apart.
pub(crate) fn draw(time: Timestamp, which: u64) -> u64 {
    (time.0 as u64).wrapping_add(which.wrapping_mul(0xd1b5_4a32_d192_ed03))
}

/// The draw of a message that is published: the same whenever it is looked at in this turn.
pub(crate) fn draw_of(turn: &Context<'_>, append: &Append) -> u64 {
    draw(turn.now.wall, u64::from(append.subject.start))
}

fn span(start: usize, end: usize) -> Span {
    Span { start: start as u32, len: (end - start) as u32 }
}

impl JetStream {
    /// Writes the subject that a stream stores the message under; `Ok(false)`: its own. Random numbers follow from `draw`.
    pub(crate) fn rename(
        &self,
        stream: StreamId,
        subject: &[u8],
        draw: u64,
        into: &mut Vec<u8>,
    ) -> Result<bool, ApiError> {
        let renamed = self.streams.get(&stream).is_some_and(|stream| stream.mapping.rename(subject, draw, into));
        if into.len() > LONGEST_SUBJECT {
            return Err(api_error::stream_store_failed("the transformed subject is too long"));
        }
        Ok(renamed)
    }

    /// What has to be known for [`JetStream::republish`]; `None`: the message is not published again.
    pub(crate) fn before_republish(&self, turn: &Context<'_>, stream: StreamId, subject: &[u8]) -> Option<Before> {
        let republished = self.streams.get(&stream)?.mapping.republished.as_ref()?;
        let state = || turn.store.subject_state(stream, subject);
        republished.source().matches(subject).then(|| Before { last: state().map_or(Sequence(0), |found| found.last) })
    }

    /// The message was stored.
    pub(crate) fn republish(
        &self,
        turn: &mut Context<'_>,
        id: StreamId,
        message: &Incoming<'_>,
        sequence: Sequence,
        before: Before,
    ) {
        let Some(stream) = self.streams.get(&id) else { return };
        let place = Place { sequence, time: turn.store.state(id).last_time, before };
        stream.mapping.republish(&stream.config.name, message, &place, turn.deliveries);
    }

    /// What this stream publishes again must not come back to it through others: it would go round for ever.
    pub(crate) fn no_republish_loop(&self, config: &StreamConfig) -> Result<(), ApiError> {
        let mut ends: Vec<Filter> = destination(config).into_iter().collect();
        let mut seen = BTreeSet::from([&*config.name]);
        while let Some(end) = ends.pop() {
            if config.subjects.iter().any(|subject| subject.overlaps(&end)) {
                return Err(cycle());
            }
            for other in self.stream_names.values().filter_map(|id| self.streams.get(id)) {
                let other = &other.config;
                if other.subjects.iter().any(|subject| subject.overlaps(&end)) && seen.insert(&other.name) {
                    ends.extend(destination(other));
                }
            }
        }
        Ok(())
    }
}

/// Is this a transform? `None`: it changes nothing.
fn compile(transform: &SubjectTransform) -> Result<Option<Transform>, TransformError> {
    if transform.destination.is_empty() {
        return Ok(None);
    }
    let source = if transform.source.is_empty() { ">" } else { &transform.source };
    Transform::parse(source, &transform.destination).map(Some)
}

/// All subjects that a stream publishes again on.
fn destination(config: &StreamConfig) -> Option<Filter> {
    let republish = config.republish.as_ref()?;
    compile(&republish.subjects).ok().flatten().map(|transform| transform.destination_filter())
}

fn cycle() -> ApiError {
    api_error::stream_invalid_config("stream configuration for republish destination forms a cycle")
}

/// Are a stream's transforms possible?
pub(crate) fn check(config: &StreamConfig) -> Result<(), ApiError> {
    if let Some(transform) = &config.subject_transform {
        let SubjectTransform { source, destination } = transform;
        if destination.len() > LONGEST_DESTINATION {
            return Err(api_error::stream_transform_invalid_destination("destination is too long"));
        }
        compile(transform).map_err(|error| match error {
            TransformError::Source(_) => {
                api_error::stream_transform_invalid_source(format_args!("invalid subject {source}"))
            }
            error => api_error::stream_transform_invalid_destination(error.in_an_answer()),
        })?;
    }
    let Some(republish) = &config.republish else { return Ok(()) };
    let SubjectTransform { source, destination: to } = &republish.subjects;
    // To nowhere: stock takes it, and publishes nothing again.
    if to.is_empty() {
        return Ok(());
    }
    let transform = compile(&republish.subjects).ok().flatten().filter(|_| to.len() <= LONGEST_DESTINATION);
    let Some(transform) = transform else {
        let text = format!("stream configuration for republish with transform from '{source}' to '{to}' not valid");
        return Err(api_error::stream_invalid_config(text));
    };
    let end = transform.destination_filter();
    let comes_back = config.subjects.iter().any(|subject| subject.overlaps(&end));
    if comes_back { Err(cycle()) } else { Ok(()) }
}
