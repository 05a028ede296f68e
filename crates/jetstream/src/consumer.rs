//! A consumer: where it stands in its stream, and what is outstanding. This half is stored, and after a restart it goes on from here.
//!
//! Records: `c0<id>` the configuration, `c1<id>` the position, `c2<id><chunk>` outstanding messages by 256 sequences, `c3<id><chunk>` those that it holds
//! ([`crate::stream::retention`]). The kind comes first, so that opening finds the consumers without reading what is outstanding.
//!
//! The ack floor is not kept but read off: just below the lowest outstanding message, or where the consumer stands.
//! The other half, who waits for messages and what they were sent, is [`crate::consumer::delivery`].

pub(crate) mod ack_subject;
pub(crate) mod config_check;
pub(crate) mod consuming;
pub(crate) mod delivery;
pub(crate) mod flat_json;
pub(crate) mod pending;
pub(crate) mod priority;
pub(crate) mod pull_request;
pub(crate) mod push;
pub(crate) mod requests;
pub(crate) mod resetting;
pub(crate) mod sources;
pub(crate) mod telling;
pub(crate) mod waking;

use std::collections::{BTreeSet, VecDeque};

use crate::advisory::Advisory;
use crate::command::ConsumerInfo;
use crate::config::{AckPolicy, ConsumerConfig, PriorityPolicy, Retention};
use crate::consumer::ack_subject::AckPlace;
use crate::consumer::delivery::Delivering;
use crate::consumer::pending::Pending;
use crate::consumer::push::Pushing;
use crate::identity::{AgeMillis, ConsumerId, ConsumerSequence, HIGHEST_SEQUENCE, Now, Sequence, StreamId, Timestamp};
use crate::jetstream::ById;
use crate::record::{Reader, put, put_signed};
use crate::store::{Store, StoreError, record_space};
use crate::stored_config;
use crate::stream::{Among, Removal, Stream, limit};

/// A count of pending messages that can only be had by looking through the stream is renewed at most so often.
const RECOUNTED_EVERY_MILLIS: u64 = 1000;
/// A stream of so few messages is counted whenever it is asked for: they lie in memory.
const COUNTED_AT_ONCE: u64 = 64;
/// Messages outstanding where the configuration sets no limit: some 24 MB.
const MOST_OUTSTANDING: u64 = 1 << 20;
/// Entries of the redelivery queue that may be out of date before they are looked for, or as many as are not.
const MOST_USELESS: u64 = 1024;
/// Messages for others that a consumer passes before that is saved.
const PASSED_UNSAVED: u64 = 4096;
/// Version 1 did not know [`Consumer::reached`].
const POSITION_VERSION: u8 = 2;

const CONFIG: u8 = 0;
const POSITION: u8 = 1;
const OUTSTANDING: u8 = 2;
const HELD: u8 = 3;

/// A consumer.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) id: ConsumerId,
    pub(crate) stream: StreamId,
    pub(crate) stream_name: Box<str>,
    pub(crate) config: ConsumerConfig,
    pub(crate) created: Timestamp,
    /// Consumer sequence of the last delivery.
    pub(crate) delivered: u64,
    /// The next sequence of the stream that was never looked at.
    pub(crate) next: Sequence,
    /// What was delivered last for the first time; before that, what lies just below where it begins. Messages that its filters leave out behind it don't
    /// count, however far the store was looked through.
    pub(crate) reached: Sequence,
    pub(crate) last_delivery: Timestamp,
    pub(crate) last_ack: Timestamp,
    pub(crate) pending: Pending,
    /// Its stream's.
    pub(crate) retention: Retention,
    /// Not outstanding any more, and not to leave the stream: given up, or sent and not confirmed. Empty with [`Retention::Limits`].
    pub(crate) held: Pending,
    /// What it is done with, until that is collected. Empty with [`Retention::Limits`].
    pub(crate) finished: Vec<Sequence>,
    /// Outstanding messages that are to be delivered again; entries may be out of date.
    pub(crate) redeliver: VecDeque<Sequence>,
    /// "Last per subject": the messages that are left of the selection made at creation, then the stream's end at that time.
    pub(crate) selection: Option<(VecDeque<Sequence>, Sequence)>,
    /// The position changed since the last commit.
    pub(crate) dirty: bool,
    /// The stream's count of matching messages, less those that are still to come.
    counted: u64,
    /// `counted` is not certain; since when it may be renewed.
    recount: Option<AgeMillis>,
    /// Purges of the stream when it was parked.
    parked_at: u64,
    /// What it was sent below may have matched other filters than those it has now.
    pub(crate) filters_since: Sequence,
    /// Per cent of acknowledgements that are told.
    pub(crate) sampled: u8,
    /// What is to be told, until [`crate::jetstream::JetStream::announce`] does.
    pub(crate) news: Vec<Advisory>,
    pub(crate) delivering: Delivering,
}

