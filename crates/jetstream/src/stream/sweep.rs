//! Sweeps: who loses interest in much at once (a consumer is deleted or changed, or done with thousands of messages; a stream begins to care for
//! interest) leaves it to a stretch of the stream that is looked through in small steps, one a turn. A sweep is stored until it is done, and begins
//! anew after a restart: what it looks at is decided by what consumers need then.

use std::collections::BTreeMap;

use crate::config::Retention;
use crate::consumer::Consumer;
use crate::identity::{Sequence, StreamId};
use crate::jetstream::{Context, JetStream};
use crate::record::{Reader, put};
use crate::store::{MessageBuffer, Read, Store, StoreError, record_space};
use crate::stream::Stream;

/// Messages and bytes looked at in one step.
const SWEPT_MESSAGES: usize = 512;
const SWEPT_BYTES: usize = 256 << 10;
/// What the keys of sweeps begin with; the stream's id follows.
const SWEEPS: [u8; 3] = [record_space::SINGLE, b's', b'w'];
const VERSION: u8 = 1;

/// A stretch of a stream in which messages may have lost interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sweep {
    pub(crate) next: Sequence,
    pub(crate) last: Sequence,
    /// What matches no consumer at all stays.
    pub(crate) only_matched: bool,
}

impl JetStream {
    /// A consumer of a stream went away, or has other filters now: what lies from `floor` on may have lost interest.
    pub(crate) fn interest_lost(
        &mut self,
        turn: &mut Context<'_>,
        id: StreamId,
        floor: Sequence,
    ) -> Result<(), StoreError> {
        let Some(stream) = self.streams.get(&id) else { return Ok(()) };
        let is_going = !self.stream_names.contains_key(&stream.config.name);
        if stream.config.retention != Retention::Interest || stream.config.sealed || is_going {
            return Ok(());
        }
        if stream.consumers.is_empty() && !stream.is_forwarded {
            turn.store.clear(id)?;
            self.lazy_since.get_or_insert(turn.now.age);
            self.count_bytes(turn.store, id);
            return self.end_sweep(turn.store, id);
        }
        let (nobody, state) = (stream.consumers.is_empty(), turn.store.state(id));
        let next = if nobody { state.first } else { floor };
        self.sweep_later(turn.store, id, Sweep { next, last: state.last, only_matched: false })
    }

    /// A stream begins to care for interest, and what its consumers are done with goes; or it does not care any more.
    pub(crate) fn retention_changed(&mut self, turn: &mut Context<'_>, id: StreamId) -> Result<(), StoreError> {
        let Some(stream) = self.streams.get(&id) else { return Ok(()) };
        let retention = stream.config.retention;
        for consumer in stream.consumers.values() {
            let Some(consumer) = self.consumers.get_mut(consumer) else { continue };
            consumer.retention = retention;
            if retention == Retention::Limits {
                consumer.dirty |= consumer.held.remove_up_to(Sequence(u64::MAX)) > 0;
            }
        }
        let consumers: Vec<_> = stream.consumers.values().copied().collect();
        for consumer in &consumers {
            self.list_dirty(*consumer, turn.now);
        }
        let state = turn.store.state(id);
        if retention == Retention::Limits {
            self.forget_owed(turn, id);
        }
        match retention {
            Retention::Interest => {
                // What no consumer matches stays until somebody changes something; where there is none, nothing does.
                let only_matched = !consumers.is_empty();
                self.sweep_later(turn.store, id, Sweep { next: state.first, last: state.last, only_matched })?;
                // The answer shows what a first step has made of it.
                self.sweep(turn)
            }
            Retention::Limits | Retention::WorkQueue => self.end_sweep(turn.store, id),
        }
    }

    /// Consumers that are not stored are gone after a restart: what only they need is looked for then.
    pub(crate) fn expect_restart(&mut self, store: &mut dyn Store, id: StreamId) -> Result<(), StoreError> {
        let Some(stream) = self.streams.get(&id) else { return Ok(()) };
        let mut consumers = stream.consumers.values().filter_map(|consumer| self.consumers.get(consumer));
        if stream.config.retention != Retention::Interest || consumers.all(Consumer::is_stored) {
            return Ok(());
        }
        let whole = Sweep { next: Sequence(0), last: Sequence(u64::MAX), only_matched: false };
        save_sweep(store, id, &whole)
    }

