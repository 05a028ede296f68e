//! Strict reading of request bodies, with the error texts of Go's decoder: people search the web for them, and some tools match them.

use crate::moment::{parse_time, time_problem};
use jetstream::api_error::{self, ApiError};
use jetstream::identity::Timestamp;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Largest request body. A million-byte list of small values would be many times that in memory.
pub(crate) const MAX_BODY: usize = 256 * 1024;

/// A JSON object that is read field by field; what is left over at the end is unknown.
pub(crate) struct Object {
    /// As Go names it in errors: `StreamConfigRequest`, `CreateConsumerRequest.config`.
    path: String,
    fields: Map<String, Value>,
    /// What is wrong with what stands behind the object: said when nothing is wrong inside.
    behind: Option<ApiError>,
}

/// Parses a body. An empty one is an empty object, as for stock.
pub(crate) fn parse(payload: &[u8], go_type: &str) -> Result<Object, ApiError> {
    if payload.len() > MAX_BODY {
        return Err(api_error::invalid_json(format_args!("request is larger than {MAX_BODY} bytes")));
    }
    if payload.trim_ascii().is_empty() {
        return Object::new(Value::Null, go_type.to_owned(), go_type);
    }
    let refusal = |error: serde_json::Error| api_error::invalid_json(syntax(payload, &error));
    let (value, behind) = match serde_json::from_slice(payload) {
        Ok(value) => (value, None),
        Err(error) => {
            // A whole object may stand before the mistake.
            let mut values = serde_json::Deserializer::from_slice(payload).into_iter();
            match values.next() {
                Some(Ok(value)) => (value, Some(refusal(error))),
                _ => return Err(refusal(error)),
            }
        }
    };
    match value {
        Value::Null | Value::Object(_) => Ok(Object { behind, ..Object::new(value, go_type.to_owned(), go_type)? }),
        other => Err(mismatch(&other, &format!("Go value of type server.{go_type}"))),
    }
}

/// Like [`parse`], for the few requests whose unknown fields stock ignores; a plain text as error, without the place that the others name.
pub(crate) fn parse_lenient(payload: &[u8], go_type: &str) -> Result<Object, String> {
    if payload.len() > MAX_BODY {
        return Err(format!("request is larger than {MAX_BODY} bytes"));
    }
    let value: Value = serde_json::from_slice(payload).map_err(|error| {
        let text = if error.is_eof() { "unexpected end of JSON input".to_owned() } else { syntax(payload, &error) };
        // It reads one value and no more.
        let is_behind = error.to_string().starts_with("trailing characters");
        let text =
            if is_behind { text.replace("looking for beginning of value", "after top-level value") } else { text };
        text.split_once(" at offset ").map_or(text.clone(), |(text, _)| text.to_owned())
    })?;
    match value {
        Value::Null | Value::Object(_) => {
            Ok(Object { path: go_type.to_owned(), fields: into_map(value), behind: None })
        }
        other => Err(format!("json: cannot unmarshal {} into Go value of type server.{go_type}", kind_of(&other))),
    }
}

fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// What Go's decoder says about the same mistake.
fn syntax(payload: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected EOF".to_owned();
    }
    let before: usize = payload.split_inclusive(|byte| *byte == b'\n').take(error.line() - 1).map(<[u8]>::len).sum();
    let offset = before + error.column();
    let found = offset.checked_sub(1).and_then(|at| payload.get(at)).map_or('?', |byte| char::from(*byte));
    let text = error.to_string();
    if let Some((literal, expected)) = literal_at(payload, offset.saturating_sub(1)) {
        return format!("invalid character '{found}' in literal {literal} (expecting '{expected}') at offset {offset}");
    }
    let place = [
        ("expected value", "looking for beginning of value"),
        ("trailing characters", "looking for beginning of value"),
        ("key must be a string", "looking for beginning of object key string"),
        ("trailing comma", "looking for beginning of object key string"),
        ("expected `:`", "after object key"),
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
    ];
    match place.iter().find(|(begin, _)| text.starts_with(begin)) {
        Some((_, place)) => format!("invalid character '{found}' {place} at offset {offset}"),
        None => text,
    }
}