impl Consumer {
    /// A consumer at the beginning of its life. [`Consumer::start`] or [`load_all`] says where it stands.
    pub(crate) fn new(
        id: ConsumerId,
        stream: &Stream,
        config: ConsumerConfig,
        created: Timestamp,
        now: Now,
    ) -> Consumer {
        let prefix = format!("$JS.ACK.{}.{}.", stream.config.name, config.name);
        let mut delivering = Delivering::new(prefix.into_bytes(), now.age);
        let push = config.push.as_ref();
        delivering.pushing = push.map(|push| Pushing::new(push, &stream.config.name, &config.name, id));
        let sampled = telling::sampled(&config.sample_frequency);
        let mut consumer = Consumer {
            id,
            stream: stream.id,
            stream_name: stream.config.name.clone(),
            config,
            created,
            delivered: 0,
            next: Sequence(1),
            reached: Sequence(0),
            last_delivery: Timestamp(0),
            last_ack: Timestamp(0),
            pending: Pending::default(),
            retention: stream.config.retention,
            held: Pending::default(),
            finished: Vec::new(),
            redeliver: VecDeque::new(),
            selection: None,
            dirty: true,
            counted: 0,
            recount: Some(AgeMillis(0)),
            parked_at: 0,
            filters_since: Sequence(0),
            sampled,
            news: Vec::new(),
            delivering,
        };
        consumer.plan_pause_end(now);
        consumer
    }

    /// Its configuration was changed.
    pub(crate) fn configured(&mut self, now: Now) {
        let push = self.config.push.as_ref();
        self.delivering.pushing = push.map(|push| Pushing::new(push, &self.stream_name, &self.config.name, self.id));
        self.delivering.not_before = None;
        self.sampled = telling::sampled(&self.config.sample_frequency);
        if self.config.priority.policy != PriorityPolicy::PinnedClient {
            self.delivering.pin = None;
        }
        self.plan_pause_end(now);
    }

    /// When the end of a pause is to be told.
    fn plan_pause_end(&mut self, now: Now) {
        let remaining = self.config.pause_until.map_or(0, |until| until.0.saturating_sub(now.wall.0)).max(0);
        let at = now.age.0.saturating_add(remaining.unsigned_abs().div_ceil(1_000_000));
        self.delivering.pause_ends = (remaining > 0).then_some(AgeMillis(at));
    }

    /// Is anything of it written to the store?
    pub(crate) fn is_stored(&self) -> bool {
        !self.config.memory_storage && !self.stream.is_volatile()
    }

    /// How long a message may be outstanding after so many deliveries, milliseconds; `None`: for ever.
    pub(crate) fn wait(&self, deliveries: u32) -> Option<u64> {
        let backoff = &self.config.backoff_ns;
        let index = (deliveries.max(1) as usize - 1).min(backoff.len().saturating_sub(1));
        let wait = backoff.get(index).copied().unwrap_or(self.config.ack_wait_ns);
        (wait > 0).then(|| wait.div_ceil(1_000_000))
    }

    /// When a message that is delivered now for the n-th time is due again.
    pub(crate) fn due(&self, now: Now, deliveries: u32) -> AgeMillis {
        AgeMillis(self.wait(deliveries).map_or(u64::MAX, |wait| now.age.0.saturating_add(wait)))
    }

    /// How many more messages may be outstanding.
    pub(crate) fn room(&self) -> u64 {
        if self.config.ack_policy == AckPolicy::None {
            return u64::MAX;
        }
        limit(self.config.max_ack_pending).min(MOST_OUTSTANDING).saturating_sub(self.pending.len())
    }

    /// Was it delivered as often as it may be?
    pub(crate) fn is_exhausted(&self, deliveries: u32) -> bool {
        self.config.max_deliver > 0 && i64::from(deliveries) >= self.config.max_deliver
    }

