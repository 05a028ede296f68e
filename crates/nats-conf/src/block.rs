//! Reading a parsed configuration as what a program wants, and reporting everything that is wrong with it at once.
//!
//! A [`Block`] is a map being read. It remembers which entries were asked for, and [`Block::finish`] reports the others as unknown.
//! Nothing stops at the first mistake: a [`Report`] collects them, a line each, as stock prints them.

mod field;
mod report;

use std::collections::BTreeMap;

pub use field::Field;
pub use report::{Diagnostic, Report};

use crate::value::{Map, Position};

/// A map being read. Keys are found in any case; of several spellings and aliases the last in the file wins.
#[derive(Debug)]
pub struct Block<'m> {
    map: &'m Map,
    position: &'m Position,
    /// Lower-case spelling → entries.
    places: BTreeMap<String, Vec<usize>>,
    read: Vec<bool>,
}

impl<'m> Block<'m> {
    /// Starts reading. `position` is where errors about what is missing in the map point.
    pub fn new(map: &'m Map, position: &'m Position) -> Self {
        let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, entry) in map.entries().iter().enumerate() {
            places.entry(entry.key.to_lowercase()).or_default().push(place);
        }
        Self { map, position, places, read: vec![false; map.entries().len()] }
    }

    /// Where the block stands.
    pub fn position(&self) -> &'m Position {
        self.position
    }

    /// The value of a key, which counts as known from now on. `names` are its aliases in lower case.
    pub fn field(&mut self, names: &[&str]) -> Option<Field<'m>> {
        let mut last = None;
        for place in names.iter().filter_map(|&name| self.places.get(name)).flatten() {
            self.read[*place] = true;
            last = last.max(Some(*place));
        }
        last.map(|place| self.at(place))
    }

    /// All entries, known from now on, for a map whose keys are names. Names are told apart by case.
    pub fn fields(&mut self) -> Vec<Field<'m>> {
        self.read.fill(true);
        (0..self.read.len()).map(|place| self.at(place)).collect()
    }

    /// The entries not asked for yet and not there for variables only, known from now on: names, in a map that mixes them with keys.
    pub fn remaining(&mut self) -> Vec<Field<'m>> {
        let rest: Vec<usize> = (0..self.read.len()).filter(|&place| !self.read[place]).collect();
        self.read.fill(true);
        rest.into_iter().filter(|&place| !self.map.entries()[place].referenced).map(|place| self.at(place)).collect()
    }

    fn at(&self, place: usize) -> Field<'m> {
        let entry = &self.map.entries()[place];
        Field { name: &entry.key, position: &entry.position, value: &entry.value }
    }

    /// Keys that exist in nats-server and that we lack: an error for each that is there.
    pub fn refuse(&mut self, names: &[&str], report: &mut Report) {
        for &name in names {
            if let Some(field) = self.field(&[name]) {
                report.error(field.position, format!("field {:?} is not supported", field.name));
            }
        }
    }

    /// Keys that mean nothing here: a notice for each that is there, with the reason.
    pub fn without_effect(&mut self, names: &[&str], why: &str, report: &mut Report) {
        for &name in names {
            if let Some(field) = self.field(&[name]) {
                report.notice(field.position, format!("field {:?} has no effect: {why}", field.name));
            }
        }
    }

    /// Reports what was never asked for, except keys that only variables refer to.
    pub fn finish(self, report: &mut Report) {
        for (entry, read) in self.map.entries().iter().zip(&self.read) {
            if !read && !entry.referenced {
                report.error(&entry.position, format!("unknown field {:?}", entry.key));
            }
        }
    }
}
