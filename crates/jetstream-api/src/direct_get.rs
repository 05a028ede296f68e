//! `DIRECT.GET` (ADR-31): requests that are answered with the messages themselves, with headers that say where they stood, or with a status line.
//!
//! The request is read leniently, as stock does: unknown fields are ignored. `STREAM.MSG.GET` asks with the same fields for one message.

use crate::json::{self, Object};
use jetstream::api_error::ApiError;
use jetstream::command::MessageGet;
use jetstream::direct_get::{DirectEdge, DirectEnd, DirectGet, DirectStart, DirectWanted};
use jetstream::identity::{Sequence, Timestamp};
use jetstream::store::StoredMessage;
use std::io::Write as _;

/// What a `DIRECT.GET` asks for.
#[derive(Debug)]
pub enum DirectRequest {
    /// One message.
    One(MessageGet),
    /// Several messages, and a status line at their end.
    Several(Box<DirectGet>),
}

const EMPTY: &str = "408 Empty Request";
const BAD: &str = "408 Bad Request";
const MALFORMED: &str = "408 Malformed Request";

/// Which messages, and whether their headers are wanted. `subject` is what stands behind the stream in the request's subject. The error is a
/// status line without `NATS/1.0`.
pub(crate) fn read(subject: Option<&str>, payload: &[u8]) -> Result<(DirectRequest, bool), &'static str> {
    if let Some(subject) = subject {
        let fields = if payload.is_empty() { GetFields::default() } else { GetFields::of(payload)? };
        if fields.any() || subject.is_empty() {
            return Err(BAD);
        }
        return Ok((DirectRequest::One(MessageGet::LastBySubject(subject.into())), !fields.no_headers));
    }
    if payload.is_empty() {
        return Err(EMPTY);
    }
    let fields = GetFields::of(payload)?;
    let headers = !fields.no_headers;
    if !fields.name_something() {
        return Err(EMPTY);
    }
    if fields.contradict() {
        return Err(BAD);
    }
    if !fields.newest.is_empty() {
        return Ok((DirectRequest::Several(Box::new(fields.newest_of_each())), headers));
    }
    if fields.batch != 0 {
        return Ok((DirectRequest::Several(Box::new(fields.stretch())), headers));
    }
    fields.one().map(|get| (DirectRequest::One(get), headers)).ok_or(BAD)
}

/// The fields of a message get request. 0 and empty: not there.
#[derive(Default)]
pub(crate) struct GetFields {
    sequence: u64,
    last: String,
    next: String,
    start_time: Option<Timestamp>,
    pub(crate) batch: i64,
    pub(crate) max_bytes: i64,
    newest: Vec<String>,
    up_to_sequence: u64,
    up_to_time: Option<Timestamp>,
    pub(crate) no_headers: bool,
}

impl GetFields {
    fn of(payload: &[u8]) -> Result<GetFields, &'static str> {
        json::parse_lenient(payload, "").ok().and_then(|mut body| GetFields::read(&mut body).ok()).ok_or(MALFORMED)
    }

    pub(crate) fn read(body: &mut Object) -> Result<GetFields, ApiError> {
        Ok(GetFields {
            sequence: body.unsigned("seq")?,
            last: body.text_or_empty("last_by_subj")?,
            next: body.text_or_empty("next_by_subj")?,
            start_time: body.time("start_time")?,
            batch: body.count("batch")?,
            max_bytes: body.count("max_bytes")?,
            newest: body.texts("multi_last")?,
            up_to_sequence: body.unsigned("up_to_seq")?,
            up_to_time: body.time("up_to_time")?,
            no_headers: body.flag("no_hdr")?,
        })
    }

    /// Is there any message in what is asked for?
    fn name_something(&self) -> bool {
        let texts = !self.last.is_empty() || !self.next.is_empty() || !self.newest.is_empty();
        self.sequence > 0 || texts || self.start_time.is_some()
    }

    fn any(&self) -> bool {
        let edge = self.up_to_sequence > 0 || self.up_to_time.is_some();
        self.name_something() || self.batch != 0 || edge
    }

    /// Does one field forbid another?
    fn contradict(&self) -> bool {
        let (by_sequence, by_time) = (self.sequence > 0, self.start_time.is_some());
        let (last, next, newest) = (!self.last.is_empty(), !self.next.is_empty(), !self.newest.is_empty());
        let twice = (by_sequence || by_time || next || newest) && last;
        let both_edges = self.up_to_sequence > 0 && self.up_to_time.is_some();
        twice || (by_sequence && by_time) || (last && self.batch != 0) || (next && newest) || both_edges
    }

    /// The one message that is asked for, if the fields agree.
    pub(crate) fn one(&self) -> Option<MessageGet> {
        let next = || Some(&*self.next).filter(|next| !next.is_empty()).map(Box::from);
        match (self.sequence, self.start_time, &*self.last) {
            (0, Some(time), "") => Some(MessageGet::FromTime(time, next())),
            (0, None, "") => next().map(|next| MessageGet::NextBySubject(Sequence(1), next)),
            (sequence, None, "") => Some(match next() {
                Some(next) => MessageGet::NextBySubject(Sequence(sequence), next),
                None => MessageGet::Sequence(Sequence(sequence)),
            }),
            (0, None, last) if self.next.is_empty() => Some(MessageGet::LastBySubject(last.into())),
            _ => None,
        }
    }

    fn stretch(self) -> DirectGet {
        let from = self.start_time.map_or(DirectStart::Sequence(Sequence(self.sequence)), DirectStart::Time);
        let filter = Some(self.next).filter(|next| !next.is_empty()).map(Box::from);
        DirectGet {
            wanted: DirectWanted::Following { from, filter },
            batch: Some(u64::try_from(self.batch).unwrap_or(0)),
            max_bytes: most_bytes(self.max_bytes),
            progress: None,
        }
    }

    fn newest_of_each(self) -> DirectGet {
        let up_to = match (self.up_to_time, self.up_to_sequence) {
            (Some(time), _) => DirectEdge::Time(time),
            (None, 0) => DirectEdge::Now,
            (None, sequence) => DirectEdge::Sequence(Sequence(sequence)),
        };
        DirectGet {
            wanted: DirectWanted::Newest {
                filters: self.newest.into_iter().map(Box::from).collect(),
                from: Sequence(self.sequence),
                up_to,
            },
            batch: u64::try_from(self.batch).ok().filter(|batch| *batch > 0),
            max_bytes: most_bytes(self.max_bytes),
            progress: None,
        }
    }
}

