//! One value being read: as a number in a range, a size, a duration, a list, a further block.
//!
//! Every reading answers `None` after it has reported what it expected.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Block, Report};
use crate::duration::parse_duration;
use crate::value::{Integer, Kind, Position, Value};

/// A key, or an element of a list, and its value.
#[derive(Clone, Copy, Debug)]
pub struct Field<'m> {
    /// The key as it was spelled; an element has its list's.
    pub name: &'m str,
    /// Where errors point: the key; for an element, itself.
    pub position: &'m Position,
    /// The value.
    pub value: &'m Value,
}

impl<'m> Field<'m> {
    fn expected(&self, what: &str, report: &mut Report) {
        let got = match &self.value.kind {
            Kind::String(text) if text.chars().count() <= 64 => format!("the string {text:?}"),
            Kind::Integer(integer) => integer.number.to_string(),
            kind => kind.name().to_owned(),
        };
        report.error(self.position, format!("field {:?}: expected {what}, but got {got}", self.name));
    }

    /// A text.
    pub fn string(&self, report: &mut Report) -> Option<&'m str> {
        match &self.value.kind {
            Kind::String(text) => Some(text),
            _ => {
                self.expected("a string", report);
                None
            }
        }
    }

    /// A text, where a number or a word such as `on` may have been meant as one (passwords, tags, tokens).
    pub fn text(&self, report: &mut Report) -> Option<String> {
        match &self.value.kind {
            Kind::String(text) => Some(text.clone()),
            Kind::Integer(_) | Kind::Float(_) | Kind::Boolean(_) | Kind::Date(_) => {
                self.expected("a string (put it in double quotes)", report);
                None
            }
            _ => {
                self.expected("a string", report);
                None
            }
        }
    }

    /// A boolean.
    pub fn boolean(&self, report: &mut Report) -> Option<bool> {
        match &self.value.kind {
            Kind::Boolean(value) => Some(*value),
            _ => {
                self.expected("true or false", report);
                None
            }
        }
    }

    /// A boolean that may also be written `enabled` or `disabled`.
    pub fn switch(&self, report: &mut Report) -> Option<bool> {
        match &self.value.kind {
            Kind::Boolean(value) => Some(*value),
            Kind::String(word) if ["enabled", "enable"].contains(&word.to_lowercase().as_str()) => Some(true),
            Kind::String(word) if ["disabled", "disable"].contains(&word.to_lowercase().as_str()) => Some(false),
            _ => {
                self.expected("a boolean, \"enabled\" or \"disabled\"", report);
                None
            }
        }
    }

    /// An integer in a range that fits its type.
    pub fn integer<T: TryFrom<i64>>(&self, range: RangeInclusive<i64>, report: &mut Report) -> Option<T> {
        let number = match &self.value.kind {
            Kind::Integer(integer) if range.contains(&integer.number) => T::try_from(integer.number).ok(),
            _ => None,
        };
        if number.is_none() {
            let (least, most) = (range.start(), range.end());
            let what = match *most {
                i64::MAX => format!("an integer not below {least}"),
                _ => format!("an integer from {least} to {most}"),
            };
            self.expected(&what, report);
        }
        number
    }

    /// A number of bytes within a range.
    pub fn size(&self, range: RangeInclusive<u64>, report: &mut Report) -> Option<u64> {
        let size = match &self.value.kind {
            Kind::Integer(integer) => u64::try_from(integer.number).ok().filter(|size| range.contains(size)),
            _ => None,
        };
        if size.is_none() {
            let (least, most) = (range.start(), range.end());
            let what = match *most {
                most if most >= i64::MAX.unsigned_abs() && *least == 0 => {
                    "a size in bytes without quotes, such as 65536, 64k or 64KB".to_owned()
                }
                most if most >= i64::MAX.unsigned_abs() => format!("a size of at least {least} bytes, such as 64KB"),
                _ => format!("a size from {least} to {most} bytes, such as 64KB"),
            };
            self.expected(&what, report);
        }
        size
    }

    /// A size that -1 makes unlimited: `Some(None)`.
    pub fn limit(&self, report: &mut Report) -> Option<Option<u64>> {
        match &self.value.kind {
            Kind::Integer(integer) if integer.number == -1 => Some(None),
            Kind::Integer(integer) if integer.number >= 0 => Some(Some(integer.number.unsigned_abs())),
            _ => {
                self.expected("a number, such as 1000 or 64MB, or -1 for no limit", report);
                None
            }
        }
    }

    /// A size that, alone among sizes, may also be a quoted text that ends in K, M, G or T (binary): JetStream's.
    pub fn storage_size(&self, report: &mut Report) -> Option<Option<u64>> {
        let Kind::String(text) = &self.value.kind else {
            return self.limit(report);
        };
        let shift = match text.chars().last() {
            Some('K') => 10,
            Some('M') => 20,
            Some('G') => 30,
            Some('T') => 40,
            _ => 0,
        };
        let number = text[..text.len() - usize::from(shift > 0)].parse::<u64>().ok();
        let size = number.filter(|_| shift > 0).and_then(|number| number.checked_mul(1 << shift));
        if size.is_none() {
            self.expected("a size such as 1GB or \"1G\", or -1 for no limit", report);
        }
        size.map(Some)
    }

    /// A duration; a bare integer means seconds, which is an old habit and warned of with stock's words.
    pub fn duration(&self, report: &mut Report) -> Option<Duration> {
        if let Kind::Integer(Integer { number, before_m: None }) = self.value.kind
            && let Ok(seconds) = u64::try_from(number)
        {
            let name = self.name;
            report.warning(
                self.position,
                format!("invalid use of field {name:?}: {name} should be converted to a duration"),
            );
            return Some(Duration::from_secs(seconds.min(MAX_SECONDS)));
        }
        self.duration_text(report)
    }

    /// A duration, or a number of seconds, whole or not: what `timeout` of TLS and authorization takes.
    pub fn seconds(&self, report: &mut Report) -> Option<Duration> {
        match self.value.kind {
            Kind::Integer(Integer { number, before_m: None }) if number >= 0 => {
                Some(Duration::from_secs(number.unsigned_abs().min(MAX_SECONDS)))
            }
            Kind::Float(seconds) if seconds >= 0.0 => {
                Duration::try_from_secs_f64(seconds).ok().map(|duration| duration.min(Duration::from_secs(MAX_SECONDS)))
            }
            _ => self.duration_text(report),
        }
    }

    fn duration_text(&self, report: &mut Report) -> Option<Duration> {
        if let Kind::Integer(Integer { number, before_m: Some(minutes) }) = self.value.kind
            && let Some(seconds) = u64::try_from(minutes).ok().and_then(|minutes| minutes.checked_mul(60))
        {
            let text =
                format!("{:?} is read as {minutes} minutes; nats-server reads {number} seconds: quote it", self.name);
            report.notice(self.position, text);
            return Some(Duration::from_secs(seconds.min(MAX_SECONDS)));
        }
        let Kind::String(text) = &self.value.kind else {
            self.expected("a duration such as 300ms, 2s or 1h30m", report);
            return None;
        };
        match parse_duration(text) {
            Ok(duration) => Some(duration),
            Err(error) => {
                report.error(self.position, format!("error parsing {}: {error}", self.name));
                None
            }
        }
    }

    /// The elements of a list; anything else is a list of one.
    pub fn elements(&self) -> Vec<Field<'m>> {
        match &self.value.kind {
            Kind::Array(values) => {
                values.iter().map(|value| Field { name: self.name, position: &value.position, value }).collect()
            }
            _ => vec![*self],
        }
    }

    /// The elements of what has to be a list.
    pub fn list(&self, report: &mut Report) -> Option<Vec<Field<'m>>> {
        if matches!(self.value.kind, Kind::Array(_)) {
            return Some(self.elements());
        }
        self.expected("a list in [ ]", report);
        None
    }

    /// One text or a list of them.
    pub fn strings(&self, report: &mut Report) -> Option<Vec<String>> {
        let read: Vec<_> = self.elements().iter().map(|element| element.string(report)).collect();
        read.into_iter().map(|text| text.map(str::to_owned)).collect()
    }

    /// A map, to be read in turn.
    pub fn block(&self, report: &mut Report) -> Option<Block<'m>> {
        match &self.value.kind {
            Kind::Map(map) => Some(Block::new(map, self.position)),
            _ => {
                self.expected("a block in { }", report);
                None
            }
        }
    }

    /// A key and one of the words it may have.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)], report: &mut Report) -> Option<T> {
        let word = match &self.value.kind {
            Kind::String(word) => word.to_lowercase(),
            Kind::Boolean(true) => "on".to_owned(),
            Kind::Boolean(false) => "off".to_owned(),
            _ => String::new(),
        };
        let found = choices.iter().find(|(name, _)| *name == word).map(|(_, choice)| *choice);
        if found.is_none() {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            self.expected(&names.join(" or "), report);
        }
        found
    }
}

/// Go's durations end at 292 years, and so do ours.
const MAX_SECONDS: u64 = 9_223_372_036;
