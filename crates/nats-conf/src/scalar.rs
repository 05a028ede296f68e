//! Leaves: quoted strings, raw blocks, and bare words, which may be a boolean, a number, a date, a variable or plain text.

use crate::cursor::{Cursor, is_blank, is_line_end, shown};
use crate::error::{ParseError, Reason};
use crate::value::{Date, Integer, Kind, Position};

/// A bare word, understood.
pub(crate) enum Bare {
    Value(Kind),
    /// The name behind `$`.
    Variable(String),
}

/// `'…'`: as it stands, over lines too.
pub(crate) fn single_quoted(cursor: &mut Cursor<'_>) -> Result<String, ParseError> {
    let opening = cursor.position();
    cursor.next();
    let text = cursor.take_while(|next| next != '\'').to_owned();
    if cursor.take('\'') { Ok(text) } else { Err(unclosed(opening)) }
}

/// `"…"`: with escapes, over lines too.
pub(crate) fn double_quoted(cursor: &mut Cursor<'_>) -> Result<String, ParseError> {
    let opening = cursor.position();
    cursor.next();
    let mut bytes = Vec::new();
    loop {
        bytes.extend_from_slice(cursor.take_while(|next| next != '"' && next != '\\').as_bytes());
        match cursor.peek() {
            Some('"') => {
                cursor.next();
                return utf8(bytes, opening);
            }
            Some(_) => bytes.push(escape(cursor)?),
            None => return Err(unclosed(opening)),
        }
    }
}

/// `( … )`: everything up to a `)` alone on its line.
pub(crate) fn raw_block(cursor: &mut Cursor<'_>) -> Result<String, ParseError> {
    let opening = cursor.position();
    cursor.next();
    let mut text = String::new();
    loop {
        text.push_str(cursor.take_while(|next| next != ')'));
        if cursor.peek().is_none() {
            let what = "Unexpected EOF processing block. Expected a ')' alone on a line";
            return Err(ParseError::syntax(opening, what));
        }
        cursor.next();
        let alone = text.ends_with('\n') && cursor.peek().is_none_or(is_line_end);
        if alone {
            return Ok(text);
        }
        text.push(')');
    }
}

/// A word up to a blank, a line end or one of `, ; ] }`.
pub(crate) fn bare(cursor: &mut Cursor<'_>) -> Result<Bare, ParseError> {
    let opening = cursor.position();
    let mut bytes = Vec::new();
    let mut escaped = false;
    loop {
        bytes.extend_from_slice(
            cursor.take_while(|next| !ends_word(next) && !matches!(next, '\\' | '\'' | '\0')).as_bytes(),
        );
        match cursor.peek() {
            Some('\\') => {
                escaped = true;
                bytes.push(escape(cursor)?);
            }
            Some(next @ ('\'' | '\0')) => {
                let text =
                    format!("Unexpected '{}' in an unquoted value. Expected it in double quotes", shown(Some(next)));
                return Err(cursor.syntax(text));
            }
            _ => break,
        }
    }
    let text = utf8(bytes, opening.clone())?;
    if escaped { Ok(Bare::Value(Kind::String(text))) } else { understand(text, &opening) }
}

fn ends_word(character: char) -> bool {
    is_blank(character) || is_line_end(character) || matches!(character, ',' | ';' | ']' | '}')
}

fn unclosed(opening: Position) -> ParseError {
    ParseError::syntax(opening, "Unexpected EOF. Expected the closing quote of this string")
}

fn utf8(bytes: Vec<u8>, position: Position) -> Result<String, ParseError> {
    String::from_utf8(bytes)
        .map_err(|_| ParseError::syntax(position, "Expected UTF-8, but the \\x escapes here make none"))
}

/// `\` is next.
fn escape(cursor: &mut Cursor<'_>) -> Result<u8, ParseError> {
    let position = cursor.position();
    cursor.next();
    match cursor.next() {
        Some('x') => hexadecimal(cursor),
        Some('t') => Ok(b'\t'),
        Some('n') => Ok(b'\n'),
        Some('r') => Ok(b'\r'),
        Some('"') => Ok(b'"'),
        Some('\\') => Ok(b'\\'),
        other => {
            let got = shown(other);
            let text = format!(
                "Invalid escape character '{got}'. Only the following escape characters are allowed: \
                 \\xXX, \\t, \\n, \\r, \\\", \\\\."
            );
            Err(ParseError::syntax(position, text))
        }
    }
}

fn hexadecimal(cursor: &mut Cursor<'_>) -> Result<u8, ParseError> {
    let position = cursor.position();
    let digits = [cursor.next(), cursor.next()];
    if let [Some(high), Some(low)] = digits
        && let (Some(high), Some(low)) = (high.to_digit(16), low.to_digit(16))
        && let Ok(byte) = u8::try_from(high * 16 + low)
    {
        return Ok(byte);
    }
    let got: String = digits.iter().map(|&digit| shown(digit)).collect();
    Err(ParseError::syntax(position, format!("Expected two hexadecimal digits after '\\x', but got '{got}'")))
}

