//! Who wants a subject: a multimap from filters to small values.
//!
//! Literal filters lie in one hash map, so that the usual case (few wildcards, many literal subjects) is a single probe; filters with
//! wildcards lie in a trie of tokens. Cache misses are what a lookup costs, so both are compact and few pointers deep.
//!
//! Promises: equal to asking every filter in turn; a lookup visits each node at most once, never allocates and never recurses; nothing that is
//! visible depends on the order of a hash map. It does not check subjects: an invalid one matches what [`Filter::matches`] says.

use crate::filter::Filter;
use crate::trie::Trie;
use foldhash::fast::FixedState;
use smallvec::SmallVec;
use std::collections::HashMap;

/// Most tokens of a wildcard filter that are kept in the trie. Longer ones are rare to the point of being hostile: a filter of 2,000 tokens
/// must not cost 2,000 nodes. They lie in a list that only subjects with more tokens than this look at.
pub(crate) const MAX_DEPTH: usize = 32;

/// The values of one filter. Mostly there is one.
pub(crate) type Values<T> = SmallVec<[T; 1]>;

/// A multimap from filters to values, asked by subject.
#[derive(Clone, Debug)]
pub struct Index<T: Copy + Eq> {
    /// Filters without wildcards.
    literals: HashMap<Box<[u8]>, Values<T>, FixedState>,
    /// Filters with wildcards, of at most [`MAX_DEPTH`] tokens.
    wildcards: Trie<T>,
    /// Wildcard filters with more tokens.
    deep: Vec<(Filter, T)>,
    /// Entries in all three.
    len: usize,
}

impl<T: Copy + Eq> Index<T> {
    /// An empty index. The seed should be random: it keeps peers from choosing subjects that collide.
    #[must_use]
    pub fn new(seed: u64) -> Index<T> {
        let state = FixedState::with_seed(seed);
        Index { literals: HashMap::with_hasher(state.clone()), wildcards: Trie::new(state), deep: Vec::new(), len: 0 }
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Without any entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a value. The same pair added twice is there twice.
    pub fn insert(&mut self, filter: &Filter, value: T) {
        self.len += 1;
        match place(filter) {
            Place::Literal => match self.literals.get_mut(filter.as_str().as_bytes()) {
                Some(values) => values.push(value),
                None => {
                    self.literals.insert(filter.as_str().as_bytes().into(), smallvec::smallvec![value]);
                }
            },
            Place::Trie => self.wildcards.insert(filter.as_str(), value),
            Place::Deep => self.deep.push((filter.clone(), value)),
        }
    }

    /// Takes one such entry out; false when there was none.
    pub fn remove(&mut self, filter: &Filter, value: &T) -> bool {
        let found = match place(filter) {
            Place::Literal => self.remove_literal(filter.as_str().as_bytes(), value),
            Place::Trie => self.wildcards.remove(filter.as_str(), value),
            Place::Deep => match self.deep.iter().position(|(have, held)| have == filter && held == value) {
                Some(at) => {
                    self.deep.swap_remove(at);
                    true
                }
                None => false,
            },
        };
        self.len -= usize::from(found);
        found
    }

    fn remove_literal(&mut self, subject: &[u8], value: &T) -> bool {
        let Some(values) = self.literals.get_mut(subject) else { return false };
        if !take(values, value) {
            return false;
        }
        if values.is_empty() {
            self.literals.remove(subject);
        }
        true
    }

    /// Calls `visit` with every value whose filter matches the subject: first the literal ones, then those with wildcards.
    pub fn for_each_match(&self, subject: &[u8], mut visit: impl FnMut(&T)) {
        if !self.literals.is_empty()
            && let Some(values) = self.literals.get(subject)
        {
            values.iter().for_each(&mut visit);
        }
        self.wildcards.for_each_match(subject, &mut visit);
        if !self.deep.is_empty() && subject.iter().filter(|byte| **byte == b'.').count() >= MAX_DEPTH {
            self.deep.iter().filter(|(filter, _)| filter.matches(subject)).for_each(|(_, value)| visit(value));
        }
    }

    /// Calls `visit` with every filter, and its value, that shares at least one subject with `filter`, ordered by filter. This is for
    /// changes of interest and configuration, not for messages: it allocates, and a filter with wildcards looks at all literals.
    pub fn overlapping(&self, filter: &Filter, mut visit: impl FnMut(&str, &T)) {
        let mut found: Vec<(String, &[T])> = Vec::new();
        self.overlapping_literals(filter, &mut found);
        self.wildcards.overlapping(filter.as_str(), &mut found);
        for (deep, value) in self.deep.iter().filter(|(deep, _)| deep.overlaps(filter)) {
            found.push((deep.as_str().to_owned(), std::slice::from_ref(value)));
        }
        found.sort_by(|one, two| one.0.cmp(&two.0));
        for (text, values) in found {
            values.iter().for_each(|value| visit(&text, value));
        }
    }

    #[allow(clippy::disallowed_methods)] // the caller sorts
    fn overlapping_literals<'a>(&'a self, filter: &Filter, found: &mut Vec<(String, &'a [T])>) {
        if filter.is_literal() {
            if let Some(values) = self.literals.get(filter.as_str().as_bytes()) {
                found.push((filter.as_str().to_owned(), values));
            }
            return;
        }
        let matching = self.literals.iter().filter(|(subject, _)| filter.matches(subject));
        found.extend(
            matching.map(|(subject, values)| (String::from_utf8_lossy(subject).into_owned(), values.as_slice())),
        );
    }
}

/// Where a filter is kept.
enum Place {
    Literal,
    Trie,
    Deep,
}

fn place(filter: &Filter) -> Place {
    if filter.is_literal() {
        return Place::Literal;
    }
    if filter.as_str().split('.').count() <= MAX_DEPTH { Place::Trie } else { Place::Deep }
}

/// Takes one occurrence of a value out; false when it is not there.
pub(crate) fn take<T: Copy + Eq>(values: &mut Values<T>, value: &T) -> bool {
    let Some(at) = values.iter().position(|held| held == value) else { return false };
    values.swap_remove(at);
    if values.spilled() && values.len() <= 1 {
        values.shrink_to_fit();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Few letters and short filters, so that they meet often.
    fn token() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("a"), Just("b"), Just("cc")]
    }

