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
        let filter = self.0.as_bytes();
        let (mut wanted, mut given) = (0, 0);
        // Byte by byte, as tokens are short: a stream may have a million subjects to ask about. Each round begins with a token on both sides.
        loop {
            match filter[wanted..] {
                [b'>'] => return true,
                [b'*'] | [b'*', b'.', ..] => {
                    wanted += 1;
                    given += subject[given..].iter().take_while(|byte| **byte != b'.').count();
                }
                _ => {
                    while wanted < filter.len() && filter[wanted] != b'.' {
                        if subject.get(given) != Some(&filter[wanted]) {
                            return false;
                        }
                        (wanted, given) = (wanted + 1, given + 1);
                    }
                }
            }
            match (filter.get(wanted), subject.get(given)) {
                (None, None) => return true,
                (Some(_), Some(b'.')) => (wanted, given) = (wanted + 1, given + 1),
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

#[cfg(test)]
mod tests {
    use super::Filter;
    use proptest::prelude::*;

    /// Token by token.
    fn naive(filter: &str, subject: &str) -> bool {
        let (mut wanted, mut given) = (filter.split('.'), subject.split('.'));
        loop {
            match (wanted.next(), given.next()) {
                (None, None) | (Some(">"), Some(_)) => return true,
                (Some("*"), Some(_)) => {}
                (Some(want), Some(have)) if want == have => {}
                _ => return false,
            }
        }
    }

    proptest! {
        #[test]
        fn tokens_are_compared_one_by_one(filter in "[ab*>.]{1,8}", subject in "[ab*>.]{0,8}") {
            if let Ok(parsed) = Filter::parse(&filter) {
                prop_assert_eq!(parsed.matches(subject.as_bytes()), naive(&filter, &subject));
            }
        }

        #[test]
        fn what_was_made_to_match_does(tokens in prop::collection::vec(("[ab]{1,3}", 0..3u8), 1..6), open in any::<bool>()) {
            let subject: Vec<&str> = tokens.iter().map(|(token, _)| &**token).collect();
            let mut filter: Vec<&str> =
                tokens.iter().map(|(token, wild)| if *wild == 0 { "*" } else { &**token }).collect();
            if open {
                filter.pop();
                filter.push(">");
            }
            prop_assert!(Filter::parse(&filter.join(".")).unwrap().matches(subject.join(".").as_bytes()));
        }
    }
}
