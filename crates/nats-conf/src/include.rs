//! `include 'file'`: another file's items, merged where the word stands.

use std::sync::Arc;

use crate::cursor::{Cursor, is_blank, is_line_end};
use crate::document::Parser;
use crate::error::{ParseError, Reason};
use crate::limits::MAX_INCLUDE_DEPTH;

impl Parser<'_> {
    /// The word is read; its path is next.
    pub(crate) fn include(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), ParseError> {
        cursor.skip_blanks();
        let position = cursor.position();
        let path = include_path(cursor)?;
        if self.include_depth >= MAX_INCLUDE_DEPTH {
            let reason = Reason::TooMuch { what: "the nesting of includes", limit: MAX_INCLUDE_DEPTH };
            return Err(ParseError::new(position, reason));
        }
        let included = (self.sources.load)(&path, cursor.file())
            .map_err(|why| ParseError::new(position.clone(), Reason::Include { path: path.clone(), why }))?;
        self.include_depth += 1;
        let read = self.file(Arc::from(included.file), &included.text, depth);
        self.include_depth -= 1;
        // The position inside names the file; the one here says who included it.
        let map = read.map_err(|error| ParseError::new(position, Reason::Include { path, why: error.to_string() }))?;
        for entry in map.into_entries() {
            self.insert(entry);
        }
        Ok(())
    }
}

fn include_path(cursor: &mut Cursor<'_>) -> Result<String, ParseError> {
    let expected = |what: &str| format!("Expected include value but found {what}");
    match cursor.peek() {
        Some(quote @ ('\'' | '"')) => {
            let opening = cursor.position();
            cursor.next();
            let path = cursor.take_while(|next| next != quote && !is_line_end(next)).to_owned();
            if cursor.take(quote) { Ok(path) } else { Err(ParseError::syntax(opening, expected("no closing quote"))) }
        }
        Some('[') => Err(cursor.syntax(expected("start of an array"))),
        Some('{') => Err(cursor.syntax(expected("start of a map"))),
        Some('(') => Err(cursor.syntax(expected("start of a block"))),
        Some('\\') => Err(cursor.syntax(expected("escape sequence"))),
        Some(next) if is_line_end(next) => Err(cursor.syntax(expected("new line"))),
        None => Err(cursor.syntax(expected("EOF"))),
        Some(_) => {
            let ends = |next: char| is_line_end(next) || is_blank(next) || matches!(next, ';' | '}');
            let path = cursor.take_while(|next| !ends(next)).to_owned();
            if path.is_empty() { Err(cursor.syntax(expected("no file name"))) } else { Ok(path) }
        }
    }
}
