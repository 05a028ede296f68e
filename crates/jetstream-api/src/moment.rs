//! Times as the API writes them (RFC 3339), and what Go says of a text that is none.

use jetstream::identity::Timestamp;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A time as the API writes it (RFC 3339); `None` when it is none.
#[must_use]
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    Some(Timestamp(nanos.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64))
}

/// What Go says of a time that is none: the first piece of the layout that the text does not have.
pub(crate) fn time_problem(text: &str) -> String {
    const LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
    let mut rest = text;
    let pieces = ["2006", "-", "01", "-", "02", "T", "15", ":", "04", ":", "05"];
    for piece in pieces {
        let is_number = piece.as_bytes()[0].is_ascii_digit();
        let fits =
            |found: &str| if is_number { found.bytes().all(|byte| byte.is_ascii_digit()) } else { found == piece };
        match rest.get(..piece.len()).filter(|found| fits(found)) {
            Some(_) => rest = &rest[piece.len()..],
            None => return format!("parsing time {text:?} as {LAYOUT:?}: cannot parse {rest:?} as {piece:?}"),
        }
    }
    format!("parsing time {text:?} as {LAYOUT:?}: cannot parse {rest:?} as \"Z07:00\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_says_it() {
        let ends = [
            ("x", r#"cannot parse "x" as "2006""#),
            ("2026-1x", r#"cannot parse "1x" as "01""#),
            ("2026-01-01 00:00:00", r#"cannot parse " 00:00:00" as "T""#),
            ("2026-01-01T00:00:00", r#"cannot parse "" as "Z07:00""#),
            ("", r#"cannot parse "" as "2006""#),
        ];
        for (text, end) in ends {
            assert!(parse_time(text).is_none() && time_problem(text).ends_with(end), "{}", time_problem(text));
        }
        assert_eq!(parse_time("1970-01-01T00:00:01Z"), Some(Timestamp(1_000_000_000)));
    }
}
