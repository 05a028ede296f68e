//! NATS subjects and filters, and who wants what.
//!
//! A subject is a list of tokens joined by `.`; a filter may hold `*` (one token) and, as its last token, `>` (one or more). Both are
//! bytes without blanks; what comes from a peer is checked once, here, and carried as a type from then on.
//!
//! [`Index`] answers "who wants this subject" and "what overlaps this filter"; [`Transform`] rewrites a subject as NATS mappings do.

mod cut;
mod filter;
mod index;
mod transform;
mod trie;

pub use filter::{Filter, SubjectError, is_literal};
pub use index::Index;
pub use transform::{Transform, TransformError};

#[cfg(test)]
mod testscripts;
