//! What a configuration consists of: values, ordered maps, and where each stands.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Where something stands: `file:line:column`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The file as it was named when it was opened, or `$NAME` for the text of an environment variable.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Position {
    /// The beginning of a file, for what is missing in it altogether.
    pub fn start_of(file: &str) -> Self {
        Self { file: Arc::from(file), line: 1, column: 1 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A value and where it stands. A value that came through a variable stands where the reference is.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// What it is.
    pub kind: Kind,
    /// Where its first character is.
    pub position: Position,
}

/// The forms of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `true`, `yes`, `on`, `false`, `no`, `off`, in any case.
    Boolean(bool),
    /// A number without fraction.
    Integer(Integer),
    /// `1.5`
    Float(f64),
    /// `2026-01-02T15:04:05Z`
    Date(Date),
    /// Quoted, bare or a raw block.
    String(String),
    /// `[ … ]`
    Array(Vec<Value>),
    /// `{ … }`
    Map(Map),
}

impl Kind {
    /// The form's name, for messages: "a string".
    pub fn name(&self) -> &'static str {
        match self {
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a floating point number",
            Self::Date(_) => "a date",
            Self::String(_) => "a string",
            Self::Array(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// An integer, its suffix applied: `1k` is 1000, `1kb` is 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integer {
    /// The number that it stands for.
    pub number: i64,
    /// What stood before a lone `m`: a duration field takes `2m` for two minutes, where stock, to which it is 2,000,000, waits
    /// for 23 days.
    pub before_m: Option<i64>,
}

impl From<i64> for Integer {
    fn from(number: i64) -> Self {
        Self { number, before_m: None }
    }
}

/// A date and time in UTC, to the second, checked to exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Year, 0 to 9999.
    pub year: u16,
    /// Month, from 1.
    pub month: u8,
    /// Day of the month, from 1.
    pub day: u8,
    /// Hour, 0 to 23.
    pub hour: u8,
    /// Minute.
    pub minute: u8,
    /// Second, 0 to 59.
    pub second: u8,
}

impl fmt::Display for Date {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second } = self;
        write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// A key, its value, and whether a variable referred to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key as it was spelled.
    pub key: String,
    /// Where the key stands (errors about a field point here, as stock's do).
    pub position: Position,
    /// Its value.
    pub value: Value,
    /// True when a `$key` after it took its value: such a key may be unknown.
    pub referenced: bool,
}

/// A map in the order of the file. Of keys of the same spelling the last one wins, at the place of the first.
#[derive(Clone, Debug, Default)]
pub struct Map {
    entries: Vec<Entry>,
    /// Spelling → index in `entries`.
    places: BTreeMap<String, usize>,
}

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Map {
    /// The entries in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// True when there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry whose key is spelled exactly so, as variables are looked up.
    pub fn exact(&self, key: &str) -> Option<&Entry> {
        self.places.get(key).map(|&place| &self.entries[place])
    }

    /// Adds an entry, or takes the place of one of the same spelling.
    pub fn insert(&mut self, entry: Entry) {
        if let Some(&place) = self.places.get(&entry.key) {
            self.entries[place] = entry;
        } else {
            self.places.insert(entry.key.clone(), self.entries.len());
            self.entries.push(entry);
        }
    }

    /// The value of `key` for a variable, which marks the entry as referred to.
    pub(crate) fn refer(&mut self, key: &str) -> Option<&Value> {
        let place = *self.places.get(key)?;
        self.entries[place].referenced = true;
        Some(&self.entries[place].value)
    }

    /// The entries themselves, to be merged into another map.
    pub(crate) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }
}
