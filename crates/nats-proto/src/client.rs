//! What clients send: bytes to operations.
//!
//! [`decode`] takes what has arrived and gives the first operation with its length, borrowed from the input. Promises: one pass over hot
//! lines, no allocation, limits applied before a payload has arrived. Verbs in any case, several blanks or tabs, and bare LF are accepted, as
//! by stock. It does not look into subjects, header blocks or JSON.

use crate::line::{self, Body, Line};
use crate::refusal::ProtocolError;

/// What a connection may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest control line, bytes, without verb and line end.
    pub max_control_line: usize,
    /// Largest message, header block included, bytes.
    pub max_payload: usize,
    /// Is HPUB allowed?
    pub headers: bool,
}

impl Limits {
    /// What a leaf link may send: control lines sixteen times as long as a client's, as in nats-server.
    #[must_use]
    pub fn leaf(max_payload: usize) -> Limits {
        Limits { max_control_line: 16 * 4096, max_payload, headers: true }
    }
}

impl Default for Limits {
    /// Stock's defaults: 4096 bytes and 1 MiB.
    fn default() -> Limits {
        Limits { max_control_line: 4096, max_payload: 1 << 20, headers: true }
    }
}

/// The head of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// An operation, and how many bytes it took.
    Op(ClientOp<'a>, usize),
    /// Not all there yet.
    Incomplete {
        /// The whole frame has so many bytes, once its control line is there; until then one more than there are.
        need: usize,
    },
}

/// An operation of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientOp<'a> {
    /// CONNECT with its JSON, unchecked.
    Connect(&'a [u8]),
    /// INFO; clients have no business sending it, it is ignored.
    Info,
    /// PING.
    Ping,
    /// PONG.
    Pong,
    /// `+OK`, ignored.
    Ok,
    /// `-ERR`, its text without quotes.
    Err(&'a [u8]),
    /// SUB.
    Sub {
        /// A filter, unchecked.
        subject: &'a [u8],
        /// Queue group.
        queue: Option<&'a [u8]>,
        /// The client's name for this subscription.
        sid: &'a [u8],
    },
    /// UNSUB.
    Unsub {
        /// Which subscription.
        sid: &'a [u8],
        /// End it after so many messages, counted from its beginning; `None` or 0: now.
        max: Option<u64>,
    },
    /// PUB or HPUB.
    Pub(Publish<'a>),
}

/// A published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// A literal subject, unchecked.
    pub subject: &'a [u8],
    /// Where answers go.
    pub reply: Option<&'a [u8]>,
    /// Bytes of the header block at the beginning of `message`; 0: it has none.
    pub header_len: usize,
    /// Header block and body.
    pub message: &'a [u8],
    /// From the reply or size to the final CR LF, exactly as a MSG (HMSG, when `header_len` is not 0) ends: to be copied as it is. `None` when
    /// the line was not written in the canonical way.
    pub tail: Option<&'a [u8]>,
}

/// Takes the first operation off the input.
///
/// # Errors
/// When no continuation could make it valid; the connection must be closed.
#[inline]
pub fn decode<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
    if let [p, u, b, b' ' | b'\t', ..] = bytes
        && [p | 0x20, u | 0x20, b | 0x20] == *b"pub"
    {
        return publish(bytes, limits);
    }
    if bytes.starts_with(b"PING\r\n") {
        return Ok(Decoded::Op(ClientOp::Ping, 6));
    }
    decode_other(bytes, limits)
}

