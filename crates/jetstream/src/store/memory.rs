//! The reference implementation of [`Store`]: ordered maps, nothing clever. Tests and the simulator use it, and it is the model that
//! `sqlite-store` is compared with.
//!
//! It can lose everything since the last commit ([`MemoryStore::crash`]), run full and fail at a commit, so that what stands on it can be tested.

use std::collections::{BTreeMap, BTreeSet};

use subject::Filter;

use crate::identity::{AgeMillis, Now, Sequence, StreamId, Timestamp};
use crate::store::{
    Evicted, FrontLimits, LoadedStream, MessageBuffer, NewMessage, Read, RecentId, Space, Store, StoreError,
    StoredMessage, StreamState, SubjectState, message_size_in,
};

/// Messages looked at by one bulk read, so that a filter that matches nothing doesn't make a call long.
const LOOKED_AT_PER_READ: usize = 4096;

/// A message as it is kept.
#[derive(Clone, Debug)]
struct Row {
    time: Timestamp,
    age: AgeMillis,
    subject: Box<[u8]>,
    headers: Box<[u8]>,
    payload: Box<[u8]>,
    message_id: Option<u128>,
}

impl Row {
    fn size(&self, stream: StreamId) -> u64 {
        message_size_in(stream, self.subject.len(), self.headers.len(), self.payload.len())
    }

    fn as_message(&self, sequence: u64) -> StoredMessage<'_> {
        StoredMessage {
            sequence: Sequence(sequence),
            time: self.time,
            age: self.age,
            subject: &self.subject,
            headers: &self.headers,
            payload: &self.payload,
        }
    }
}

/// One stream.
#[derive(Clone, Debug, Default)]
struct Stream {
    id: StreamId,
    description: Vec<u8>,
    rows: BTreeMap<u64, Row>,
    subjects: BTreeMap<Box<[u8]>, BTreeSet<u64>>,
    bytes: u64,
    last: u64,
    last_time: Timestamp,
}

impl Stream {
    fn state(&self) -> StreamState {
        let first = self.rows.first_key_value();
        StreamState {
            messages: self.rows.len() as u64,
            bytes: self.bytes,
            first: Sequence(first.map_or(self.last + 1, |(sequence, _)| *sequence)),
            first_time: first.map_or(Timestamp(0), |(_, row)| row.time),
            last: Sequence(self.last),
            last_time: self.last_time,
            subjects: self.subjects.len() as u64,
        }
    }

    /// Takes a message out; adds what it was to `evicted`.
    fn take(&mut self, sequence: u64, evicted: &mut Evicted) -> bool {
        let Some(row) = self.rows.remove(&sequence) else { return false };
        let size = row.size(self.id);
        self.bytes -= size;
        if let Some(sequences) = self.subjects.get_mut(&row.subject) {
            sequences.remove(&sequence);
            if sequences.is_empty() {
                self.subjects.remove(&row.subject);
            }
        }
        if evicted.messages == 0 {
            evicted.first = Sequence(sequence);
        }
        evicted.messages += 1;
        evicted.bytes += size;
        evicted.last = Sequence(sequence);
        true
    }
}

/// Everything that a commit makes durable.
#[derive(Clone, Debug, Default)]
struct Contents {
    streams: BTreeMap<StreamId, Stream>,
    records: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    live: Contents,
    /// What a crash leaves; kept only when asked for, it is a copy of everything.
    committed: Option<Box<Contents>>,
    dirty: bool,
    poisoned: bool,
    fail_at_commit: bool,
    /// Bytes of messages that fit; `None`: all.
    capacity: Option<u64>,
    commits: u64,
}

impl MemoryStore {
    /// An empty store that can [`crash`](MemoryStore::crash): each commit copies everything.
    #[must_use]
    pub fn with_crashes() -> MemoryStore {
        MemoryStore { committed: Some(Box::default()), ..MemoryStore::default() }
    }

    /// Everything since the last commit is gone, as after a power cut; a failed store works again, as after opening it anew.
    pub fn crash(&mut self) {
        if let Some(committed) = &self.committed {
            self.live = (**committed).clone();
        }
        self.dirty = false;
        self.poisoned = false;
    }

    /// The next commit fails, and with it the store until [`MemoryStore::crash`].
    pub fn fail_next_commit(&mut self) {
        self.fail_at_commit = true;
    }

