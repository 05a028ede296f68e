//! What a publish to a stream is answered with. This is the hot one: appended to a buffer, nothing allocated.

use jetstream::api_error::ApiError;

/// Appends `{"stream":"S","domain":"edge","seq":1}`; a duplicate is told with the very blank that stock writes.
pub fn publish_ack(stream: &str, domain: Option<&str>, sequence: u64, duplicate: bool, into: &mut Vec<u8>) {
    stored_at(stream, domain, sequence, into);
    into.extend_from_slice(if duplicate { b",\"duplicate\": true}" } else { b"}" });
}

/// What each acknowledgement begins with.
pub(crate) fn stored_at(stream: &str, domain: Option<&str>, sequence: u64, into: &mut Vec<u8>) {
    into.extend_from_slice(b"{\"stream\":");
    text(stream, into);
    if let Some(domain) = domain {
        into.extend_from_slice(b",\"domain\":");
        text(domain, into);
    }
    into.extend_from_slice(b",\"seq\":");
    number(sequence, into);
}

/// Appends `{"stream":"S","seq":1,"val":"5"}`: the acknowledgement of an increment.
pub fn counter_ack(stream: &str, domain: Option<&str>, sequence: u64, total: &str, into: &mut Vec<u8>) {
    publish_ack(stream, domain, sequence, false, into);
    into.pop();
    into.extend_from_slice(b",\"val\":");
    text(total, into);
    into.push(b'}');
}

/// Appends `{"error":{…},"stream":"S","seq":0}`.
pub fn publish_refused(stream: &str, error: &ApiError, into: &mut Vec<u8>) {
    into.extend_from_slice(b"{\"error\":");
    put_error(error, into);
    into.extend_from_slice(b",\"stream\":");
    text(stream, into);
    into.extend_from_slice(b",\"seq\":0}");
}

/// Appends `{"code":…}`.
pub(crate) fn put_error(error: &ApiError, into: &mut Vec<u8>) {
    into.extend_from_slice(b"{\"code\":");
    number(u64::from(error.code), into);
    into.extend_from_slice(b",\"err_code\":");
    number(u64::from(error.err_code), into);
    into.extend_from_slice(b",\"description\":");
    text(&error.description, into);
    into.push(b'}');
}

pub(crate) fn number(mut value: u64, into: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    into.extend_from_slice(&digits[at..]);
}

pub(crate) fn text(value: &str, into: &mut Vec<u8>) {
    into.push(b'"');
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => into.extend_from_slice(&[b'\\', byte]),
            0..0x20 | b'<' | b'>' | b'&' => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                into.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
            _ => into.push(byte),
        }
    }
    into.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetstream::api_error;

    fn check(write: impl Fn(&mut Vec<u8>), expected: &str) {
        let mut into = Vec::new();
        write(&mut into);
        assert_eq!(String::from_utf8(into).unwrap(), expected);
    }

    /// As stock 2.15.1 answered, with and without a domain.
    #[test]
    fn acknowledgements_are_those_of_stock() {
        check(|into| publish_ack("S", None, 1, false, into), r#"{"stream":"S","seq":1}"#);
        check(|into| publish_ack("S", None, 1, true, into), r#"{"stream":"S","seq":1,"duplicate": true}"#);
        check(
            |into| publish_ack("S", Some("edge"), u64::MAX, true, into),
            r#"{"stream":"S","domain":"edge","seq":18446744073709551615,"duplicate": true}"#,
        );
        check(
            |into| publish_refused("S", &api_error::STREAM_NOT_MATCH, into),
            r#"{"error":{"code":400,"err_code":10060,"description":"expected stream does not match"},"stream":"S","seq":0}"#,
        );
        check(|into| counter_ack("S", None, 7, "-12", into), r#"{"stream":"S","seq":7,"val":"-12"}"#);
        check(|into| publish_ack("a\"<\u{1}é", None, 0, false, into), r#"{"stream":"a\"\u003c\u0001é","seq":0}"#);
    }
}
