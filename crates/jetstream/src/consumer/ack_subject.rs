//! The subject that acknowledges a message: `$JS.ACK.<stream>.<consumer>.<deliveries>.<sseq>.<cseq>.<time>.<pending>`, and the second form with
//! domain and account before the stream and an optional token behind. Both are understood, the first is written.

use crate::identity::Sequence;

/// What a delivery's ack subject says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AckPlace {
    /// How often the message was delivered.
    pub(crate) deliveries: u64,
    /// Its sequence in the stream.
    pub(crate) sequence: Sequence,
    /// The delivery's sequence in the consumer.
    pub(crate) consumer_sequence: u64,
    /// When the message was stored, nanoseconds.
    pub(crate) time: i64,
    /// Messages that are left for the consumer.
    pub(crate) pending: u64,
}

impl AckPlace {
    /// Reads an ack subject of either form.
    pub(crate) fn parse(subject: &[u8]) -> Option<AckPlace> {
        let skip = match memchr::memchr_iter(b'.', subject).count() {
            8 => 4,
            10.. => 6,
            _ => return None,
        };
        let mut numbers = subject.split(|byte| *byte == b'.').skip(skip).map(number);
        let mut next = || numbers.next();
        Some(AckPlace {
            deliveries: next()?,
            sequence: Sequence(next()?),
            consumer_sequence: next()?,
            time: next()? as i64,
            pending: next()?,
        })
    }

    fn numbers(&self) -> [u64; 5] {
        // Times before 1970 would need a sign; stock has none either.
        [self.deliveries, self.sequence.0, self.consumer_sequence, self.time.max(0) as u64, self.pending]
    }

    /// Bytes of [`AckPlace::write`] behind the prefix.
    pub(crate) fn len(&self) -> usize {
        self.numbers().iter().map(|number| number.checked_ilog10().unwrap_or(0) as usize + 1).sum::<usize>() + 4
    }

    /// Appends the five numbers to `out`, which ends with `$JS.ACK.<stream>.<consumer>.`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        for (index, number) in self.numbers().into_iter().enumerate() {
            if index > 0 {
                out.push(b'.');
            }
            out.extend_from_slice(digits.format(number).as_bytes());
        }
    }
}

/// What is no number is read as the highest, which nothing has: nats-server takes it for -1.
fn number(token: &[u8]) -> u64 {
    if token.is_empty() || token.len() > 19 || !token.iter().all(u8::is_ascii_digit) {
        return u64::MAX;
    }
    token.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::AckPlace;
    use crate::identity::Sequence;

    #[test]
    fn both_forms_are_read_and_the_first_is_written() {
        let place =
            AckPlace { deliveries: 2, sequence: Sequence(10), consumer_sequence: 12, time: 1_700_000_000, pending: 0 };
        assert_eq!(AckPlace::parse(b"$JS.ACK.S.C.2.10.12.1700000000.0"), Some(place));
        assert_eq!(AckPlace::parse(b"$JS.ACK._.szMpdrwD.S.C.2.10.12.1700000000.0"), Some(place));
        assert_eq!(AckPlace::parse(b"$JS.ACK.hub.szMpdrwD.S.C.2.10.12.1700000000.0.x"), Some(place));
        let mut written = b"$JS.ACK.S.C.".to_vec();
        place.write(&mut written);
        assert_eq!(written, b"$JS.ACK.S.C.2.10.12.1700000000.0");
        assert_eq!(place.len(), written.len() - 12);
    }

    #[test]
    fn anything_else_is_refused() {
        for subject in ["", "$JS.ACK.S.C.2.10.12.17"] {
            assert_eq!(AckPlace::parse(subject.as_bytes()), None, "{subject}");
        }
    }

    #[test]
    fn words_for_numbers_are_places_that_nothing_has() {
        let place = AckPlace::parse(b"$JS.ACK.S.C.2.x.-1.17.99999999999999999999").unwrap();
        assert_eq!((place.deliveries, place.sequence, place.consumer_sequence), (2, Sequence(u64::MAX), u64::MAX));
    }
}
