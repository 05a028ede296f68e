//! Subject transforms, as NATS mappings write them: `sensors.*.>` → `site.{{wildcard(1)}}.>`.
//!
//! A destination is a list of tokens; each is literal, `$n` or `{{wildcard(n)}}` (the n-th `*` of the source), `{{partition(p,n,…)}}` (a
//! number below p from the named wildcards, or from the whole subject), `{{random(p)}}` (a number below p), a function that cuts a token
//! (`{{left(n,size)}}`, `right`, `split`, `splitFrom…`, `sliceFrom…`), or a final `>` that stands for what the source's `>` took.
//!
//! As in nats-server a wildcard below the first is the subject's first token, `p` may be 0 (which gives 0) and is taken modulo 2³², and whoever
//! applies a transform says what its random numbers follow from: the same draw gives the same subject.

use crate::cut::Cut;
use crate::filter::{Filter, SubjectError};
use smallvec::SmallVec;

/// Why two texts are no transform, in the words of nats-server where it has any.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransformError {
    /// The source is no filter.
    #[error("transform source: {0}")]
    Source(SubjectError),
    /// The destination has wildcards, or is no subject.
    #[error("transform destination: {0}")]
    Destination(SubjectError),
    /// An empty token, or one behind `>`.
    #[error("invalid mapping destination: invalid transform{}", place(.0))]
    Token(String),
    /// `>` in one of the two only.
    #[error("source and destination of a transform must both end in `>`, or neither")]
    Tail,
    /// A function nobody knows.
    #[error("invalid mapping destination: unknown function in {0}")]
    Unknown(String),
    /// Fewer arguments than the function takes.
    #[error("invalid mapping destination: not enough arguments passed to the function in {0}")]
    TooFew(String),
    /// More arguments than the function takes.
    #[error("invalid mapping destination: too many arguments passed to the function in {0}")]
    TooMany(String),
    /// An argument that is no number, or none that can be.
    #[error("invalid mapping destination: function argument is invalid or in the wrong format in {0}")]
    Argument(String),
    /// `$3` where the source has two `*`.
    #[error("invalid mapping destination: wildcard index out of range in {token}: [{number}]")]
    NoSuchWildcard {
        /// What refers to it.
        token: String,
        /// Counted from 1.
        number: i64,
    },
    /// A function of wildcards where the source has none at all.
    #[error("invalid mapping destination: wildcard index out of range in {0}")]
    NoWildcards(String),
}

impl TransformError {
    /// What nats-server says of it in an answer of its API, where it says no more than that something is wrong.
    #[must_use]
    pub fn in_an_answer(&self) -> String {
        match self {
            Self::Tail | Self::Destination(SubjectError::Wildcard) => "invalid subject".to_owned(),
            Self::Destination(_) => "invalid mapping destination: invalid transform".to_owned(),
            other => other.to_string(),
        }
    }
}

fn place(token: &str) -> String {
    if token.is_empty() { String::new() } else { format!(" in {token}") }
}

const RANDOM: &str = "random";

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
    /// A number below this one that follows from the draw; 0 below 0.
    Random(u32),
    /// What is made of the subject's token at this position.
    Cut(usize, Cut),
    /// Everything from the position of the source's `>`.
    Tail,
}

impl Part {
    fn multiplies(&self) -> bool {
        matches!(self, Part::Cut(_, cut) if cut.multiplies())
    }
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
        let wildcards = Wildcards::of(&source);
        let tokens: Vec<&str> = destination.split('.').collect();
        check_tokens(&tokens)?;
        let open = source.as_str().split('.').next_back() == Some(">");
        if tokens.contains(&"*") {
            return Err(TransformError::Destination(SubjectError::Wildcard));
        }
        if open != (tokens.last() == Some(&">")) {
            return Err(TransformError::Tail);
        }
        let parts = tokens.into_iter().map(|token| part(token, &wildcards)).collect::<Result<_, _>>()?;
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

