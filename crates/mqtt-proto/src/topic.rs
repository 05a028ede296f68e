//! Topics and subjects: the map between the two name spaces, exact and reversible.
//!
//! A topic is mapped level by level, the levels joined by `.`; an empty level is the token `/`. What a subject can't
//! hold is written as a pair that begins with `/`, which no level contains:
//!
//! ```text
//! .  → //     blank → /s    tab → /t    LF → /n    CR → /r    FF → /f    DEL → /d
//! a level that is exactly *  → /a       a level that is exactly >  → /g
//! ```
//!
//! For every topic that stock nats-server accepts the image is the same as there, those two levels aside
//! (measured with 2.15.1). `topic → subject → topic` is the identity, and a filter matches a topic in MQTT exactly
//! when one of its images matches the topic's in NATS. Back from a subject that no topic made, a slash that begins no
//! pair is dropped, as stock does; subjects without a topic are told apart, not repaired. Topics are not normalised.
//! `[MQTT-4.7.3-4]` Permissions are not looked at, nothing recurses.

use crate::wire::FIELD_MAX;

/// Why a topic name or a topic filter is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// `[MQTT-4.7.3-1]`
    #[error("it is empty")]
    Empty,
    /// `[MQTT-4.7.3-3]`: at most 65,535 bytes.
    #[error("it is longer than 65,535 bytes")]
    TooLong,
    /// `[MQTT-4.7.3-2]`
    #[error("it contains U+0000")]
    Nul,
    /// A topic name with wildcards, or a filter with a wildcard that is not a level of its own, or a `#` that is not
    /// the last level. `[MQTT-3.3.2-2]`, `[MQTT-4.7.1-2]`, `[MQTT-4.7.1-3]`
    #[error("a wildcard stands where it can't")]
    Wildcard,
    /// `$share` without a name or a filter, or with wildcards in the name. `[MQTT-4.8.2-1]`, `[MQTT-4.8.2-2]`
    #[error("the shared subscription lacks a proper name or a filter")]
    Share,
}

/// A subject that no MQTT client can be told of; the message is not delivered to MQTT, and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the subject has no topic")]
pub struct NoTopic;

/// Appends the subject of a topic name to `subject`, which is left as it was on an error.
pub fn topic_to_subject(topic: &str, subject: &mut String) -> Result<(), TopicError> {
    let found = scan(topic.as_bytes(), &TOPIC_CLASSES);
    if found & !SEPARATOR == 0 && topic.len() <= FIELD_MAX {
        append_with_separators(topic, b'/', b'.', subject);
        return Ok(());
    }
    check_text(topic)?;
    if found & FORBIDDEN != 0 {
        return Err(TopicError::Wildcard);
    }
    subject.reserve(topic.len() + 8);
    for (index, level) in topic.split('/').enumerate() {
        if index > 0 {
            subject.push('.');
        }
        put_level(level, subject);
    }
    Ok(())
}

/// Whether a client may not publish to the topic, whatever its permissions: the broker's own and shared names.
/// MQTT 5 answers 0x87; 3.1.1 acknowledges and drops.
pub fn is_reserved(topic: &str) -> bool {
    topic.starts_with('$') && matches!(topic.split('/').next(), Some("$SYS" | "$MQTT" | "$share"))
}

/// Writes the topic of a subject to `topic`, over what is there.
pub fn subject_to_topic(subject: &str, topic: &mut String) -> Result<(), NoTopic> {
    topic.clear();
    let found = scan(subject.as_bytes(), &SUBJECT_CLASSES);
    // An image is at most twice as long as its topic.
    if found & (FORBIDDEN | EMPTY_LEVEL) != 0 || subject.len() > 2 * FIELD_MAX {
        return Err(NoTopic);
    }
    if found & ESCAPED == 0 {
        append_with_separators(subject, b'.', b'/', topic);
    } else {
        for (index, token) in subject.split('.').enumerate() {
            if index > 0 {
                topic.push('/');
            }
            put_topic_level(token, topic);
        }
    }
    if topic.is_empty() || topic.len() > FIELD_MAX { Err(NoTopic) } else { Ok(()) }
}

/// As [`subject_to_topic`], for bytes that may not be UTF-8.
pub fn subject_bytes_to_topic(subject: &[u8], topic: &mut String) -> Result<(), NoTopic> {
    topic.clear();
    subject_to_topic(std::str::from_utf8(subject).map_err(|_| NoTopic)?, topic)
}

/// A validated topic filter, its shared subscription split off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicFilter<'a> {
    /// The name of a shared subscription.
    pub share: Option<&'a str>,
    /// The filter itself, valid.
    pub filter: &'a str,
}

