//! A message as a line of JSON, with the names of `$JS.API.STREAM.MSG.GET`: sequence, time, subject, and base64 of headers and body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jetstream::store::StoredMessage;
use serde_json::json;

/// Appends the line.
pub(crate) fn write(out: &mut String, message: &StoredMessage<'_>) {
    let mut line = json!({
        "seq": message.sequence.0,
        "time": server::timestamp(message.time.0),
        "subject": String::from_utf8_lossy(message.subject),
        "data": STANDARD.encode(message.payload),
    });
    if !message.headers.is_empty() {
        line["hdrs"] = STANDARD.encode(message.headers).into();
    }
    out.push_str(&line.to_string());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use jetstream::identity::{AgeMillis, Sequence, Timestamp};

    use super::*;

    #[test]
    fn a_line_says_everything() {
        let mut message = StoredMessage {
            sequence: Sequence(7),
            time: Timestamp(1_500_000_000),
            age: AgeMillis(0),
            subject: b"a.b",
            headers: b"",
            payload: b"21.5",
        };
        let mut out = String::new();
        write(&mut out, &message);
        message.headers = b"NATS/1.0\r\n\r\n";
        write(&mut out, &message);
        let expected = "{\"data\":\"MjEuNQ==\",\"seq\":7,\"subject\":\"a.b\",\"time\":\"1970-01-01T00:00:01.5Z\"}\n\
             {\"data\":\"MjEuNQ==\",\"hdrs\":\"TkFUUy8xLjANCg0K\",\"seq\":7,\"subject\":\"a.b\",\"time\":\"1970-01-01T00:00:01.5Z\"}\n";
        assert_eq!(out, expected);
    }
}