    /// Appends the new subject; false, and nothing appended, when the source does not match. `draw` is what its random numbers follow from.
    pub fn apply(&self, subject: &[u8], draw: u64, into: &mut Vec<u8>) -> bool {
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
                    let number = partition(subject, &tokens, positions).checked_rem(*count).unwrap_or(0);
                    into.extend_from_slice(number.to_string().as_bytes());
                }
                Part::Random(below) => {
                    let number = random(draw, at).checked_rem(*below).unwrap_or(0);
                    into.extend_from_slice(number.to_string().as_bytes());
                }
                Part::Cut(position, cut) => cut.apply(tokens[*position], into),
                Part::Tail => {
                    let taken: usize = tokens[..source_tokens - 1].iter().map(|token| token.len() + 1).sum();
                    into.extend_from_slice(&subject[taken..]);
                }
            }
        }
        true
    }

    /// Can a function of it give several tokens? Nobody can say then what its results have in common behind that place.
    #[must_use]
    pub fn multiplies(&self) -> bool {
        self.parts.iter().any(Part::multiplies)
    }

    /// Does it give a subject that does not follow from the message's own?
    #[must_use]
    pub fn is_random(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Random(_)))
    }

    /// A filter that every result matches: the destination with each function as `*`, up to the first that can give several tokens.
    ///
    /// # Panics
    /// Never: the parts were checked when it was made.
    #[must_use]
    pub fn destination_filter(&self) -> Filter {
        let known = self.parts.iter().take_while(|part| !part.multiplies());
        let mut tokens: Vec<&str> = known
            .map(|part| match part {
                Part::Literal(text) => text,
                Part::Token(_) | Part::Partition { .. } | Part::Random(_) | Part::Cut(..) => "*",
                Part::Tail => ">",
            })
            .collect();
        if self.multiplies() {
            tokens.push(">");
        }
        Filter::parse(&tokens.join(".")).expect("made of checked tokens")
    }
}

/// What is wrong with a token by itself is found before what is wrong with the whole, as nats-server does.
fn check_tokens(tokens: &[&str]) -> Result<(), TransformError> {
    for (at, token) in tokens.iter().enumerate() {
        if token.is_empty() || (at > 0 && tokens[at - 1] == ">") {
            return Err(TransformError::Token((*token).to_owned()));
        }
        if let Some(inside) = inside(token) {
            if named(inside).is_none() {
                return Err(TransformError::Unknown((*token).to_owned()));
            }
        } else if *token != "*" && *token != ">" {
            Filter::parse(token).map_err(TransformError::Destination)?;
        }
    }
    Ok(())
}

/// What stands between the braces of a function.
fn inside(token: &str) -> Option<&str> {
    token.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).filter(|inside| !inside.is_empty())
}

/// A function's name, its first letter in either case, and the text of its arguments.
fn named(inside: &str) -> Option<(&'static str, &str)> {
    let (name, rest) = inside.trim().split_once('(')?;
    let arguments = rest.strip_suffix(')')?;
    let known = ["wildcard", "partition", RANDOM].into_iter().chain(Cut::NAMES);
    known.into_iter().find(|known| is_name(name.trim_end(), known)).map(|known| (known, arguments))
}

/// The first letter of each word of a name may be of either case.
fn is_name(name: &str, known: &str) -> bool {
    let same = |(at, (one, other)): (usize, (char, char))| {
        one == other || (at == 0 || other.is_ascii_uppercase()) && one.eq_ignore_ascii_case(&other)
    };
    name.len() == known.len() && name.chars().zip(known.chars()).enumerate().all(same)
}

/// The positions of the source's `*`.
struct Wildcards {
    positions: Vec<usize>,
    /// Does it end in `>`?
    is_open: bool,
}

impl Wildcards {
    fn of(source: &Filter) -> Wildcards {
        let tokens = || source.as_str().split('.').enumerate();
        let positions = tokens().filter(|(_, token)| *token == "*").map(|(at, _)| at).collect();
        Wildcards { positions, is_open: tokens().any(|(_, token)| token == ">") }
    }

    fn is_literal(&self) -> bool {
        self.positions.is_empty() && !self.is_open
    }

    /// The position of the one with this number. What is below the first is the subject's first token, wildcard or not.
    fn position(&self, number: i64, token: &str) -> Result<usize, TransformError> {
        let at = usize::try_from(number.saturating_sub(1)).ok();
        let position = if number < 1 { Some(0) } else { at.and_then(|at| self.positions.get(at).copied()) };
        position.ok_or_else(|| TransformError::NoSuchWildcard { token: token.to_owned(), number })
    }
}

fn part(token: &str, wildcards: &Wildcards) -> Result<Part, TransformError> {
    if token == ">" {
        return Ok(Part::Tail);
    }
    if let Some((name, arguments)) = inside(token).and_then(named) {
        return function(name, arguments, token, wildcards);
    }
    if let Some(number) = token.strip_prefix('$')
        && let Ok(number) = number.parse()
    {
        return one_token(number, token, wildcards);
    }
    Ok(Part::Literal(token.into()))
}