/// Which literal breaks off at this byte, and what should stand there.
fn literal_at(payload: &[u8], at: usize) -> Option<(&'static str, char)> {
    let broken = |literal: &&'static str, length: usize| {
        let begin = at.checked_sub(length)?;
        let (had, found) = (payload.get(begin..at)?, payload.get(at)?);
        let expected = literal.as_bytes()[length];
        (had == &literal.as_bytes()[..length] && *found != expected).then_some((*literal, char::from(expected)))
    };
    let literals = ["null", "true", "false"];
    literals.iter().find_map(|literal| (1..literal.len()).rev().find_map(|length| broken(literal, length)))
}

/// What Go calls a value.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// `json: cannot unmarshal …` of Go. Numbers are only shown when it is their value that does not fit.
fn mismatch(value: &Value, target: &str) -> ApiError {
    api_error::invalid_json(format_args!("json: cannot unmarshal {} into {target}", kind_of(value)))
}

impl Object {
    /// An object that stands inside of something else than a request.
    pub(crate) fn inside(value: Value, path: &str) -> Result<Object, ApiError> {
        Object::new(value, path.to_owned(), path)
    }

    fn new(value: Value, path: String, go_type: &str) -> Result<Object, ApiError> {
        match value {
            Value::Null | Value::Object(_) => Ok(Object { path, fields: into_map(value), behind: None }),
            other => Err(mismatch(&other, &format!("Go struct field {path} of type server.{go_type}"))),
        }
    }

    /// Takes a field; `null` is as good as none. Names are compared as Go does, without regard to case.
    fn take(&mut self, key: &str) -> Option<Value> {
        self.take_even_null(key).filter(|value| !value.is_null())
    }

    /// Does the field stand there, with something in it?
    pub(crate) fn has(&self, key: &str) -> bool {
        self.fields.iter().any(|(name, value)| name.eq_ignore_ascii_case(key) && !value.is_null())
    }

    /// Is the field a number below that?
    pub(crate) fn is_below(&self, key: &str, least: i64) -> bool {
        let below = |value: &Value| value.as_i64().is_some_and(|number| number < least);
        self.fields.iter().any(|(name, value)| name.eq_ignore_ascii_case(key) && below(value))
    }

    fn take_even_null(&mut self, key: &str) -> Option<Value> {
        let name = if self.fields.contains_key(key) {
            key.to_owned()
        } else {
            self.fields.keys().find(|name| name.eq_ignore_ascii_case(key))?.clone()
        };
        self.fields.remove(&name)
    }

    fn wrong<T>(&self, key: &str, value: &Value, go_type: &str) -> Result<T, ApiError> {
        Err(mismatch(value, &format!("Go struct field {}.{key} of type {go_type}", self.path)))
    }

    fn out_of_range<T>(&self, key: &str, value: &Value, go_type: &str) -> Result<T, ApiError> {
        let path = &self.path;
        let text =
            format_args!("json: cannot unmarshal number {value} into Go struct field {path}.{key} of type {go_type}");
        Err(api_error::invalid_json(text))
    }

