//! [`SqliteStore`]: the trait's methods, each a few lines that lead to the module that does it; the transaction's end; house-keeping.

use std::collections::BTreeMap;

use jetstream::identity::{AgeMillis, Now, Sequence, StreamId, Timestamp};
use jetstream::store::{
    Evicted, FrontLimits, LoadedStream, MessageBuffer, NewMessage, Read, RecentId, Space, Store, StoreError,
    StreamState, SubjectState, SyncJob,
};
use subject::Filter;

use crate::database::Database;
use crate::fetch::Slices;
use crate::forgetting::Forgetting;
use crate::lock::FolderLock;
use crate::open::description_key;
use crate::reader::{self, Done, Job, Reader};
use crate::ring::Ring;
use crate::schema::Synchronous;
use crate::space::SpaceGuard;
use crate::stream::{Matcher, Stream, recent};
use crate::wal::{Due, Wal, WalCut};
use crate::{checkpoint, erase, load, records, removal, schema, search};

/// Removals remembered over all streams (16 bytes each): beyond, the stream with most of them has its checkpoint, and its summaries corrected, early.
const REMOVALS_IN_ALL: usize = 2 * checkpoint::REMOVALS;

/// The store; see the crate.
// Fields are dropped in this order: first the threads and connections, then the log is cut if need be, last the folder is free for others.
#[derive(Debug)]
pub struct SqliteStore {
    pub(crate) reader: Option<Reader>,
    pub(crate) db: Database,
    /// Acts when it is dropped.
    pub(crate) _cut: WalCut,
    pub(crate) wal: Wal,
    pub(crate) streams: BTreeMap<u32, Stream>,
    pub(crate) ring: Ring,
    /// Position in the ring of the oldest row that is not in its table yet.
    pub(crate) pending_from: Option<u64>,
    pub(crate) slices: Slices,
    pub(crate) space: SpaceGuard,
    /// Streams changed since the last commit.
    pub(crate) touched: Vec<u32>,
    /// Deleted streams whose rows are still there.
    pub(crate) deleting: Vec<u32>,
    /// Cleared streams whose rows are still there.
    pub(crate) erasing: Vec<u32>,
    /// The open transaction has a step of an erasure in it.
    pub(crate) unsettled: bool,
    /// Commits are synced by us, not by SQLite: it writes the log, and whoever has the job syncs it.
    pub(crate) syncs_apart: bool,
    /// They are synced at all.
    pub(crate) may_sync_apart: bool,
    /// What may still stand in the log.
    pub(crate) forgetting: Forgetting,
    /// Damaged rows that the log was told of.
    pub(crate) told: u64,
    pub(crate) scratch: Vec<u8>,
    pub(crate) lock: FolderLock,
}

