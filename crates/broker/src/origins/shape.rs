//! What a message of an origin looks like in the stream that takes it: its subject, its headers, and where it says it comes from.

use jetstream::config::Source;
use jetstream::origin::Index;
use subject::Transform;

const SOURCE: &[u8] = b"Nats-Stream-Source:";
/// What the publisher at the origin expected, and which batch it was of: judged there.
const JUDGED: [&[u8]; 2] = [b"Nats-Expected-", b"Nats-Batch-"];
const VERSION_LINE: &[u8] = b"NATS/1.0\r\n";
/// Longest subject that a transform may make, bytes.
const LONGEST_SUBJECT: usize = 4096;

/// What becomes of its messages.
#[derive(Debug)]
pub(super) struct Shape {
    is_mirror: bool,
    transforms: Vec<Transform>,
    /// Name, filters and destinations: what a source is told apart by.
    pub(super) index: String,
    /// `Nats-Stream-Source: <stream> `, and what stands behind the sequence.
    before: Vec<u8>,
    behind: Vec<u8>,
}

impl Shape {
    pub(super) fn new(source: &Source, is_mirror: bool) -> Shape {
        let everything = |text: &str| if text.is_empty() { ">".to_owned() } else { text.to_owned() };
        let parse = |one: &jetstream::config::SubjectTransform| {
            let source = everything(&one.source);
            Transform::parse(&source, &one.destination).ok().filter(|_| !one.destination.is_empty())
        };
        let Index { name, filters, destinations } = Index::of(source);
        Shape {
            is_mirror,
            transforms: source.transforms.iter().filter_map(parse).collect(),
            index: format!("{name} {filters} {destinations}"),
            before: format!("Nats-Stream-Source: {name} ").into_bytes(),
            behind: format!(" {filters} {destinations} ").into_bytes(),
        }
    }

    /// Writes the subject that a message is stored under. Random numbers in it follow from its sequence: the same when it is taken again.
    pub(super) fn subject(&self, subject: &[u8], sequence: u64, into: &mut Vec<u8>) {
        let start = into.len();
        for transform in &self.transforms {
            if transform.apply(subject, sequence, into) && into.len() - start <= LONGEST_SUBJECT {
                return;
            }
            into.truncate(start);
        }
        into.extend_from_slice(subject);
    }

    /// Writes the header block that a message is stored with.
    pub(super) fn headers(&self, block: &[u8], sequence: u64, subject: &[u8], identity: &str, into: &mut Vec<u8>) {
        let start = into.len();
        let first = memchr::memchr(b'\n', block).map_or(0, |end| end + 1);
        into.extend_from_slice(if first > 0 { &block[..first] } else { VERSION_LINE });
        let mut kept = false;
        for line in block[first..].split_inclusive(|byte| *byte == b'\n') {
            let is_end = line == b"\r\n" || line == b"\n";
            let is_judged = JUDGED.iter().any(|prefix| line.starts_with(prefix));
            if is_end || is_judged || (!self.is_mirror && line.starts_with(SOURCE)) {
                continue;
            }
            kept = true;
            into.extend_from_slice(line);
        }
        if self.is_mirror && !kept {
            // Without headers, or with nothing left of them: a status line alone stays what it was.
            let has_status = first > VERSION_LINE.len();
            if !has_status {
                into.truncate(start);
                return;
            }
        }
        if !self.is_mirror {
            into.extend_from_slice(&self.before);
            into.extend_from_slice(itoa::Buffer::new().format(sequence).as_bytes());
            into.extend_from_slice(&self.behind);
            into.extend_from_slice(subject);
            if !identity.is_empty() {
                into.push(b' ');
                into.extend_from_slice(identity.as_bytes());
            }
            into.extend_from_slice(b"\r\n");
        }
        into.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetstream::config::{ExternalStream, SubjectTransform};

    fn source(api: &str) -> Source {
        Source {
            name: "EV".into(),
            external: Some(ExternalStream { api: api.into(), deliver: "".into() }),
            ..Source::default()
        }
    }

    fn headers(shape: &Shape, block: &[u8], identity: &str) -> String {
        let mut into = Vec::new();
        shape.headers(block, 3, b"ev.b", identity, &mut into);
        String::from_utf8(into).unwrap()
    }

    #[test]
    fn a_source_says_where_each_message_comes_from_as_stock_does() {
        // Measured with a stock hub of domain `edge`'s stream.
        let shape = Shape::new(&source("$JS.edge.API"), false);
        assert_eq!(
            headers(&shape, b"", "AJou4ZKU"),
            "NATS/1.0\r\nNats-Stream-Source: EV:n1VdnVvB 3 > > ev.b AJou4ZKU\r\n\r\n"
        );
        let block = b"NATS/1.0\r\nNats-Msg-Id: a\r\nNats-Expected-Stream: X\r\nNats-Stream-Source: old\r\nNats-Batch-Id: b\r\n\r\n";
        assert_eq!(
            headers(&shape, block, ""),
            "NATS/1.0\r\nNats-Msg-Id: a\r\nNats-Stream-Source: EV:n1VdnVvB 3 > > ev.b\r\n\r\n"
        );
        let transforms = ["a.*", "b"].map(|text| SubjectTransform { source: text.into(), destination: "".into() });
        let shape =
            Shape::new(&Source { name: "EV".into(), transforms: transforms.into(), ..Source::default() }, false);
        assert_eq!(headers(&shape, b"", ""), "NATS/1.0\r\nNats-Stream-Source: EV 3 a.*\x0cb >\x0c> ev.b\r\n\r\n");
    }

    #[test]
    fn a_mirror_adds_nothing() {
        let shape = Shape::new(&source("$JS.edge.API"), true);
        assert_eq!(headers(&shape, b"", "AJou4ZKU"), "");
        assert_eq!(headers(&shape, b"NATS/1.0\r\nNats-Expected-Last-Sequence: 1\r\n\r\n", ""), "");
        let block = "NATS/1.0\r\nNats-Stream-Source: S 1 > > a\r\nA: b\r\n\r\n";
        assert_eq!(headers(&shape, block.as_bytes(), ""), block);
    }

    #[test]
    fn the_first_transform_that_fits_names_the_subject() {
        let transforms = [("a.*", "x.$1"), ("b.>", "")];
        let transforms = transforms.map(|(from, to)| SubjectTransform { source: from.into(), destination: to.into() });
        let shape = Shape::new(&Source { name: "S".into(), transforms: transforms.into(), ..Source::default() }, false);
        for (from, to) in [("a.1", "x.1"), ("b.c", "b.c")] {
            let mut into = Vec::new();
            shape.subject(from.as_bytes(), 1, &mut into);
            assert_eq!(into, to.as_bytes());
        }
    }
}
