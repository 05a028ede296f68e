//! Work queues and interest streams: a message leaves when every consumer that needs it is done with it.
//!
//! A consumer needs a message that matches its filters and that it has still to deliver, that is outstanding, or that it *holds*: delivered as often
//! as may be and never acknowledged, or sent to a hub that has not confirmed it. What a consumer is done with is collected while acknowledgements
//! are applied, looked at together, and removed in the transaction that also stores the acknowledgements: a crash leaves both or neither.
//!
//! Not here: interest that is lost without an acknowledgement ([`crate::stream::sweep`]), which consumers a work queue allows ([`crate::stream::retention_check`]), and
//! limits, which hold beside all this. Of a stream that is forwarded nothing goes that the hub has not confirmed ([`crate::forwarded::owed`]).

use crate::config::{AckPolicy, ConsumerConfig, Retention};
use crate::consumer::Consumer;
use crate::identity::{AgeMillis, ConsumerId, Sequence, StreamId};
use crate::jetstream::{Context, JetStream};
use crate::store::{Store, StoreError, undamaged};
use crate::stream::Stream;
use crate::stream::sweep::Sweep;

/// More than so many at once are left to a sweep.
const MOST_AT_ONCE: usize = 4096;
/// What is held is never due.
const NEVER: AgeMillis = AgeMillis(u64::MAX);

/// A message that a consumer is done with.
pub(crate) type Released = (StreamId, Sequence, ConsumerId);

impl Consumer {
    /// It is done with a message; `false` when that was neither outstanding nor held.
    pub(crate) fn finish(&mut self, sequence: Sequence) -> bool {
        let was_there = self.pending.remove(sequence) | self.held.remove(sequence);
        if was_there && self.retention != Retention::Limits {
            self.finished.push(sequence);
        }
        was_there
    }

    /// It is done with everything up to a message; `false` when there was nothing.
    pub(crate) fn finish_up_to(&mut self, sequence: Sequence) -> bool {
        if self.retention == Retention::Limits {
            return self.pending.remove_up_to(sequence) > 0;
        }
        let before = self.finished.len();
        for outstanding in [&mut self.pending, &mut self.held] {
            while let Some((first, _)) = outstanding.first().filter(|(first, _)| *first <= sequence) {
                outstanding.remove(first);
                self.finished.push(first);
            }
        }
        self.finished.len() > before
    }

    /// A message was delivered as often as it may be: nobody gets it any more, and it stays in its stream until it is acknowledged after all.
    pub(crate) fn give_up(&mut self, sequence: Sequence) {
        let Some(entry) = self.pending.get(sequence) else { return };
        self.pending.remove(sequence);
        self.tell_exceeded(sequence, entry.received());
        if self.retention != Retention::Limits {
            self.held.insert(sequence, entry.first_delivery, NEVER);
        }
        self.dirty = true;
    }

    /// A message was sent that nobody will acknowledge.
    pub(crate) fn sent_for_good(&mut self, sequence: Sequence) {
        match self.retention {
            Retention::Limits => {}
            _ if self.confirms_by_flow() => self.held.insert(sequence, self.delivered, NEVER),
            _ => self.finished.push(sequence),
        }
    }

    /// A hub that sources this stream, and acknowledges nothing by itself: its answers to flow control say what it has.
    fn confirms_by_flow(&self) -> bool {
        let flow_control = self.config.push.as_ref().is_some_and(|push| push.flow_control);
        self.config.ack_policy == AckPolicy::None && flow_control && self.config.is_source()
    }

    /// The receiver has everything up to a message: what it said, else the last one sent before it was asked.
    pub(crate) fn confirmed(&mut self, sequence: Sequence) {
        if self.confirms_by_flow() && sequence < self.next && self.finish_up_to(sequence) {
            self.dirty = true;
        }
    }

