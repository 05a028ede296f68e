//! SPDX licence expressions: `MIT OR (Apache-2.0 WITH LLVM-exception AND ISC)`, and the old `MIT/Apache-2.0`.
//!
//! `AND` binds tighter than `OR`, `WITH` tighter than both. A licence with an exception is as allowed as the licence itself:
//! an exception only ever grants more.

use anyhow::{Result, bail};

/// Parentheses deeper than this are nobody's licence.
const DEPTH: usize = 8;

/// Whether the allowed licences are enough to use something under this expression.
pub(super) fn is_allowed(expression: &str, allowed: &[String]) -> Result<bool> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut reader = Reader { words: spaced.split_whitespace().peekable(), allowed };
    let verdict = reader.any(DEPTH)?;
    match reader.words.next() {
        None => Ok(verdict),
        Some(word) => bail!("{word:?} is one too many"),
    }
}

struct Reader<'a> {
    words: std::iter::Peekable<std::str::SplitWhitespace<'a>>,
    allowed: &'a [String],
}

impl Reader<'_> {
    fn any(&mut self, depth: usize) -> Result<bool> {
        let mut verdict = self.all(depth)?;
        while self.words.next_if_eq(&"OR").is_some() {
            verdict |= self.all(depth)?;
        }
        Ok(verdict)
    }

    fn all(&mut self, depth: usize) -> Result<bool> {
        let mut verdict = self.one(depth)?;
        while self.words.next_if_eq(&"AND").is_some() {
            verdict &= self.one(depth)?;
        }
        Ok(verdict)
    }

    fn one(&mut self, depth: usize) -> Result<bool> {
        match self.words.next() {
            Some("(") if depth == 0 => bail!("nested too deep"),
            Some("(") => {
                let verdict = self.any(depth - 1)?;
                if self.words.next() != Some(")") {
                    bail!("a parenthesis is not closed");
                }
                Ok(verdict)
            }
            Some(word) if !["AND", "OR", "WITH", ")"].contains(&word) => {
                if self.words.next_if_eq(&"WITH").is_some() && self.words.next().is_none() {
                    bail!("WITH nothing");
                }
                Ok(self.allowed.iter().any(|allowed| allowed == word))
            }
            other => bail!("a licence is missing before {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_weighed() {
        fn check(expression: &str, expected: Option<bool>) {
            let allowed = ["MIT".to_owned(), "Apache-2.0".to_owned()];
            assert_eq!(is_allowed(expression, &allowed).ok(), expected, "{expression}");
        }
        check("MIT", Some(true));
        check("GPL-3.0", Some(false));
        check("GPL-3.0 OR MIT", Some(true));
        check("GPL-3.0/MIT", Some(true));
        check("MIT AND ISC", Some(false));
        check("ISC AND MIT OR Apache-2.0", Some(true));
        check("ISC AND (MIT OR Apache-2.0)", Some(false));
        check("Apache-2.0 WITH LLVM-exception", Some(true));
        check("", None);
        check("MIT OR", None);
        check("(MIT", None);
        check("MIT ISC", None);
        check(&"(".repeat(100), None);
    }
}
