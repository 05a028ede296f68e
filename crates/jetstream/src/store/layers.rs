//! Streams in memory beside those on disk: one [`Store`] made of two, chosen by the stream's id.
//!
//! A commit is the disk's alone: what is in memory is there at once, and gone with the process. Records are the disk's as well.

use subject::Filter;

use crate::changes::Changes;
use crate::identity::{AgeMillis, Now, Sequence, StreamId, Timestamp};
use crate::store::memory::MemoryStore;
use crate::store::{
    Evicted, FrontLimits, LoadedStream, MessageBuffer, NewMessage, Read, RecentId, Space, Store, StoreError,
    StreamState, SubjectState,
};

/// Both stores, for the length of a turn.
pub(crate) struct Layers<'a> {
    pub(crate) disk: &'a mut dyn Store,
    pub(crate) memory: &'a mut MemoryStore,
    /// Told of everything that is stored or goes.
    pub(crate) changes: &'a mut Changes,
}

impl Layers<'_> {
    fn of(&self, stream: StreamId) -> &dyn Store {
        if stream.is_volatile() { &*self.memory } else { &*self.disk }
    }

    fn of_mut(&mut self, stream: StreamId) -> &mut dyn Store {
        if stream.is_volatile() { &mut *self.memory } else { &mut *self.disk }
    }

    fn removed(&mut self, stream: StreamId, evicted: Evicted) -> Evicted {
        if evicted.messages > 0 {
            self.changes.gone(stream, evicted.first, evicted.last);
        }
        evicted
    }
}