    /// Everything up to here is acknowledged: consumer and stream sequence.
    pub(crate) fn ack_floor(&self) -> (ConsumerSequence, Sequence) {
        match self.pending.first() {
            Some((sequence, delivery)) => (ConsumerSequence(delivery.saturating_sub(1)), before(sequence)),
            None => (ConsumerSequence(self.delivered), self.reached),
        }
    }

    /// Messages that match and were never delivered.
    pub(crate) fn left(&self, stream: &Stream) -> u64 {
        (self.matched(stream).wrapping_sub(self.counted) as i64).max(0) as u64
    }

    /// Nothing that came up to `last` is for this consumer, and that is certain: it stands behind it, and nothing need be read. Where it stands is not
    /// worth a write each time; after a crash it is found again.
    pub(crate) fn passes_to(&mut self, stream: &Stream, last: Sequence) -> bool {
        let is_certain = self.recount.is_none() && self.selection.is_none() && !self.config.filters.is_empty();
        if !is_certain || !self.redeliver.is_empty() || self.left(stream) > 0 {
            return false;
        }
        if self.next <= last {
            let passed = self.next.0 / PASSED_UNSAVED < last.next().0 / PASSED_UNSAVED;
            self.next = last.next();
            self.dirty |= passed;
        }
        !self.dirty
    }

    fn matched(&self, stream: &Stream) -> u64 {
        if self.config.filters.is_empty() {
            stream.appended
        } else {
            stream.audience.tally(self.id).map_or(0, |tally| tally.matched)
        }
    }

    /// One message was taken from what is left.
    pub(crate) fn count_taken(&mut self, messages: u64) {
        self.counted = self.counted.wrapping_add(messages);
    }

    /// What is left has to be counted anew.
    pub(crate) fn recount_soon(&mut self) {
        self.recount.get_or_insert(AgeMillis(0));
    }

    /// What is left has to be counted anew, when it is next looked at and was not counted just now.
    pub(crate) fn recount_later(&mut self) {
        self.recount.get_or_insert(AgeMillis(self.delivering.recounted.0 + RECOUNTED_EVERY_MILLIS));
    }

    /// Counts what is left, if that is uncertain and was not done just now, or is done in no time.
    pub(crate) fn recount(&mut self, store: &mut dyn Store, stream: &mut Stream, now: Now) -> Result<(), StoreError> {
        let Some(at) = self.recount else { return Ok(()) };
        let is_due = at <= now.age || store.state(self.stream).messages <= COUNTED_AT_ONCE;
        if is_due { self.recount_now(store, stream, now) } else { Ok(()) }
    }

    /// Counts what is left, if that is uncertain, for somebody who asked.
    pub(crate) fn recount_now(
        &mut self,
        store: &mut dyn Store,
        stream: &mut Stream,
        now: Now,
    ) -> Result<(), StoreError> {
        if self.recount.is_none() {
            return Ok(());
        }
        if stream.audience.is_parked(self.id) {
            // It is told of what goes from here on.
            self.move_to_first(store.state(self.stream).first, self.parked_at != stream.purges);
            stream.audience.place(self.id, self.lowest());
        }
        let left = match &self.selection {
            Some((sequences, end)) => {
                let from = self.next.max(end.next());
                sequences.len() as u64 + store.count_matching(self.stream, from, &self.config.filters)?
            }
            None => store.count_matching(self.stream, self.next, &self.config.filters)?,
        };
        self.counted = self.matched(stream).wrapping_sub(left);
        stream.audience.counted_off(self.id, HIGHEST_SEQUENCE);
        // Exact from here on, until messages vanish of which nobody knows whether they match. While it begins behind the end, what comes is not for it.
        let is_ahead = self.next > store.state(self.stream).last.next();
        self.recount = is_ahead.then_some(AgeMillis(0));
        self.delivering.recounted = now.age;
        Ok(())
    }