    /// Room for so many bytes of messages; beyond it [`Store::append`] answers [`StoreError::Full`].
    pub fn set_capacity(&mut self, bytes: Option<u64>) {
        self.capacity = bytes;
    }

    /// How often it was committed.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits
    }

    fn used(&self) -> u64 {
        self.live.streams.values().map(|stream| stream.bytes).sum()
    }

    fn alive(&self) -> Result<(), StoreError> {
        if self.poisoned { Err(StoreError::Failed("poisoned by an earlier error".into())) } else { Ok(()) }
    }

    fn stream(&mut self, stream: StreamId) -> Result<&mut Stream, StoreError> {
        self.alive()?;
        self.live.streams.get_mut(&stream).ok_or_else(|| StoreError::Failed(format!("no stream with id {}", stream.0)))
    }

    fn change(&mut self, stream: StreamId) -> Result<&mut Stream, StoreError> {
        self.dirty = true;
        self.stream(stream)
    }
}

fn matches_any(filters: &[Filter], subject: &[u8]) -> bool {
    filters.is_empty() || filters.iter().any(|filter| filter.matches(subject))
}

impl Store for MemoryStore {
    fn streams(&mut self) -> Result<Vec<LoadedStream>, StoreError> {
        self.alive()?;
        let loaded = self.live.streams.iter();
        Ok(loaded.map(|(id, s)| LoadedStream { stream: *id, description: s.description.clone() }).collect())
    }

    fn create_stream(&mut self, stream: StreamId, first: Sequence, description: &[u8]) -> Result<(), StoreError> {
        self.alive()?;
        self.dirty = true;
        let last = first.0.saturating_sub(1);
        self.live
            .streams
            .insert(stream, Stream { id: stream, description: description.to_vec(), last, ..Stream::default() });
        Ok(())
    }

    fn update_stream(&mut self, stream: StreamId, description: &[u8]) -> Result<(), StoreError> {
        self.change(stream)?.description = description.to_vec();
        Ok(())
    }

    fn delete_stream(&mut self, stream: StreamId) -> Result<(), StoreError> {
        self.alive()?;
        self.dirty = true;
        self.live.streams.remove(&stream);
        Ok(())
    }

    fn state(&self, stream: StreamId) -> StreamState {
        self.live.streams.get(&stream).map(Stream::state).unwrap_or_default()
    }

    fn append(&mut self, stream: StreamId, message: &NewMessage<'_>) -> Result<(), StoreError> {
        let size = message_size_in(stream, message.subject.len(), message.headers.len(), message.payload.len());
        if self.capacity.is_some_and(|capacity| self.used() + size > capacity) {
            return Err(StoreError::Full);
        }
        let stream = self.change(stream)?;
        if message.sequence.0 <= stream.last {
            return Err(StoreError::Failed(format!("sequence {} is not above {}", message.sequence.0, stream.last)));
        }
        let row = Row {
            time: message.now.wall,
            age: message.now.age,
            subject: message.subject.into(),
            headers: message.headers.into(),
            payload: message.payload.into(),
            message_id: message.message_id,
        };
        stream.bytes += size;
        stream.last = message.sequence.0;
        stream.last_time = message.now.wall;
        stream.subjects.entry(row.subject.clone()).or_default().insert(stream.last);
        stream.rows.insert(stream.last, row);
        Ok(())
    }

    fn remove(&mut self, stream: StreamId, sequence: Sequence, _erase: bool) -> Result<bool, StoreError> {
        Ok(self.change(stream)?.take(sequence.0, &mut Evicted::default()))
    }

    fn evict(&mut self, stream: StreamId, limits: &FrontLimits) -> Result<Evicted, StoreError> {
        let stream = self.change(stream)?;
        let mut evicted = Evicted::default();
        while evicted.messages < limits.limit {
            let Some((sequence, row)) = stream.rows.first_key_value() else { break };
            let sequence = *sequence;
            let goes = sequence < limits.below.0
                || stream.rows.len() as u64 > limits.max_messages
                || stream.bytes > limits.max_bytes
                || limits.stored_before.is_some_and(|age| row.age < age);
            if !goes {
                break;
            }
            stream.take(sequence, &mut evicted);
        }
        Ok(evicted)
    }

