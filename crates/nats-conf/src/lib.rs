//! The configuration language of nats-server: text to values that know their file and line.
//!
//! [`parse`] reads a whole file: comments, every value form, `$VARIABLES`, `include`, a file that is one
//! JSON object. [`Block`] and [`Field`] then read the result as what a program wants (a port, a size, a duration, a list), remember
//! which keys were asked for, and report the rest as unknown, all of them, a line each.
//!
//! Promises: no I/O of its own (files and the environment come through [`Sources`]); every error carries `file:line:column`,
//! keeps the words that stock's tools look for and says what was expected; input, nesting, includes and what variables expand to
//! are bounded ([`limits`]); what stock 2.15 accepts is accepted and means the same ([`canonical_json`] has stock's digest as its
//! witness).
//!
//! Not here: which keys exist and what they mean. That is the program's own.
//!
//! Where we differ from stock: columns count characters from 1; a map that is the whole file must be closed; a quote inside a
//! bare word is an error instead of its end; `2m` where a duration belongs is two minutes (a number of seconds in stock, 23 days); `1.5s` or `[1]` need no quotes or blanks; an absolute `include` is absolute.

mod block;
mod cursor;
mod document;
mod duration;
mod error;
mod include;
mod json;
mod scalar;
mod value;
mod variable;

pub mod limits;

#[cfg(test)]
mod print;
#[cfg(test)]
mod script;

pub use block::{Block, Diagnostic, Field, Report};
pub use document::{Included, Sources, parse};
pub use duration::{DurationError, format_duration, parse_duration};
pub use error::{ParseError, Reason};
pub use json::canonical_json;
pub use value::{Date, Entry, Integer, Kind, Map, Position, Value};