    pub(crate) fn sweep_later(&mut self, store: &mut dyn Store, id: StreamId, sweep: Sweep) -> Result<(), StoreError> {
        let both = self.sweeps.get(&id).map_or(sweep, |other| Sweep {
            next: sweep.next.min(other.next),
            last: sweep.last.max(other.last),
            only_matched: sweep.only_matched && other.only_matched,
        });
        self.sweeps.insert(id, both);
        self.again = true;
        save_sweep(store, id, &both)
    }

    pub(crate) fn end_sweep(&mut self, store: &mut dyn Store, id: StreamId) -> Result<(), StoreError> {
        self.sweeps.remove(&id);
        store.delete_record(&sweep_key(id))
    }

    /// One step of one sweep.
    pub(crate) fn sweep(&mut self, turn: &mut Context<'_>) -> Result<(), StoreError> {
        let Some((id, mut sweep)) = self.sweeps.first_key_value().map(|(id, sweep)| (*id, *sweep)) else {
            return Ok(());
        };
        self.lazy_since.get_or_insert(turn.now.age);
        let releases = |stream: &&Stream| stream.config.retention != Retention::Limits && !stream.config.sealed;
        if self.streams.get(&id).filter(releases).is_none() {
            return self.end_sweep(turn.store, id);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let read = turn.store.read(id, sweep.next, &[], SWEPT_MESSAGES, SWEPT_BYTES, &mut buffer);
        if let Ok(Read::Ready { .. }) = read {
            self.release_unneeded(turn, id, &sweep, &buffer)?;
        }
        self.buffer = buffer;
        // The store wakes the thread when it has fetched them.
        let Read::Ready { next } = read? else { return Ok(()) };
        if next <= sweep.next || next > sweep.last.min(turn.store.state(id).last) {
            self.end_sweep(turn.store, id)?;
            self.expect_restart(turn.store, id)?;
        } else {
            sweep.next = next;
            self.sweeps.insert(id, sweep);
        }
        self.again |= !self.sweeps.is_empty();
        Ok(())
    }

    /// Removes those of the messages read that no consumer needs.
    fn release_unneeded(
        &mut self,
        turn: &mut Context<'_>,
        id: StreamId,
        sweep: &Sweep,
        messages: &MessageBuffer,
    ) -> Result<(), StoreError> {
        let mut run: Option<(StreamId, Sequence, Sequence)> = None;
        for message in messages.iter().take_while(|message| message.sequence <= sweep.last) {
            let (matched, needed) = self.who_needs(id, message.sequence, message.subject);
            if needed || (sweep.only_matched && !matched) || self.owe(turn, id, message.sequence) {
                continue;
            }
            match &mut run {
                Some((.., last)) if last.next() == message.sequence => *last = message.sequence,
                _ => {
                    let before = run.replace((id, message.sequence, message.sequence));
                    self.remove_run(turn, before)?;
                }
            }
        }
        self.remove_run(turn, run)
    }

    /// Sweeps that were not done when the store was closed.
    pub(crate) fn load_sweeps(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        let mut found = BTreeMap::new();
        store.scan_records(&SWEEPS, &SWEEPS, &mut |key, record| {
            let id = key.get(SWEEPS.len()..).and_then(|id| <[u8; 4]>::try_from(id).ok()).map(u32::from_be_bytes);
            found.extend(id.zip(decode_sweep(record).ok()).map(|(id, sweep)| (StreamId(id), sweep)));
            true
        })?;
        self.again |= !found.is_empty();
        self.sweeps = found;
        Ok(())
    }
}

fn sweep_key(id: StreamId) -> [u8; 7] {
    let ([a, b, c], [d, e, f, g]) = (SWEEPS, id.0.to_be_bytes());
    [a, b, c, d, e, f, g]
}

fn save_sweep(store: &mut dyn Store, id: StreamId, sweep: &Sweep) -> Result<(), StoreError> {
    if id.is_volatile() {
        return Ok(());
    }
    let mut record = vec![VERSION];
    put(&mut record, sweep.next.0);
    put(&mut record, sweep.last.0);
    record.push(u8::from(sweep.only_matched));
    store.put_record(&sweep_key(id), &record)
}

fn decode_sweep(record: &[u8]) -> Result<Sweep, StoreError> {
    let mut from = Reader::new(record, VERSION, "sweep of a stream")?;
    Ok(Sweep { next: Sequence(from.number()?), last: Sequence(from.number()?), only_matched: from.flag()? })
}
