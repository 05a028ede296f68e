//! A page of a stream's subjects in the order of their names, out of as many as there are, which the store knows in no order.
//!
//! Names are gathered in one piece of memory and the page is selected, so that a late page of a million costs a walk and not a sort of them all. No
//! more than twice what ends with the page is held.

use std::cmp::Ordering;

/// Names gathered, with their numbers of messages.
#[derive(Debug)]
pub(crate) struct SubjectPage {
    /// How many come before the page, and how many are on it.
    offset: usize,
    length: usize,
    text: Vec<u8>,
    entries: Vec<Entry>,
    /// One that comes behind the page, once so many are known: others behind it need not be gathered.
    bound: Option<Box<[u8]>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: usize,
    length: u32,
    messages: u64,
}

impl Entry {
    fn name<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        &text[self.start..self.start + self.length as usize]
    }
}

impl SubjectPage {
    pub(crate) fn new(offset: u64, length: usize) -> SubjectPage {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        SubjectPage { offset, length, text: Vec::new(), entries: Vec::new(), bound: None }
    }

    /// One more subject. Each comes once.
    pub(crate) fn add(&mut self, subject: &[u8], messages: u64) {
        if self.bound.as_deref().is_some_and(|bound| subject > bound) {
            return;
        }
        if self.entries.len() >= self.end().saturating_mul(2) {
            self.shrink();
        }
        self.entries.push(Entry { start: self.text.len(), length: subject.len() as u32, messages });
        self.text.extend_from_slice(subject);
    }

    /// The page.
    pub(crate) fn finish(mut self) -> Vec<(Box<str>, u64)> {
        self.shrink();
        if self.offset >= self.entries.len() {
            return Vec::new();
        }
        let text = &self.text;
        let order = |one: &Entry, other: &Entry| compare(text, one, other);
        let page = if self.offset > 0 {
            // What is left of it has nothing to do with the page, and is behind what is kept.
            let (_, first, rest) = self.entries.select_nth_unstable_by(self.offset, order);
            rest.sort_unstable_by(order);
            (Some(*first), &*rest)
        } else {
            self.entries.sort_unstable_by(order);
            (None, &*self.entries)
        };
        let named = |entry: &Entry| Some((std::str::from_utf8(entry.name(text)).ok()?.into(), entry.messages));
        page.0.iter().chain(page.1).filter_map(named).collect()
    }

    /// How many end with the page.
    fn end(&self) -> usize {
        self.offset.saturating_add(self.length)
    }

    /// Forgets what comes behind the page.
    fn shrink(&mut self) {
        let end = self.end();
        if self.entries.len() <= end {
            return;
        }
        let text = &self.text;
        let (_, behind, _) = self.entries.select_nth_unstable_by(end, |one, other| compare(text, one, other));
        self.bound = Some(behind.name(text).into());
        self.entries.truncate(end);
        let mut kept = Vec::with_capacity(self.text.len());
        for entry in &mut self.entries {
            let start = kept.len();
            kept.extend_from_slice(entry.name(text));
            entry.start = start;
        }
        self.text = kept;
    }
}

fn compare(text: &[u8], one: &Entry, other: &Entry) -> Ordering {
    one.name(text).cmp(other.name(text))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::collections::btree_map::Entry;

    use proptest::prelude::*;

    use super::SubjectPage;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_page_is_a_part_of_all_in_order(
            all in prop::collection::vec(("[a-c]{1,4}", 1..9u64), 0..60), offset in 0..70u64, length in 1..20usize,
        ) {
            let mut page = SubjectPage::new(offset, length);
            let mut sorted = BTreeMap::new();
            for (name, messages) in all {
                if let Entry::Vacant(place) = sorted.entry(name) {
                    page.add(place.key().as_bytes(), messages);
                    place.insert(messages);
                }
            }
            let wanted: Vec<(Box<str>, u64)> =
                sorted.into_iter().skip(offset as usize).take(length).map(|(name, count)| (name.into(), count)).collect();
            prop_assert_eq!(page.finish(), wanted);
        }
    }
}
