//! The grammar: maps, arrays and what parts their items. Leaves are in [`crate::scalar`], references in [`crate::variable`] and
//! [`crate::include`].
//!
//! Recursive descent; the depth is bounded by [`MAX_DEPTH`], so the stack is too.

use std::sync::Arc;

use crate::cursor::{Cursor, is_line_end, shown};
use crate::error::{ParseError, Reason};
use crate::limits::{MAX_COPIED_BYTES, MAX_COPIED_VALUES, MAX_DEPTH, MAX_INPUT_BYTES};
use crate::scalar::{self, Bare};
use crate::value::{Entry, Kind, Map, Position, Value};

/// The text of an included file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Included {
    /// The name that errors show, and that the file's own includes are relative to.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// Where a configuration gets what is not in its text.
#[derive(Clone, Copy)]
pub struct Sources<'s> {
    /// The environment: the text of the variable of this name.
    pub environment: &'s dyn Fn(&str) -> Option<String>,
    /// The file of this path, as written, in an `include` of the file named second. The error is a reason without position,
    /// such as `open x: no such file or directory`.
    pub load: &'s dyn Fn(&str, &str) -> Result<Included, String>,
}

impl Sources<'_> {
    /// An empty environment and no files.
    pub fn none() -> Sources<'static> {
        Sources { environment: &|_| None, load: &|path, _| Err(format!("open {path}: no such file or directory")) }
    }
}

/// Reads a whole file. `file` is its name in positions, and what its includes are relative to.
pub fn parse(file: &str, text: &str, sources: Sources<'_>) -> Result<Map, ParseError> {
    let mut parser = Parser::new(sources);
    parser.file(Arc::from(file), text, 0)
}

/// What lives across the files of one configuration.
pub(crate) struct Parser<'s> {
    pub(crate) sources: Sources<'s>,
    /// The maps that are open, innermost last: where variables are looked up.
    pub(crate) scopes: Vec<Map>,
    /// The first of `scopes` that the present text may see: an included file sees only its own.
    pub(crate) floor: usize,
    /// Environment variables being read, outermost first.
    pub(crate) reading: Vec<String>,
    pub(crate) include_depth: usize,
    input_bytes: usize,
    copied_values: usize,
    copied_bytes: usize,
}

impl<'s> Parser<'s> {
    fn new(sources: Sources<'s>) -> Self {
        Self {
            sources,
            scopes: Vec::new(),
            floor: 0,
            reading: Vec::new(),
            include_depth: 0,
            input_bytes: 0,
            copied_values: 0,
            copied_bytes: 0,
        }
    }

    /// A file as a map of its own; `depth` is where it will be merged.
    pub(crate) fn file(&mut self, file: Arc<str>, text: &str, depth: usize) -> Result<Map, ParseError> {
        let mut cursor = self.open(file, text)?;
        let outer_floor = std::mem::replace(&mut self.floor, self.scopes.len());
        self.scopes.push(Map::default());
        let read = self.top_level(&mut cursor, depth);
        let map = self.scopes.pop().unwrap_or_default();
        self.floor = outer_floor;
        read.map(|()| map)
    }