impl SqliteStore {
    /// Damaged rows and records met since opening; each was skipped.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.db.health.damaged.get()
    }

    /// Logs damaged rows met since the last time.
    fn tell_damage(&mut self) {
        let damaged = self.damaged();
        if damaged > self.told {
            let fresh = damaged - self.told;
            tracing::error!(
                "{fresh} damaged messages or records were met in the store and skipped, {damaged} since it was opened"
            );
            self.told = damaged;
        }
    }

    /// Marks a stream as changed in this transaction.
    pub(crate) fn touch(&mut self, id: u32) -> Result<(), StoreError> {
        self.db.begin()?;
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.touched
        {
            stream.touched = true;
            self.touched.push(id);
        }
        Ok(())
    }

    /// Takes in what the reader thread has done.
    pub(crate) fn poll_reader(&mut self) -> Result<(), StoreError> {
        while let Some(done) = self.reader.as_ref().and_then(Reader::poll) {
            self.take_in(done)?;
        }
        Ok(())
    }

    fn take_in(&mut self, done: Done) -> Result<(), StoreError> {
        match done {
            Done::Fetched { ticket, result: Ok(fetched) } => {
                self.db.health.damaged.set(self.db.health.damaged.get() + fetched.damaged);
                self.take_slice(ticket, fetched)?;
            }
            // Of a stream that was deleted meanwhile: nobody waits for it.
            Done::Fetched { ticket, result: Err(error) } => {
                if self.slices.failed(ticket) {
                    return Err(self.db.health.failed(&error));
                }
            }
            Done::Checkpointed(Ok(())) => self.wal.written_back(),
            Done::Checkpointed(Err(error)) => self.log_not_written(&error)?,
            Done::Checked { rows, damaged, error: None } => {
                self.db.health.damaged.set(self.db.health.damaged.get() + damaged);
                tracing::info!(rows, damaged, "the store was looked through after an unclean end");
            }
            Done::Checked { error: Some(error), .. } => return Err(self.db.health.failed(&error)),
        }
        Ok(())
    }

    /// Pages of rows that were removed become free when they are deleted.
    fn delete_all_doomed(&mut self) -> Result<(), StoreError> {
        for id in &self.touched {
            if let Some(stream) = self.streams.get_mut(id) {
                erase::delete_doomed(&self.db, stream)?;
            }
        }
        Ok(())
    }

    /// Writes into the transaction what only commits need.
    fn finish_streams(&mut self) -> Result<(), StoreError> {
        self.flush_all()?;
        let crowded = self.streams.values().map(|stream| stream.removed.len()).sum::<usize>() > REMOVALS_IN_ALL;
        let most = self.streams.iter().max_by_key(|(_, stream)| stream.removed.len()).filter(|_| crowded);
        let most = most.map(|(id, _)| *id);
        if let Some(id) = most {
            self.touch(id)?;
        }
        for id in std::mem::take(&mut self.touched) {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            erase::delete_doomed(&self.db, stream)?;
            let is_crowded = most == Some(id);
            if checkpoint::is_due(stream, is_crowded) {
                checkpoint::write(&mut self.db, &self.ring, stream)?;
            } else {
                checkpoint::correct_if_due(&mut self.db, stream, is_crowded)?;
            }
            if !stream.removal_log.is_empty() {
                let key = (i64::from(id) << 32) + i64::from(stream.removal_rows);
                self.db.run("INSERT INTO removal VALUES (?, ?)", (key, removal::encode(&stream.removal_log)))?;
                stream.removal_rows += 1;
                stream.removal_log.clear();
            }
            if stream.position_dirty {
                let position = checkpoint::encode_position(stream.state.last, stream.state.last_time);
                self.db.run("UPDATE stream SET position = ? WHERE id = ?", (position, id))?;
                stream.position_dirty = false;
            }
            stream.uncommitted_removals.clear();
            stream.committed_last = stream.state.last.0;
            stream.touched = false;
        }
        Ok(())
    }

    fn care_for_log(&mut self) -> Result<(), StoreError> {
        match self.wal.committed(self.reader.is_some()) {
            Due::Nothing => {}
            Due::Background => {
                if !self.reader.as_ref().is_some_and(|reader| reader.ask(Job::Checkpoint)) {
                    self.wal.not_asked();
                }
            }
            Due::Here => self.write_log_back()?,
        }
        Ok(())
    }

    /// What was erased was written to the log when it was stored: it is written back and emptied; `true`: not yet, it is too early, or somebody reads
    /// from it just then.
    fn forget_erased(&mut self) -> Result<bool, StoreError> {
        if self.db.in_transaction() || !self.forgetting.is_due() {
            return Ok(self.forgetting.waits());
        }
        self.wait_for_reader()?;
        match reader::try_empty_log(&self.db.connection) {
            Ok(true) => {
                self.forgetting.emptied();
                self.wal.emptied();
            }
            Ok(false) => return Ok(true),
            Err(error) => self.log_not_written(&error)?,
        }
        Ok(false)
    }

    fn run_log_ahead(&mut self) {
        if self.db.in_transaction() || !self.wal.is_short() || !self.space.is_plenty() {
            return;
        }
        // The log is none the worse for it. A failing disk shows in the next commit, too.
        if let Err(error) = self.wal.run_ahead() {
            tracing::debug!(%error, "the log can't be written ahead");
        }
    }

    fn write_log_back(&mut self) -> Result<(), StoreError> {
        self.wait_for_reader()?;
        match reader::checkpoint(&self.db.connection) {
            Ok(()) => self.wal.rest_done(),
            Err(error) => self.log_not_written(&error)?,
        }
        Ok(())
    }

    /// Only one connection can write the log back at a time.
    fn wait_for_reader(&mut self) -> Result<(), StoreError> {
        while self.wal.is_asked() {
            match self.reader.as_ref().and_then(Reader::wait) {
                Some(done) => self.take_in(done)?,
                None => self.wal.not_asked(),
            }
        }
        Ok(())
    }

    /// The log could not be written back. A full disk is no reason to end: everything is in the log, and the ballast makes room.
    fn log_not_written(&mut self, error: &rusqlite::Error) -> Result<(), StoreError> {
        if error.sqlite_error_code() != Some(rusqlite::ErrorCode::DiskFull) {
            return Err(self.db.health.failed(error));
        }
        self.space.release_ballast();
        self.wal.rest_done();
        Ok(())
    }
}