/// Takes a PUB without reply subject off the input, if it is complete, written in the canonical way, and on `subject`: what a publisher
/// that stays on its subject sends. `None` says nothing about the input: [`decode`] does.
#[inline(always)]
pub fn decode_same<'a>(bytes: &'a [u8], subject: &[u8], limits: &Limits) -> Option<(Publish<'a>, usize)> {
    let start = subject.len() + b"PUB  ".len();
    let (head, _) = bytes.split_at_checked(start)?;
    if head[..4] != *b"PUB " || head[start - 1] != b' ' || !line::equal(&head[4..start - 1], subject) {
        return None;
    }
    let (total, line_end) = line::canonical_size(bytes, start).filter(|(total, _)| *total <= limits.max_payload)?;
    let end = line_end + total + 2;
    let tail = bytes.get(start..end)?;
    if !tail.ends_with(b"\r\n") {
        return None;
    }
    let message = &bytes[line_end..end - 2];
    Some((Publish { subject: &bytes[4..start - 1], reply: None, header_len: 0, message, tail: Some(tail) }, end))
}

fn decode_other<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
    let Some(first) = bytes.first() else { return Ok(Decoded::Incomplete { need: 1 }) };
    match first.to_ascii_uppercase() {
        b'P' => match bytes.get(1).map(u8::to_ascii_uppercase) {
            Some(b'I') => bare(bytes, b"PING", ClientOp::Ping, limits),
            Some(b'O') => bare(bytes, b"PONG", ClientOp::Pong, limits),
            // The complete verb was handled by the caller, so this is a part of it, or none.
            Some(_) => with_arguments(bytes, b"PUB", limits, publish),
            None => Ok(Decoded::Incomplete { need: 2 }),
        },
        b'H' => with_arguments(bytes, b"HPUB", limits, header_publish),
        b'S' => with_arguments(bytes, b"SUB", limits, subscribe),
        b'U' => with_arguments(bytes, b"UNSUB", limits, unsubscribe),
        b'C' => text(bytes, b"CONNECT", ClientOp::Connect, limits),
        b'I' => text(bytes, b"INFO", |_| ClientOp::Info, limits),
        b'+' => bare(bytes, b"+OK", ClientOp::Ok, limits),
        b'-' => text(bytes, b"-ERR", |text| ClientOp::Err(line::unquoted(text)), limits),
        _ => Err(ProtocolError::UnknownOperation),
    }
}

type Decoder = for<'a> fn(&'a [u8], &Limits) -> Result<Decoded<'a>, ProtocolError>;

/// A verb that must be followed by a blank.
fn with_arguments<'a>(
    bytes: &'a [u8],
    name: &[u8],
    limits: &Limits,
    decoder: Decoder,
) -> Result<Decoded<'a>, ProtocolError> {
    if !line::verb(bytes, name)? {
        return Ok(more(bytes));
    }
    match bytes.get(name.len()) {
        Some(b' ' | b'\t') => decoder(bytes, limits),
        // `UNSUB` without anything, `PUBX`
        Some(_) => Err(ProtocolError::UnknownOperation),
        None => Ok(more(bytes)),
    }
}

/// A verb alone; what else is on its line is ignored.
fn bare<'a>(
    bytes: &'a [u8],
    name: &[u8],
    operation: ClientOp<'a>,
    limits: &Limits,
) -> Result<Decoded<'a>, ProtocolError> {
    text(bytes, name, |_| operation, limits)
}

/// A verb and the rest of its line.
fn text<'a>(
    bytes: &'a [u8],
    name: &[u8],
    operation: impl FnOnce(&'a [u8]) -> ClientOp<'a>,
    limits: &Limits,
) -> Result<Decoded<'a>, ProtocolError> {
    if !line::verb(bytes, name)? {
        return Ok(more(bytes));
    }
    match line::rest(bytes, name.len(), limits.max_control_line)? {
        Some((rest, end)) => Ok(Decoded::Op(operation(rest), end)),
        None => Ok(more(bytes)),
    }
}

fn more(bytes: &[u8]) -> Decoded<'static> {
    Decoded::Incomplete { need: bytes.len() + 1 }
}

