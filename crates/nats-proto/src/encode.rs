//! What clients get: operations to bytes, appended to a buffer.
//!
//! A delivery is a prefix that each subscription keeps ready ([`message_prefix`]), and a tail: the publisher's own bytes where they were
//! canonical ([`crate::client::Publish::tail`]), else [`message_tail`].

/// `PING` with its line end.
pub const PING: &[u8] = b"PING\r\n";
/// `PONG` with its line end.
pub const PONG: &[u8] = b"PONG\r\n";
/// `+OK` with its line end.
pub const OK: &[u8] = b"+OK\r\n";

/// INFO. The blank before the line end is stock's.
pub fn info(json: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(b"INFO ");
    into.extend_from_slice(json);
    into.extend_from_slice(b" \r\n");
}

/// `-ERR` with any text.
pub fn error(text: &str, into: &mut Vec<u8>) {
    into.extend_from_slice(b"-ERR '");
    into.extend_from_slice(text.as_bytes());
    into.extend_from_slice(b"'\r\n");
}

/// `HMSG subject sid `; from its second byte on it is `MSG subject sid `.
pub fn message_prefix(subject: &[u8], sid: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(b"HMSG ");
    into.extend_from_slice(subject);
    into.push(b' ');
    into.extend_from_slice(sid);
    into.push(b' ');
}

/// The rest of a MSG (of an HMSG, when `header_len` is not 0): `[reply ][header-size ]total-size`, line end, message, line end.
pub fn message_tail(reply: Option<&[u8]>, header_len: usize, message: &[u8], into: &mut Vec<u8>) {
    message_sizes(reply, header_len, message.len(), into);
    into.extend_from_slice(message);
    into.extend_from_slice(b"\r\n");
}

/// The head of [`message_tail`], up to and with the end of the control line; `total` bytes of message and a line end are to follow.
pub fn message_sizes(reply: Option<&[u8]>, header_len: usize, total: usize, into: &mut Vec<u8>) {
    if let Some(reply) = reply {
        into.extend_from_slice(reply);
        into.push(b' ');
    }
    let mut digits = itoa::Buffer::new();
    if header_len > 0 {
        into.extend_from_slice(digits.format(header_len).as_bytes());
        into.push(b' ');
    }
    into.extend_from_slice(digits.format(total).as_bytes());
    into.extend_from_slice(b"\r\n");
}

/// A whole MSG or HMSG; HMSG when `header_len` is not 0.
pub fn message(
    subject: &[u8],
    sid: &[u8],
    reply: Option<&[u8]>,
    header_len: usize,
    message: &[u8],
    into: &mut Vec<u8>,
) {
    let start = into.len();
    message_prefix(subject, sid, into);
    if header_len == 0 {
        into.remove(start);
    }
    message_tail(reply, header_len, message, into);
}

/// The answer to a request that nobody hears: status 503 on the reply subject, naming the request's subject.
pub fn no_responders(reply: &[u8], sid: &[u8], subject: &[u8], into: &mut Vec<u8>) {
    const HEAD: &[u8] = b"NATS/1.0 503\r\nNats-Subject: ";
    const END: &[u8] = b"\r\n\r\n";
    let total = HEAD.len() + subject.len() + END.len();
    message_prefix(reply, sid, into);
    message_sizes(None, total, total, into);
    into.extend_from_slice(HEAD);
    into.extend_from_slice(subject);
    into.extend_from_slice(END);
    into.extend_from_slice(b"\r\n");
}
