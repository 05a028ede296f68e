//! What the sender of a batch is told (ADR-50).

use crate::publish_ack::{number, publish_refused, put_error, stored_at, text};
use jetstream::batching::BatchAnswer;

/// Appends the answer; nothing is what says that an atomic batch's message waits for the commit.
pub fn batch_answer(stream: &str, domain: Option<&str>, answer: &BatchAnswer, into: &mut Vec<u8>) {
    match answer {
        BatchAnswer::Staged => {}
        BatchAnswer::Flow { sequence, every } => {
            pair(b"{\"type\":\"ack\",\"seq\":", *sequence, b",\"msgs\":", u64::from(*every), into);
        }
        BatchAnswer::Gap { expected, current } => {
            pair(b"{\"type\":\"gap\",\"last_seq\":", *expected, b",\"seq\":", *current, into);
        }
        BatchAnswer::Failed { sequence, error } => {
            into.extend_from_slice(b"{\"type\":\"err\",\"seq\":");
            number(*sequence, into);
            into.extend_from_slice(b",\"error\":");
            put_error(error, into);
            into.push(b'}');
        }
        BatchAnswer::Committed { sequence, duplicate, batch, count } => {
            stored_at(stream, domain, sequence.0, into);
            into.extend_from_slice(if *duplicate { b",\"duplicate\": true,\"batch\":" } else { b",\"batch\":" });
            text(batch, into);
            into.extend_from_slice(b",\"count\":");
            number(*count, into);
            into.push(b'}');
        }
        BatchAnswer::Refused(error) => publish_refused(stream, error, into),
    }
}

fn pair(first: &[u8], one: u64, second: &[u8], two: u64, into: &mut Vec<u8>) {
    into.extend_from_slice(first);
    number(one, into);
    into.extend_from_slice(second);
    number(two, into);
    into.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::batch_answer;
    use jetstream::api_error;
    use jetstream::batching::BatchAnswer;
    use jetstream::identity::Sequence;

    fn check(answer: &BatchAnswer, domain: Option<&str>, expected: &str) {
        let mut into = Vec::new();
        batch_answer("S", domain, answer, &mut into);
        assert_eq!(String::from_utf8(into).unwrap(), expected);
    }

    #[test]
    fn answers_are_those_of_stock() {
        check(&BatchAnswer::Staged, None, "");
        check(&BatchAnswer::Flow { sequence: 0, every: 10 }, None, r#"{"type":"ack","seq":0,"msgs":10}"#);
        check(&BatchAnswer::Gap { expected: 2, current: 4 }, None, r#"{"type":"gap","last_seq":2,"seq":4}"#);
        check(
            &BatchAnswer::Failed { sequence: 2, error: api_error::STREAM_NOT_MATCH },
            None,
            r#"{"type":"err","seq":2,"error":{"code":400,"err_code":10060,"description":"expected stream does not match"}}"#,
        );
        let committed =
            |duplicate| BatchAnswer::Committed { sequence: Sequence(7), duplicate, batch: "id".into(), count: 3 };
        check(&committed(false), None, r#"{"stream":"S","seq":7,"batch":"id","count":3}"#);
        check(
            &committed(true),
            Some("edge"),
            r#"{"stream":"S","domain":"edge","seq":7,"duplicate": true,"batch":"id","count":3}"#,
        );
        check(
            &BatchAnswer::Refused(api_error::ATOMIC_PUBLISH_INCOMPLETE_BATCH),
            None,
            r#"{"error":{"code":400,"err_code":10176,"description":"atomic publish batch is incomplete"},"stream":"S","seq":0}"#,
        );
    }
}