    /// So many messages wait for an answer to flow control that it should be asked for, whatever bytes they are.
    pub(crate) fn wants_confirmation(&self) -> bool {
        let most = u64::try_from(self.config.max_ack_pending).unwrap_or(0).clamp(1, 1024);
        match self.config.ack_policy {
            AckPolicy::FlowControl => self.pending.len() >= most / 4,
            AckPolicy::None => self.held.len() >= 256,
            AckPolicy::All | AckPolicy::Explicit => false,
        }
    }

    /// Some messages wait for an answer to flow control.
    pub(crate) fn is_unconfirmed(&self) -> bool {
        match self.config.ack_policy {
            AckPolicy::FlowControl => self.pending.len() > 0,
            AckPolicy::None => self.held.len() > 0,
            AckPolicy::All | AckPolicy::Explicit => false,
        }
    }

    /// A source asks again: it gets what it has not confirmed, counted from 1.
    pub(crate) fn begin_anew(&mut self) {
        let (_, floor) = self.ack_floor();
        self.stand_before(floor.next());
        self.pending.remove_up_to(Sequence(u64::MAX));
        self.redeliver.clear();
        self.delivered = 0;
        self.dirty = true;
        self.recount_soon();
    }

    /// It is not done with the message, if that matches its filters.
    pub(crate) fn awaits(&self, sequence: Sequence) -> bool {
        sequence >= self.next || self.pending.get(sequence).is_some() || self.held.get(sequence).is_some()
    }

    pub(crate) fn matches(&self, subject: &[u8]) -> bool {
        let filters = &self.config.filters;
        filters.is_empty() || filters.iter().any(|filter| filter.matches(subject))
    }
}

impl Stream {
    /// An interest stream without a consumer for this subject: the message need not be stored, unless it is to be forwarded.
    pub(crate) fn has_no_interest(&self, subject: &[u8]) -> bool {
        !self.is_forwarded && self.is_unwanted(subject)
    }

    /// An interest stream without a consumer for this subject.
    pub(crate) fn is_unwanted(&self, subject: &[u8]) -> bool {
        if self.config.retention != Retention::Interest {
            return false;
        }
        let unfiltered = self.consumers.len() > self.audience.filtered_count();
        !unfiltered && !self.audience.has_match(subject)
    }
}

impl JetStream {
    /// Collects what a consumer is done with. It leaves its stream in this turn, unless another consumer needs it.
    pub(crate) fn collect_finished(&mut self, store: &mut dyn Store, id: ConsumerId) -> Result<(), StoreError> {
        let Some(consumer) = self.consumers.get_mut(&id).filter(|consumer| !consumer.finished.is_empty()) else {
            return Ok(());
        };
        let stream = consumer.stream;
        if consumer.finished.len() <= MOST_AT_ONCE {
            self.released.extend(consumer.finished.drain(..).map(|sequence| (stream, sequence, id)));
            return Ok(());
        }
        let bounds = (consumer.finished.iter().min().copied(), consumer.finished.iter().max().copied());
        consumer.finished = Vec::new();
        let (Some(next), Some(last)) = bounds else { return Ok(()) };
        self.sweep_later(store, stream, Sweep { next, last, only_matched: true })
    }

    /// Removes what was collected and nobody needs.
    pub(crate) fn remove_released(&mut self, turn: &mut Context<'_>) -> Result<(), StoreError> {
        if self.released.is_empty() {
            return Ok(());
        }
        let mut released = std::mem::take(&mut self.released);
        released.sort_unstable();
        // Whoever is done with it matches it: who else needs it is the same for all of them.
        released.dedup_by_key(|(stream, sequence, _)| (*stream, *sequence));
        let mut run: Option<(StreamId, Sequence, Sequence)> = None;
        for (stream, sequence, by) in released.drain(..) {
            if self.is_needed(turn.store, stream, sequence, by)? || self.owe(turn, stream, sequence) {
                continue;
            }
            match &mut run {
                Some((of, _, last)) if *of == stream && last.next() == sequence => *last = sequence,
                _ => {
                    let before = run.replace((stream, sequence, sequence));
                    self.remove_run(turn, before)?;
                }
            }
        }
        self.released = released;
        self.remove_run(turn, run)
    }