fn understand(word: String, position: &Position) -> Result<Bare, ParseError> {
    if let Some(name) = word.strip_prefix('$') {
        return Ok(if is_bcrypt(name) { Bare::Value(Kind::String(word)) } else { Bare::Variable(name.to_owned()) });
    }
    let lower = word.to_ascii_lowercase();
    let kind = match lower.as_str() {
        "true" | "yes" | "on" => Kind::Boolean(true),
        "false" | "no" | "off" => Kind::Boolean(false),
        _ if word.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '-' | '.')) => {
            number(word, position)?
        }
        _ => Kind::String(word),
    };
    Ok(Bare::Value(kind))
}

/// `2a$…` and its successors: the text of a hash, not a name.
fn is_bcrypt(name: &str) -> bool {
    ["2a$", "2b$", "2y$"].iter().any(|prefix| name.starts_with(prefix))
}

/// A word that begins as a number does. It may still be text: an address, a duration.
fn number(word: String, position: &Position) -> Result<Kind, ParseError> {
    let unsigned = word.strip_prefix('-').unwrap_or(&word);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        let text = match unsigned.chars().next() {
            Some('.') => "Floats must start with a digit, not '.'.".to_owned(),
            first => format!("Expected a digit but got '{}'. Expected quotes around it if it is text", shown(first)),
        };
        return Err(ParseError::syntax(position.clone(), text));
    }
    let rest = &unsigned[digits..];
    if let Some(factor) = suffix(rest) {
        return integer(&word[..word.len() - rest.len()], factor, &word, position);
    }
    let Some(fraction) = rest.strip_prefix('.') else {
        return if rest.starts_with('-') { date(&word, position) } else { Ok(Kind::String(word)) };
    };
    if fraction.is_empty() {
        let text = "Floats must have a digit after the '.', but got nothing instead.";
        return Err(ParseError::syntax(position.clone(), text));
    }
    if fraction.bytes().all(|byte| byte.is_ascii_digit()) { float(word, position) } else { Ok(Kind::String(word)) }
}

/// What the suffix of an integer multiplies by; `None` when it is none.
fn suffix(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let Some(letter) = lower.chars().next() else { return Some(1) };
    let power = u32::try_from("kmgtpe".find(letter)?).ok()? + 1;
    match &lower[1..] {
        "" => Some(1000_i64.pow(power)),
        "b" | "i" | "ib" => Some(1024_i64.pow(power)),
        _ => None,
    }
}

fn integer(digits: &str, factor: i64, word: &str, position: &Position) -> Result<Kind, ParseError> {
    let written = digits.parse::<i64>().ok();
    let integer = written.and_then(|written| {
        let before_m = word.ends_with(['m', 'M']).then_some(written);
        Some(Integer { number: written.checked_mul(factor)?, before_m })
    });
    integer
        .map(Kind::Integer)
        .ok_or_else(|| ParseError::new(position.clone(), Reason::OutOfRange { kind: "integer", text: word.to_owned() }))
}

fn float(word: String, position: &Position) -> Result<Kind, ParseError> {
    match word.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Kind::Float(number)),
        _ => Err(ParseError::new(position.clone(), Reason::OutOfRange { kind: "float", text: word })),
    }
}

fn date(word: &str, position: &Position) -> Result<Kind, ParseError> {
    parse_date(word).map(Kind::Date).ok_or_else(|| {
        let text =
            "All ISO8601 dates must be in full Zulu form. Expected 2006-01-02T15:04:05Z, or quotes if it is text";
        ParseError::syntax(position.clone(), text)
    })
}

fn parse_date(word: &str) -> Option<Date> {
    let bytes = word.as_bytes();
    let form = b"0000-00-00T00:00:00Z";
    let fits = bytes.len() == form.len()
        && bytes.iter().zip(form).all(|(byte, &form)| if form == b'0' { byte.is_ascii_digit() } else { *byte == form });
    if !fits {
        return None;
    }
    let two = |at: usize| word[at..at + 2].parse::<u8>().ok();
    let year = word[..4].parse::<u16>().ok()?;
    let date = Date { year, month: two(5)?, day: two(8)?, hour: two(11)?, minute: two(14)?, second: two(17)? };
    let exists = (1..=12).contains(&date.month)
        && (1..=days_in(date.year, date.month)).contains(&date.day)
        && date.hour < 24
        && date.minute < 60
        && date.second < 60;
    exists.then_some(date)
}

fn days_in(year: u16, month: u8) -> u8 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    }
}
