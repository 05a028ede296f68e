//! Writes a map so that it reads back as itself: the other half of the round-trip property.

use std::fmt::Write as _;

use crate::value::{Kind, Map};

/// Keys must not hold both kinds of quotes: keys have no escapes.
pub(crate) fn print(map: &Map) -> String {
    let mut out = String::new();
    write_entries(&mut out, map);
    out
}

fn write_entries(out: &mut String, map: &Map) {
    for entry in map.entries() {
        let quote = if entry.key.contains('"') { '\'' } else { '"' };
        write!(out, "{quote}{}{quote}: ", entry.key).unwrap();
        write_kind(out, &entry.value.kind);
        out.push('\n');
    }
}

fn write_kind(out: &mut String, kind: &Kind) {
    match kind {
        Kind::Boolean(value) => write!(out, "{value}").unwrap(),
        Kind::Integer(integer) => write!(out, "{}", integer.number).unwrap(),
        Kind::Float(value) => write!(out, "{value:?}").unwrap(),
        Kind::Date(date) => write!(out, "{date}").unwrap(),
        Kind::String(text) => write_string(out, text),
        Kind::Array(values) => {
            out.push('[');
            for value in values {
                write_kind(out, &value.kind);
                out.push_str(", ");
            }
            out.push(']');
        }
        Kind::Map(map) => {
            out.push_str("{\n");
            write_entries(out, map);
            out.push('}');
        }
    }
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' => out.push(char::from(byte)),
            other => write!(out, "\\x{other:02x}").unwrap(),
        }
    }
    out.push('"');
}