fn function(name: &str, arguments: &str, token: &str, wildcards: &Wildcards) -> Result<Part, TransformError> {
    // Blanks behind a comma belong to it.
    let texts: Vec<&str> = arguments.split(',').enumerate().map(|(at, text)| argument(at, text)).collect();
    let wrong = |_| TransformError::Argument(token.to_owned());
    if name == "wildcard" {
        return match texts[..] {
            [""] if arguments.is_empty() => Err(TransformError::TooFew(token.to_owned())),
            [number] => one_token(number.parse().map_err(wrong)?, token, wildcards),
            _ => Err(TransformError::TooMany(token.to_owned())),
        };
    }
    if Cut::NAMES.contains(&name) {
        return cut(name, arguments, token, wildcards);
    }
    if name == RANDOM {
        return match texts[..] {
            // A number below zero bounds as much as without its sign.
            [below] => Ok(Part::Random(count(below, token)?.cast_signed().unsigned_abs())),
            _ => Err(TransformError::TooFew(token.to_owned())),
        };
    }
    let (below, numbers) = texts.split_first().unwrap_or((&"", &[]));
    let count = count(below, token)?;
    let numbers: Vec<i64> = numbers.iter().map(|text| text.parse()).collect::<Result<_, _>>().map_err(wrong)?;
    // nats-server takes the whole subject when the source has no wildcards, whatever was named.
    let numbers = if wildcards.is_literal() { &[] } else { &numbers[..] };
    let positions: Result<_, _> = numbers.iter().map(|number| wildcards.position(*number, token)).collect();
    Ok(Part::Partition { count, positions: positions? })
}

/// An argument without the blanks around it.
fn argument(at: usize, text: &str) -> &str {
    let text = if at == 0 { text } else { text.trim_start() };
    text.trim_matches(' ')
}

/// How many numbers there are to be: 32 bits of it.
fn count(text: &str, token: &str) -> Result<u32, TransformError> {
    let number: Option<i64> = text.parse().ok().filter(|number| *number <= i64::from(i32::MAX));
    number.map(|number| number as u32).ok_or_else(|| TransformError::Argument(token.to_owned()))
}

fn cut(name: &str, arguments: &str, token: &str, wildcards: &Wildcards) -> Result<Part, TransformError> {
    // Blanks behind a comma belong to it; others in a text to split at are a mistake.
    let texts: Vec<&str> = arguments.split(',').map(str::trim_start).collect();
    let (number, argument) = match texts[..] {
        [number, argument] => (number, argument),
        [] | [_] => return Err(TransformError::TooFew(token.to_owned())),
        _ => return Err(TransformError::TooMany(token.to_owned())),
    };
    let number = number.trim_matches(' ').parse().map_err(|_| TransformError::Argument(token.to_owned()))?;
    let cut = Cut::parse(name, argument, token)?;
    if wildcards.is_literal() {
        return Err(TransformError::NoWildcards(token.to_owned()));
    }
    wildcards.position(number, token).map(|position| Part::Cut(position, cut))
}

fn one_token(number: i64, token: &str, wildcards: &Wildcards) -> Result<Part, TransformError> {
    if wildcards.is_literal() {
        return Err(TransformError::NoWildcards(token.to_owned()));
    }
    wildcards.position(number, token).map(Part::Token)
}

/// FNV-1a, 32 bits: what NATS takes, so that both ends agree on the partition.
fn partition(subject: &[u8], tokens: &[&[u8]], positions: &[usize]) -> u32 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    if positions.is_empty() {
        return subject.iter().fold(0x811c_9dc5, step);
    }
    positions.iter().flat_map(|position| tokens[*position]).fold(0x811c_9dc5, step)
}