impl Store for SqliteStore {
    fn streams(&mut self) -> Result<Vec<LoadedStream>, StoreError> {
        self.db.health.check()?;
        let loaded =
            |stream: &Stream| LoadedStream { stream: StreamId(stream.id), description: stream.description.clone() };
        Ok(self.streams.values().map(loaded).collect())
    }

    fn create_stream(&mut self, stream: StreamId, first: Sequence, description: &[u8]) -> Result<(), StoreError> {
        let id = stream.0;
        if self.streams.contains_key(&id) || self.deleting.contains(&id) {
            return Err(StoreError::Failed(format!("stream {id} exists already")));
        }
        self.db.begin()?;
        schema::create_stream_tables(&self.db.connection, id).map_err(|error| self.db.health.failed(&error))?;
        let last = Sequence(first.0.max(1) - 1);
        let saved = checkpoint::Saved { through: last.0, ..checkpoint::Saved::default() };
        let position = checkpoint::encode_position(last, Timestamp(0));
        let sealed = records::sealed(&description_key(id), description);
        self.db.run("INSERT INTO stream VALUES (?, 0, ?, ?, ?)", (id, sealed, saved.encode(), position))?;
        records::put(&mut self.db, &description_key(id), description)?;
        let mut stream = Stream::new(id, description.to_vec());
        stream.state.last = last;
        stream.state.first = last.next();
        stream.closed_through = last.0;
        stream.committed_last = last.0;
        self.streams.insert(id, stream);
        Ok(())
    }

    fn update_stream(&mut self, stream: StreamId, description: &[u8]) -> Result<(), StoreError> {
        self.db.begin()?;
        let key = description_key(stream.0);
        self.db
            .run("UPDATE stream SET description = ? WHERE id = ?", (records::sealed(&key, description), stream.0))?;
        records::put(&mut self.db, &key, description)?;
        if let Some(stream) = self.streams.get_mut(&stream.0) {
            stream.description = description.to_vec();
        }
        Ok(())
    }

    fn compress(&mut self, stream: StreamId, on: bool) {
        if let Some(stream) = self.streams.get_mut(&stream.0) {
            stream.packs = on;
        }
    }

    fn delete_stream(&mut self, stream: StreamId) -> Result<(), StoreError> {
        self.db.begin()?;
        // Its rows that wait in the ring are not inserted any more.
        if self.streams.remove(&stream.0).is_some() {
            records::delete(&mut self.db, &description_key(stream.0))?;
            self.db.run("UPDATE stream SET deleted = 1 WHERE id = ?", [stream.0])?;
            self.db.forget_blocks(stream.0);
            self.slices.forget_stream(stream.0);
            self.erasing.retain(|id| *id != stream.0);
            self.deleting.push(stream.0);
        }
        Ok(())
    }

    fn state(&self, stream: StreamId) -> StreamState {
        self.streams.get(&stream.0).map(Stream::counters).unwrap_or_default()
    }

    fn append(&mut self, stream: StreamId, message: &NewMessage<'_>) -> Result<(), StoreError> {
        self.append_message(stream.0, message)
    }

    fn remove(&mut self, stream: StreamId, sequence: Sequence, erase: bool) -> Result<bool, StoreError> {
        self.remove_one(stream.0, sequence.0, erase)
    }

    fn remove_run(&mut self, stream: StreamId, first: Sequence, last: Sequence) -> Result<(), StoreError> {
        self.remove_between(stream.0, first.0, last.0)
    }

    fn evict(&mut self, stream: StreamId, limits: &FrontLimits) -> Result<Evicted, StoreError> {
        self.evict_front(stream.0, limits)
    }

    fn clear(&mut self, stream: StreamId) -> Result<Evicted, StoreError> {
        self.clear_stream(stream.0)
    }

    fn purge(
        &mut self,
        stream: StreamId,
        filter: &Filter,
        below: Option<Sequence>,
        keep: u64,
        limit: u64,
    ) -> Result<(Evicted, bool), StoreError> {
        self.purge_matching(stream.0, std::slice::from_ref(filter), below, keep, limit)
    }

    fn trim_subject(&mut self, stream: StreamId, subject: &[u8], keep: u64, limit: u64) -> Result<Evicted, StoreError> {
        self.trim(stream.0, subject, keep, limit)
    }

    fn trim_subjects(
        &mut self,
        stream: StreamId,
        from: Sequence,
        keep: u64,
        limit: u64,
    ) -> Result<(Evicted, Option<Sequence>), StoreError> {
        self.trim_each(stream.0, from, keep, limit)
    }

