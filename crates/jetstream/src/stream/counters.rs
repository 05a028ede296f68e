//! Counters (ADR-49): each message is an increment (`Nats-Incr`) of its subject's total, and is stored with the total as its body, so that the newest
//! message of a subject is all that is needed of it.
//!
//! A counter stream may take in other ones. Such a message brings the other stream's total, and not an increment that could be missed or come twice:
//! what was last known of each origin stands in `Nats-Counter-Sources`, and the difference is added.
//!
//! Pure: messages in, a message out. Nothing here looks at a store.

use std::collections::BTreeMap;

use crate::api_error::{self, ApiError};
use crate::consumer::flat_json::{self, Value};
use crate::header_block;
use crate::number::Number;
use crate::store::StoredMessage;
use crate::stream::rewriting::Rewritten;

/// How much a message adds.
const INCREMENT: &str = "Nats-Incr";
/// The totals of other streams that are in this one.
const SOURCES: &str = "Nats-Counter-Sources";
/// Largest header block, as of any message.
const LONGEST_HEADERS: usize = u16::MAX as usize;
/// Most bytes that the totals of other streams take in it: a publisher's own headers find room beside them, however many there are.
const MOST_OF_SOURCES: usize = 48 << 10;
/// nats-server's default of the largest message: a total is not stored beyond it.
const LARGEST: usize = 1 << 20;

/// Totals by stream and subject, as last seen.
type Origins = BTreeMap<String, BTreeMap<String, String>>;

/// What a subject's newest message says.
#[derive(Debug, Default)]
struct Counter {
    total: Number,
    origins: Origins,
}

impl Counter {
    fn read(message: &StoredMessage<'_>) -> Result<Counter, ApiError> {
        let total = total(message.payload)?;
        let origins = match header_block::value(message.headers, SOURCES) {
            None | Some(b"") => Origins::new(),
            Some(text) => serde_json::from_slice(text).map_err(|_| api_error::MESSAGE_COUNTER_BROKEN)?,
        };
        Ok(Counter { total, origins })
    }

    /// The message that an increment becomes, with so many bytes of totals of other streams at most.
    fn message(&self, headers: &[u8], increment: &Number, most: usize) -> Result<Rewritten, ApiError> {
        let total = self.total.plus(increment).to_string();
        let mut headers = headers.to_vec();
        if !self.origins.is_empty() {
            let origins = serde_json::to_string(&self.origins).map_err(|_| api_error::MESSAGE_COUNTER_BROKEN)?;
            // As Go writes JSON; outside of strings none of them occurs.
            let origins = origins.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
            if origins.len() > most {
                return Err(api_error::STREAM_HEADER_EXCEEDS_MAXIMUM);
            }
            headers = header_block::set(&headers, SOURCES, origins.as_bytes());
        }
        if headers.len() > LONGEST_HEADERS {
            return Err(api_error::STREAM_HEADER_EXCEEDS_MAXIMUM);
        }
        let payload = format!("{{\"val\":\"{total}\"}}").into_bytes();
        if headers.len().saturating_add(payload.len()) > LARGEST {
            return Err(api_error::STREAM_MESSAGE_EXCEEDS_MAXIMUM);
        }
        Ok(Rewritten { headers, payload, total: Some(total.into()) })
    }
}

/// The total in a counter's body.
fn total(payload: &[u8]) -> Result<Number, ApiError> {
    let fields = flat_json::fields(payload).unwrap_or_default();
    let text = fields.iter().find_map(|(key, value)| match value {
        Value::Text(text) if *key == "val" => Some(text.as_bytes()),
        _ => None,
    });
    text.and_then(Number::parse).ok_or(api_error::MESSAGE_COUNTER_BROKEN)
}

/// What is stored of an increment: `last` is its subject's newest message.
pub(crate) fn counted(
    last: Option<&StoredMessage<'_>>,
    headers: &[u8],
    increment: &[u8],
) -> Result<Rewritten, ApiError> {
    let increment = Number::parse(increment).ok_or(api_error::MESSAGE_INCR_INVALID)?;
    last.map(Counter::read).transpose()?.unwrap_or_default().message(headers, &increment, LONGEST_HEADERS)
}

/// What is stored of another counter stream's message: `origin` and `origin_subject` say where it comes from. Its increment becomes the difference to
/// what was known of that origin.
pub(crate) fn merged(
    last: Option<&StoredMessage<'_>>,
    (headers, payload): (&[u8], &[u8]),
    origin: &str,
    origin_subject: &str,
) -> Result<Rewritten, ApiError> {
    let mut counter = last.map(Counter::read).transpose()?.unwrap_or_default();
    let there = total(payload)?;
    let subjects = counter.origins.entry(origin.to_owned()).or_default();
    let before = subjects.insert(origin_subject.to_owned(), there.to_string());
    let before = before.and_then(|text| Number::parse(text.as_bytes())).unwrap_or_default();
    let increment = there.minus(&before);
    let headers = header_block::set(headers, INCREMENT, increment.to_string().as_bytes());
    counter.message(&headers, &increment, MOST_OF_SOURCES)
}

