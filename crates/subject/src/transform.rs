//! Subject transforms, as NATS mappings write them: `sensors.*.>` → `site.{{wildcard(1)}}.>`.
//!
//! A destination is a list of tokens; each is literal, `$n` or `{{wildcard(n)}}` (the n-th `*` of the source), `{{partition(p,n,…)}}` (a
//! number below p from the named wildcards, or from the whole subject), or a final `>` that stands for what the source's `>` took. Functions that
//! give several tokens (`split`, `slice…`, `left`, `right`) and `random` are refused by name: what they give can't be asked for at the hub.

use crate::filter::{Filter, SubjectError};
use smallvec::SmallVec;

/// Why two texts are no transform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransformError {
    /// The source is no filter.
    #[error("transform source: {0}")]
    Source(SubjectError),
    /// The destination is no subject.
    #[error("transform destination: {0}")]
    Destination(SubjectError),
    /// `>` in one of the two only.
    #[error("source and destination of a transform must both end in `>`, or neither")]
    Tail,
    /// A function NATS knows and we don't apply here.
    #[error("transform function `{0}` is not supported here")]
    Unsupported(String),
    /// A function nobody knows.
    #[error("unknown transform function `{0}`")]
    Unknown(String),
    /// Arguments that are missing, too many, or no numbers.
    #[error("invalid arguments in transform function `{0}`")]
    Arguments(String),
    /// `$3` where the source has two `*`.
    #[error("`{0}` refers to a wildcard that the source does not have")]
    NoSuchWildcard(String),
}

/// Functions of NATS that are refused here.
const UNSUPPORTED: [&str; 8] =
    ["split", "splitfromleft", "splitfromright", "slicefromleft", "slicefromright", "left", "right", "random"];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    /// The subject's token at this position.
    Token(usize),
    /// FNV-1a of the tokens at these positions (of the whole subject if none), modulo the count.
    Partition {
        count: u32,
        positions: Box<[usize]>,
    },
    /// Everything from the position of the source's `>`.
    Tail,
}

/// A checked transform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transform {
    source: Filter,
    parts: Vec<Part>,
}

impl Transform {
    /// Checks source and destination.
    ///
    /// # Errors
    /// See [`TransformError`].
    pub fn parse(source: &str, destination: &str) -> Result<Transform, TransformError> {
        let source = Filter::parse(source).map_err(TransformError::Source)?;
        let wildcards: Vec<usize> =
            source.as_str().split('.').enumerate().filter(|(_, token)| *token == "*").map(|(at, _)| at).collect();
        let mut parts = Vec::new();
        for token in destination.split('.') {
            if parts.last() == Some(&Part::Tail) {
                return Err(TransformError::Destination(SubjectError::MisplacedWildcard));
            }
            parts.push(part(token, &wildcards)?);
        }
        let open = source.as_str().split('.').next_back() == Some(">");
        if open != (parts.last() == Some(&Part::Tail)) {
            return Err(TransformError::Tail);
        }
        Ok(Transform { source, parts })
    }

    /// `>` → `prefix.>`.
    ///
    /// # Errors
    /// When the prefix is no literal subject.
    pub fn prefix(prefix: &str) -> Result<Transform, TransformError> {
        let literal = Filter::parse(prefix).map_err(TransformError::Destination)?;
        if !literal.is_literal() {
            return Err(TransformError::Destination(SubjectError::Wildcard));
        }
        let source = Filter::parse(">").map_err(TransformError::Source)?;
        Ok(Transform { source, parts: vec![Part::Literal(prefix.into()), Part::Tail] })
    }

    /// What it applies to.
    #[must_use]
    pub fn source(&self) -> &Filter {
        &self.source
    }

    /// Appends the new subject; false, and nothing appended, when the source does not match.
    pub fn apply(&self, subject: &[u8], into: &mut Vec<u8>) -> bool {
        if !self.source.matches(subject) {
            return false;
        }
        let tokens: SmallVec<[&[u8]; 16]> = subject.split(|byte| *byte == b'.').collect();
        let source_tokens = self.source.as_str().split('.').count();
        for (at, part) in self.parts.iter().enumerate() {
            if at > 0 {
                into.push(b'.');
            }
            match part {
                Part::Literal(text) => into.extend_from_slice(text.as_bytes()),
                Part::Token(position) => into.extend_from_slice(tokens[*position]),
                Part::Partition { count, positions } => {
                    let number = partition(subject, &tokens, positions) % count;
                    into.extend_from_slice(number.to_string().as_bytes());
                }
                Part::Tail => {
                    let taken: usize = tokens[..source_tokens - 1].iter().map(|token| token.len() + 1).sum();
                    into.extend_from_slice(&subject[taken..]);
                }
            }
        }
        true
    }

    /// The filter that every result matches: the destination with each function as `*`.
    ///
    /// # Panics
    /// Never: the parts were checked when it was made.
    #[must_use]
    pub fn destination_filter(&self) -> Filter {
        let tokens: Vec<&str> = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Literal(text) => text,
                Part::Token(_) | Part::Partition { .. } => "*",
                Part::Tail => ">",
            })
            .collect();
        Filter::parse(&tokens.join(".")).expect("made of checked tokens")
    }
}

fn part(token: &str, wildcards: &[usize]) -> Result<Part, TransformError> {
    if token == ">" {
        return Ok(Part::Tail);
    }
    if let Some(inside) = token.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")) {
        return function(inside, token, wildcards);
    }
    if let Some(number) = token.strip_prefix('$')
        && let Ok(number) = number.parse()
    {
        return wildcard(number, token, wildcards).map(Part::Token);
    }
    let literal = Filter::parse(token).map_err(TransformError::Destination)?;
    if !literal.is_literal() {
        return Err(TransformError::Destination(SubjectError::Wildcard));
    }
    Ok(Part::Literal(token.into()))
}