impl<'a> TopicFilter<'a> {
    /// Validates a filter as it stands in SUBSCRIBE. A refused one gets 0x8F (3.1.1: 0x80) in SUBACK.
    pub fn parse(text: &'a str) -> Result<Self, TopicError> {
        check_text(text)?;
        let (share, filter) = match split_shared(text) {
            None => (None, text),
            Some(shared) => {
                let (name, filter) = shared?;
                (Some(name), filter)
            }
        };
        check_wildcards(filter)?;
        Ok(Self { share, filter })
    }

    /// The subject filters that match what this filter matches.
    pub fn to_subjects(&self) -> SubjectFilters {
        map_filter(self.filter)
    }

    /// Appends the NATS queue group of the shared subscription: its name, blanks written as in topics.
    pub fn put_queue_group(&self, queue: &mut String) {
        for character in self.share.unwrap_or_default().chars() {
            match blank_pair(character) {
                Some(pair) => queue.push_str(pair),
                None => queue.push(character),
            }
        }
    }
}

/// Whether a filter asks for a shared subscription, a valid one or not.
pub fn is_shared(filter: &str) -> bool {
    split_shared(filter).is_some()
}

/// `$share/name/filter` in its two parts; `None` for any other filter. `[MQTT-4.8.2-1]`, `[MQTT-4.8.2-2]`
pub fn split_shared(filter: &str) -> Option<Result<(&str, &str), TopicError>> {
    let shared = match filter.strip_prefix("$share") {
        Some("") => return Some(Err(TopicError::Share)),
        Some(rest) => rest.strip_prefix('/')?,
        None => return None,
    };
    let parts = shared
        .split_once('/')
        .filter(|(name, filter)| !name.is_empty() && !has_wildcard(name.as_bytes()) && !filter.is_empty());
    Some(parts.ok_or(TopicError::Share))
}

/// The subject filters of a topic filter; a `$share/name/` before it is dropped, see [`TopicFilter::parse`].
pub fn filter_to_subjects(filter: &str) -> Result<SubjectFilters, TopicError> {
    TopicFilter::parse(filter).map(|parsed| parsed.to_subjects())
}

/// The one or two subject filters of a topic filter: `a/#` is `a.>` and `a`, for `#` includes the parent level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectFilters {
    primary: String,
    has_parent: bool,
    hides_dollar: bool,
}

impl SubjectFilters {
    /// The filter; where there is a parent, it ends in `.>`.
    pub fn primary(&self) -> &str {
        &self.primary
    }

    /// The parent level, without its `.>`.
    pub fn parent(&self) -> Option<&str> {
        if self.has_parent { self.primary.strip_suffix(".>") } else { None }
    }

    /// Both.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.primary()).chain(self.parent())
    }

    /// The filter begins with a wildcard: subjects that begin with `$` are not for it. `[MQTT-4.7.2-1]`
    pub const fn hides_dollar(&self) -> bool {
        self.hides_dollar
    }

    /// Whether a subject that the filters match is really for this filter, see [`SubjectFilters::hides_dollar`].
    pub fn admits(&self, subject: &str) -> bool {
        !(self.hides_dollar && subject.starts_with('$'))
    }
}

fn map_filter(filter: &str) -> SubjectFilters {
    let mut primary = String::with_capacity(filter.len() + 4);
    for (index, level) in filter.split('/').enumerate() {
        if index > 0 {
            primary.push('.');
        }
        match level {
            "+" => primary.push('*'),
            "#" => primary.push('>'),
            level => put_level(level, &mut primary),
        }
    }
    // The parent of `/#` would be the empty topic, which does not exist; `#` has none.
    let has_parent = filter != "/#" && filter.ends_with("/#");
    SubjectFilters { primary, has_parent, hides_dollar: filter.starts_with(['+', '#']) }
}

/// `+` and `#` are levels of their own, `#` the last. [MQTT-4.7.1-2], [MQTT-4.7.1-3]
fn check_wildcards(filter: &str) -> Result<(), TopicError> {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let fits = match level {
            "+" => true,
            "#" => levels.peek().is_none(),
            level => !has_wildcard(level.as_bytes()),
        };
        if !fits {
            return Err(TopicError::Wildcard);
        }
    }
    Ok(())
}

fn check_text(topic: &str) -> Result<(), TopicError> {
    match topic {
        "" => Err(TopicError::Empty),
        topic if topic.len() > FIELD_MAX => Err(TopicError::TooLong),
        topic if topic.as_bytes().contains(&0) => Err(TopicError::Nul),
        _ => Ok(()),
    }
}

