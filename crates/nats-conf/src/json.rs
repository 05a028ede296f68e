//! The JSON that stock makes of a configuration to take its digest: keys sorted, blanks none, `<>&` escaped, a line end behind
//! it. Its SHA-256 is what `-t` prints, so two configurations that mean the same have one digest, with stock or with us.

use std::fmt::Write as _;

use crate::value::{Kind, Map, Value};

/// A configuration as one line of JSON, byte for byte what stock hashes.
pub fn canonical_json(map: &Map) -> String {
    let mut out = String::new();
    write_map(&mut out, map);
    out.push('\n');
    out
}

fn write_map(out: &mut String, map: &Map) {
    let mut entries: Vec<_> = map.entries().iter().collect();
    entries.sort_by(|left, right| left.key.cmp(&right.key));
    out.push('{');
    for (index, entry) in entries.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_string(out, &entry.key);
        out.push(':');
        write_value(out, &entry.value);
    }
    out.push('}');
}

fn write_value(out: &mut String, value: &Value) {
    // Writing to a String can't fail.
    let _ = match &value.kind {
        Kind::Boolean(value) => write!(out, "{value}"),
        Kind::Integer(integer) => write!(out, "{}", integer.number),
        Kind::Float(value) => write_float(out, *value),
        Kind::Date(date) => write!(out, "\"{date}\""),
        Kind::String(text) => {
            write_string(out, text);
            Ok(())
        }
        Kind::Array(values) => {
            write_array(out, values);
            Ok(())
        }
        Kind::Map(map) => {
            write_map(out, map);
            Ok(())
        }
    };
}

fn write_array(out: &mut String, values: &[Value]) {
    out.push('[');
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_value(out, value);
    }
    out.push(']');
}

/// Go writes very small and very large floats with an exponent.
fn write_float(out: &mut String, value: f64) -> std::fmt::Result {
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        let text = if size >= 1e21 { text.replace('e', "e+") } else { text };
        return write!(out, "{text}");
    }
    write!(out, "{value}")
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        let _ = match character {
            '"' => write!(out, "\\\""),
            '\\' => write!(out, "\\\\"),
            '\n' => write!(out, "\\n"),
            '\r' => write!(out, "\\r"),
            '\t' => write!(out, "\\t"),
            '\u{8}' => write!(out, "\\b"),
            '\u{c}' => write!(out, "\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                write!(out, "\\u{:04x}", u32::from(character))
            }
            other => write!(out, "{other}"),
        };
    }
    out.push('"');
}
