//! `CONSUMER.MSG.NEXT` and `DIRECT.GET`: requests that are not answered with JSON but with messages, or with a status line.
//!
//! Unlike all other requests these are read leniently, as stock does: unknown fields are ignored.

use crate::json::{self, Object};
use jetstream::api_error::ApiError;
use jetstream::command::{MessageGet, Pull};
use jetstream::identity::Sequence;

/// Reads a pull request; its inbox is left empty. The error is a status line without `NATS/1.0`.
pub(crate) fn pull(stream: &str, consumer: &str, payload: &[u8]) -> Result<Pull, String> {
    let mut pull = Pull { stream: stream.into(), consumer: consumer.into(), batch: 1, ..Pull::default() };
    let text = payload.trim_ascii();
    if !text.starts_with(b"{") {
        // A bare number, or nothing; anything else means 1, as for stock.
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
        pull.batch = batch(number.unwrap_or(1));
        return Ok(pull);
    }
    let bad = |text: &str| format!("400 Bad Request - {text}");
    let mut body = json::parse_lenient(text).map_err(|text| bad(&text))?;
    read_pull(&mut body, &mut pull).map_err(|error| bad(without_prefix(&error)))?;
    let (Some(heartbeat), expires) = (pull.heartbeat_ms, pull.expires_ms.unwrap_or(0)) else { return Ok(pull) };
    if heartbeat.saturating_mul(2) > expires {
        return Err(bad("heartbeat value too large"));
    }
    Ok(pull)
}

fn read_pull(body: &mut Object, pull: &mut Pull) -> Result<(), ApiError> {
    pull.batch = batch(body.count("batch")?);
    pull.no_wait = body.flag("no_wait")?;
    pull.max_bytes = u64::try_from(body.count("max_bytes")?).ok().filter(|bytes| *bytes > 0);
    pull.expires_ms = match body.duration("expires")? {
        0 => None,
        // Over before it began.
        ..0 => Some(0),
        nanos => Some(milliseconds(nanos)),
    };
    pull.heartbeat_ms = Some(body.duration("idle_heartbeat")?).filter(|nanos| *nanos > 0).map(milliseconds);
    for (key, text) in [
        ("min_pending", "Not a Overflow Priority consumer"),
        ("min_ack_pending", "Not a Overflow Priority consumer"),
        ("id", "Not a Pinned Client Priority consumer"),
    ] {
        body.unsupported(key);
        if body.has_unsupported() {
            return Err(jetstream::api_error::invalid_json(text));
        }
    }
    Ok(())
}

/// At least one; nobody waits for more than this type holds.
fn batch(number: i64) -> u32 {
    u32::try_from(number.max(1)).unwrap_or(u32::MAX)
}

/// Rounded up: what is asked for must not become "none".
fn milliseconds(nanos: i64) -> u64 {
    nanos.unsigned_abs().div_ceil(1_000_000)
}

fn without_prefix(error: &ApiError) -> &str {
    error.description.strip_prefix("invalid JSON: ").unwrap_or(&error.description)
}

/// Which message, and whether its headers are wanted. `subject` is what stands behind the stream in the request's subject. The error is a
/// status line without `NATS/1.0`.
pub(crate) fn direct_get(subject: Option<&str>, payload: &[u8]) -> Result<(MessageGet, bool), &'static str> {
    const EMPTY: &str = "408 Empty Request";
    const BAD: &str = "408 Bad Request";
    const MALFORMED: &str = "408 Malformed Request";
    if payload.trim_ascii().is_empty() {
        return subject.map(|subject| (MessageGet::LastBySubject(subject.into()), true)).ok_or(EMPTY);
    }
    let mut body = json::parse_lenient(payload).map_err(|_| MALFORMED)?;
    let fields = read_get(&mut body).map_err(|_| MALFORMED)?;
    match (fields.which(), subject) {
        (_, Some(_)) if fields.any() => Err(BAD),
        (_, Some(subject)) => Ok((MessageGet::LastBySubject(subject.into()), !fields.no_headers)),
        (Some(get), None) => Ok((get, !fields.no_headers)),
        (None, None) => Err(if fields.any() { BAD } else { EMPTY }),
    }
}

/// The fields of a message get request.
#[derive(Default)]
pub(crate) struct GetFields {
    sequence: u64,
    last: String,
    next: String,
    pub(crate) no_headers: bool,
    /// Batches and start times are not built.
    more: bool,
}

pub(crate) fn read_get(body: &mut Object) -> Result<GetFields, ApiError> {
    let mut fields = GetFields {
        sequence: body.unsigned("seq")?,
        last: body.text_or_empty("last_by_subj")?,
        next: body.text_or_empty("next_by_subj")?,
        no_headers: body.flag("no_hdr")?,
        more: false,
    };
    for key in ["batch", "max_bytes", "start_time", "multi_last", "up_to_seq", "up_to_time"] {
        body.unsupported(key);
    }
    fields.more = body.has_unsupported();
    Ok(fields)
}

impl GetFields {
    fn any(&self) -> bool {
        self.sequence != 0 || !self.last.is_empty() || !self.next.is_empty() || self.more
    }

    /// What they ask for, if they ask for one thing.
    pub(crate) fn which(&self) -> Option<MessageGet> {
        match (self.sequence, &*self.last, &*self.next) {
            _ if self.more => None,
            (0, "", "") => None,
            (sequence, "", "") => Some(MessageGet::Sequence(Sequence(sequence))),
            (0, last, "") => Some(MessageGet::LastBySubject(last.into())),
            (sequence, "", next) => Some(MessageGet::NextBySubject(Sequence(sequence.max(1)), next.into())),
            _ => None,
        }
    }
}
