//! What goes on a forwarded message: its identity, the hub's conditions, and the sender's own headers made harmless.
//!
//! Headers that sensors put on a message are data, not commands to the hub: with `Nats-Rollup: all` one sensor would purge the fleet's stream.

use jetstream::identity::StreamId;
use jetstream::store::StoredMessage;

use crate::identity::Incarnations;

/// Key of the edge.
pub const EDGE: &str = "Tributary-Edge";
/// Incarnation, 16 hexadecimal digits.
pub const INCARNATION: &str = "Tributary-Incarnation";
/// Instance of the local stream, a number.
pub const STREAM: &str = "Tributary-Stream";
/// Local sequence.
pub const SEQUENCE: &str = "Tributary-Sequence";
/// Time at which the edge stored it, nanoseconds since 1970.
pub const TIME: &str = "Tributary-Time";
/// What the senders' own `Nats-…` and `Tributary-…` headers are renamed to.
pub const ORIGIN_PREFIX: &str = "Tributary-Origin-";
/// Most bytes that a forward's own headers may take.
pub const MAX_RESERVE: usize = 1024;

/// The parts of the headers that are the same on every message of a forward.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    /// `Tributary-Edge: …\r\nTributary-Stream: …\r\n`
    head: Vec<u8>,
    /// `Nats-Expected-Stream: …\r\n`
    expected: Vec<u8>,
    /// `Nats-Expected-Last-Subject-Sequence-Subject: …\r\n`
    fence_subject: Vec<u8>,
    edge: Vec<u8>,
    instance: StreamId,
}

/// What one message carries beside its identity.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Conditions<'a> {
    /// A batch that the stream has taken its first message of: any other stream refuses what follows, so that it need not be named again.
    pub(crate) continues: bool,
    /// Nothing may have been stored under the filter behind this hub sequence.
    pub(crate) fence: Option<u64>,
    /// Atomic batch: id, number, and whether this message commits it.
    pub(crate) batch: Option<(&'a str, u64, bool)>,
}

impl Stamp {
    pub(crate) fn new(edge: &str, instance: StreamId, hub_stream: &str, filter: &str) -> Stamp {
        Stamp {
            head: format!("NATS/1.0\r\n{EDGE}: {edge}\r\n{STREAM}: {}\r\n", instance.0).into_bytes(),
            expected: format!("Nats-Expected-Stream: {hub_stream}\r\n").into_bytes(),
            fence_subject: format!("Nats-Expected-Last-Subject-Sequence-Subject: {filter}\r\n").into_bytes(),
            edge: edge.as_bytes().to_vec(),
            instance,
        }
    }

    /// Most bytes that these headers take, so that a local publish can be refused before it is stored. Renamed headers come on top.
    pub(crate) fn reserve(&self) -> usize {
        const DIGITS: usize = 20;
        let identity = self.head.len() + INCARNATION.len() + 20 + SEQUENCE.len() + 4 + DIGITS + TIME.len() + 4 + DIGITS;
        let id = "Nats-Msg-Id: \r\n".len() + self.edge.len() + 3 + 16 + 10 + DIGITS;
        let fence = self.fence_subject.len() + "Nats-Expected-Last-Subject-Sequence: \r\n".len() + DIGITS;
        let batch = "Nats-Batch-Id: \r\nNats-Batch-Sequence: \r\nNats-Batch-Commit: 1\r\n".len() + 40 + 4;
        identity + id + self.expected.len() + fence + batch + 2
    }

    /// Appends the complete header block.
    pub(crate) fn write(
        &self,
        out: &mut Vec<u8>,
        message: &StoredMessage<'_>,
        incarnations: &Incarnations,
        conditions: Conditions<'_>,
    ) {
        let incarnation = incarnations.of(message.sequence).0;
        out.extend_from_slice(&self.head);
        line(out, INCARNATION, |out| hexadecimal(out, incarnation));
        line(out, SEQUENCE, |out| decimal(out, message.sequence.0));
        line(out, TIME, |out| out.extend_from_slice(itoa::Buffer::new().format(message.time.0).as_bytes()));
        line(out, "Nats-Msg-Id", |out| {
            out.extend_from_slice(&self.edge);
            out.push(b'.');
            hexadecimal(out, incarnation);
            out.push(b'.');
            decimal(out, u64::from(self.instance.0));
            out.push(b'.');
            decimal(out, message.sequence.0);
        });
        if !conditions.continues {
            out.extend_from_slice(&self.expected);
        }
        if let Some(fence) = conditions.fence {
            line(out, "Nats-Expected-Last-Subject-Sequence", |out| decimal(out, fence));
            out.extend_from_slice(&self.fence_subject);
        }
        if let Some((id, number, commit)) = conditions.batch {
            line(out, "Nats-Batch-Id", |out| out.extend_from_slice(id.as_bytes()));
            line(out, "Nats-Batch-Sequence", |out| decimal(out, number));
            if commit {
                line(out, "Nats-Batch-Commit", |out| out.push(b'1'));
            }
        }
        rename(out, message.headers);
        out.extend_from_slice(b"\r\n");
    }
}