    fn skip_to(&mut self, stream: StreamId, last: Sequence, now: Now) -> Result<(), StoreError> {
        self.touch(stream.0)?;
        let Some(stream) = self.streams.get_mut(&stream.0).filter(|stream| stream.state.last < last) else {
            return Ok(());
        };
        stream.state.last = last;
        stream.state.last_time = now.wall;
        stream.position_dirty = true;
        erase::refresh_first(&self.db, &self.ring, stream)
    }

    fn oldest(&mut self, stream: StreamId) -> Result<Option<(Sequence, Now)>, StoreError> {
        let held = self.streams.get(&stream.0).filter(|stream| stream.state.messages > 0);
        Ok(held.map(|stream| (stream.state.first, Now { wall: stream.state.first_time, age: stream.first_age })))
    }

    fn first_at(&mut self, stream: StreamId, time: Timestamp) -> Result<Sequence, StoreError> {
        let Some(stream) = self.streams.get(&stream.0) else { return Ok(Sequence(1)) };
        search::first_at(&self.db, &self.ring, stream, time).map(Sequence)
    }

    fn message(&mut self, stream: StreamId, sequence: Sequence, into: &mut MessageBuffer) -> Result<bool, StoreError> {
        self.db.health.check()?;
        let Some(stream) = self.streams.get(&stream.0).filter(|stream| sequence >= stream.state.first) else {
            return Ok(false);
        };
        let whole = if let Some(index) = stream.tail_index(sequence.0) {
            let entry = stream.tail[index];
            if entry.length == 0 {
                return Ok(false);
            }
            let pushed = reader::push_row(&self.db.connection, stream.id, sequence.0, self.ring.row(&entry), into);
            Some(pushed.map_err(|error| self.db.health.failed(&error))?)
        } else if stream.doomed.contains(&sequence.0) {
            None
        } else {
            let mut found = None;
            self.db.query(&format!("SELECT data FROM m{} WHERE seq = ?", stream.id), [sequence.0 as i64], |row| {
                let blob = row.get_ref(0)?.as_blob()?;
                found = Some(reader::push_row(&self.db.connection, stream.id, sequence.0, blob, into)?);
                Ok(false)
            })?;
            found
        };
        match whole {
            Some(false) => {
                self.db.health.damaged.set(self.db.health.damaged.get() + 1);
                Err(StoreError::Damaged(format!(
                    "message {} of stream {} is not what was written",
                    sequence.0, stream.id
                )))
            }
            found => Ok(found.is_some()),
        }
    }

    fn subject_state(&self, stream: StreamId, subject: &[u8]) -> Option<SubjectState> {
        let stream = self.streams.get(&stream.0)?;
        let (messages, last) = stream.subjects.get(stream.subjects.find(subject)?);
        Some(SubjectState { messages, last: Sequence(last) })
    }

    fn for_each_subject(&self, stream: StreamId, filter: &Filter, visit: &mut dyn FnMut(&[u8], SubjectState)) {
        let Some(stream) = self.streams.get(&stream.0) else { return };
        let show = |id: u32| {
            let (messages, last) = stream.subjects.get(id);
            visit(stream.subjects.name(id), SubjectState { messages, last: Sequence(last) });
        };
        if filter.is_literal() {
            stream.subjects.find(filter.as_str().as_bytes()).into_iter().for_each(show);
        } else {
            stream.subjects.ids().filter(|id| filter.matches(stream.subjects.name(*id))).for_each(show);
        }
    }

    fn last_matching(
        &mut self,
        stream: StreamId,
        filter: &Filter,
        up_to: Sequence,
    ) -> Result<Option<Sequence>, StoreError> {
        let Some(stream) = self.streams.get_mut(&stream.0) else { return Ok(None) };
        let matcher = stream.matcher(std::slice::from_ref(filter));
        Ok(search::last(&mut self.db, stream, &matcher, up_to.0)?.map(Sequence))
    }

    fn sequences(
        &mut self,
        stream: StreamId,
        from: Sequence,
        most: usize,
        into: &mut Vec<Sequence>,
    ) -> Result<(), StoreError> {
        let Some(stream) = self.streams.get_mut(&stream.0) else { return Ok(()) };
        let (mut at, mut left) = (from.0, most);
        while left > 0 && at <= stream.state.last.0 {
            let found = search::collect(&mut self.db, stream, at, &Matcher::All, left, 64)?;
            into.extend(found.messages.iter().map(|(sequence, _)| Sequence(*sequence)));
            left -= found.messages.len();
            at = found.next;
        }
        Ok(())
    }

    fn next_matching(
        &mut self,
        stream: StreamId,
        from: Sequence,
        filters: &[Filter],
    ) -> Result<Option<Sequence>, StoreError> {
        let Some(stream) = self.streams.get_mut(&stream.0) else { return Ok(None) };
        let matcher = stream.matcher(filters);
        Ok(search::next(&mut self.db, stream, from.0, &matcher)?.map(|(sequence, _)| Sequence(sequence)))
    }