    /// Messages left the stream.
    pub(crate) fn account_removed(&mut self, removal: &Removal) {
        let gone = removal.evicted;
        self.tell_removed(removal);
        if gone.first == gone.last && (self.pending.remove(gone.first) | self.held.remove(gone.first)) {
            // Nobody can be sent it again: its place is free for another one, as in nats-server.
            self.dirty = true;
        }
        if self.next > gone.last && self.selection.is_none() {
            return;
        }
        let single = gone.first == gone.last;
        let counted = match &removal.among {
            _ if self.selection.is_some() => None,
            Among::All if self.config.filters.is_empty() && self.next <= gone.first => Some(gone.messages),
            Among::Subject(subject) if single => {
                let filters = &self.config.filters;
                Some(u64::from(filters.is_empty() || filters.iter().any(|filter| filter.matches(subject))))
            }
            _ => None,
        };
        match counted {
            Some(messages) => self.count_taken(messages),
            None => self.recount_later(),
        }
    }

    /// A message is to be delivered again.
    pub(crate) fn deliver_again(&mut self, sequence: Sequence) {
        self.redeliver.push_back(sequence);
        let useful = self.pending.len().max(MOST_USELESS);
        if self.config.ack_policy != AckPolicy::None && self.redeliver.len() as u64 > 2 * useful {
            // What was put off or acknowledged meanwhile stays behind; while nobody pulls, nobody takes it out.
            let (pending, mut seen) = (&self.pending, BTreeSet::new());
            self.redeliver
                .retain(|sequence| pending.get(*sequence).is_some_and(|entry| entry.queued) && seen.insert(*sequence));
        }
    }

    /// A delivery reached nobody: the message is as good as not sent. `false`: it was sent again since, or is acknowledged.
    pub(crate) fn give_back(&mut self, place: &AckPlace, now: Now) -> bool {
        if self.config.is_source() {
            return self.take_back(place);
        }
        if self.config.ack_policy != AckPolicy::None {
            if !self.pending.give_back(place.sequence, place.deliveries, now.age) {
                return false;
            }
            self.dirty = true;
        }
        self.deliver_again(place.sequence);
        true
    }

    /// It goes on from here, as if it had been sent everything below.
    pub(crate) fn stand_before(&mut self, next: Sequence) {
        (self.next, self.reached) = (next, before(next));
    }

    /// The stream begins later now: what lies below can't be delivered any more. After a purge it stands as if it had been sent that, as in nats-server.
    pub(crate) fn move_to_first(&mut self, first: Sequence, is_purged: bool) {
        self.dirty |= self.next < first || (is_purged && self.reached < before(first));
        self.next = self.next.max(first);
        if is_purged {
            self.reached = self.reached.max(before(first));
        }
        for outstanding in [&mut self.pending, &mut self.held] {
            if outstanding.first().is_some_and(|(sequence, _)| sequence < first) {
                outstanding.remove_up_to(before(first));
                self.dirty = true;
            }
        }
        if let Some((sequences, _)) = &mut self.selection {
            while sequences.front().is_some_and(|sequence| *sequence < first) {
                sequences.pop_front();
            }
        }
    }

    /// A message is acknowledged (or terminated). `false`: it was never delivered, nothing is confirmed.
    pub(crate) fn acknowledge(&mut self, place: &AckPlace, now: Now) -> bool {
        if place.sequence >= self.next {
            return false;
        }
        let changed = match self.config.ack_policy {
            AckPolicy::None => return false,
            AckPolicy::Explicit => self.finish(place.sequence),
            AckPolicy::All | AckPolicy::FlowControl => self.finish_up_to(place.sequence),
        };
        if changed {
            self.last_ack = now.wall;
            self.dirty = true;
        }
        true
    }

    /// As info requests show it.
    pub(crate) fn describe(&self, stream: &Stream, now: Now) -> ConsumerInfo {
        let (floor_delivery, floor) = self.ack_floor();
        ConsumerInfo {
            id: self.id,
            stream: self.stream_name.clone(),
            name: self.config.name.clone(),
            config: self.config.clone(),
            created: self.created,
            delivered: (ConsumerSequence(self.delivered), self.reached, known(self.last_delivery)),
            ack_floor: (floor_delivery, floor, known(self.last_ack)),
            ack_pending: self.pending.len(),
            redelivered: self.pending.redelivered(),
            waiting: if self.config.push.is_some() { 0 } else { self.delivering.waiting.len() as u64 },
            push_bound: self.delivering.is_bound(),
            pending: self.left(stream),
            group: self.group_state(),
            now: now.wall,
            stream_identity: None,
        }
    }

