//! What a roll-up or a lowered limit takes out of a stream when it is much: in steps, one a turn, with everybody else's commands and commits in between.
//!
//! The publish or the update is acknowledged at once, so the rest is stored with it and is done also after a crash. Meanwhile what is
//! to go can still be read. A roll-up of a whole stream is done by the store at once, where it may come before the new message.

use subject::Filter;

use crate::forwarded::ledger::Cause;
use crate::identity::{Sequence, StreamId};
use crate::jetstream::{Context, JetStream};
use crate::record::{Reader, put};
use crate::store::{Evicted, FrontLimits, Store, StoreError, record_space};
use crate::stream::{Among, Removal, limit};

/// Messages that go in a turn: some milliseconds.
pub(crate) const STEP: u64 = 1024;
/// What the keys of the records begin with; the stream's id and the subject follow.
const TRIMS: [u8; 3] = [record_space::SINGLE, b't', b'm'];
const VERSION: u8 = 1;

/// What is to go yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    /// Messages of a subject below the one that rolled it up.
    RolledUp {
        /// The subject; `>`: all of them.
        subject: Box<[u8]>,
        /// What lies from here on stays.
        below: Sequence,
    },
    /// What the limit of messages of one subject does not allow. The stream is gone through from its begin, so that the first message met of a subject is its
    /// oldest. What lies behind stays: whoever publishes one too many on a subject meanwhile trims that subject, unless it is over the limit anyway.
    PerSubject {
        /// Where the next step begins.
        next: Sequence,
    },
}

impl Excess {
    /// Removes a step of it; `true`: that was all.
    pub(crate) fn step(
        &mut self,
        store: &mut dyn Store,
        id: StreamId,
        keep: u64,
        removed: &mut Vec<Removal>,
    ) -> Result<bool, StoreError> {
        match self {
            Excess::RolledUp { subject, below } if **subject == *b">" => {
                let front = FrontLimits {
                    max_messages: u64::MAX,
                    max_bytes: u64::MAX,
                    stored_before: None,
                    below: *below,
                    limit: STEP,
                };
                let evicted = store.evict(id, &front)?;
                note(removed, evicted, subject, Cause::Purge);
                Ok(evicted.messages < STEP)
            }
            Excess::RolledUp { subject, below } => {
                let Ok(filter) = Filter::from_bytes(subject) else { return Ok(true) };
                let (evicted, more) = store.purge(id, &filter, Some(*below), 0, STEP)?;
                note(removed, evicted, subject, Cause::Purge);
                Ok(!more)
            }
            Excess::PerSubject { .. } if keep == u64::MAX => Ok(true),
            Excess::PerSubject { next } => {
                let (evicted, more) = store.trim_subjects(id, *next, keep, STEP)?;
                if evicted.messages > 0 {
                    removed.push(Removal { evicted, among: Among::Some, cause: Cause::Limit });
                }
                *next = more.unwrap_or(*next);
                Ok(more.is_none())
            }
        }
    }

    /// Where it is kept until it is done. Of a lowered limit only that it has to be looked for again.
    fn key(&self, id: StreamId) -> Vec<u8> {
        let mut key = [&TRIMS[..], &id.0.to_be_bytes()].concat();
        if let Excess::RolledUp { subject, .. } = self {
            key.extend_from_slice(subject);
        }
        key
    }

    pub(crate) fn save(&self, store: &mut dyn Store, id: StreamId) -> Result<(), StoreError> {
        if id.is_volatile() {
            return Ok(());
        }
        let mut record = vec![VERSION];
        put(&mut record, if let Excess::RolledUp { below, .. } = self { below.0 } else { 0 });
        store.put_record(&self.key(id), &record)
    }
}

fn note(removed: &mut Vec<Removal>, evicted: Evicted, subject: &[u8], cause: Cause) {
    if evicted.messages > 0 {
        let among = if subject == b">" { Among::All } else { Among::Subject(subject.into()) };
        removed.push(Removal { evicted, among, cause });
    }
}

impl JetStream {
    /// A stream's limit of messages of one subject was lowered.
    pub(crate) fn trim_all_subjects(&mut self, turn: &mut Context<'_>, id: StreamId) -> Result<(), StoreError> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let mut excess = Excess::PerSubject { next: Sequence(0) };
        let keep = limit(stream.config.max_messages_per_subject);
        let done = excess.step(turn.store, id, keep, &mut self.removed)?;
        stream.is_trimmed = !done;
        if !done {
            excess.save(turn.store, id)?;
            self.trim_later(id, excess);
        }
        self.account_removed(turn, id)
    }

    /// The rest is for the turns to come; its record is written.
    pub(crate) fn trim_later(&mut self, id: StreamId, excess: Excess) {
        let is_same = |(other, trim): &(StreamId, Excess)| *other == id && trim.key(id) == excess.key(id);
        match self.trims.iter_mut().find(|trim| is_same(trim)) {
            Some((_, trim)) => *trim = excess,
            None => self.trims.push_back((id, excess)),
        }
        self.again = true;
    }

    /// A step of the first of them.
    pub(crate) fn continue_trim(&mut self, turn: &mut Context<'_>) -> Result<(), StoreError> {
        let Some((id, mut excess)) = self.trims.pop_front() else { return Ok(()) };
        let stream = self.streams.get(&id).filter(|stream| !stream.config.sealed);
        let done = match stream.map(|stream| limit(stream.config.max_messages_per_subject)) {
            Some(keep) => excess.step(turn.store, id, keep, &mut self.removed)?,
            None => true,
        };
        // The step is durable with this turn, so that no transaction grows long.
        self.sync |= done || !self.removed.is_empty();
        self.account_removed(turn, id)?;
        self.touch(id);
        if !done {
            self.trims.push_back((id, excess));
        } else {
            self.end_trim(turn.store, id, &excess)?;
        }
        self.again |= !self.trims.is_empty();
        Ok(())
    }

    fn end_trim(&mut self, store: &mut dyn Store, id: StreamId, done: &Excess) -> Result<(), StoreError> {
        if let (Excess::PerSubject { .. }, Some(stream)) = (done, self.streams.get_mut(&id)) {
            stream.is_trimmed = false;
        }
        if id.is_volatile() { Ok(()) } else { store.delete_record(&done.key(id)) }
    }

    /// What was not done when the store was closed.
    pub(crate) fn load_trims(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        let mut found = Vec::new();
        store.scan_records(&TRIMS, &TRIMS, &mut |key, record| {
            found.extend(decode(key, record));
            true
        })?;
        self.again |= !found.is_empty();
        for (id, excess) in &found {
            if let (Excess::PerSubject { .. }, Some(stream)) = (excess, self.streams.get_mut(id)) {
                stream.is_trimmed = true;
            }
        }
        self.trims = found.into();
        Ok(())
    }
}

fn decode(key: &[u8], record: &[u8]) -> Option<(StreamId, Excess)> {
    let id = StreamId(u32::from_be_bytes(key.get(TRIMS.len()..TRIMS.len() + 4)?.try_into().ok()?));
    let below = Sequence(Reader::new(record, VERSION, "trimming").ok()?.number().ok()?);
    Some(match key.get(TRIMS.len() + 4..)? {
        b"" => (id, Excess::PerSubject { next: Sequence(0) }),
        subject => (id, Excess::RolledUp { subject: subject.into(), below }),
    })
}
