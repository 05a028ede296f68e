//! How values stand in answers: times as Go prints them, texts with Go's escapes.

use jetstream::identity::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::ser::{CompactFormatter, Formatter};
use std::fmt;
use std::io;

/// A time as RFC 3339 with as many digits as it has. 0 stands for "none" and is Go's zero time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Timestamp);

impl fmt::Display for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Appends a value as JSON with the escapes of Go's encoder.
pub(crate) fn write<T: Serialize>(value: &T, into: &mut Vec<u8>) {
    let start = into.len();
    let mut serializer = serde_json::Serializer::with_formatter(&mut *into, GoFormatter);
    if value.serialize(&mut serializer).is_err() {
        // Wire types have text keys and a vector takes everything, so this is not reached; half an answer must not leave.
        into.truncate(start);
    }
}

/// Go escapes what would be markup inside HTML.
struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            writer.write_all(&rest.as_bytes()[..at])?;
            let mut behind = rest[at..].chars();
            let special = behind.next().map_or(0, u32::from);
            write!(writer, "\\u{special:04x}")?;
            rest = behind.as_str();
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_go() {
        let text = |nanos| Time(Timestamp(nanos)).to_string();
        assert_eq!(text(0), "0001-01-01T00:00:00Z");
        assert_eq!(text(1), "1970-01-01T00:00:00.000000001Z");
        assert_eq!(text(1_500_000_000), "1970-01-01T00:00:01.5Z");
        assert_eq!(text(1_795_264_291_173_436_350), "2026-11-21T12:31:31.17343635Z");
        assert_eq!(text(1_577_836_800_000_000_000), "2020-01-01T00:00:00Z");
        assert_eq!(text(i64::MAX), "2262-04-11T23:47:16.854775807Z");
    }

    #[test]
    fn escapes_are_those_of_go() {
        let mut into = Vec::new();
        write(&"<a&b>\u{2028}é\u{1}\"\\ /", &mut into);
        assert_eq!(String::from_utf8(into).unwrap(), r#""\u003ca\u0026b\u003e\u2028é\u0001\"\\ /""#);
    }
}