    /// A text, if it is there.
    pub(crate) fn text(&mut self, key: &str) -> Result<Option<String>, ApiError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => self.wrong(key, &other, "string"),
        }
    }

    /// A text; empty when it is not there.
    pub(crate) fn text_or_empty(&mut self, key: &str) -> Result<String, ApiError> {
        Ok(self.text(key)?.unwrap_or_default())
    }

    /// A boolean; false when it is not there.
    pub(crate) fn flag(&mut self, key: &str) -> Result<bool, ApiError> {
        match self.take(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => self.wrong(key, &other, "bool"),
        }
    }

    fn integer(&mut self, key: &str, go_type: &str) -> Result<i64, ApiError> {
        match self.take(key) {
            None => Ok(0),
            Some(Value::Number(number)) => match number.as_i64() {
                Some(value) => Ok(value),
                None => self.out_of_range(key, &Value::Number(number), go_type),
            },
            Some(other) => self.wrong(key, &other, go_type),
        }
    }

    /// An integer; 0 when it is not there.
    pub(crate) fn signed(&mut self, key: &str) -> Result<i64, ApiError> {
        self.integer(key, "int64")
    }

    /// A count, which Go calls `int`; 0 when it is not there.
    pub(crate) fn count(&mut self, key: &str) -> Result<i64, ApiError> {
        self.integer(key, "int")
    }

    /// A 32-bit integer; 0 when it is not there.
    pub(crate) fn short(&mut self, key: &str) -> Result<i32, ApiError> {
        let value = self.integer(key, "int32")?;
        i32::try_from(value).or_else(|_| self.out_of_range(key, &value.into(), "int32"))
    }

    /// Nanoseconds, perhaps negative; 0 when it is not there.
    pub(crate) fn duration(&mut self, key: &str) -> Result<i64, ApiError> {
        self.integer(key, "time.Duration")
    }

    /// A moment, if it is there (RFC 3339).
    pub(crate) fn time(&mut self, key: &str) -> Result<Option<Timestamp>, ApiError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => match parse_time(&text) {
                Some(time) => Ok(Some(time)),
                None => Err(api_error::invalid_json(time_problem(&text))),
            },
            Some(other) => self.wrong(key, &other, "time.Time"),
        }
    }

    /// A sequence; 0 when it is not there.
    pub(crate) fn unsigned(&mut self, key: &str) -> Result<u64, ApiError> {
        match self.take(key) {
            None => Ok(0),
            Some(Value::Number(number)) => match number.as_u64() {
                Some(value) => Ok(value),
                None => self.out_of_range(key, &Value::Number(number), "uint64"),
            },
            Some(other) => self.wrong(key, &other, "uint64"),
        }
    }

    fn list<T>(
        &mut self,
        key: &str,
        go_type: &str,
        each: impl Fn(Value) -> Result<T, Value>,
    ) -> Result<Vec<T>, ApiError> {
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => {
                let path = &self.path;
                let element = |(n, value)| {
                    each(value).map_err(|value| mismatch(&value, &format!("{path}.{key}.{n} of type {go_type}")))
                };
                values.into_iter().enumerate().map(element).collect()
            }
            Some(other) => self.wrong(key, &other, &format!("[]{go_type}")),
        }
    }

    /// A list of texts. As in Go, `null` in a list is an empty one.
    pub(crate) fn texts(&mut self, key: &str) -> Result<Vec<String>, ApiError> {
        self.list(key, "string", |value| match value {
            Value::String(text) => Ok(text),
            Value::Null => Ok(String::new()),
            other => Err(other),
        })
    }

    /// A list of nanoseconds.
    pub(crate) fn durations(&mut self, key: &str) -> Result<Vec<i64>, ApiError> {
        self.list(key, "time.Duration", |value| if value.is_null() { Ok(0) } else { value.as_i64().ok_or(value) })
    }

    /// A list of sequences.
    pub(crate) fn sequences(&mut self, key: &str) -> Result<Vec<u64>, ApiError> {
        self.list(key, "uint64", |value| if value.is_null() { Ok(0) } else { value.as_u64().ok_or(value) })
    }

    /// Counts by name: nothing but their types is of use.
    pub(crate) fn counts(&mut self, key: &str) -> Result<(), ApiError> {
        let path = format!("{}.{key}", self.path);
        match self.take(key) {
            None => Ok(()),
            Some(Value::Object(fields)) => {
                let wrong = fields.iter().find(|(_, value)| !value.is_null() && value.as_u64().is_none());
                let refusal = wrong
                    .map(|(name, value)| mismatch(value, &format!("Go struct field {path}.{name} of type uint64")));
                refusal.map_or(Ok(()), Err)
            }
            Some(other) => self.wrong(key, &other, "map[string]uint64"),
        }
    }

    /// Key-value pairs of texts.
    pub(crate) fn pairs(&mut self, key: &str) -> Result<BTreeMap<String, String>, ApiError> {
        let path = format!("{}.{key}", self.path);
        match self.take(key) {
            None => Ok(BTreeMap::new()),
            Some(Value::Object(fields)) => fields
                .into_iter()
                .map(|(name, value)| match value {
                    Value::String(text) => Ok((name, text)),
                    Value::Null => Ok((name, String::new())),
                    other => Err(mismatch(&other, &format!("Go struct field {path}.{name} of type string"))),
                })
                .collect(),
            Some(other) => self.wrong(key, &other, "map[string]string"),
        }
    }

    /// An object inside; empty when it is not there.
    pub(crate) fn object(&mut self, key: &str, go_type: &str) -> Result<Object, ApiError> {
        let value = self.take(key).unwrap_or(Value::Null);
        Object::new(value, format!("{}.{key}", self.path), go_type)
    }

    /// An object inside, if it is there.
    pub(crate) fn object_if_there(&mut self, key: &str, go_type: &str) -> Result<Option<Object>, ApiError> {
        let value = self.take(key);
        value.map(|value| Object::new(value, format!("{}.{key}", self.path), go_type)).transpose()
    }

    /// A list of objects inside.
    pub(crate) fn objects(&mut self, key: &str, go_type: &str) -> Result<Vec<Object>, ApiError> {
        let path = format!("{}.{key}", self.path);
        let values = self.list(key, &format!("*server.{go_type}"), Ok)?;
        let objects = values.into_iter().enumerate().map(|(n, value)| match value {
            Value::Null | Value::Object(_) => Object::new(value, format!("{path}.{n}"), go_type),
            other => Err(mismatch(&other, &format!("{path}.{n} of type server.{go_type}"))),
        });
        objects.collect()
    }

    /// One of a few words; the first when it is not there.
    pub(crate) fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Result<T, ApiError> {
        self.word_or(key, words, |value| format!("can not unmarshal {value:?}"))
    }

    /// The same, with a text for words that are none of them; it is given the value as JSON.
    pub(crate) fn word_or<T: Copy>(
        &mut self,
        key: &str,
        words: &[(&str, T)],
        unknown: impl Fn(&str) -> String,
    ) -> Result<T, ApiError> {
        // Where Go has a word, `null` is none of them.
        let value = self.take_even_null(key);
        let found = match &value {
            None => words.first(),
            Some(Value::String(text)) => words.iter().find(|(word, _)| word == text),
            Some(_) => None,
        };
        let refused = || api_error::invalid_json(unknown(&value.as_ref().map(Value::to_string).unwrap_or_default()));
        found.map(|(_, value)| *value).ok_or_else(refused)
    }

    /// Nothing may be left.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        match self.fields.keys().next() {
            Some(name) => Err(api_error::invalid_json(format_args!("json: unknown field {name:?}"))),
            None => self.behind.map_or(Ok(()), Err),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(payload: &str, expected: &str) {
        let error = parse(payload.as_bytes(), "R").and_then(|mut object| {
            object.signed("n")?;
            object.text("t")?;
            object.texts("l")?;
            object.short("s")?;
            object.unsigned("u")?;
            object.pairs("p")?;
            object.word("w", &[("a", 1), ("b", 2)])?;
            object.finish()
        });
        let text = error.map_or_else(|error| error.description.into_owned(), |found| format!("{found:?}"));
        assert_eq!(text.strip_prefix("invalid JSON: ").unwrap_or(&text), expected, "{payload}");
    }

    #[test]
    fn go_texts() {
        check("{}", "()");
        check("", "()");
        check("null", "()");
        check(r#"{"N":1,"T":null,"l":["a"],"s":-1,"u":1,"p":{"a":"b"},"w":"b"}"#, "()");
        check("{", "unexpected EOF");
        check("[", "unexpected EOF");
        check("[]", "json: cannot unmarshal array into Go value of type server.R");
        check("xx", "invalid character 'x' looking for beginning of value at offset 1");
        check(r#"{"n":1} x"#, "invalid character 'x' looking for beginning of value at offset 9");
        check(r#"{"n":1,}"#, "invalid character '}' looking for beginning of object key string at offset 8");
        check(r#"{"a" 1}"#, "invalid character '1' after object key at offset 6");
        check(r#"{"bogus":1}"#, "json: unknown field \"bogus\"");
        check(r#"{"n":"x"}"#, "json: cannot unmarshal string into Go struct field R.n of type int64");
        check(r#"{"n":1.5}"#, "json: cannot unmarshal number 1.5 into Go struct field R.n of type int64");
        check(
            r#"{"s":99999999999}"#,
            "json: cannot unmarshal number 99999999999 into Go struct field R.s of type int32",
        );
        check(r#"{"u":-1}"#, "json: cannot unmarshal number -1 into Go struct field R.u of type uint64");
        check(r#"{"l":[1]}"#, "json: cannot unmarshal number into R.l.0 of type string");
        check(r#"{"l":"x"}"#, "json: cannot unmarshal string into Go struct field R.l of type []string");
        check(r#"{"p":{"a":1}}"#, "json: cannot unmarshal number into Go struct field R.p.a of type string");
        check(r#"{"w":"zzz"}"#, r#"can not unmarshal "\"zzz\"""#);
    }

    #[test]
    fn depth_and_size_are_bounded() {
        assert!(parse("[".repeat(100_000).as_bytes(), "R").is_err());
        assert!(parse(format!("{{\"a\":{}", "{\"a\":".repeat(500)).as_bytes(), "R").is_err());
        assert!(parse(&vec![b' '; MAX_BODY + 1], "R").is_err());
    }
}