fn line(out: &mut Vec<u8>, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    value(out);
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn hexadecimal(out: &mut Vec<u8>, number: u64) {
    out.extend((0..16).rev().map(|digit| b"0123456789abcdef"[(number >> (digit * 4) & 15) as usize]));
}

/// The header lines of a block, without the version line; lines that are none (no colon) are passed over.
pub(crate) fn lines(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    block.split(|byte| *byte == b'\n').skip(1).filter_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|byte| *byte == b':')?;
        if colon == 0 { None } else { Some((&line[..colon], line[colon + 1..].trim_ascii())) }
    })
}

/// The value of the first header of that name.
pub(crate) fn find<'a>(block: &'a [u8], name: &str) -> Option<&'a [u8]> {
    lines(block).find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value)
}

/// The status on the version line (`NATS/1.0 503`).
pub(crate) fn status(block: &[u8]) -> Option<u16> {
    let first = block.split(|byte| *byte == b'\r').next()?.strip_prefix(b"NATS/1.0")?.trim_ascii_start();
    std::str::from_utf8(first.get(..3)?).ok()?.parse().ok()
}

/// Copies the sender's headers; what begins like a command or like our identity becomes `Tributary-Origin-…`. A status is dropped. Lines only:
/// the caller writes the version line before and the empty one behind.
pub fn rename(out: &mut Vec<u8>, block: &[u8]) {
    for (name, value) in lines(block) {
        let rest = [&b"Nats-"[..], b"Tributary-"].iter().find_map(|prefix| {
            let (start, rest) = name.split_at_checked(prefix.len())?;
            start.eq_ignore_ascii_case(prefix).then_some(rest)
        });
        match rest {
            Some(rest) => {
                out.extend_from_slice(ORIGIN_PREFIX.as_bytes());
                // Already renamed by an edge before this one: not twice.
                out.extend_from_slice(rest.strip_prefix(b"Origin-").unwrap_or(rest));
            }
            None => out.extend_from_slice(name),
        }
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Identity, Incarnation, IncarnationId};
    use jetstream::identity::{AgeMillis, Sequence, Timestamp};
    use proptest::prelude::*;

    fn block(headers: &[u8], sequence: u64, conditions: Conditions<'_>) -> Vec<u8> {
        let rows = vec![Incarnation { id: IncarnationId(u64::MAX), first: Sequence(1) }];
        let message = StoredMessage {
            sequence: Sequence(sequence),
            time: Timestamp(i64::MIN),
            age: AgeMillis(0),
            subject: b"s",
            headers,
            payload: b"",
        };
        let stamp = Stamp::new(&"E".repeat(56), StreamId(u32::MAX), "FLEET", "edge.pump.>");
        let mut out = Vec::new();
        stamp.write(&mut out, &message, &Incarnations::new(rows).unwrap(), conditions);
        out
    }

    #[test]
    fn commands_of_a_sensor_become_data() {
        let sent = b"NATS/1.0 503 No Responders\r\nNats-Rollup: all\r\nnats-ttl:1s\r\nTributary-Edge: X\r\nTributary-Origin-Rollup: sub\r\nunit: C\r\nbroken\r\n\r\n";
        let out = block(sent, 5, Conditions::default());
        let text = String::from_utf8(out.clone()).unwrap();
        let tail = &text[text.find("Nats-Expected-Stream").unwrap()..];
        assert_eq!(
            tail,
            "Nats-Expected-Stream: FLEET\r\nTributary-Origin-Rollup: all\r\nTributary-Origin-ttl: 1s\r\nTributary-Origin-Edge: X\r\nTributary-Origin-Rollup: sub\r\nunit: C\r\n\r\n"
        );
        assert!(text.starts_with("NATS/1.0\r\n"));
        assert_eq!(Identity::find(&out).unwrap().sequence, Sequence(5));
    }

    #[test]
    fn the_reserve_is_enough_and_bounded() {
        let id = "f".repeat(32);
        let full = Conditions { continues: false, fence: Some(u64::MAX), batch: Some((&id, 1000, true)) };
        let stamp = Stamp::new(&"E".repeat(56), StreamId(u32::MAX), "FLEET", "edge.pump.>");
        let longest = block(b"", u64::MAX, full).len();
        assert!(longest <= stamp.reserve(), "{longest} > {}", stamp.reserve());
        assert!(stamp.reserve() <= MAX_RESERVE);
    }

    #[test]
    fn status_lines() {
        assert_eq!(status(b"NATS/1.0 503\r\n\r\n"), Some(503));
        assert_eq!(status(b"NATS/1.0\r\nA: b\r\n\r\n"), None);
        assert_eq!(status(b""), None);
    }

    proptest! {
        #[test]
        fn no_header_of_a_sender_commands_the_hub(sent in proptest::collection::vec(any::<u8>(), 0..200), nats in 0usize..4) {
            let mut headers = b"NATS/1.0\r\n".to_vec();
            headers.extend_from_slice(&b"Nats-X: 1\r\nnAts-Y: 2\r\n\r\n"[..nats * 6]);
            headers.extend_from_slice(&sent);
            let out = block(&headers, 9, Conditions::default());
            let ours = ["Nats-Msg-Id", "Nats-Expected-Stream"];
            let commands = lines(&out).filter(|(name, _)| name.len() > 4 && name[..5].eq_ignore_ascii_case(b"nats-"));
            prop_assert!(commands.eq(lines(&out).filter(|(name, _)| ours.iter().any(|known| known.as_bytes() == *name))));
            prop_assert_eq!(Identity::find(&out).unwrap().sequence, Sequence(9));
            prop_assert!(out.ends_with(b"\r\n\r\n"));
        }
    }
}
