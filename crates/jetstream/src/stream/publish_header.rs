//! What a publish asks of a stream by its headers, found in one pass over the block.
//!
//! Keys are compared as they are written: nats-server looks them up byte by byte too. The first of two equal keys counts; an empty value counts
//! as absent. Nothing is checked here, that is the stream's business.

/// The headers that a stream looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PublishHeaders<'a> {
    pub(crate) message_id: Option<&'a [u8]>,
    pub(crate) expected_stream: Option<&'a [u8]>,
    pub(crate) expected_last_sequence: Option<&'a [u8]>,
    pub(crate) expected_subject_sequence: Option<&'a [u8]>,
    pub(crate) expected_subject: Option<&'a [u8]>,
    pub(crate) expected_message_id: Option<&'a [u8]>,
    pub(crate) rollup: Option<&'a [u8]>,
    pub(crate) time_to_live: Option<&'a [u8]>,
    pub(crate) increment: Option<&'a [u8]>,
    pub(crate) schedule: Option<&'a [u8]>,
    pub(crate) schedule_next: Option<&'a [u8]>,
    pub(crate) scheduler: Option<&'a [u8]>,
    pub(crate) source: Option<&'a [u8]>,
    pub(crate) batch_id: Option<&'a [u8]>,
    pub(crate) batch_sequence: Option<&'a [u8]>,
    pub(crate) batch_commit: Option<&'a [u8]>,
    pub(crate) required_level: Option<&'a [u8]>,
    /// There are headers about schedules: these, or others that only schedules look at.
    pub(crate) is_scheduling: bool,
}

impl<'a> PublishHeaders<'a> {
    /// Scans a header block.
    pub(crate) fn scan(block: &'a [u8]) -> PublishHeaders<'a> {
        let mut found = PublishHeaders::default();
        let (mut rest, mut has_empty) = (block, false);
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if let Some(line) = line.strip_prefix(b"Nats-") {
                has_empty |= found.take(line);
            }
        }
        if has_empty {
            found.leave_out_empty();
        }
        found
    }

    /// An empty value counts as absent, also when the key stands there again.
    #[cold]
    fn leave_out_empty(&mut self) {
        for place in [
            &mut self.message_id,
            &mut self.expected_stream,
            &mut self.expected_last_sequence,
            &mut self.expected_subject_sequence,
            &mut self.expected_subject,
            &mut self.expected_message_id,
            &mut self.rollup,
            &mut self.time_to_live,
            &mut self.increment,
            &mut self.schedule,
            &mut self.schedule_next,
            &mut self.scheduler,
            &mut self.source,
            &mut self.batch_id,
            &mut self.batch_sequence,
            &mut self.batch_commit,
            &mut self.required_level,
        ] {
            *place = place.filter(|value| !value.is_empty());
        }
    }

    /// Is it a header that is looked at, without a value?
    fn take(&mut self, line: &'a [u8]) -> bool {
        let Some(colon) = memchr::memchr(b':', line) else { return false };
        self.is_scheduling |= line.starts_with(b"Schedule");
        let place = match &line[..colon] {
            b"Msg-Id" => &mut self.message_id,
            b"Expected-Stream" => &mut self.expected_stream,
            b"Expected-Last-Sequence" => &mut self.expected_last_sequence,
            b"Expected-Last-Subject-Sequence" => &mut self.expected_subject_sequence,
            b"Expected-Last-Subject-Sequence-Subject" => &mut self.expected_subject,
            b"Expected-Last-Msg-Id" => &mut self.expected_message_id,
            b"Rollup" => &mut self.rollup,
            b"TTL" => &mut self.time_to_live,
            b"Incr" => &mut self.increment,
            b"Schedule" => &mut self.schedule,
            b"Schedule-Next" => &mut self.schedule_next,
            b"Scheduler" => &mut self.scheduler,
            b"Stream-Source" => &mut self.source,
            b"Batch-Id" => &mut self.batch_id,
            b"Batch-Sequence" => &mut self.batch_sequence,
            b"Batch-Commit" => &mut self.batch_commit,
            b"Required-Api-Level" => &mut self.required_level,
            _ => return false,
        };
        let value = line[colon + 1..].trim_ascii();
        if place.is_none() {
            *place = Some(value);
        }
        value.is_empty()
    }
}

/// A sequence as a header has it. What is no number can't be equal to any sequence, and is refused as a wrong one.
pub(crate) fn sequence(value: &[u8]) -> u64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}

/// A block without a header; empty when it has no other.
pub(crate) fn without_header(block: &[u8], name: &[u8]) -> Vec<u8> {
    let is_it = |line: &[u8]| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(b":"));
    let mut left = Vec::with_capacity(block.len());
    block.split_inclusive(|byte| *byte == b'\n').filter(|line| !is_it(line)).for_each(|line| left.extend(line));
    if left == b"NATS/1.0\r\n\r\n" { Vec::new() } else { left }
}

/// A block, or none, with one header more at its end.
pub(crate) fn with_header(block: &[u8], name: &[u8], value: &[u8]) -> Vec<u8> {
    let block = block.strip_suffix(b"\r\n").unwrap_or(b"NATS/1.0\r\n");
    [block, name, b": ", value, b"\r\n\r\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::{PublishHeaders, sequence, with_header, without_header};

    #[test]
    fn headers_are_added_and_taken_away() {
        let block = b"NATS/1.0\r\nA: 1\r\nB: 2\r\n\r\n";
        assert_eq!(without_header(block, b"A"), b"NATS/1.0\r\nB: 2\r\n\r\n");
        assert_eq!(without_header(block, b"C"), block);
        assert_eq!(without_header(b"NATS/1.0\r\nA: 1\r\n\r\n", b"A"), b"");
        assert_eq!(with_header(block, b"C", b"3"), b"NATS/1.0\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n");
        assert_eq!(with_header(b"", b"C", b"3"), b"NATS/1.0\r\nC: 3\r\n\r\n");
    }

    #[test]
    fn finds_keys_and_trims_values() {
        let block = b"NATS/1.0\r\nOther: x\r\nNats-Msg-Id:  a b \r\nNats-Msg-Id: second\r\nnats-rollup: all\r\nNats-Expected-Last-Sequence:7\r\n\r\n";
        let found = PublishHeaders::scan(block);
        let wanted = PublishHeaders {
            message_id: Some(b"a b"),
            expected_last_sequence: Some(b"7"),
            ..PublishHeaders::default()
        };
        assert_eq!(found, wanted);
        let twice = PublishHeaders::scan(b"NATS/1.0\r\nNats-TTL: \r\nNats-TTL: x\r\nNats-Rollup:\r\n\r\n");
        assert_eq!(twice, PublishHeaders::default());
        assert_eq!((sequence(b"7"), sequence(b"-1"), sequence(b"x")), (7, u64::MAX, u64::MAX));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_scanned(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60)) {
            let _ = PublishHeaders::scan(&bytes);
        }
    }

    #[test]
    fn a_block_without_line_ends_holds_nothing() {
        assert_eq!(PublishHeaders::scan(b"Nats-Msg-Id: a"), PublishHeaders::default());
    }
}