    /// A cursor over a further text, counted.
    pub(crate) fn open<'t>(&mut self, file: Arc<str>, text: &'t str) -> Result<Cursor<'t>, ParseError> {
        let cursor = Cursor::new(file, text);
        self.input_bytes = self.input_bytes.saturating_add(text.len());
        if self.input_bytes > MAX_INPUT_BYTES {
            let reason = Reason::TooMuch { what: "the text in bytes", limit: MAX_INPUT_BYTES };
            return Err(ParseError::new(cursor.position(), reason));
        }
        Ok(cursor)
    }

    fn top_level(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), ParseError> {
        cursor.skip_space_and_comments();
        let opening = cursor.position();
        // A JSON object is the same thing in braces.
        let braced = cursor.take('{');
        loop {
            cursor.skip_space_and_comments();
            match cursor.peek() {
                None if braced => {
                    let text =
                        format!("Unexpected EOF processing map. Expected a '}}' for the '{{' on line {}", opening.line);
                    return Err(cursor.syntax(text));
                }
                None => return Ok(()),
                Some('}') => return end_of_file(cursor),
                Some(_) => {}
            }
            self.item(cursor, depth, Context::TopLevel)?;
            cursor.skip_blanks();
            if cursor.skip_comment() {
                continue;
            }
            match cursor.peek() {
                Some(',' | ';' | '\n' | '\r') => {
                    cursor.next();
                }
                Some('}') | None => {}
                other => {
                    let got = shown(other);
                    let text = format!(
                        "Expected a top-level value to end with a new line, comment or EOF, but got '{got}' instead."
                    );
                    return Err(cursor.syntax(text));
                }
            }
        }
    }

    /// `{` is next.
    fn map(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<Map, ParseError> {
        cursor.next();
        self.scopes.push(Map::default());
        let read = self.map_items(cursor, depth);
        let map = self.scopes.pop().unwrap_or_default();
        read.map(|()| map)
    }

    fn map_items(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), ParseError> {
        loop {
            cursor.skip_space_and_comments();
            if cursor.take('}') {
                return Ok(());
            }
            self.item(cursor, depth, Context::Map)?;
            cursor.skip_blanks();
            if cursor.skip_comment() {
                continue;
            }
            match cursor.peek() {
                Some(',' | ';' | '\n' | '\r') => {
                    cursor.next();
                }
                Some('}') => {}
                None => return Err(cursor.syntax("Unexpected EOF processing map.")),
                other => {
                    let got = shown(other);
                    let text = format!(
                        "Expected a map value terminator \",\" or a map terminator \"}}\", but got '{got}' instead."
                    );
                    return Err(cursor.syntax(text));
                }
            }
        }
    }

    /// One `key value` or one `include`, into the innermost map.
    fn item(&mut self, cursor: &mut Cursor<'_>, depth: usize, context: Context) -> Result<(), ParseError> {
        let position = cursor.position();
        let key = match key(cursor, context)? {
            Key::Named(key) => key,
            Key::Include => return self.include(cursor, depth),
        };
        separator(cursor, context)?;
        let value = self.value(cursor, depth)?;
        self.insert(Entry { key, position, value, referenced: false });
        Ok(())
    }

    pub(crate) fn insert(&mut self, entry: Entry) {
        if let Some(map) = self.scopes.last_mut() {
            map.insert(entry);
        }
    }

    /// Any value; the cursor stands on its first character.
    pub(crate) fn value(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<Value, ParseError> {
        let position = cursor.position();
        if depth >= MAX_DEPTH {
            return Err(too_deep(position));
        }
        let kind = match cursor.peek() {
            Some('{') => Kind::Map(self.map(cursor, depth + 1)?),
            Some('[') => Kind::Array(self.array(cursor, depth + 1)?),
            Some('\'') => Kind::String(scalar::single_quoted(cursor)?),
            Some('"') => Kind::String(scalar::double_quoted(cursor)?),
            Some('(') => Kind::String(scalar::raw_block(cursor)?),
            None => return Err(cursor.syntax("Unexpected EOF, expected a value.")),
            Some(next) if is_line_end(next) => return Err(cursor.syntax("Expected value but found new line")),
            Some(_) => match scalar::bare(cursor)? {
                Bare::Value(kind) => kind,
                Bare::Variable(name) => self.variable(&name, &position, depth)?,
            },
        };
        Ok(Value { kind, position })
    }

    /// `[` is next.
    fn array(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<Vec<Value>, ParseError> {
        cursor.next();
        let mut values = Vec::new();
        loop {
            cursor.skip_space_and_comments();
            match cursor.peek() {
                Some(']') => {
                    cursor.next();
                    return Ok(values);
                }
                Some(',') => {
                    return Err(cursor.syntax("Unexpected array value terminator ','. Expected a value or ']'"));
                }
                None => return Err(cursor.syntax("Unexpected EOF processing array.")),
                Some(_) => values.push(self.value(cursor, depth)?),
            }
            array_separator(cursor)?;
        }
    }

    /// Counts what a reference copies: `values` values with `bytes` bytes of text.
    pub(crate) fn count_copy(&mut self, position: &Position, values: usize, bytes: usize) -> Result<(), ParseError> {
        self.copied_values = self.copied_values.saturating_add(values);
        self.copied_bytes = self.copied_bytes.saturating_add(bytes);
        let (what, limit) = if self.copied_values > MAX_COPIED_VALUES {
            ("the number of values that variables stand for", MAX_COPIED_VALUES)
        } else if self.copied_bytes > MAX_COPIED_BYTES {
            ("the text that variables stand for, in bytes,", MAX_COPIED_BYTES)
        } else {
            return Ok(());
        };
        Err(ParseError::new(position.clone(), Reason::TooMuch { what, limit }))
    }
}

pub(crate) fn too_deep(position: Position) -> ParseError {
    ParseError::new(position, Reason::TooMuch { what: "the nesting of maps and lists", limit: MAX_DEPTH })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    TopLevel,
    Map,
}

enum Key {
    Named(String),
    /// The word `include` with a blank behind it.
    Include,
}

fn key(cursor: &mut Cursor<'_>, context: Context) -> Result<Key, ParseError> {
    match cursor.peek() {
        Some(next @ (':' | '=')) => {
            Err(cursor.syntax(format!("Unexpected key separator '{next}'. Expected a key before it")))
        }
        Some(next @ (']' | '[' | '{' | '(' | ',' | ';' | '\0')) => {
            let place = if context == Context::Map { " processing map" } else { "" };
            let what = if next == ']' { "array end " } else { "" };
            Err(cursor.syntax(format!("Unexpected {what}'{}'{place}. Expected a key", shown(Some(next)))))
        }
        Some(quote @ ('"' | '\'')) => quoted_key(cursor, quote).map(Key::Named),
        None if context == Context::Map => Err(cursor.syntax("Unexpected EOF processing map.")),
        _ => {
            let key = cursor.take_while(|next| !next.is_whitespace() && next != ':' && next != '=');
            let blank_behind = cursor.peek().is_some_and(char::is_whitespace);
            let include = blank_behind && key.eq_ignore_ascii_case("include");
            Ok(if include { Key::Include } else { Key::Named(key.to_owned()) })
        }
    }
}

/// No escapes: a key ends at the same quote.
fn quoted_key(cursor: &mut Cursor<'_>, quote: char) -> Result<String, ParseError> {
    let opening = cursor.position();
    cursor.next();
    let key = cursor.take_while(|next| next != quote).to_owned();
    if cursor.take(quote) {
        Ok(key)
    } else {
        Err(ParseError::syntax(opening, "Unexpected EOF processing quoted map key. Expected its closing quote"))
    }
}

/// What stands between key and value: blanks (also line ends) or one separator with blanks around it. After a separator a line
/// may end inside a map only.
fn separator(cursor: &mut Cursor<'_>, context: Context) -> Result<(), ParseError> {
    cursor.skip_space();
    if matches!(cursor.peek(), Some(':' | '=')) {
        cursor.next();
        match context {
            Context::TopLevel => cursor.skip_blanks(),
            Context::Map => cursor.skip_space(),
        }
    }
    match cursor.peek() {
        Some(next @ (',' | ';' | '}' | ']')) => {
            Err(cursor.syntax(format!("Unexpected map value terminator \"{next}\". Expected a value")))
        }
        None if context == Context::Map => Err(cursor.syntax("Unexpected EOF processing map. Expected a value")),
        _ => Ok(()),
    }
}

/// Values are parted by a comma, or by the end of a line.
fn array_separator(cursor: &mut Cursor<'_>) -> Result<(), ParseError> {
    let line = cursor.position().line;
    cursor.skip_space_and_comments();
    match cursor.peek() {
        Some(',') => {
            cursor.next();
            Ok(())
        }
        Some(']') => Ok(()),
        None => Err(cursor.syntax("Unexpected EOF processing array.")),
        Some(_) if cursor.position().line > line => Ok(()),
        other => {
            let got = shown(other);
            let text = format!(
                "Expected an array value terminator \",\" or an array terminator \"]\", but got '{got}' instead."
            );
            Err(cursor.syntax(text))
        }
    }
}

/// `}` is next at the top level. It closes a JSON object, or is the stray last brace that stock lets pass too.
fn end_of_file(cursor: &mut Cursor<'_>) -> Result<(), ParseError> {
    let brace = cursor.position();
    cursor.next();
    cursor.skip_space_and_comments();
    if cursor.peek().is_none() {
        return Ok(());
    }
    Err(ParseError::syntax(brace, "Unexpected '}'. Expected a key: no map is open here"))
}
