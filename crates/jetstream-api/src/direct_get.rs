//! The answer to `DIRECT.GET`: the message itself, with headers that say where it stood.

use crate::wire::Time;
use jetstream::store::StoredMessage;
use std::io::Write as _;

/// Appends header block and body; gives the length of the block. The message's own headers come first, as they were stored.
pub fn direct_message(stream: &str, message: &StoredMessage<'_>, into: &mut Vec<u8>) -> usize {
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
    let _ =
        write!(into, "\r\nNats-Sequence: {}\r\nNats-Time-Stamp: {}\r\n\r\n", message.sequence.0, Time(message.time));
    let header_len = into.len() - start;
    into.extend_from_slice(message.payload);
    header_len
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetstream::identity::{AgeMillis, Sequence, Timestamp};

    fn check(headers: &[u8], expected: &str) {
        let message = StoredMessage {
            sequence: Sequence(3),
            time: Timestamp(1_795_264_452_760_336_748),
            age: AgeMillis(0),
            subject: b"s.h",
            headers,
            payload: b"hey",
        };
        let mut into = b"kept".to_vec();
        let header_len = direct_message("S", &message, &mut into);
        assert_eq!(String::from_utf8(into[4..4 + header_len].to_vec()).unwrap(), expected);
        assert_eq!(&into[4 + header_len..], b"hey");
    }

    #[test]
    fn as_stock_answers() {
        let place = "Nats-Stream: S\r\nNats-Subject: s.h\r\nNats-Sequence: 3\r\nNats-Time-Stamp: \
                     2026-11-21T12:34:12.760336748Z\r\n\r\n";
        check(b"", &format!("NATS/1.0\r\n{place}"));
        check(b"NATS/1.0\r\nFoo: bar\r\n\r\n", &format!("NATS/1.0\r\nFoo: bar\r\n{place}"));
    }
}