impl Store for Layers<'_> {
    fn streams(&mut self) -> Result<Vec<LoadedStream>, StoreError> {
        let mut streams = self.disk.streams()?;
        streams.extend(self.memory.streams()?);
        Ok(streams)
    }

    fn create_stream(&mut self, stream: StreamId, first: Sequence, description: &[u8]) -> Result<(), StoreError> {
        self.of_mut(stream).create_stream(stream, first, description)
    }

    fn update_stream(&mut self, stream: StreamId, description: &[u8]) -> Result<(), StoreError> {
        self.changes.unwatch(stream);
        self.of_mut(stream).update_stream(stream, description)
    }

    fn compress(&mut self, stream: StreamId, on: bool) {
        self.of_mut(stream).compress(stream, on);
    }

    fn delete_stream(&mut self, stream: StreamId) -> Result<(), StoreError> {
        self.changes.unwatch(stream);
        self.of_mut(stream).delete_stream(stream)
    }

    fn state(&self, stream: StreamId) -> StreamState {
        self.of(stream).state(stream)
    }

    fn append(&mut self, stream: StreamId, message: &NewMessage<'_>) -> Result<(), StoreError> {
        self.changes.stored(stream, message.sequence, message.subject);
        self.of_mut(stream).append(stream, message)
    }

    fn remove(&mut self, stream: StreamId, sequence: Sequence, erase: bool) -> Result<bool, StoreError> {
        self.changes.chosen(stream);
        self.changes.gone(stream, sequence, sequence);
        self.of_mut(stream).remove(stream, sequence, erase)
    }

    fn remove_run(&mut self, stream: StreamId, first: Sequence, last: Sequence) -> Result<(), StoreError> {
        self.changes.chosen(stream);
        self.changes.gone(stream, first, last);
        self.of_mut(stream).remove_run(stream, first, last)
    }

    fn evict(&mut self, stream: StreamId, limits: &FrontLimits) -> Result<Evicted, StoreError> {
        let evicted = self.of_mut(stream).evict(stream, limits)?;
        Ok(self.removed(stream, evicted))
    }

    fn clear(&mut self, stream: StreamId) -> Result<Evicted, StoreError> {
        let evicted = self.of_mut(stream).clear(stream)?;
        Ok(self.removed(stream, evicted))
    }

    fn purge(
        &mut self,
        stream: StreamId,
        filter: &Filter,
        below: Option<Sequence>,
        keep: u64,
        limit: u64,
    ) -> Result<(Evicted, bool), StoreError> {
        self.changes.chosen(stream);
        let (evicted, more) = self.of_mut(stream).purge(stream, filter, below, keep, limit)?;
        Ok((self.removed(stream, evicted), more))
    }

    fn trim_subject(&mut self, stream: StreamId, subject: &[u8], keep: u64, limit: u64) -> Result<Evicted, StoreError> {
        let evicted = self.of_mut(stream).trim_subject(stream, subject, keep, limit)?;
        Ok(self.removed(stream, evicted))
    }

    fn trim_subjects(
        &mut self,
        stream: StreamId,
        from: Sequence,
        keep: u64,
        limit: u64,
    ) -> Result<(Evicted, Option<Sequence>), StoreError> {
        let (evicted, next) = self.of_mut(stream).trim_subjects(stream, from, keep, limit)?;
        Ok((self.removed(stream, evicted), next))
    }

    fn skip_to(&mut self, stream: StreamId, last: Sequence, now: Now) -> Result<(), StoreError> {
        self.of_mut(stream).skip_to(stream, last, now)
    }

    fn oldest(&mut self, stream: StreamId) -> Result<Option<(Sequence, Now)>, StoreError> {
        self.of_mut(stream).oldest(stream)
    }

    fn first_at(&mut self, stream: StreamId, time: Timestamp) -> Result<Sequence, StoreError> {
        self.of_mut(stream).first_at(stream, time)
    }

    fn message(&mut self, stream: StreamId, sequence: Sequence, into: &mut MessageBuffer) -> Result<bool, StoreError> {
        self.of_mut(stream).message(stream, sequence, into)
    }

    fn subject_state(&self, stream: StreamId, subject: &[u8]) -> Option<SubjectState> {
        self.of(stream).subject_state(stream, subject)
    }

    fn for_each_subject(&self, stream: StreamId, filter: &Filter, visit: &mut dyn FnMut(&[u8], SubjectState)) {
        self.of(stream).for_each_subject(stream, filter, visit);
    }

    fn last_matching(
        &mut self,
        stream: StreamId,
        filter: &Filter,
        up_to: Sequence,
    ) -> Result<Option<Sequence>, StoreError> {
        self.of_mut(stream).last_matching(stream, filter, up_to)
    }

    fn sequences(
        &mut self,
        stream: StreamId,
        from: Sequence,
        most: usize,
        into: &mut Vec<Sequence>,
    ) -> Result<(), StoreError> {
        self.of_mut(stream).sequences(stream, from, most, into)
    }

    fn next_matching(
        &mut self,
        stream: StreamId,
        from: Sequence,
        filters: &[Filter],
    ) -> Result<Option<Sequence>, StoreError> {
        self.of_mut(stream).next_matching(stream, from, filters)
    }

    fn count_matching(&mut self, stream: StreamId, from: Sequence, filters: &[Filter]) -> Result<u64, StoreError> {
        self.of_mut(stream).count_matching(stream, from, filters)
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
        self.of_mut(stream).read(stream, from, filters, max_messages, max_bytes, into)
    }

    fn recent_ids(&mut self, stream: StreamId, since: AgeMillis, limit: usize) -> Result<Vec<RecentId>, StoreError> {
        self.of_mut(stream).recent_ids(stream, since, limit)
    }

    fn put_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.disk.put_record(key, value)
    }

    fn delete_record(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.disk.delete_record(key)
    }

    fn record(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.disk.record(key)
    }

    fn scan_records(
        &mut self,
        prefix: &[u8],
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        self.disk.scan_records(prefix, from, visit)
    }

    fn is_committed(&self, stream: StreamId, sequence: Sequence) -> bool {
        self.changes.is_committed(stream, sequence)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.disk.commit()
    }

    fn is_dirty(&self) -> bool {
        self.disk.is_dirty()
    }

    fn maintain(&mut self) -> Result<bool, StoreError> {
        self.disk.maintain()
    }

    fn has_room(&mut self, bytes: u64) -> Result<bool, StoreError> {
        self.disk.has_room(bytes)
    }

    fn space(&self) -> Space {
        self.disk.space()
    }
}
