//! What is wrong with a configuration, all of it.

use std::fmt;

use crate::value::Position;

/// One line about a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where; nowhere for a conflict between options, as in stock.
    pub position: Option<Position>,
    /// What.
    pub text: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.position {
            Some(position) => write!(out, "{position}: {}", self.text),
            None => out.write_str(&self.text),
        }
    }
}

/// Collects errors, warnings and notices in the order in which they were found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What keeps the program from starting.
    pub errors: Vec<Diagnostic>,
    /// What fails a test of the file (`-t`), but not the start.
    pub warnings: Vec<Diagnostic>,
    /// What is only said.
    pub notices: Vec<Diagnostic>,
}

impl Report {
    /// Adds an error.
    pub fn error(&mut self, position: &Position, text: impl Into<String>) {
        self.errors.push(Diagnostic { position: Some(position.clone()), text: text.into() });
    }

    /// Adds an error about options that don't go together, which stands at no single place.
    pub fn conflict(&mut self, text: impl Into<String>) {
        self.errors.push(Diagnostic { position: None, text: text.into() });
    }

    /// Adds a warning.
    pub fn warning(&mut self, position: &Position, text: impl Into<String>) {
        self.warnings.push(Diagnostic { position: Some(position.clone()), text: text.into() });
    }

    /// Adds a notice.
    pub fn notice(&mut self, position: &Position, text: impl Into<String>) {
        self.notices.push(Diagnostic { position: Some(position.clone()), text: text.into() });
    }
}