/// The number of a draw for the token at this place, below 2³¹: splitmix, each bit of the draw in each of the result.
fn random(draw: u64, at: usize) -> u32 {
    let mut mixed = draw.wrapping_add((at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 33) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(source: &str, destination: &str, subject: &str) -> Option<String> {
        let transform = Transform::parse(source, destination).unwrap();
        let mut into = b"kept:".to_vec();
        let applies = transform.apply(subject.as_bytes(), 7, &mut into);
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
            ("a.b", "x.{{partition(1,7)}}", "a.b", Some("x.0")),
            ("foo", "bar.baz", "foo", Some("bar.baz")),
            ("foo", "$x", "foo", Some("$x")),
            (">", "p.>", "a", Some("p.a")),
            ("foo.>", "bar.>", "foo", None),
            ("foo.*", "$1", "foo.a.b", None),
            // Below the first wildcard is the first token.
            ("foo.*", "$0.{{wildcard(-1)}}.{{left(0,2)}}", "foo.a", Some("foo.foo.fo")),
            ("foo.>", "x.{{wildcard(0)}}.>", "foo.a.b", Some("x.foo.a.b")),
            ("foo.*", "x.{{partition(0,1)}}.{{random(0)}}.{{random(1)}}", "foo.a", Some("x.0.0.0")),
            ("foo", "x.{{partition(0)}}", "foo", Some("x.0")),
            ("*", "{{split(1,)}}", "aéb", Some("a.é.b")),
            ("*", "{{split(1,*)}}", "a*b", Some("a.b")),
            // FNV-1a of "a" is 0xe40c292c, and this is modulo 2³² - 5.
            ("foo.*", "bar.{{partition(-5,1)}}", "foo.a", Some("bar.3826002220")),
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
        let no_such = |token: &str, number| TransformError::NoSuchWildcard { token: token.to_owned(), number };
        assert_eq!(error("a.>", "b"), TransformError::Tail);
        assert_eq!(error("a", "b.>"), TransformError::Tail);
        assert_eq!(error("a..b", "b"), TransformError::Source(SubjectError::EmptyToken));
        assert_eq!(error("a.*", "b.*"), TransformError::Destination(SubjectError::Wildcard));
        assert_eq!(error("a.>", "b.>.c"), TransformError::Token(text("c")));
        assert_eq!(error("a.*", "b."), TransformError::Token(text("")));
        assert_eq!(error("a.*", "$2"), TransformError::NoSuchWildcard { token: text("$2"), number: 2 });
        assert_eq!(error("a", "$1"), TransformError::NoWildcards(text("$1")));
        assert_eq!(error("a.*", "{{wildcard()}}"), TransformError::TooFew(text("{{wildcard()}}")));
        assert_eq!(error("a.*", "{{wildcard(1,1)}}"), TransformError::TooMany(text("{{wildcard(1,1)}}")));
        assert_eq!(error("a.*", "{{wildcard(x)}}"), TransformError::Argument(text("{{wildcard(x)}}")));
        assert_eq!(error("a.*", "{{left(1)}}"), TransformError::TooFew(text("{{left(1)}}")));
        assert_eq!(error("a.*", "{{left(1,1,1)}}"), TransformError::TooMany(text("{{left(1,1,1)}}")));
        assert_eq!(error("a.*", "{{left(1,x)}}"), TransformError::Argument(text("{{left(1,x)}}")));
        assert_eq!(error("a.*", "{{WILDCARD(1)}}"), TransformError::Unknown(text("{{WILDCARD(1)}}")));
        assert_eq!(error("a.*", "{{random()}}"), TransformError::Argument(text("{{random()}}")));
        assert_eq!(error("a.*", "{{random(1,2)}}"), TransformError::TooFew(text("{{random(1,2)}}")));
        assert_eq!(error("a.*", "{{random(2147483648)}}"), TransformError::Argument(text("{{random(2147483648)}}")));
        assert_eq!(error("a.>", "{{partition(0,1)}}.>"), no_such("{{partition(0,1)}}", 1));
        assert_eq!(error("a.*", "{{rot13(1)}}"), TransformError::Unknown(text("{{rot13(1)}}")));
        assert!(Transform::prefix("a.*").is_err());
    }

    #[test]
    fn random_numbers_follow_from_the_draw() {
        let transform = Transform::parse("*", "{{random(4)}}.{{random(-4)}}.{{Random( 1000 )}}").unwrap();
        assert!(transform.is_random() && !Transform::parse("*", "$1").unwrap().is_random());
        let mut seen = std::collections::BTreeSet::new();
        for draw in 0..200 {
            let (mut one, mut two) = (Vec::new(), Vec::new());
            assert!(transform.apply(b"a", draw, &mut one) && transform.apply(b"a", draw, &mut two));
            assert_eq!(one, two);
            let tokens: Vec<usize> =
                String::from_utf8(one).unwrap().split('.').map(|token| token.parse().unwrap()).collect();
            assert!(tokens[0] < 4 && tokens[1] < 4 && tokens[2] < 1000, "{tokens:?}");
            seen.insert((tokens[0], tokens[1]));
        }
        assert_eq!(seen.len(), 16, "two tokens are drawn apart");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn a_prefix_keeps_the_subject(subject in "[a-z]{1,3}(\\.[a-z*]{1,3}){0,5}") {
            let transform = Transform::prefix("edge.pump-7").unwrap();
            let mut into = Vec::new();
            prop_assert!(transform.apply(subject.as_bytes(), 7, &mut into));
            prop_assert_eq!(String::from_utf8(into).unwrap(), format!("edge.pump-7.{subject}"));
            prop_assert_eq!(transform.destination_filter(), Filter::parse("edge.pump-7.>").unwrap());
        }
    }
}