    /// Writes the configuration.
    pub(crate) fn save_config(&self, store: &mut dyn Store) -> Result<(), StoreError> {
        if !self.is_stored() {
            return Ok(());
        }
        let record = stored_config::encode_consumer(&self.config, self.stream, self.created);
        store.put_record(&key(self.id, CONFIG), &record)
    }

    /// Writes what changed since the last time.
    pub(crate) fn save(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        if !std::mem::take(&mut self.dirty) || !self.is_stored() {
            return Ok(());
        }
        let mut record = vec![POSITION_VERSION];
        put(&mut record, self.delivered);
        put(&mut record, self.next.0);
        put_signed(&mut record, self.last_delivery.0);
        put_signed(&mut record, self.last_ack.0);
        put(&mut record, self.selection.as_ref().map_or(0, |(_, end)| end.0));
        put(&mut record, self.reached.0);
        store.put_record(&key(self.id, POSITION), &record)?;
        for (kind, outstanding) in [(OUTSTANDING, &mut self.pending), (HELD, &mut self.held)] {
            let mut key = key(self.id, kind).to_vec();
            outstanding.take_changes(|number, record| {
                key.truncate(6);
                key.extend_from_slice(&number.to_be_bytes());
                match record {
                    Some(record) => store.put_record(&key, record),
                    None => store.delete_record(&key),
                }
            })?;
        }
        Ok(())
    }

    /// Takes over where it stood. Answers the end of its selection of "last per subject", if it had one: it is made again from what is there now.
    pub(crate) fn load_position(&mut self, record: &[u8]) -> Result<Option<Sequence>, StoreError> {
        let version = record.first().copied().unwrap_or_default().clamp(1, POSITION_VERSION);
        let mut from = Reader::new(record, version, "position of a consumer")?;
        self.delivered = from.number()?;
        self.stand_before(Sequence(from.number()?));
        self.last_delivery = Timestamp(from.signed()?);
        self.last_ack = Timestamp(from.signed()?);
        let end = Sequence(from.number()?);
        if version > 1 {
            self.reached = Sequence(from.number()?);
        }
        self.dirty = false;
        Ok((end.0 > 0).then_some(end))
    }

    /// Takes over a chunk of what was outstanding or held.
    fn load_chunk(&mut self, kind: u8, key: &[u8], record: &[u8]) -> Result<(), StoreError> {
        let number = key.get(6..14).and_then(|number| number.try_into().ok()).map_or(0, u64::from_be_bytes);
        let outstanding = if kind == HELD { &mut self.held } else { &mut self.pending };
        outstanding.load(number, record)
    }

    /// Chooses the last message of each matching subject up to `end`, from where the consumer stands.
    pub(crate) fn select_last_per_subject(&mut self, store: &mut dyn Store, end: Sequence) {
        let mut sequences = Vec::new();
        let all = subject::Filter::parse(">").into_iter().collect::<Vec<_>>();
        let filters = if self.config.filters.is_empty() { &all } else { &self.config.filters };
        for filter in filters {
            store.for_each_subject(self.stream, filter, &mut |_, state| {
                if state.last >= self.next && state.last <= end {
                    sequences.push(state.last);
                }
            });
        }
        sequences.sort_unstable();
        sequences.dedup();
        self.selection = Some((sequences.into(), end));
    }
}

/// Where the configurations of all consumers are.
pub(crate) const CONFIGS: [u8; 2] = [record_space::CONSUMER, CONFIG];

/// What all records of a consumer begin with.
pub(crate) fn prefixes(id: ConsumerId) -> [[u8; 6]; 4] {
    [CONFIG, POSITION, OUTSTANDING, HELD].map(|kind| key(id, kind))
}

fn key(id: ConsumerId, kind: u8) -> [u8; 6] {
    let [a, b, c, d] = id.0.to_be_bytes();
    [record_space::CONSUMER, kind, a, b, c, d]
}

/// The consumer that a record with its configuration is about; `None` for other records.
pub(crate) fn config_key(key: &[u8]) -> Option<ConsumerId> {
    match key {
        [record_space::CONSUMER, CONFIG, a, b, c, d] => Some(ConsumerId(u32::from_be_bytes([*a, *b, *c, *d]))),
        _ => None,
    }
}