#[cfg(test)]
mod tests {
    use super::{counted, merged};
    use crate::api_error;
    use crate::identity::{AgeMillis, Sequence, Timestamp};
    use crate::store::StoredMessage;
    use crate::stream::rewriting::Rewritten;

    const INCREMENT: &[u8] = b"NATS/1.0\r\nNats-Incr: 5\r\n\r\n";

    fn stored(message: &Rewritten) -> StoredMessage<'_> {
        StoredMessage {
            sequence: Sequence(1),
            time: Timestamp(1),
            age: AgeMillis(1),
            subject: b"c",
            headers: &message.headers,
            payload: &message.payload,
        }
    }

    fn body(message: &Rewritten) -> &str {
        std::str::from_utf8(&message.payload).expect("text")
    }

    #[test]
    fn increments_are_added_up() {
        let one = counted(None, INCREMENT, b"5").expect("counts");
        assert_eq!((body(&one), &one.headers[..]), (r#"{"val":"5"}"#, INCREMENT));
        let two = counted(Some(&stored(&one)), b"NATS/1.0\r\nNats-Incr: -7\r\n\r\n", b"-7").expect("counts");
        assert_eq!((body(&two), two.total.as_deref()), (r#"{"val":"-2"}"#, Some("-2")));
    }

    /// What comes twice counts once, and what was missed counts with the next.
    #[test]
    fn totals_of_other_streams_are_taken_in_by_their_difference() {
        let there = |total: &str| format!("{{\"val\":\"{total}\"}}").into_bytes();
        let own = counted(None, INCREMENT, b"5").expect("counts");
        let one = merged(Some(&stored(&own)), (INCREMENT, &there("10")), "EAST", "c.<1>").expect("counts");
        assert_eq!(body(&one), r#"{"val":"15"}"#);
        let again = merged(Some(&stored(&one)), (INCREMENT, &there("10")), "EAST", "c.<1>").expect("counts");
        assert_eq!(body(&again), r#"{"val":"15"}"#);
        let later = merged(Some(&stored(&again)), (INCREMENT, &there("17")), "EAST", "c.<1>").expect("counts");
        assert_eq!(body(&later), r#"{"val":"22"}"#);
        let west = merged(Some(&stored(&later)), (INCREMENT, &there("-2")), "WEST", "c").expect("counts");
        assert_eq!(body(&west), r#"{"val":"20"}"#);
        let headers = std::str::from_utf8(&west.headers).expect("text");
        assert_eq!(
            headers,
            "NATS/1.0\r\nNats-Incr: -2\r\nNats-Counter-Sources: {\"EAST\":{\"c.\\u003c1\\u003e\":\"17\"},\"WEST\":{\"c\":\"-2\"}}\r\n\r\n"
        );
        let more = counted(Some(&stored(&west)), INCREMENT, b"1").expect("counts");
        assert!(more.headers.windows(4).any(|bytes| bytes == b"EAST"), "what is known of others is kept");
    }

    /// Origins fill the header: one more is refused with what is the matter; those that are known go on, and so do publishers.
    #[test]
    fn origins_are_as_many_as_the_header_holds() {
        let there = |total: usize| format!("{{\"val\":\"{total}\"}}").into_bytes();
        let mut last = counted(None, INCREMENT, b"5").expect("counts");
        let mut taken = 0;
        let subject = format!("c.{}", "x".repeat(500));
        let refusal = loop {
            let origin = format!("EDGE{taken:04}");
            match merged(Some(&stored(&last)), (INCREMENT, &there(1)), &origin, &subject) {
                Ok(next) => last = next,
                Err(refusal) => break refusal,
            }
            taken += 1;
        };
        assert_eq!(refusal, api_error::STREAM_HEADER_EXCEEDS_MAXIMUM);
        assert!((80..100).contains(&taken), "{taken} origins");
        let known = merged(Some(&stored(&last)), (INCREMENT, &there(3)), "EDGE0007", &subject).expect("is known");
        let own = counted(Some(&stored(&known)), INCREMENT, b"1").expect("counts");
        assert_eq!(body(&own), format!("{{\"val\":\"{}\"}}", 5 + taken + 2 + 1));
        assert!(own.headers.len() < usize::from(u16::MAX));
    }

    #[test]
    fn what_is_no_counter_is_broken() {
        for payload in ["", "5", "{}", r#"{"val":5}"#, r#"{"val":""}"#, r#"{"val":"x"}"#] {
            let other = Rewritten { payload: payload.into(), ..Rewritten::default() };
            assert_eq!(counted(Some(&stored(&other)), INCREMENT, b"1").err(), Some(api_error::MESSAGE_COUNTER_BROKEN));
        }
    }
}