/// 0: the server chooses. What is below stops after the first message.
fn most_bytes(given: i64) -> u64 {
    u64::try_from(given).unwrap_or(1)
}

/// Appends header block and body; gives the length of the block. The message's own headers come first, as they were stored. `batch`: how many
/// messages follow, and the sequence of the one before.
pub fn direct_message(
    stream: &str,
    message: &StoredMessage<'_>,
    batch: Option<(u64, Sequence)>,
    into: &mut Vec<u8>,
) -> usize {
    let start = into.len();
    match message.headers.strip_suffix(b"\r\n") {
        Some(own) => into.extend_from_slice(own),
        None => into.extend_from_slice(b"NATS/1.0\r\n"),
    }
    into.extend_from_slice(b"Nats-Stream: ");
    into.extend_from_slice(stream.as_bytes());
    into.extend_from_slice(b"\r\nNats-Subject: ");
    into.extend_from_slice(message.subject);
    // Writing into a vector does not fail.
    let _ = write!(into, "\r\nNats-Sequence: {}\r\nNats-Time-Stamp: {}\r\n", message.sequence.0, message.time);
    if let Some((pending, last)) = batch {
        let _ = write!(into, "Nats-Num-Pending: {pending}\r\nNats-Last-Sequence: {}\r\n", last.0);
    }
    into.extend_from_slice(b"\r\n");
    let header_len = into.len() - start;
    into.extend_from_slice(message.payload);
    header_len
}

/// The status line behind the last message, with its headers; `None`: there is more to come.
#[must_use]
pub fn direct_end(end: &DirectEnd) -> Option<String> {
    match end {
        DirectEnd::More(_) => None,
        DirectEnd::Status(line) => Some((*line).to_owned()),
        DirectEnd::Done { pending, last, up_to } => {
            let up_to = up_to.map_or_else(String::new, |up_to| format!("\r\nNats-UpTo-Sequence: {}", up_to.0));
            Some(format!("204 EOB\r\nNats-Num-Pending: {pending}\r\nNats-Last-Sequence: {}{up_to}", last.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetstream::identity::{AgeMillis, Sequence, Timestamp};

    fn check(headers: &[u8], batch: Option<(u64, Sequence)>, expected: &str) {
        let message = StoredMessage {
            sequence: Sequence(3),
            time: Timestamp(1_795_264_452_760_336_748),
            age: AgeMillis(0),
            subject: b"s.h",
            headers,
            payload: b"hey",
        };
        let mut into = b"kept".to_vec();
        let header_len = direct_message("S", &message, batch, &mut into);
        assert_eq!(String::from_utf8(into[4..4 + header_len].to_vec()).unwrap(), expected);
        assert_eq!(&into[4 + header_len..], b"hey");
    }

    #[test]
    fn as_stock_answers() {
        let place = "Nats-Stream: S\r\nNats-Subject: s.h\r\nNats-Sequence: 3\r\nNats-Time-Stamp: \
                     2026-11-21T12:34:12.760336748Z\r\n\r\n";
        check(b"", None, &format!("NATS/1.0\r\n{place}"));
        check(b"NATS/1.0\r\nFoo: bar\r\n\r\n", None, &format!("NATS/1.0\r\nFoo: bar\r\n{place}"));
        let place = place.trim_end();
        let expected = format!("NATS/1.0\r\n{place}\r\nNats-Num-Pending: 7\r\nNats-Last-Sequence: 2\r\n\r\n");
        check(b"", Some((7, Sequence(2))), &expected);
    }
}