    fn subject() -> impl Strategy<Value = String> {
        prop_oneof![
            9 => prop::collection::vec(token(), 1..6).prop_map(|tokens| tokens.join(".")),
            1 => prop::collection::vec(token(), 30..36).prop_map(|tokens| tokens.join(".")),
        ]
    }

    fn filter() -> impl Strategy<Value = Filter> {
        (subject(), any::<u8>(), any::<u8>(), any::<bool>()).prop_map(|(text, star, second, tail)| {
            let mut tokens: Vec<&str> = text.split('.').collect();
            for position in [star, second] {
                if let Some(token) = tokens.get_mut(position as usize % 8) {
                    *token = "*";
                }
            }
            if tail {
                *tokens.last_mut().unwrap() = ">";
            }
            Filter::parse(&tokens.join(".")).unwrap()
        })
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(Filter, u8),
        Remove(usize),
        RemoveAny(Filter, u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => (filter(), 0..4u8).prop_map(|(filter, value)| Step::Insert(filter, value)),
            3 => any::<usize>().prop_map(Step::Remove),
            1 => (filter(), 0..4u8).prop_map(|(filter, value)| Step::RemoveAny(filter, value)),
        ]
    }

    fn matching(index: &Index<u8>, subject: &str) -> Vec<u8> {
        let mut found = Vec::new();
        index.for_each_match(subject.as_bytes(), |value| found.push(*value));
        found.sort_unstable();
        found
    }

    fn check(entries: &[(Filter, u8)], index: &Index<u8>, subjects: &[String], filters: &[Filter]) {
        assert_eq!(index.len(), entries.len());
        for subject in subjects {
            let mut naive: Vec<u8> = entries
                .iter()
                .filter(|(filter, _)| filter.matches(subject.as_bytes()))
                .map(|(_, value)| *value)
                .collect();
            naive.sort_unstable();
            assert_eq!(matching(index, subject), naive, "{subject}");
        }
        for filter in filters {
            let mut naive: Vec<(String, u8)> = entries
                .iter()
                .filter(|(have, _)| have.overlaps(filter))
                .map(|(have, value)| (have.to_string(), *value))
                .collect();
            naive.sort();
            let mut found = Vec::new();
            index.overlapping(filter, |text, value| found.push((text.to_owned(), *value)));
            assert!(found.is_sorted_by(|one, two| one.0 <= two.0));
            found.sort();
            assert_eq!(found, naive, "{filter}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn equals_a_naive_matcher(
            steps in prop::collection::vec(step(), 1..60),
            subjects in prop::collection::vec(subject(), 20),
            filters in prop::collection::vec(filter(), 10),
        ) {
            let mut index = Index::new(7);
            let mut entries: Vec<(Filter, u8)> = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(filter, value) => {
                        index.insert(&filter, value);
                        entries.push((filter, value));
                    }
                    Step::Remove(which) if !entries.is_empty() => {
                        let (filter, value) = entries.swap_remove(which % entries.len());
                        assert!(index.remove(&filter, &value));
                    }
                    Step::Remove(_) => {}
                    Step::RemoveAny(filter, value) => {
                        let at = entries.iter().position(|(have, held)| *have == filter && *held == value);
                        assert_eq!(index.remove(&filter, &value), at.is_some());
                        at.map(|at| entries.swap_remove(at));
                    }
                }
            }
            check(&entries, &index, &subjects, &filters);
            for (filter, value) in entries.drain(..) {
                assert!(index.remove(&filter, &value));
            }
            check(&[], &index, &subjects, &filters);
            assert_eq!(index.wildcards.nodes_in_use(), 0, "removal gives the nodes back");
        }
    }

    #[test]
    fn many_siblings_are_found_and_given_back() {
        let mut index = Index::new(1);
        let inboxes: Vec<Filter> = (0..500).map(|n| Filter::parse(&format!("_INBOX.{n}.*")).unwrap()).collect();
        for (n, filter) in inboxes.iter().enumerate() {
            index.insert(filter, n);
        }
        for n in 0..500 {
            let mut found = Vec::new();
            index.for_each_match(format!("_INBOX.{n}.reply").as_bytes(), |value| found.push(*value));
            assert_eq!(found, [n]);
        }
        for (n, filter) in inboxes.iter().enumerate() {
            assert!(index.remove(filter, &n));
        }
        assert_eq!((index.len(), index.wildcards.nodes_in_use()), (0, 0));
    }

    #[test]
    fn subjects_that_are_not_text_match_wildcards_only() {
        let mut index = Index::new(1);
        index.insert(&Filter::parse("a.*").unwrap(), 1);
        index.insert(&Filter::parse("a.b").unwrap(), 2);
        let mut found = Vec::new();
        index.for_each_match(b"a.\xff", |value| found.push(*value));
        assert_eq!(found, [1]);
    }
}
