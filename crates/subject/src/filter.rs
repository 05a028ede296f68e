//! Filters that cannot be invalid, and matching.

use std::fmt;

/// Why a text is no subject or filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Empty, or with an empty token.
    #[error("empty token")]
    EmptyToken,
    /// Blank, tab, line break or NUL inside.
    #[error("white space or control character")]
    BadCharacter,
    /// `>` before the last token.
    #[error("`>` must be the last token")]
    MisplacedWildcard,
    /// A wildcard where a literal is needed.
    #[error("wildcard in a literal subject")]
    Wildcard,
    /// Not UTF-8.
    #[error("not UTF-8")]
    NotText,
}

/// A valid filter: what subscriptions, streams and consumers name. A literal subject is a filter too.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter(Box<str>);

impl Filter {
    /// Checks a text.
    ///
    /// # Errors
    /// When it is no filter.
    pub fn parse(text: &str) -> Result<Filter, SubjectError> {
        check(text.as_bytes(), true)?;
        Ok(Filter(text.into()))
    }

    /// Checks bytes.
    ///
    /// # Errors
    /// When they are no filter, or not UTF-8.
    pub fn from_bytes(bytes: &[u8]) -> Result<Filter, SubjectError> {
        Filter::parse(std::str::from_utf8(bytes).map_err(|_| SubjectError::NotText)?)
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without wildcards.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.0.split('.').any(|token| token == "*" || token == ">")
    }

    /// Does a literal subject match?
    #[must_use]
    pub fn matches(&self, subject: &[u8]) -> bool {
        let mut wanted = self.0.as_bytes().split(|byte| *byte == b'.');
        let mut given = subject.split(|byte| *byte == b'.');
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some(b">"), Some(_)) => return true,
                (Some(b"*"), Some(_)) => {}
                (Some(want), Some(have)) if want == have => {}
                _ => return false,
            }
        }
    }

    /// Is there a subject that matches both?
    #[must_use]
    pub fn overlaps(&self, other: &Filter) -> bool {
        let mut left = self.0.split('.');
        let mut right = other.0.split('.');
        loop {
            match (left.next(), right.next()) {
                (None, None) => return true,
                (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
                (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
                (Some(one), Some(two)) if one == two => {}
                _ => return false,
            }
        }
    }

    /// Does everything that matches `other` match this one as well?
    #[must_use]
    pub fn covers(&self, other: &Filter) -> bool {
        let mut wide = self.0.split('.');
        let mut narrow = other.0.split('.');
        loop {
            match (wide.next(), narrow.next()) {
                (None, None) => return true,
                (Some(">"), Some(_)) => return true,
                (Some("*"), Some(token)) if token != ">" => {}
                (Some(one), Some(two)) if one == two => {}
                _ => return false,
            }
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, out)
    }
}

/// Is it a valid literal subject: no wildcard token, no empty token, no white space?
#[must_use]
pub fn is_literal(subject: &[u8]) -> bool {
    check(subject, false).is_ok()
}

fn check(subject: &[u8], wildcards: bool) -> Result<(), SubjectError> {
    let mut tokens = subject.split(|byte| *byte == b'.').peekable();
    while let Some(token) = tokens.next() {
        match token {
            b"" => return Err(SubjectError::EmptyToken),
            b"*" if !wildcards => return Err(SubjectError::Wildcard),
            b">" if !wildcards => return Err(SubjectError::Wildcard),
            b">" if tokens.peek().is_some() => return Err(SubjectError::MisplacedWildcard),
            _ if token.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0)) => {
                return Err(SubjectError::BadCharacter);
            }
            _ => {}
        }
    }
    Ok(())
}
