//! Who on a stream is concerned by what: by a message that is stored, by one that goes.
//!
//! A few consumers are asked one after the other, and nothing is kept for that. With more than [`FEW`] the stream has a [`Crowd`], so that what concerns
//! one of ten thousand costs one:
//!
//! - an index of filters says whose a subject is; messages that match nobody's wake nobody;
//! - consumers without filters are noted when they have come to the end and somebody waits there; a new message wakes those and no others;
//! - for each consumer a *bound* is kept, not above the lowest message that it still has to do with: what goes below it is no concern of it. It may lag behind,
//!   and is put right when something goes that it does not exclude.
//!
//! A consumer that nobody uses, and that has nothing outstanding, is *parked*: it is told of nothing that goes, and counts anew when somebody looks at it.

use std::collections::{BTreeMap, BTreeSet};

use subject::{Filter, Index};

use crate::identity::{ConsumerId, Sequence};

/// So many consumers are asked one by one.
const FEW: usize = 128;
/// The bound of a parked consumer.
const PARKED: Sequence = Sequence(u64::MAX);

/// How many messages matching a consumer's filters were ever stored.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) filters: Vec<Filter>,
    pub(crate) matched: u64,
    /// The message that was counted last.
    last: Sequence,
    /// The first one since its consumer was woken last, and what was counted before it.
    fresh: Option<Fresh>,
}

/// Messages for a consumer that it was not woken for yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fresh {
    /// The first of them.
    pub(crate) first: Sequence,
    /// Its tally before that. `None`: its consumer has counted since then, and that may be in it or not.
    pub(crate) before: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Audience {
    /// Of each filtered consumer.
    tallies: BTreeMap<ConsumerId, Tally>,
    crowd: Option<Box<Crowd>>,
}

/// What is kept of more than a few consumers.
#[derive(Debug)]
struct Crowd {
    /// Filtered consumers, by each of their filters.
    index: Index<ConsumerId>,
    /// All others.
    unfiltered: BTreeSet<ConsumerId>,
    /// Filtered ones for which something was stored.
    fresh: Vec<ConsumerId>,
    /// Unfiltered ones that wait for the next message, whatever it is.
    at_end: Vec<ConsumerId>,
    bounds: BTreeMap<ConsumerId, Sequence>,
    /// The same, lowest first.
    places: BTreeSet<(Sequence, ConsumerId)>,
    /// Everybody is to be woken, whoever it is: nobody was noted yet.
    is_new: bool,
    /// The unfiltered consumer that needed a message last.
    needed_by: ConsumerId,
}

impl Audience {
    /// Counts for a filtered consumer from now on.
    pub(crate) fn add_tally(&mut self, consumer: ConsumerId, filters: Vec<Filter>) {
        if let Some(crowd) = &mut self.crowd {
            filters.iter().for_each(|filter| crowd.index.insert(filter, consumer));
            crowd.unfiltered.remove(&consumer);
        }
        self.tallies.insert(consumer, Tally { filters, matched: 0, last: Sequence(0), fresh: None });
    }

    /// The consumer has no filters any more, or is gone.
    pub(crate) fn forget_tally(&mut self, consumer: ConsumerId) {
        if let (Some(tally), Some(crowd)) = (self.tallies.remove(&consumer), &mut self.crowd) {
            for filter in &tally.filters {
                crowd.index.remove(filter, &consumer);
            }
        }
    }

    /// A consumer that has no filters.
    pub(crate) fn add_unfiltered(&mut self, consumer: ConsumerId) {
        if let Some(crowd) = &mut self.crowd {
            crowd.unfiltered.insert(consumer);
        }
    }

    /// A consumer is gone.
    pub(crate) fn remove(&mut self, consumer: ConsumerId) {
        self.forget_tally(consumer);
        if let Some(crowd) = &mut self.crowd {
            crowd.unfiltered.remove(&consumer);
            crowd.unplace(consumer);
        }
    }

    pub(crate) fn tally(&self, consumer: ConsumerId) -> Option<&Tally> {
        self.tallies.get(&consumer)
    }

    /// How many consumers have filters.
    pub(crate) fn filtered_count(&self) -> usize {
        self.tallies.len()
    }

    /// Are there so many consumers that it is to be kept whom what concerns? Once they were, it is.
    pub(crate) fn wants_crowd(&self, consumers: usize) -> bool {
        consumers > FEW && self.crowd.is_none()
    }

    /// Keeps from now on whom what concerns. The seed is a secret: it keeps peers from choosing filters that collide.
    pub(crate) fn make_crowd(&mut self, consumers: impl Iterator<Item = ConsumerId>, seed: u64) {
        let mut crowd = Crowd {
            index: Index::new(seed),
            unfiltered: BTreeSet::new(),
            fresh: Vec::new(),
            at_end: Vec::new(),
            bounds: BTreeMap::new(),
            places: BTreeSet::new(),
            is_new: true,
            needed_by: ConsumerId(0),
        };
        for consumer in consumers {
            match self.tallies.get(&consumer) {
                Some(tally) => tally.filters.iter().for_each(|filter| crowd.index.insert(filter, consumer)),
                None => _ = crowd.unfiltered.insert(consumer),
            }
            crowd.place(consumer, Sequence(0));
        }
        self.crowd = Some(Box::new(crowd));
    }

    /// Is it kept whom what concerns?
    pub(crate) fn is_crowd(&self) -> bool {
        self.crowd.is_some()
    }