    fn count_matching(&mut self, stream: StreamId, from: Sequence, filters: &[Filter]) -> Result<u64, StoreError> {
        let Some(stream) = self.streams.get_mut(&stream.0) else { return Ok(0) };
        let matcher = stream.matcher(filters);
        search::count(&mut self.db, stream, from.0, &matcher)
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
        self.db.health.check()?;
        self.bulk_read(stream.0, from.0, filters, max_messages, max_bytes, into)
    }

    fn recent_ids(&mut self, stream: StreamId, since: AgeMillis, limit: usize) -> Result<Vec<RecentId>, StoreError> {
        let Some(stream) = self.streams.get(&stream.0) else { return Ok(Vec::new()) };
        let mut ids: Vec<RecentId> = stream.open_ids(since).take(limit).collect();
        if ids.len() < limit && ids.len() == stream.open.ids.len() {
            load::ids_of_blocks(&self.db, stream.id, |id| {
                let wanted = id.age >= since.0 && ids.len() < limit;
                if wanted {
                    ids.push(recent(id));
                }
                wanted
            })?;
        }
        ids.reverse();
        Ok(ids)
    }

    fn put_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        records::put(&mut self.db, key, value)
    }

    fn delete_record(&mut self, key: &[u8]) -> Result<(), StoreError> {
        records::delete(&mut self.db, key)
    }

    fn record(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.health.check()?;
        records::get(&self.db, key)
    }

    fn scan_records(
        &mut self,
        prefix: &[u8],
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        self.db.health.check()?;
        records::scan(&self.db, prefix, from, visit)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        match self.begin_commit()? {
            Some(sync) => self.synced(sync()),
            None => Ok(()),
        }
    }

    fn begin_commit(&mut self) -> Result<Option<SyncJob>, StoreError> {
        self.db.health.check()?;
        if !self.db.in_transaction() {
            return Ok(None);
        }
        let committed = self.finish_streams().and_then(|()| self.db.commit());
        if let Err(error) = committed {
            self.db.health.poison();
            if self.db.health.no_space.get() {
                self.space.release_ballast();
            }
            return Err(error);
        }
        if self.syncs_apart {
            match self.wal.sync_job() {
                Some(job) => return Ok(Some(job)),
                None => self.synced(Err(std::io::ErrorKind::NotFound.into()))?,
            }
        } else {
            self.synced(Ok(()))?;
        }
        Ok(None)
    }

    fn synced(&mut self, outcome: std::io::Result<()>) -> Result<(), StoreError> {
        if let Err(error) = outcome {
            self.db.health.poison();
            return Err(StoreError::Failed(format!("the log can't be synced: {error}")));
        }
        self.unsettled = false;
        self.forgetting.committed();
        self.space.forget();
        self.poll_reader()?;
        self.care_for_log()
    }

    fn sync_apart(&mut self, apart: bool) -> Result<(), StoreError> {
        let apart = apart && self.may_sync_apart && self.wal.may_sync_apart();
        if apart != self.syncs_apart && !self.db.in_transaction() {
            let synchronous = if apart { Synchronous::Normal } else { Synchronous::Full };
            schema::set_synchronous(&self.db.connection, synchronous).map_err(|error| self.db.health.failed(&error))?;
            self.syncs_apart = apart;
        }
        Ok(())
    }

    fn is_dirty(&self) -> bool {
        self.db.in_transaction()
    }

    fn maintain(&mut self) -> Result<bool, StoreError> {
        self.db.health.check()?;
        self.poll_reader()?;
        self.tell_damage();
        if !self.db.in_transaction() && self.wal.rest_is_due() {
            self.write_log_back()?;
        }
        let waits = self.forget_erased()?;
        self.run_log_ahead();
        self.space.watch();
        Ok(self.erase_step()? || waits)
    }

    fn has_room(&mut self, bytes: u64) -> Result<bool, StoreError> {
        self.delete_all_doomed()?;
        self.space.has_room(&self.db, bytes)
    }

    fn space(&self) -> Space {
        self.space.space()
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        if !self.db.health.poisoned() {
            // A damaged byte in the log costs everything behind it, in the tables one page: what can be is moved there. It needs the only connection.
            self.reader = None;
            if !self.db.in_transaction()
                && let Err(error) = reader::empty_log(&self.db.connection)
            {
                tracing::debug!(%error, "the log stays as it is");
            }
            self.lock.leave_clean();
        }
    }
}