/// Whether a topic contains `+` or `#`.
pub(crate) fn has_wildcard(topic: &[u8]) -> bool {
    topic.iter().any(|&byte| byte == b'+' || byte == b'#')
}

/// Whether a topic contains neither wildcards nor U+0000: one pass that the compiler makes a wide one.
#[inline]
pub(crate) fn is_plain(topic: &[u8]) -> bool {
    topic.iter().fold(0, |found, &byte| found | u8::from(byte == b'+') | u8::from(byte == b'#') | u8::from(byte == 0))
        == 0
}

/// What a byte of a name may mean; the most names have nothing but separators, and need one pass and one copy.
const SEPARATOR: u8 = 1;
/// A separator at the beginning, at the end or behind another.
const EMPTY_LEVEL: u8 = 2;
/// Written differently on the other side.
const ESCAPED: u8 = 4;
/// Wildcards of MQTT and U+0000.
const FORBIDDEN: u8 = 8;

static TOPIC_CLASSES: [u8; 256] = classes(b'/', b". \t\n\r\x0C\x7F*>");
static SUBJECT_CLASSES: [u8; 256] = classes(b'.', b"/");

const fn classes(separator: u8, escaped: &[u8]) -> [u8; 256] {
    let mut classes = [0; 256];
    let mut index = 0;
    while index < escaped.len() {
        classes[escaped[index] as usize] = ESCAPED;
        index += 1;
    }
    classes[separator as usize] = SEPARATOR;
    classes[b'+' as usize] = FORBIDDEN;
    classes[b'#' as usize] = FORBIDDEN;
    classes[0] = FORBIDDEN;
    classes
}

/// The classes of all bytes, and whether there is an empty level; an empty name has one.
fn scan(name: &[u8], classes: &[u8; 256]) -> u8 {
    let mut found = 0;
    let mut before = SEPARATOR;
    for &byte in name {
        let class = classes[usize::from(byte)];
        found |= class | (class & before & SEPARATOR) << 1;
        before = class;
    }
    found | (before & SEPARATOR) << 1
}

/// Appends a name in which only the separators differ. Safe code that replaces bytes of a string has to check it again;
/// that is a tenth of what going level by level costs.
fn append_with_separators(name: &str, from: u8, to: u8, out: &mut String) {
    let mut bytes = std::mem::take(out).into_bytes();
    let start = bytes.len();
    bytes.extend_from_slice(name.as_bytes());
    for byte in &mut bytes[start..] {
        *byte = if *byte == from { to } else { *byte };
    }
    *out = String::from_utf8(bytes).expect("one ASCII byte was replaced by another");
}

/// Appends the token of a level.
fn put_level(level: &str, subject: &mut String) {
    match level {
        "" => subject.push('/'),
        "*" => subject.push_str("/a"),
        ">" => subject.push_str("/g"),
        level if !level.bytes().any(is_escaped) => subject.push_str(level),
        level => {
            for character in level.chars() {
                match blank_pair(character) {
                    Some(pair) => subject.push_str(pair),
                    None if character == '.' => subject.push_str("//"),
                    None => subject.push(character),
                }
            }
        }
    }
}

const fn is_escaped(byte: u8) -> bool {
    matches!(byte, b'.' | b' ' | b'\t' | b'\n' | b'\r' | 0x0C | 0x7F)
}

const fn blank_pair(character: char) -> Option<&'static str> {
    Some(match character {
        ' ' => "/s",
        '\t' => "/t",
        '\n' => "/n",
        '\r' => "/r",
        '\u{0C}' => "/f",
        '\u{7F}' => "/d",
        _ => return None,
    })
}

/// Appends the level of a token, which is not empty.
fn put_topic_level(token: &str, topic: &mut String) {
    match token {
        "/" => {}
        "/a" => topic.push('*'),
        "/g" => topic.push('>'),
        token => {
            let mut characters = token.chars().peekable();
            while let Some(character) = characters.next() {
                if character != '/' {
                    topic.push(character);
                } else if let Some(meant) = characters.peek().copied().and_then(pair_meaning) {
                    topic.push(meant);
                    characters.next();
                }
                // A slash that begins no pair is dropped, as stock does.
            }
        }
    }
}

const fn pair_meaning(second: char) -> Option<char> {
    Some(match second {
        '/' => '.',
        's' => ' ',
        't' => '\t',
        'n' => '\n',
        'r' => '\r',
        'f' => '\u{0C}',
        'd' => '\u{7F}',
        _ => return None,
    })
}