    /// A message was stored.
    pub(crate) fn count(&mut self, sequence: Sequence, subject: &[u8]) {
        let Audience { tallies, crowd } = self;
        let Some(crowd) = crowd else {
            for tally in tallies.values_mut() {
                tally.matched += u64::from(tally.filters.iter().any(|filter| filter.matches(subject)));
            }
            return;
        };
        let Crowd { index, fresh, .. } = &mut **crowd;
        index.for_each_match(subject, |consumer| {
            // Several of its filters may match.
            let Some(tally) = tallies.get_mut(consumer).filter(|tally| tally.last != sequence) else { return };
            if tally.fresh.is_none() {
                tally.fresh = Some(Fresh { first: sequence, before: Some(tally.matched) });
                fresh.push(*consumer);
            }
            tally.last = sequence;
            tally.matched += 1;
        });
    }

    /// A consumer has counted anew, or counted messages off up to this one: what was counted before may be among them.
    pub(crate) fn counted_off(&mut self, consumer: ConsumerId, last: Sequence) {
        if self.crowd.is_some()
            && let Some(fresh) = self.tallies.get_mut(&consumer).and_then(|tally| tally.fresh.as_mut())
            && fresh.first <= last
        {
            fresh.before = None;
        }
    }

    /// Does a filter match the subject?
    pub(crate) fn has_match(&self, subject: &[u8]) -> bool {
        let Some(crowd) = &self.crowd else {
            return self.tallies.values().any(|tally| tally.filters.iter().any(|filter| filter.matches(subject)));
        };
        let mut found = false;
        crowd.index.for_each_match(subject, |_| found = true);
        found
    }

    /// Filtered consumers that share a subject with a filter; `None`: ask them.
    pub(crate) fn overlapping(&self, filter: &Filter) -> Option<Vec<ConsumerId>> {
        let crowd = self.crowd.as_ref()?;
        let mut found = Vec::new();
        crowd.index.overlapping(filter, |_, consumer| found.push(*consumer));
        Some(found)
    }

    /// Consumers without filters; `None`: ask them.
    pub(crate) fn unfiltered(&self) -> Option<impl Iterator<Item = ConsumerId>> {
        self.crowd.as_ref().map(|crowd| crowd.unfiltered.iter().copied())
    }

    /// Is there a consumer for such a message, and one that needs it? Unfiltered ones are asked from the one on that needed a message last: many have to
    /// be done with each, and it is mostly in that order that they come to be.
    pub(crate) fn who_needs(&mut self, subject: &[u8], needs: impl Fn(ConsumerId) -> bool) -> (bool, bool) {
        let Some(crowd) = &mut self.crowd else { return (false, false) };
        let after = crowd.unfiltered.range(crowd.needed_by..);
        let unfiltered = after.chain(crowd.unfiltered.range(..crowd.needed_by)).copied().find(|one| needs(*one));
        crowd.needed_by = unfiltered.unwrap_or(crowd.needed_by);
        let (mut matched, mut needed) = (!crowd.unfiltered.is_empty(), unfiltered.is_some());
        if !needed {
            crowd.index.for_each_match(subject, |consumer| {
                matched = true;
                needed = needed || needs(*consumer);
            });
        }
        (matched, needed)
    }

    /// It has come to the end, has no filters, and somebody waits. `false`: that need not be noted.
    pub(crate) fn note_end(&mut self, consumer: ConsumerId) -> bool {
        self.crowd.as_mut().map(|crowd| crowd.at_end.push(consumer)).is_some()
    }

    /// Whom the messages concern that came since the last time; the second: whoever there is.
    pub(crate) fn take_concerned(&mut self) -> (Vec<(ConsumerId, Option<Fresh>)>, bool) {
        let Some(crowd) = &mut self.crowd else { return (Vec::new(), true) };
        let tallies = &mut self.tallies;
        let fresh = crowd.fresh.drain(..);
        let mut woken: Vec<(ConsumerId, Option<Fresh>)> = fresh
            .filter_map(|consumer| tallies.get_mut(&consumer)?.fresh.take().map(|fresh| (consumer, Some(fresh))))
            .collect();
        woken.extend(crowd.at_end.drain(..).map(|consumer| (consumer, None)));
        (woken, std::mem::take(&mut crowd.is_new))
    }

    /// The lowest message that a consumer has to do with is this one, or a higher one.
    pub(crate) fn place(&mut self, consumer: ConsumerId, lowest: Sequence) {
        if let Some(crowd) = &mut self.crowd {
            crowd.place(consumer, lowest);
        }
    }

    /// The same, if it is lower than what was known.
    pub(crate) fn place_below(&mut self, consumer: ConsumerId, lowest: Sequence) {
        if let Some(crowd) = &mut self.crowd
            && crowd.bounds.get(&consumer).is_some_and(|bound| *bound != PARKED && *bound > lowest)
        {
            crowd.place(consumer, lowest);
        }
    }

    /// Is told of nothing that goes, until it is placed anew.
    pub(crate) fn park(&mut self, consumer: ConsumerId) {
        self.place(consumer, PARKED);
    }

    pub(crate) fn is_parked(&self, consumer: ConsumerId) -> bool {
        self.crowd.as_ref().is_some_and(|crowd| crowd.bounds.get(&consumer) == Some(&PARKED))
    }

    /// Whom it may concern that something up to `last` goes, with their bounds.
    pub(crate) fn concerned_by(&self, last: Sequence, into: &mut Vec<(Sequence, ConsumerId)>) {
        if let Some(crowd) = &self.crowd {
            into.extend(crowd.places.range(..=(last, ConsumerId(u32::MAX))).copied());
        }
    }
}

impl Crowd {
    fn place(&mut self, consumer: ConsumerId, lowest: Sequence) {
        self.unplace(consumer);
        self.bounds.insert(consumer, lowest);
        self.places.insert((lowest, consumer));
    }

    fn unplace(&mut self, consumer: ConsumerId) {
        if let Some(before) = self.bounds.remove(&consumer) {
            self.places.remove(&(before, consumer));
        }
    }
}