/// `PUB subject [reply] size`
#[inline(always)]
fn publish<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
    let mut line = Line::<3>::new();
    if !line::scan(bytes, 3, limits.max_control_line, &mut line)? {
        return Ok(more(bytes));
    }
    let size = line.count.checked_sub(1).filter(|size| *size > 0).ok_or(ProtocolError::Arguments)?;
    let total = line.argument(bytes, size);
    let canonical = total[0] != b'0' || total.len() == 1;
    let reply = (size == 2).then(|| line.argument(bytes, 1));
    message(bytes, &line, reply, Sizes { header: 0, total: line::number(total)?, canonical }, limits)
}

/// `HPUB subject [reply] header-size total-size`
fn header_publish<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
    let mut line = Line::<4>::new();
    if !line::scan(bytes, 4, limits.max_control_line, &mut line)? {
        return Ok(more(bytes));
    }
    if !limits.headers {
        return Err(ProtocolError::HeadersNotSupported);
    }
    let size = line.count.checked_sub(2).filter(|size| *size > 0).ok_or(ProtocolError::Arguments)?;
    let (header, total) = (line.argument(bytes, size), line.argument(bytes, size + 1));
    // With a header block of no length it goes on as a MSG, whose line has one number less.
    let canonical = header[0] != b'0' && total[0] != b'0';
    let (header, total) = (line::number(header)?, line::number(total)?);
    if header > total {
        return Err(ProtocolError::HeaderLength);
    }
    let reply = (size == 2).then(|| line.argument(bytes, 1));
    message(bytes, &line, reply, Sizes { header, total, canonical }, limits)
}

#[derive(Clone, Copy)]
struct Sizes {
    header: u64,
    total: u64,
    /// Without leading zeros.
    canonical: bool,
}

#[inline(always)]
fn message<'a, const N: usize>(
    bytes: &'a [u8],
    line: &Line<N>,
    reply: Option<&'a [u8]>,
    sizes: Sizes,
    limits: &Limits,
) -> Result<Decoded<'a>, ProtocolError> {
    let limit = limits.max_payload;
    let total = usize::try_from(sizes.total).ok().filter(|total| *total <= limit);
    let total = total.ok_or(ProtocolError::PayloadTooLarge { size: sizes.total, limit })?;
    match line::body(bytes, line.end, line.crlf, total)? {
        Body::Whole { message, end, crlf } => {
            let verbatim = line.plain && line.crlf && crlf && sizes.canonical;
            let publish = Publish {
                subject: line.argument(bytes, 0),
                reply,
                // It is at most the total, which is a usize.
                header_len: sizes.header as usize,
                message,
                tail: verbatim.then(|| &bytes[line.start(1)..end]),
            };
            Ok(Decoded::Op(ClientOp::Pub(publish), end))
        }
        Body::Needs(need) => Ok(Decoded::Incomplete { need }),
    }
}

/// `SUB subject [queue] sid`
fn subscribe<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
    let mut line = Line::<3>::new();
    if !line::scan(bytes, 3, limits.max_control_line, &mut line)? {
        return Ok(more(bytes));
    }
    let argument = |n| line.argument(bytes, n);
    let operation = match line.count {
        2 => ClientOp::Sub { subject: argument(0), queue: None, sid: argument(1) },
        3 => ClientOp::Sub { subject: argument(0), queue: Some(argument(1)), sid: argument(2) },
        _ => return Err(ProtocolError::Arguments),
    };
    Ok(Decoded::Op(operation, line.end))
}

/// `UNSUB sid [max]`
fn unsubscribe<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
    let mut line = Line::<2>::new();
    if !line::scan(bytes, 5, limits.max_control_line, &mut line)? {
        return Ok(more(bytes));
    }
    let max = match line.count {
        1 => None,
        2 => Some(line::number(line.argument(bytes, 1))?),
        _ => return Err(ProtocolError::Arguments),
    };
    Ok(Decoded::Op(ClientOp::Unsub { sid: line.argument(bytes, 0), max }, line.end))
}

#[cfg(test)]
mod tests;