    fn clear(&mut self, stream: StreamId) -> Result<Evicted, StoreError> {
        let stream = self.change(stream)?;
        let mut evicted = Evicted::default();
        while let Some((sequence, _)) = stream.rows.first_key_value() {
            let sequence = *sequence;
            stream.take(sequence, &mut evicted);
        }
        Ok(evicted)
    }

    fn purge(
        &mut self,
        stream: StreamId,
        filter: &Filter,
        below: Option<Sequence>,
        keep: u64,
        limit: u64,
    ) -> Result<(Evicted, bool), StoreError> {
        let stream = self.change(stream)?;
        let all: Vec<u64> = if filter.is_literal() {
            stream.subjects.get(filter.as_str().as_bytes()).into_iter().flatten().copied().collect()
        } else {
            let matching = stream.rows.iter().filter(|(_, row)| filter.matches(&row.subject));
            // With nothing to keep, what lies behind this step need not be known.
            let most = if keep == 0 { limit as usize + 1 } else { usize::MAX };
            matching.map(|(sequence, _)| *sequence).take(most).collect()
        };
        let removable = all.len().saturating_sub(keep as usize);
        let goes = all[..removable].iter().filter(|sequence| below.is_none_or(|below| **sequence < below.0));
        let goes: Vec<u64> = goes.copied().collect();
        let mut evicted = Evicted::default();
        for sequence in goes.iter().take(limit as usize) {
            stream.take(*sequence, &mut evicted);
        }
        Ok((evicted, goes.len() as u64 > limit))
    }

    fn trim_subjects(
        &mut self,
        stream: StreamId,
        from: Sequence,
        keep: u64,
        limit: u64,
    ) -> Result<(Evicted, Option<Sequence>), StoreError> {
        let stream = self.change(stream)?;
        let (mut evicted, mut next) = (Evicted::default(), from.0);
        for _ in 0..limit.saturating_mul(4) {
            let Some((sequence, row)) = stream.rows.range(next..).next() else { return Ok((evicted, None)) };
            let sequence = *sequence;
            if stream.subjects.get(&row.subject).is_some_and(|held| held.len() as u64 > keep) {
                stream.take(sequence, &mut evicted);
            }
            next = sequence + 1;
            if evicted.messages == limit {
                break;
            }
        }
        Ok((evicted, Some(Sequence(next))))
    }

    fn skip_to(&mut self, stream: StreamId, last: Sequence, now: Now) -> Result<(), StoreError> {
        let stream = self.change(stream)?;
        if last.0 > stream.last {
            stream.last = last.0;
            stream.last_time = now.wall;
        }
        Ok(())
    }

    fn oldest(&mut self, stream: StreamId) -> Result<Option<(Sequence, Now)>, StoreError> {
        let first = self.stream(stream)?.rows.first_key_value();
        Ok(first.map(|(sequence, row)| (Sequence(*sequence), Now { wall: row.time, age: row.age })))
    }

    fn first_at(&mut self, stream: StreamId, time: Timestamp) -> Result<Sequence, StoreError> {
        let stream = self.stream(stream)?;
        let found = stream.rows.iter().find(|(_, row)| row.time >= time);
        Ok(Sequence(found.map_or(stream.last + 1, |(sequence, _)| *sequence)))
    }

    fn message(&mut self, stream: StreamId, sequence: Sequence, into: &mut MessageBuffer) -> Result<bool, StoreError> {
        let Some(row) = self.stream(stream)?.rows.get(&sequence.0) else { return Ok(false) };
        into.push(&row.as_message(sequence.0));
        Ok(true)
    }

    fn subject_state(&self, stream: StreamId, subject: &[u8]) -> Option<SubjectState> {
        let sequences = self.live.streams.get(&stream)?.subjects.get(subject)?;
        Some(SubjectState { messages: sequences.len() as u64, last: Sequence(*sequences.last()?) })
    }

    fn for_each_subject(&self, stream: StreamId, filter: &Filter, visit: &mut dyn FnMut(&[u8], SubjectState)) {
        let Some(stream) = self.live.streams.get(&stream) else { return };
        for (subject, sequences) in stream.subjects.iter().filter(|(subject, _)| filter.matches(subject)) {
            let last = Sequence(sequences.last().copied().unwrap_or(0));
            visit(subject, SubjectState { messages: sequences.len() as u64, last });
        }
    }

