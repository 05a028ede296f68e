//! `$NAME`: a key before it in this map or one around it, else an environment variable, whose text is read as a value.

use std::sync::Arc;

use crate::document::{Parser, too_deep};
use crate::error::{ParseError, Reason};
use crate::limits::MAX_DEPTH;
use crate::value::{Kind, Map, Position, Value};

impl Parser<'_> {
    pub(crate) fn variable(&mut self, name: &str, position: &Position, depth: usize) -> Result<Kind, ParseError> {
        let floor = self.floor;
        let found = self.scopes[floor..].iter_mut().rev().find_map(|map| map.refer(name));
        if let Some(value) = found {
            let size = Size::of(value);
            // Copied only after it is known to be small enough.
            if depth + size.depth > MAX_DEPTH {
                return Err(too_deep(position.clone()));
            }
            self.count_copy(position, size.values, size.bytes)?;
            let found = self.scopes[floor..].iter().rev().find_map(|map| map.exact(name));
            return found.map(|entry| entry.value.kind.clone()).ok_or_else(|| unknown(name, position));
        }
        self.environment_variable(name, position, depth)
    }

    fn environment_variable(&mut self, name: &str, position: &Position, depth: usize) -> Result<Kind, ParseError> {
        let line = position.line;
        if self.reading.iter().any(|outer| outer == name) {
            return Err(ParseError::new(position.clone(), Reason::VariableCycle { name: name.to_owned() }));
        }
        let Some(text) = (self.sources.environment)(name) else {
            return Err(unknown(name, position));
        };
        if self.reading.len() >= MAX_DEPTH {
            return Err(too_deep(position.clone()));
        }
        self.reading.push(name.to_owned());
        let read = self.environment_text(name, &text, depth);
        self.reading.pop();
        read.map_err(|error| {
            let why = error.to_string();
            ParseError::new(position.clone(), Reason::BadVariable { name: name.to_owned(), line, why })
        })
    }

    /// A text of its own, which sees no keys of the file.
    fn environment_text(&mut self, name: &str, text: &str, depth: usize) -> Result<Kind, ParseError> {
        let mut cursor = self.open(Arc::from(format!("${name}")), text)?;
        let outer_floor = std::mem::replace(&mut self.floor, self.scopes.len());
        cursor.skip_blanks();
        // An empty variable is an empty string, as in stock.
        let read = if cursor.peek().is_none() {
            Ok(Kind::String(String::new()))
        } else {
            self.value(&mut cursor, depth).map(|value| value.kind)
        };
        self.floor = outer_floor;
        let kind = read?;
        cursor.skip_space_and_comments();
        match cursor.peek() {
            None => Ok(kind),
            Some(_) => Err(cursor.syntax("Expected one value and nothing behind it (quote it if it is text)")),
        }
    }
}

fn unknown(name: &str, position: &Position) -> ParseError {
    let reason = Reason::UnknownVariable { name: name.to_owned(), line: position.line };
    ParseError::new(position.clone(), reason)
}

/// What a copy of a value takes.
struct Size {
    values: usize,
    bytes: usize,
    /// Maps and lists inside one another; 1 for a leaf.
    depth: usize,
}

impl Size {
    /// Recursion is bounded: what was read is never deeper than [`MAX_DEPTH`].
    fn of(value: &Value) -> Self {
        match &value.kind {
            Kind::String(text) => Self { values: 1, bytes: text.len(), depth: 1 },
            Kind::Array(values) => values.iter().fold(Self::container(), |sum, inner| sum.with(&Self::of(inner), 0)),
            Kind::Map(map) => Self::of_map(map),
            Kind::Boolean(_) | Kind::Integer(_) | Kind::Float(_) | Kind::Date(_) => {
                Self { values: 1, bytes: 0, depth: 1 }
            }
        }
    }

    fn of_map(map: &Map) -> Self {
        map.entries().iter().fold(Self::container(), |sum, entry| sum.with(&Self::of(&entry.value), entry.key.len()))
    }

    fn container() -> Self {
        Self { values: 1, bytes: 0, depth: 1 }
    }

    fn with(self, inner: &Self, key_bytes: usize) -> Self {
        Self {
            values: self.values + inner.values,
            bytes: self.bytes + inner.bytes + key_bytes,
            depth: self.depth.max(inner.depth + 1),
        }
    }
}
