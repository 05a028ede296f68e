//! The few fields that come as JSON inside acknowledgements: `-NAK {"delay":…}` and `+NXT {"batch":…,"expires":…}`.
//!
//! It reads one flat object of numbers, booleans and strings without escapes; anything else gives nothing. The API's JSON is read elsewhere.

/// A value of a flat object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(i64),
    Flag(bool),
    Text(&'a str),
}

impl Value<'_> {
    /// A number that is not negative.
    pub(crate) fn count(self) -> Option<u64> {
        match self {
            Value::Number(number) => u64::try_from(number).ok(),
            _ => None,
        }
    }
}

/// The fields of a flat object, or `None` when it is none.
pub(crate) fn fields(text: &[u8]) -> Option<Vec<(&str, Value<'_>)>> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let mut rest = text.strip_prefix('{')?.strip_suffix('}')?.trim();
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest.strip_prefix('"')?.split_once('"')?;
        let after = after.trim_start().strip_prefix(':')?.trim_start();
        let (value, after) = value(after)?;
        fields.push((key, value));
        rest = match after.trim_start() {
            "" => "",
            more => more.strip_prefix(',')?.trim_start(),
        };
    }
    Some(fields)
}

fn value(text: &str) -> Option<(Value<'_>, &str)> {
    if let Some(text) = text.strip_prefix('"') {
        let (value, rest) = text.split_once('"')?;
        return (!value.contains('\\')).then_some((Value::Text(value), rest));
    }
    let end = text.find([',', ' ', '\t', '\r', '\n']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let value = match word {
        "true" => Value::Flag(true),
        "false" => Value::Flag(false),
        _ => Value::Number(word.parse().ok()?),
    };
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::{Value, fields};

    #[test]
    fn flat_objects_are_read_and_others_are_not() {
        let read = fields(br#" { "batch": 5,"no_wait":true , "s":"x" } "#);
        assert_eq!(
            read,
            Some(vec![("batch", Value::Number(5)), ("no_wait", Value::Flag(true)), ("s", Value::Text("x"))])
        );
        assert_eq!(fields(b"{}"), Some(vec![]));
        for bad in ["", "{", "{\"a\"}", "{\"a\":}", "{\"a\":[1]}", "{\"a\":1 2}", "{\"a\":1.5}"] {
            assert_eq!(fields(bad.as_bytes()), None, "{bad}");
        }
    }
}
