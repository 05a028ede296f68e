//! A place in the text that moves forward by characters and knows its line and column.

use std::sync::Arc;

use crate::error::ParseError;
use crate::value::Position;

#[derive(Clone)]
pub(crate) struct Cursor<'t> {
    rest: std::str::Chars<'t>,
    file: Arc<str>,
    line: u32,
    column: u32,
}

impl<'t> Cursor<'t> {
    pub(crate) fn new(file: Arc<str>, text: &'t str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { rest: text.chars(), file, line: 1, column: 1 }
    }

    pub(crate) fn position(&self) -> Position {
        Position { file: self.file.clone(), line: self.line, column: self.column }
    }

    pub(crate) fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// What is left of the text.
    pub(crate) fn rest(&self) -> &'t str {
        self.rest.as_str()
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    pub(crate) fn next(&mut self) -> Option<char> {
        let next = self.rest.next()?;
        if next == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(next)
    }

    /// Moves past `wanted` if it is next.
    pub(crate) fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.next();
        }
        found
    }

    /// Moves on while `belongs` holds and gives what was passed.
    pub(crate) fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'t str {
        let before = self.rest();
        while self.peek().is_some_and(&belongs) {
            self.next();
        }
        &before[..before.len() - self.rest().len()]
    }

    /// Past blanks, not line ends.
    pub(crate) fn skip_blanks(&mut self) {
        self.take_while(is_blank);
    }

    /// Past blanks and line ends.
    pub(crate) fn skip_space(&mut self) {
        self.take_while(char::is_whitespace);
    }

    /// Past one comment, `#` or `//` up to the end of its line; false when there is none.
    pub(crate) fn skip_comment(&mut self) -> bool {
        let found = self.rest().starts_with('#') || self.rest().starts_with("//");
        if found {
            self.take_while(|next| !is_line_end(next));
        }
        found
    }

    /// Past blanks, line ends and comments.
    pub(crate) fn skip_space_and_comments(&mut self) {
        self.skip_space();
        while self.skip_comment() {
            self.skip_space();
        }
    }

    pub(crate) fn syntax(&self, text: impl Into<String>) -> ParseError {
        ParseError::syntax(self.position(), text)
    }
}

pub(crate) fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t')
}

pub(crate) fn is_line_end(character: char) -> bool {
    matches!(character, '\n' | '\r')
}

/// A character as messages show it.
pub(crate) fn shown(character: Option<char>) -> String {
    match character {
        None => "the end of the file".to_owned(),
        Some('\n') => "\\n".to_owned(),
        Some('\r') => "\\r".to_owned(),
        Some(other) if other.is_control() => other.escape_default().to_string(),
        Some(other) => other.to_string(),
    }
}
