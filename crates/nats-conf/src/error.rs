//! Why a configuration can't be read. Every error names the place; the words are stock's where its tools look for them.

use thiserror::Error;

use crate::value::Position;

/// A configuration that is not in the language. Who wrote the file must act.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{position}: {reason}")]
pub struct ParseError {
    /// Where.
    pub position: Position,
    /// What.
    pub reason: Box<Reason>,
}

impl ParseError {
    pub(crate) fn new(position: Position, reason: Reason) -> Self {
        Self { position, reason: Box::new(reason) }
    }

    /// Stock's form of a syntax error, which tools look for: `Parse error on line 4: '…'`.
    pub(crate) fn syntax(position: Position, text: impl Into<String>) -> Self {
        let line = position.line;
        Self::new(position, Reason::Syntax { line, text: text.into() })
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Reason {
    /// The text breaks the grammar.
    #[error("Parse error on line {line}: '{text}'")]
    Syntax {
        /// The line again, as stock words it.
        line: u32,
        /// What was met and what was expected.
        text: String,
    },
    /// A number that does not fit.
    #[error("{kind} '{text}' is out of the range")]
    OutOfRange {
        /// `integer` or `float`.
        kind: &'static str,
        /// The number as written.
        text: String,
    },
    /// `$NAME` is neither a key before it, here or further out, nor in the environment.
    #[error("variable reference for '{name}' on line {line} can not be found")]
    UnknownVariable {
        /// The name without `$`.
        name: String,
        /// The line again.
        line: u32,
    },
    /// `$NAME` is in the environment, but its text is not a value.
    #[error("variable reference for '{name}' on line {line} could not be parsed: {why}")]
    BadVariable {
        /// The name without `$`.
        name: String,
        /// The line again.
        line: u32,
        /// What is wrong with the text.
        why: String,
    },
    /// An environment variable refers to itself.
    #[error("variable reference cycle for '{name}'")]
    VariableCycle {
        /// The name without `$`.
        name: String,
    },
    /// An included file can't be had or can't be read.
    #[error("error parsing include file '{path}', {why}")]
    Include {
        /// The path as written.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// One of [`crate::limits`].
    #[error("{what} is more than the {limit} allowed")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}