    fn last_matching(
        &mut self,
        stream: StreamId,
        filter: &Filter,
        up_to: Sequence,
    ) -> Result<Option<Sequence>, StoreError> {
        let stream = self.stream(stream)?;
        let mut newest_first = stream.rows.range(..=up_to.0).rev();
        Ok(newest_first.find(|(_, row)| filter.matches(&row.subject)).map(|(sequence, _)| Sequence(*sequence)))
    }

    fn sequences(
        &mut self,
        stream: StreamId,
        from: Sequence,
        most: usize,
        into: &mut Vec<Sequence>,
    ) -> Result<(), StoreError> {
        into.extend(self.stream(stream)?.rows.range(from.0..).take(most).map(|(sequence, _)| Sequence(*sequence)));
        Ok(())
    }

    fn next_matching(
        &mut self,
        stream: StreamId,
        from: Sequence,
        filters: &[Filter],
    ) -> Result<Option<Sequence>, StoreError> {
        let stream = self.stream(stream)?;
        let found = stream.rows.range(from.0..).find(|(_, row)| matches_any(filters, &row.subject));
        Ok(found.map(|(sequence, _)| Sequence(*sequence)))
    }

    fn count_matching(&mut self, stream: StreamId, from: Sequence, filters: &[Filter]) -> Result<u64, StoreError> {
        let stream = self.stream(stream)?;
        Ok(stream.rows.range(from.0..).filter(|(_, row)| matches_any(filters, &row.subject)).count() as u64)
    }

    fn read(
        &mut self,
        stream: StreamId,
        from: Sequence,
        filters: &[Filter],
        max_messages: usize,
        max_bytes: usize,
        into: &mut MessageBuffer,
    ) -> Result<Read, StoreError> {
        let stream = self.stream(stream)?;
        let (messages_before, bytes_before) = (into.len(), into.bytes());
        for (looked_at, (sequence, row)) in stream.rows.range(from.0..).enumerate() {
            let full = into.len() - messages_before >= max_messages
                || (into.len() > messages_before
                    && into.bytes() - bytes_before + row.size(stream.id) as usize > max_bytes);
            if full || looked_at == LOOKED_AT_PER_READ {
                return Ok(Read::Ready { next: Sequence(*sequence) });
            }
            if matches_any(filters, &row.subject) {
                into.push(&row.as_message(*sequence));
            }
        }
        Ok(Read::Ready { next: Sequence(from.0.max(stream.last + 1)) })
    }

    fn recent_ids(&mut self, stream: StreamId, since: AgeMillis, limit: usize) -> Result<Vec<RecentId>, StoreError> {
        let newest_first = self.stream(stream)?.rows.iter().rev().take_while(|(_, row)| row.age >= since);
        let ids = newest_first.filter_map(|(sequence, row)| {
            Some(RecentId { hash: row.message_id?, sequence: Sequence(*sequence), age: row.age })
        });
        let mut ids: Vec<RecentId> = ids.take(limit).collect();
        ids.reverse();
        Ok(ids)
    }

    fn put_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.alive()?;
        self.dirty = true;
        self.live.records.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn delete_record(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.alive()?;
        self.dirty = true;
        self.live.records.remove(key);
        Ok(())
    }

    fn record(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.alive()?;
        Ok(self.live.records.get(key).cloned())
    }

    fn scan_records(
        &mut self,
        prefix: &[u8],
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        self.alive()?;
        let start = prefix.max(from).to_vec();
        for (key, value) in self.live.records.range(start..).take_while(|(key, _)| key.starts_with(prefix)) {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.alive()?;
        if std::mem::take(&mut self.fail_at_commit) {
            self.poisoned = true;
            return Err(StoreError::Failed("told to fail".into()));
        }
        if let Some(committed) = &mut self.committed {
            **committed = self.live.clone();
        }
        self.dirty = false;
        self.commits += 1;
        Ok(())
    }

    fn is_dirty(&self) -> bool {
        self.dirty
    }

    fn maintain(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn space(&self) -> Space {
        let used = self.used();
        Space { used, available: self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(used)) }
    }
}
