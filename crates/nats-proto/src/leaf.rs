//! Leaf links, both directions: bytes to operations and back.
//!
//! The grammar is symmetric after the handshake, so one decoder serves hub and leaf; who may send what when is not decided here. Which form a
//! message has follows from the number of its arguments. No allocation: queue groups are read from the input as they are asked for.

use crate::client::Limits;
use crate::encode;
use crate::line::{self, Body};
use crate::refusal::ProtocolError;

/// The head of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// An operation, and how many bytes it took.
    Op(LeafOp<'a>, usize),
    /// Not all there yet.
    Incomplete {
        /// The whole frame has so many bytes, once its control line is there; until then one more than there are.
        need: usize,
    },
}

/// An operation on a leaf link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafOp<'a> {
    /// INFO with its JSON, unchecked.
    Info(&'a [u8]),
    /// CONNECT with its JSON, unchecked.
    Connect(&'a [u8]),
    /// PING.
    Ping,
    /// PONG.
    Pong,
    /// `+OK`, ignored.
    Ok,
    /// `-ERR`, its text without quotes.
    Err(&'a [u8]),
    /// `LS+`: the peer wants this. Its key is (subject, queue).
    Subscribe {
        /// A filter, unchecked.
        subject: &'a [u8],
        /// Queue group with its weight, which replaces the one before.
        queue: Option<(&'a [u8], u32)>,
    },
    /// `LS-`: no longer.
    Unsubscribe {
        /// A filter, unchecked.
        subject: &'a [u8],
        /// Queue group.
        queue: Option<&'a [u8]>,
    },
    /// LMSG or HMSG.
    Message(LeafMessage<'a>),
}

/// A message that crosses the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafMessage<'a> {
    /// A literal subject, unchecked.
    pub subject: &'a [u8],
    /// Where answers go; on JetStream deliveries with the `@` suffix, see [`split_delivery`].
    pub reply: Option<&'a [u8]>,
    /// The queue groups to serve, besides all plain subscriptions.
    pub queues: Queues<'a>,
    /// Bytes of the header block at the beginning of `message`; 0: it has none.
    pub header_len: usize,
    /// Header block and body.
    pub message: &'a [u8],
    /// As [`crate::client::Publish::tail`]; only without queue groups.
    pub tail: Option<&'a [u8]>,
}

/// Queue groups as they stand in the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues<'a>(&'a [u8]);

impl Queues<'_> {
    /// Without any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Iterator for Queues<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (token, rest) = cut_token(self.0)?;
        self.0 = rest;
        Some(token)
    }
}

/// The first token, and what is behind it and its blanks.
fn cut_token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.trim_ascii_start();
    if text.is_empty() {
        return None;
    }
    let end = text.iter().position(|byte| is_blank(*byte)).unwrap_or(text.len());
    Some((&text[..end], text[end..].trim_ascii_start()))
}

/// The last token, and what is before it and its blanks.
fn cut_last_token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.trim_ascii_end();
    if text.is_empty() {
        return None;
    }
    let start = text.iter().rposition(|byte| is_blank(*byte)).map_or(0, |blank| blank + 1);
    Some((&text[start..], text[..start].trim_ascii_end()))
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Takes the first operation off the input. Headers are decided by the handshake, not here: `limits.headers` is not looked at.
///
/// # Errors
/// When no continuation could make it valid; the link must be closed.
pub fn decode<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
    let Some(first) = bytes.first() else { return Ok(Decoded::Incomplete { need: 1 }) };
    let second = bytes.get(1).map(u8::to_ascii_uppercase);
    match (first.to_ascii_uppercase(), second) {
        (b'L', Some(b'M')) => message(bytes, b"LMSG", 1, limits),
        (b'H', _) => message(bytes, b"HMSG", 2, limits),
        (b'L', Some(b'S')) if bytes.get(2) == Some(&b'-') => arguments(bytes, b"LS-", limits, unsubscribe),
        (b'L', Some(b'S')) => arguments(bytes, b"LS+", limits, subscribe),
        (b'P', Some(b'I')) => operation(bytes, b"PING", limits, |_| LeafOp::Ping),
        (b'P', Some(b'O')) => operation(bytes, b"PONG", limits, |_| LeafOp::Pong),
        (b'L' | b'P', None) => Ok(Decoded::Incomplete { need: 2 }),
        (b'I', _) => operation(bytes, b"INFO", limits, LeafOp::Info),
        (b'C', _) => operation(bytes, b"CONNECT", limits, LeafOp::Connect),
        (b'+', _) => operation(bytes, b"+OK", limits, |_| LeafOp::Ok),
        (b'-', _) => operation(bytes, b"-ERR", limits, |text| LeafOp::Err(line::unquoted(text))),
        _ => Err(ProtocolError::UnknownOperation),
    }
}

fn more(bytes: &[u8]) -> Decoded<'static> {
    Decoded::Incomplete { need: bytes.len() + 1 }
}