    pub(crate) fn remove_run(
        &mut self,
        turn: &mut Context<'_>,
        run: Option<(StreamId, Sequence, Sequence)>,
    ) -> Result<(), StoreError> {
        let Some((id, first, last)) = run else { return Ok(()) };
        turn.store.remove_run(id, first, last)?;
        self.begins_later(turn, id);
        self.lazy_since.get_or_insert(turn.now.age);
        self.count_bytes(turn.store, id);
        Ok(())
    }

    /// Does any consumer need the message, after one (`by`) is done with it?
    fn is_needed(
        &mut self,
        store: &mut dyn Store,
        id: StreamId,
        sequence: Sequence,
        by: ConsumerId,
    ) -> Result<bool, StoreError> {
        let Some(stream) = self.streams.get(&id) else { return Ok(true) };
        if stream.config.retention == Retention::Limits || stream.config.sealed {
            return Ok(true);
        }
        if stream.audience.is_crowd() {
            self.buffer.clear();
            let is_there = undamaged(store, id, sequence, &mut self.buffer)?;
            let buffer = std::mem::take(&mut self.buffer);
            // What can't be read may be what an unfiltered one waits for.
            let subject = buffer.get(0).filter(|_| is_there).map_or(&b""[..], |message| message.subject);
            let needed = self.who_needs(id, sequence, subject).1;
            self.buffer = buffer;
            return Ok(needed);
        }
        let done = self.consumers.get(&by).filter(|done| sequence >= done.filters_since).map(|done| &done.config);
        let mut is_read = false;
        for other in stream.consumers.values().filter_map(|other| self.consumers.get(other)) {
            if !other.awaits(sequence) || done.is_some_and(|done| never_share(done, &other.config)) {
                continue;
            }
            if other.config.filters.is_empty() {
                return Ok(true);
            }
            if !is_read {
                self.buffer.clear();
                if !undamaged(store, id, sequence, &mut self.buffer)? {
                    return Ok(false);
                }
                is_read = true;
            }
            if self.buffer.get(0).is_some_and(|message| other.matches(message.subject)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Is there a consumer for such a message, and one that needs this one?
    pub(crate) fn who_needs(&mut self, id: StreamId, sequence: Sequence, subject: &[u8]) -> (bool, bool) {
        let (consumers, streams) = (&self.consumers, &mut self.streams);
        let Some(stream) = streams.get_mut(&id) else { return (false, false) };
        let awaits = |consumer: &ConsumerId| consumers.get(consumer).is_some_and(|one| one.awaits(sequence));
        if stream.audience.is_crowd() {
            return stream.audience.who_needs(subject, |consumer| awaits(&consumer));
        }
        let (mut matched, mut needed) = (false, false);
        for (id, consumer) in stream.consumers.values().filter_map(|id| Some((id, consumers.get(id)?))) {
            let matches = consumer.matches(subject);
            matched |= matches;
            needed |= matches && awaits(id);
        }
        (matched, needed)
    }

    /// The total of all streams follows what one of them holds now.
    pub(crate) fn count_bytes(&mut self, store: &dyn Store, id: StreamId) {
        let bytes = store.state(id).bytes;
        if let Some(stream) = self.streams.get_mut(&id) {
            let total = if id.is_volatile() { &mut self.memory_bytes } else { &mut self.stored_bytes };
            *total = *total + bytes - stream.counted_bytes;
            stream.counted_bytes = bytes;
        }
    }
}

/// No message matches both.
fn never_share(one: &ConsumerConfig, two: &ConsumerConfig) -> bool {
    let (one, two) = (&one.filters, &two.filters);
    !one.is_empty() && !two.is_empty() && !one.iter().any(|filter| two.iter().any(|other| other.overlaps(filter)))
}