fn function(inside: &str, token: &str, wildcards: &[usize]) -> Result<Part, TransformError> {
    let malformed = || TransformError::Arguments(token.to_owned());
    let (name, rest) = inside.split_once('(').ok_or_else(|| TransformError::Unknown(token.to_owned()))?;
    let name = name.trim().to_ascii_lowercase();
    if UNSUPPORTED.contains(&name.as_str()) {
        return Err(TransformError::Unsupported(token.to_owned()));
    }
    if name != "wildcard" && name != "partition" {
        return Err(TransformError::Unknown(token.to_owned()));
    }
    let arguments = rest.trim_end().strip_suffix(')').ok_or_else(malformed)?;
    let numbers: Vec<usize> =
        arguments.split(',').map(|text| text.trim().parse()).collect::<Result<_, _>>().map_err(|_| malformed())?;
    if name == "wildcard" {
        let [number] = numbers[..] else { return Err(malformed()) };
        return wildcard(number, token, wildcards).map(Part::Token);
    }
    let count = numbers.first().and_then(|count| u32::try_from(*count).ok()).filter(|count| *count > 0);
    let positions: Result<_, _> = numbers[1..].iter().map(|number| wildcard(*number, token, wildcards)).collect();
    Ok(Part::Partition { count: count.ok_or_else(malformed)?, positions: positions? })
}

fn wildcard(number: usize, token: &str, wildcards: &[usize]) -> Result<usize, TransformError> {
    let at = number.checked_sub(1).and_then(|at| wildcards.get(at)).copied();
    at.ok_or_else(|| TransformError::NoSuchWildcard(token.to_owned()))
}

/// FNV-1a, 32 bits: what NATS takes, so that both ends agree on the partition.
fn partition(subject: &[u8], tokens: &[&[u8]], positions: &[usize]) -> u32 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    if positions.is_empty() {
        return subject.iter().fold(0x811c_9dc5, step);
    }
    positions.iter().flat_map(|position| tokens[*position]).fold(0x811c_9dc5, step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(source: &str, destination: &str, subject: &str) -> Option<String> {
        let transform = Transform::parse(source, destination).unwrap();
        let mut into = b"kept:".to_vec();
        let applies = transform.apply(subject.as_bytes(), &mut into);
        let text = String::from_utf8(into).unwrap();
        let result = text.strip_prefix("kept:").unwrap().to_owned();
        assert!(applies || result.is_empty());
        assert!(!applies || transform.destination_filter().matches(result.as_bytes()));
        applies.then_some(result)
    }

    #[test]
    fn rewrites_as_nats_does() {
        let cases = [
            ("foo.*.>", "bar.{{wildcard(1)}}.>", "foo.a.b.c", Some("bar.a.b.c")),
            ("*.*", "$2.$1", "a.b", Some("b.a")),
            ("*.*", "x.{{ Wildcard( 2 ) }}", "a.b", Some("x.b")),
            ("foo", "bar.baz", "foo", Some("bar.baz")),
            ("foo", "$x", "foo", Some("$x")),
            (">", "p.>", "a", Some("p.a")),
            ("foo.>", "bar.>", "foo", None),
            ("foo.*", "$1", "foo.a.b", None),
            // FNV-1a of "a" is 0xe40c292c.
            ("foo.*", "bar.{{partition(10,1)}}", "foo.a", Some("bar.0")),
        ];
        for (source, destination, subject, expected) in cases {
            assert_eq!(check(source, destination, subject).as_deref(), expected, "{source} -> {destination}");
        }
    }

    #[test]
    fn refuses_by_name() {
        let error = |source, destination| Transform::parse(source, destination).unwrap_err();
        let text = String::from;
        assert_eq!(error("a.>", "b"), TransformError::Tail);
        assert_eq!(error("a", "b.>"), TransformError::Tail);
        assert_eq!(error("a..b", "b"), TransformError::Source(SubjectError::EmptyToken));
        assert_eq!(error("a.*", "b.*"), TransformError::Destination(SubjectError::Wildcard));
        assert_eq!(error("a.>", "b.>.c"), TransformError::Destination(SubjectError::MisplacedWildcard));
        assert_eq!(error("a.*", "$2"), TransformError::NoSuchWildcard(text("$2")));
        assert_eq!(error("a.*", "$0"), TransformError::NoSuchWildcard(text("$0")));
        assert_eq!(error("a.*", "{{wildcard()}}"), TransformError::Arguments(text("{{wildcard()}}")));
        assert_eq!(error("a.*", "{{partition(0,1)}}"), TransformError::Arguments(text("{{partition(0,1)}}")));
        assert_eq!(error("a.*", "{{split(1,-)}}"), TransformError::Unsupported(text("{{split(1,-)}}")));
        assert_eq!(error("a.*", "{{rot13(1)}}"), TransformError::Unknown(text("{{rot13(1)}}")));
        assert!(Transform::prefix("a.*").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn a_prefix_keeps_the_subject(subject in "[a-z]{1,3}(\\.[a-z*]{1,3}){0,5}") {
            let transform = Transform::prefix("edge.pump-7").unwrap();
            let mut into = Vec::new();
            prop_assert!(transform.apply(subject.as_bytes(), &mut into));
            prop_assert_eq!(String::from_utf8(into).unwrap(), format!("edge.pump-7.{subject}"));
            prop_assert_eq!(transform.destination_filter(), Filter::parse("edge.pump-7.>").unwrap());
        }
    }
}