/// A verb and the rest of its line.
fn operation<'a>(
    bytes: &'a [u8],
    name: &[u8],
    limits: &Limits,
    make: impl FnOnce(&'a [u8]) -> LeafOp<'a>,
) -> Result<Decoded<'a>, ProtocolError> {
    if !line::verb(bytes, name)? {
        return Ok(more(bytes));
    }
    match line::rest(bytes, name.len(), limits.max_control_line)? {
        Some((rest, end)) => Ok(Decoded::Op(make(rest), end)),
        None => Ok(more(bytes)),
    }
}

/// A verb that must be followed by a blank, and its arguments.
fn arguments<'a>(
    bytes: &'a [u8],
    name: &[u8],
    limits: &Limits,
    make: impl FnOnce(&'a [u8]) -> Result<LeafOp<'a>, ProtocolError>,
) -> Result<Decoded<'a>, ProtocolError> {
    match argument_text(bytes, name, limits)? {
        Some((text, end)) => Ok(Decoded::Op(make(text)?, end)),
        None => Ok(more(bytes)),
    }
}

fn argument_text<'a>(
    bytes: &'a [u8],
    name: &[u8],
    limits: &Limits,
) -> Result<Option<(&'a [u8], usize)>, ProtocolError> {
    if !line::verb(bytes, name)? {
        return Ok(None);
    }
    if bytes.get(name.len()).is_some_and(|byte| !is_blank(*byte)) {
        return Err(ProtocolError::UnknownOperation);
    }
    let Some((text, end)) = line::rest(bytes, name.len(), limits.max_control_line)? else { return Ok(None) };
    // Only blanks part arguments; a lone CR must not get into a subject, and from there into somebody's line.
    if text.iter().any(|byte| matches!(byte, b'\r' | 0x0b | 0x0c)) {
        return Err(ProtocolError::Arguments);
    }
    Ok(Some((text, end)))
}

/// `LS+ subject [queue weight]`
fn subscribe(text: &[u8]) -> Result<LeafOp<'_>, ProtocolError> {
    let (subject, rest) = cut_token(text).ok_or(ProtocolError::Arguments)?;
    let Some((queue, rest)) = cut_token(rest) else { return Ok(LeafOp::Subscribe { subject, queue: None }) };
    // A queue without a weight is an error, as in nats-server.
    let (weight, rest) = cut_token(rest).ok_or(ProtocolError::Arguments)?;
    if !rest.is_empty() {
        return Err(ProtocolError::Arguments);
    }
    let weight = u32::try_from(line::number(weight)?).map_err(|_| ProtocolError::Arguments)?;
    Ok(LeafOp::Subscribe { subject, queue: Some((queue, weight)) })
}

/// `LS- subject [queue]`
fn unsubscribe(text: &[u8]) -> Result<LeafOp<'_>, ProtocolError> {
    let (subject, rest) = cut_token(text).ok_or(ProtocolError::Arguments)?;
    let queue = cut_token(rest);
    match queue {
        Some((_, rest)) if !rest.is_empty() => Err(ProtocolError::Arguments),
        _ => Ok(LeafOp::Unsubscribe { subject, queue: queue.map(|(queue, _)| queue) }),
    }
}

/// LMSG with one number at the end, HMSG with two.
fn message<'a>(bytes: &'a [u8], name: &[u8], numbers: usize, limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
    let Some((text, line_end)) = argument_text(bytes, name, limits)? else { return Ok(more(bytes)) };
    let (subject, rest) = cut_token(text).ok_or(ProtocolError::Arguments)?;
    let (total_text, middle) = cut_last_token(rest).ok_or(ProtocolError::Arguments)?;
    let (header_text, middle) =
        if numbers == 2 { cut_last_token(middle).ok_or(ProtocolError::Arguments)? } else { (&b""[..], middle) };
    let (reply, queues) = reply_and_queues(middle)?;
    let total = line::number(total_text)?;
    let header = if numbers == 2 { line::number(header_text)? } else { 0 };
    if header > total {
        return Err(ProtocolError::HeaderLength);
    }
    let limit = limits.max_payload;
    let size = usize::try_from(total).ok().filter(|size| *size <= limit);
    let size = size.ok_or(ProtocolError::PayloadTooLarge { size: total, limit })?;
    let crlf = bytes[..line_end].ends_with(b"\r\n");
    match line::body(bytes, line_end, crlf, size)? {
        Body::Needs(need) => Ok(Decoded::Incomplete { need }),
        Body::Whole { message, end, crlf: body_crlf } => {
            let zero_led = |text: &[u8]| text.first() == Some(&b'0');
            let canonical = !zero_led(header_text) && (!zero_led(total_text) || total_text.len() == 1);
            let plain = queues.is_empty() && crlf && body_crlf && canonical;
            let tail = tail_start(bytes, text, rest, line_end).filter(|_| plain).map(|start| &bytes[start..end]);
            // It is at most the total, which is a usize.
            let message = LeafMessage { subject, reply, queues, header_len: header as usize, message, tail };
            Ok(Decoded::Op(LeafOp::Message(message), end))
        }
    }
}

