//! NATS subjects and filters, and who wants what.
//!
//! A subject is a list of tokens joined by `.`; a filter may hold `*` (one token) and, as its last token, `>` (one or more). Both are
//! bytes without blanks; what comes from a peer is checked once, here, and carried as a type from then on.

mod filter;

pub use filter::{Filter, SubjectError, is_literal};