/// Reads where all consumers stood. One pass for each kind of record, however many consumers there are: asking for each of them is what a start
/// with thousands took.
pub(crate) fn load_all(
    store: &mut dyn Store,
    consumers: &mut ById<ConsumerId, Consumer>,
    known: &[ConsumerId],
) -> Result<(), StoreError> {
    let (mut outcome, mut selections) = (Ok(()), Vec::new());
    for kind in [POSITION, OUTSTANDING, HELD] {
        let prefix = [record_space::CONSUMER, kind];
        store.scan_records(&prefix, &prefix, &mut |key, record| {
            let Some(id) = key.get(2..6).and_then(|id| id.try_into().ok()).map(u32::from_be_bytes) else { return true };
            // What belongs to nobody is not looked at.
            let Some(consumer) = consumers.get_mut(&ConsumerId(id)) else { return true };
            outcome = match kind {
                // Without a position it begins anew, and knows of nothing outstanding.
                OUTSTANDING | HELD if consumer.dirty => Ok(()),
                POSITION => {
                    consumer.load_position(record).map(|end| selections.extend(end.map(|end| (consumer.id, end))))
                }
                _ => consumer.load_chunk(kind, key, record),
            };
            outcome.is_ok()
        })?;
        std::mem::replace(&mut outcome, Ok(()))?;
    }
    for (id, end) in selections {
        if let Some(consumer) = consumers.get_mut(&id) {
            consumer.select_last_per_subject(store, end);
        }
    }
    for id in known {
        if let Some(consumer) = consumers.get_mut(id) {
            consumer.delivering.was_stored = true;
        }
    }
    Ok(())
}

pub(crate) fn before(sequence: Sequence) -> Sequence {
    Sequence(sequence.0.saturating_sub(1))
}

fn known(time: Timestamp) -> Option<Timestamp> {
    (time.0 != 0).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::{Consumer, MOST_USELESS};
    use crate::config::{ConsumerConfig, StreamConfig};
    use crate::consumer::ack_subject::AckPlace;
    use crate::identity::{AgeMillis, ConsumerId, Now, Sequence, StreamId, Timestamp};
    use crate::record::{put, put_signed};
    use crate::stream::Stream;

    /// A client that says by turns "not now" and "still working" while nobody pulls.
    #[test]
    fn a_redelivery_queue_that_nobody_empties_stays_bounded() {
        let stream = Stream::new(StreamId::FIRST, StreamConfig::named("S"), Timestamp(0));
        let config = ConsumerConfig::named("c");
        let mut consumer = Consumer::new(ConsumerId(1), &stream, config, Timestamp(0), Now::default());
        consumer.pending.insert(Sequence(1), 1, AgeMillis(u64::MAX));
        for _ in 0..10 * MOST_USELESS {
            assert!(consumer.pending.queue(Sequence(1), AgeMillis(0)));
            consumer.deliver_again(Sequence(1));
            consumer.pending.postpone(Sequence(1), AgeMillis(u64::MAX));
        }
        assert!(consumer.redeliver.len() as u64 <= 2 * MOST_USELESS, "{} entries", consumer.redeliver.len());
        let place = AckPlace { deliveries: 1, sequence: Sequence(1), consumer_sequence: 1, time: 0, pending: 0 };
        assert!(consumer.give_back(&place, Now::default()), "what is queued is still found");
        assert_eq!(consumer.redeliver.back(), Some(&Sequence(1)));
    }

    /// As releases before this one wrote it.
    #[test]
    fn a_position_of_the_first_version_is_read() {
        let stream = Stream::new(StreamId::FIRST, StreamConfig::named("S"), Timestamp(0));
        let config = ConsumerConfig::named("c");
        let mut consumer = Consumer::new(ConsumerId(1), &stream, config, Timestamp(0), Now::default());
        let mut record = vec![1];
        put(&mut record, 7);
        put(&mut record, 12);
        put_signed(&mut record, 1_000);
        put_signed(&mut record, -1);
        put(&mut record, 0);
        assert_eq!(consumer.load_position(&record).unwrap(), None);
        let stands = (consumer.delivered, consumer.next, consumer.reached, consumer.last_delivery, consumer.last_ack);
        assert_eq!(stands, (7, Sequence(12), Sequence(11), Timestamp(1_000), Timestamp(-1)));
        record.truncate(3);
        assert!(consumer.load_position(&record).is_err());
    }
}