/// Where the bytes from the reply or size on begin, if the rest of the line is written with single spaces.
fn tail_start(bytes: &[u8], text: &[u8], rest: &[u8], line_end: usize) -> Option<usize> {
    // CR LF right behind the last argument, and `rest` reaches up to it.
    let end = line_end.checked_sub(2)?;
    let start = end.checked_sub(rest.len())?;
    let single = rest.windows(2).all(|pair| pair != b"  ") && !rest.contains(&b'\t');
    (single && text.ends_with(rest) && bytes.get(start..end) == Some(rest)).then_some(start)
}

/// What stands between subject and numbers: nothing, a reply, `| queue…` or `+ reply queue…`.
fn reply_and_queues(middle: &[u8]) -> Result<(Option<&[u8]>, Queues<'_>), ProtocolError> {
    let Some((mark, rest)) = cut_token(middle) else { return Ok((None, Queues::default())) };
    if rest.is_empty() {
        // Alone it is a reply, whatever it looks like.
        return Ok((Some(mark), Queues::default()));
    }
    match mark {
        b"|" => Ok((None, Queues(rest))),
        b"+" => {
            let (reply, queues) = cut_token(rest).ok_or(ProtocolError::Arguments)?;
            Ok((Some(reply), Queues(queues)))
        }
        _ => Err(ProtocolError::Arguments),
    }
}

/// A delivery's reply `$JS.ACK.…@subject` in its two parts: the reply proper, and the subject that subscribers are to see.
#[must_use]
pub fn split_delivery(reply: &[u8]) -> Option<(&[u8], &[u8])> {
    if !reply.starts_with(b"$JS.ACK.") {
        return None;
    }
    let at = memchr::memchr(b'@', reply)?;
    let subject = &reply[at + 1..];
    if subject.is_empty() { None } else { Some((&reply[..at], subject)) }
}

/// Appends INFO.
pub fn info(json: &[u8], into: &mut Vec<u8>) {
    encode::info(json, into);
}

/// Appends CONNECT.
pub fn connect(json: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(b"CONNECT ");
    into.extend_from_slice(json);
    into.extend_from_slice(b"\r\n");
}

/// Appends `LS+`; the weight of a queue group is absolute and at least 1.
pub fn subscribe_to(subject: &[u8], queue: Option<(&[u8], u32)>, into: &mut Vec<u8>) {
    into.extend_from_slice(b"LS+ ");
    into.extend_from_slice(subject);
    if let Some((queue, weight)) = queue {
        into.push(b' ');
        into.extend_from_slice(queue);
        into.push(b' ');
        into.extend_from_slice(itoa::Buffer::new().format(weight).as_bytes());
    }
    into.extend_from_slice(b"\r\n");
}

/// Appends `LS-`.
pub fn unsubscribe_from(subject: &[u8], queue: Option<&[u8]>, into: &mut Vec<u8>) {
    into.extend_from_slice(b"LS- ");
    into.extend_from_slice(subject);
    if let Some(queue) = queue {
        into.push(b' ');
        into.extend_from_slice(queue);
    }
    into.extend_from_slice(b"\r\n");
}

/// Appends `LMSG subject ` or, with headers, `HMSG subject `. Without queue groups the rest is the same tail as a client's message has.
pub fn message_prefix(subject: &[u8], headers: bool, into: &mut Vec<u8>) {
    into.extend_from_slice(if headers { b"HMSG " } else { b"LMSG " });
    into.extend_from_slice(subject);
    into.push(b' ');
}

/// Appends what stands before the sizes when queue groups are named, for a link that serves them: `| q1 q2 ` or `+ reply q1 q2 `. What follows
/// is [`encode::message_tail`] without reply.
pub fn queue_list<'q>(reply: Option<&[u8]>, queues: impl IntoIterator<Item = &'q [u8]>, into: &mut Vec<u8>) {
    match reply {
        Some(reply) => {
            into.extend_from_slice(b"+ ");
            into.extend_from_slice(reply);
            into.push(b' ');
        }
        None => into.extend_from_slice(b"| "),
    }
    for queue in queues {
        into.extend_from_slice(queue);
        into.push(b' ');
    }
}

/// Appends a whole message; HMSG when `header_len` is not 0.
pub fn send(
    subject: &[u8],
    reply: Option<&[u8]>,
    queues: &[&[u8]],
    header_len: usize,
    message: &[u8],
    into: &mut Vec<u8>,
) {
    message_prefix(subject, header_len > 0, into);
    if queues.is_empty() {
        encode::message_tail(reply, header_len, message, into);
    } else {
        queue_list(reply, queues.iter().copied(), into);
        encode::message_tail(None, header_len, message, into);
    }
}

#[cfg(test)]
mod tests;
