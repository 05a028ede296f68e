//! The local stream `REJECTED`: messages that a hub refuses for good, with the reason.
//!
//! It captures `$TRIBUTARY.REJECTED.>`; a message of stream `S` with subject `a.b` stands there as `$TRIBUTARY.REJECTED.S.a.b`, with its
//! headers renamed like those of a forwarded message, so that none of them is a command to the local stream.

use jetstream::command::{Append, Batch, Command, Ticket};
use jetstream::config::{Discard, StreamConfig};
use jetstream::identity::{Sequence, StreamId};
use subject::Filter;

/// Its name.
pub const REJECTED: &str = "REJECTED";
const PREFIX: &str = "$TRIBUTARY.REJECTED.";
const MAX_BYTES: i64 = 64 << 20;
/// Longest reason kept, bytes.
const MAX_REASON: usize = 512;

/// How it is made when there is none.
pub(super) fn config() -> StreamConfig {
    StreamConfig {
        description: "what a hub refused for good, with the reason".into(),
        subjects: Filter::parse(&format!("{PREFIX}>")).into_iter().collect(),
        max_bytes: MAX_BYTES,
        discard: Discard::Old,
        ..StreamConfig::named(REJECTED)
    }
}

/// A refused message.
pub(super) struct Refused<'a> {
    pub(super) stream: &'a str,
    pub(super) instance: StreamId,
    pub(super) sequence: Sequence,
    pub(super) subject: &'a [u8],
    pub(super) headers: &'a [u8],
    pub(super) payload: &'a [u8],
    pub(super) reason: &'a str,
}

impl Refused<'_> {
    /// The command that sets it aside.
    pub(super) fn append(&self, rejected: StreamId, ticket: Ticket, batch: &mut Batch) -> Command {
        let subject = [PREFIX.as_bytes(), self.stream.as_bytes(), b".", self.subject].concat();
        let mut headers = b"NATS/1.0\r\n".to_vec();
        let reason: String = self.reason.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        let end = reason.floor_char_boundary(MAX_REASON);
        // Kept again when the process ends before the position has moved: once is enough.
        let id = format!("{}.{}", self.instance.0, self.sequence.0);
        let own = [
            ("Nats-Msg-Id", &id[..]),
            ("Tributary-Rejected-Reason", &reason[..end]),
            ("Tributary-Rejected-Stream", self.stream),
            ("Tributary-Rejected-Sequence", &self.sequence.0.to_string()),
        ];
        for (name, value) in own {
            headers.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        rename_what_fits(&mut headers, self.headers);
        headers.extend_from_slice(b"\r\n");
        Command::Append(Append {
            stream: rejected,
            ticket,
            subject: batch.add(&subject),
            headers: batch.add(&headers),
            payload: batch.add(self.payload),
            ..Append::default()
        })
    }
}

/// Its own headers, renamed. Renaming makes them longer: what a stream can't hold any more is left out, and that is said.
fn rename_what_fits(headers: &mut Vec<u8>, own: &[u8]) {
    const CUT: &[u8] = b"Tributary-Rejected-Headers: cut\r\n";
    let most = usize::from(u16::MAX) - b"\r\n".len();
    let start = headers.len();
    forward::headers::rename(headers, own);
    if headers.len() > most {
        let room = headers.get(start..most - CUT.len()).unwrap_or_default();
        let whole = room.windows(2).rposition(|pair| pair == b"\r\n").map_or(0, |at| at + 2);
        headers.truncate(start + whole);
        headers.extend_from_slice(CUT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_message_is_no_command_to_the_local_stream() {
        let refused = Refused {
            stream: "S",
            instance: StreamId(16),
            sequence: Sequence(7),
            subject: b"a.b",
            headers: b"NATS/1.0\r\nNats-Rollup: all\r\nunit: C\r\n\r\n",
            payload: b"21",
            reason: "too\r\nlarge",
        };
        let mut batch = Batch::default();
        let Command::Append(append) = refused.append(StreamId(20), Ticket(1, 2), &mut batch) else { panic!("append") };
        assert_eq!(append.subject.of(&batch.arena), b"$TRIBUTARY.REJECTED.S.a.b");
        let headers = String::from_utf8(append.headers.of(&batch.arena).to_vec()).unwrap();
        assert_eq!(
            headers,
            "NATS/1.0\r\nNats-Msg-Id: 16.7\r\nTributary-Rejected-Reason: too  large\r\nTributary-Rejected-Stream: S\r\n\
             Tributary-Rejected-Sequence: 7\r\nTributary-Origin-Rollup: all\r\nunit: C\r\n\r\n"
        );
        let long = [b"NATS/1.0\r\n".to_vec(), b"Nats-A: 1\r\n".repeat(5_900), b"\r\n".to_vec()].concat();
        let Command::Append(cut) =
            (Refused { headers: &long, ..refused }).append(StreamId(20), Ticket(1, 2), &mut batch)
        else {
            panic!("append")
        };
        let cut = String::from_utf8(cut.headers.of(&batch.arena).to_vec()).unwrap();
        assert!((65_000..65_536).contains(&cut.len()), "{}", cut.len());
        assert!(cut.ends_with("Tributary-Origin-A: 1\r\nTributary-Rejected-Headers: cut\r\n\r\n"));
        assert!(config().subjects[0].matches(append.subject.of(&batch.arena)));
    }
}
