//! What JetStream asks of a storage engine. [`memory::MemoryStore`] beside it is the reference; `sqlite-store` is the edge's.
//!
//! The store keeps messages, counts them, knows each subject's last message, and keeps opaque records; it knows no limits, no consumers and no
//! acknowledgements. Calls between two [`Store::commit`]s are one transaction: after a crash all or none of them happened. Reads see the writes
//! before them. After an error the store is *poisoned*: the owner drops it, opens it anew and reloads; nothing is retried in place.
//!
//! Costs that callers rely on: `append`, `state`, `subject_state` and `oldest` are O(1) in the backlog; opening never reads the backlog.

use crate::identity::{AgeMillis, Now, Sequence, StreamId, Timestamp};
use subject::Filter;

pub(crate) mod layers;
pub mod memory;
pub mod subject_table;

/// What is wrong with the storage engine. None of these is a verdict on a request.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk or the file system refused; the transaction is lost.
    #[error("store: {0}")]
    Failed(String),
    /// Out of room: the reserved floor of free space was reached. Nothing was written.
    #[error("store: no space left above the reserved floor")]
    Full,
    /// What was read is not what was written.
    #[error("store: damaged: {0}")]
    Damaged(String),
}

/// Counters of one stream; all O(1) to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamState {
    /// Messages held.
    pub messages: u64,
    /// Their size by nats-server's measure: subject + headers + payload + 16 (22 + 4 with headers), see [`message_size`].
    pub bytes: u64,
    /// Sequence of the oldest message held; when empty, `last + 1`.
    pub first: Sequence,
    /// Its time; 0 when empty.
    pub first_time: Timestamp,
    /// Last sequence ever given.
    pub last: Sequence,
    /// Its time; 0 when there was none.
    pub last_time: Timestamp,
    /// Distinct subjects held.
    pub subjects: u64,
}

/// Size of a stored message as nats-server's file store counts it for `max_bytes`.
#[must_use]
pub fn message_size(subject: usize, headers: usize, payload: usize) -> u64 {
    let fixed = if headers == 0 { 22 } else { 26 };
    (fixed + subject + headers + payload + 8) as u64
}

/// Size of a message in a stream: nats-server's memory store counts less for each than its file store.
pub(crate) fn message_size_in(stream: StreamId, subject: usize, headers: usize, payload: usize) -> u64 {
    if stream.is_volatile() {
        (subject + headers + payload + 16) as u64
    } else {
        message_size(subject, headers, payload)
    }
}

/// What is known of one subject of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubjectState {
    /// Messages held on it.
    pub messages: u64,
    /// Sequence of the newest one held.
    pub last: Sequence,
}

/// A message to be stored. Subject is a valid literal; headers include `NATS/1.0` and the final blank line, or are empty.
#[derive(Clone, Copy, Debug)]
pub struct NewMessage<'a> {
    /// Its sequence: `state.last + 1`, or higher (what lies between never existed).
    pub sequence: Sequence,
    /// Wall time (never below the message before it) and age.
    pub now: Now,
    /// Literal subject.
    pub subject: &'a [u8],
    /// Header block or empty.
    pub headers: &'a [u8],
    /// Body.
    pub payload: &'a [u8],
    /// Hash of its `Nats-Msg-Id`, remembered for [`Store::recent_ids`].
    pub message_id: Option<u128>,
}

/// A stored message, borrowed from a [`MessageBuffer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredMessage<'a> {
    /// Its sequence.
    pub sequence: Sequence,
    /// Wall time it was stored at.
    pub time: Timestamp,
    /// Age-clock time it was stored at.
    pub age: AgeMillis,
    /// Literal subject.
    pub subject: &'a [u8],
    /// Header block or empty.
    pub headers: &'a [u8],
    /// Body.
    pub payload: &'a [u8],
}

/// One message as entry of a [`MessageBuffer`]: offsets into its bytes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    sequence: Sequence,
    time: Timestamp,
    age: AgeMillis,
    start: u32,
    subject: u32,
    headers: u32,
    payload: u32,
}

/// Messages read from a store, in one arena that is reused from read to read.
#[derive(Debug, Default)]
pub struct MessageBuffer {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl MessageBuffer {
    /// Forgets the messages, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    /// Makes room for so many more bytes and messages.
    pub fn reserve(&mut self, bytes: usize, messages: usize) {
        self.bytes.reserve(bytes);
        self.entries.reserve(messages);
    }

    /// Appends a copy of a message.
    pub fn push(&mut self, message: &StoredMessage<'_>) {
        let start = self.bytes.len() as u32;
        self.bytes.reserve(message.subject.len() + message.headers.len() + message.payload.len());
        self.bytes.extend_from_slice(message.subject);
        self.bytes.extend_from_slice(message.headers);
        self.bytes.extend_from_slice(message.payload);
        self.entries.push(Entry {
            sequence: message.sequence,
            time: message.time,
            age: message.age,
            start,
            subject: message.subject.len() as u32,
            headers: message.headers.len() as u32,
            payload: message.payload.len() as u32,
        });
    }

    /// Number of messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// No message in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of subjects, headers and payloads together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The message at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<StoredMessage<'_>> {
        let entry = self.entries.get(index)?;
        let rest = &self.bytes[entry.start as usize..];
        let (subject, rest) = rest.split_at(entry.subject as usize);
        let (headers, rest) = rest.split_at(entry.headers as usize);
        Some(StoredMessage {
            sequence: entry.sequence,
            time: entry.time,
            age: entry.age,
            subject,
            headers,
            payload: &rest[..entry.payload as usize],
        })
    }

    /// All messages in the order they were pushed.
    pub fn iter(&self) -> impl Iterator<Item = StoredMessage<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// Outcome of a bulk read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// The buffer holds what there is from the asked position, up to the asked bytes. `next` is where the following read begins.
    Ready {
        /// First sequence not looked at yet.
        next: Sequence,
    },
    /// Not in memory: fetched on another thread, ask again with the same arguments after the next wake-up. Only bulk reads answer this.
    Pending,
}

/// What a removal from the front took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// How many messages.
    pub messages: u64,
    /// Their size by [`message_size`].
    pub bytes: u64,
    /// First and last sequence removed; 0 when none.
    pub first: Sequence,
    /// See `first`.
    pub last: Sequence,
}

/// Until where the front of a stream is to be removed: everything that violates one of these goes, at most `limit` messages a call.
#[derive(Clone, Copy, Debug)]
pub struct FrontLimits {
    /// Keep at most so many messages.
    pub max_messages: u64,
    /// Keep at most so many bytes.
    pub max_bytes: u64,
    /// Remove what was stored before this age (`None`: keep all).
    pub stored_before: Option<AgeMillis>,
    /// Remove what lies below this sequence.
    pub below: Sequence,
    /// Stop after so many, so that a call stays short.
    pub limit: u64,
}

/// A stream found at opening.
#[derive(Clone, Debug)]
pub struct LoadedStream {
    /// Its id.
    pub stream: StreamId,
    /// What [`Store::create_stream`] or [`Store::update_stream`] was last given.
    pub description: Vec<u8>,
}

/// A message id found at opening, for the duplicate window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentId {
    /// Hash of the id.
    pub hash: u128,
    /// Sequence of its message.
    pub sequence: Sequence,
    /// When it was stored.
    pub age: AgeMillis,
}

/// Makes a commit durable that was written; see [`Store::begin_commit`].
pub type SyncJob = Box<dyn FnOnce() -> std::io::Result<()> + Send>;

/// The storage engine. One owner, one thread; see the module for transactions and errors.
pub trait Store {
    /// All streams, by id, without those being deleted.
    ///
    /// # Errors
    /// When the file can't be read.
    fn streams(&mut self) -> Result<Vec<LoadedStream>, StoreError>;

    /// Creates an empty stream. `first` is the first sequence it will give. `description` is opaque to the store.
    ///
    /// # Errors
    /// When the engine fails.
    fn create_stream(&mut self, stream: StreamId, first: Sequence, description: &[u8]) -> Result<(), StoreError>;

    /// Replaces a stream's description.
    ///
    /// # Errors
    /// When the engine fails.
    fn update_stream(&mut self, stream: StreamId, description: &[u8]) -> Result<(), StoreError>;

    /// Payloads that come from now on are stored compressed, or are not any more. Said again after each opening; a store that can't does nothing.
    fn compress(&mut self, _stream: StreamId, _on: bool) {}

    /// Forgets a stream at once; its space is given back in steps by [`Store::maintain`].
    ///
    /// # Errors
    /// When the engine fails.
    fn delete_stream(&mut self, stream: StreamId) -> Result<(), StoreError>;

    /// Counters of a stream; all zero for an unknown one.
    fn state(&self, stream: StreamId) -> StreamState;

    /// Stores a message.
    ///
    /// # Errors
    /// [`StoreError::Full`] when the reserve is reached (nothing written, the transaction goes on), else the engine failed.
    fn append(&mut self, stream: StreamId, message: &NewMessage<'_>) -> Result<(), StoreError>;

    /// Removes one message; `true` when it was there. `erase` overwrites its bytes first.
    ///
    /// # Errors
    /// When the engine fails.
    fn remove(&mut self, stream: StreamId, sequence: Sequence, erase: bool) -> Result<bool, StoreError>;

    /// Removes the messages from `first` to `last`, both included, as far as they are there.
    ///
    /// # Errors
    /// When the engine fails.
    fn remove_run(&mut self, stream: StreamId, first: Sequence, last: Sequence) -> Result<(), StoreError> {
        let mut next = first;
        while next <= last {
            self.remove(stream, next, false)?;
            next = next.next();
        }
        Ok(())
    }

    /// Removes from the front, see [`FrontLimits`].
    ///
    /// # Errors
    /// When the engine fails.
    fn evict(&mut self, stream: StreamId, limits: &FrontLimits) -> Result<Evicted, StoreError>;

    /// Removes all messages of a stream at once, however many; its last sequence stays. Their space is given back in steps by [`Store::maintain`].
    ///
    /// # Errors
    /// When the engine fails.
    fn clear(&mut self, stream: StreamId) -> Result<Evicted, StoreError>;

    /// Removes the oldest messages of the subjects that match, all but the newest `keep` of the whole selection, those below `below` only (if
    /// given), at most `limit` a call and fewer where they lie far apart. Returns how many, and whether more may remain.
    ///
    /// # Errors
    /// When the engine fails.
    fn purge(
        &mut self,
        stream: StreamId,
        filter: &Filter,
        below: Option<Sequence>,
        keep: u64,
        limit: u64,
    ) -> Result<(Evicted, bool), StoreError>;

    /// Removes the oldest messages of one literal subject, all but the newest `keep`: what a per-subject limit asks for after each append
    /// beyond it, so usually one message. At most `limit` a call.
    ///
    /// # Errors
    /// When the engine fails.
    fn trim_subject(&mut self, stream: StreamId, subject: &[u8], keep: u64, limit: u64) -> Result<Evicted, StoreError> {
        let filter = Filter::from_bytes(subject).map_err(|error| StoreError::Damaged(error.to_string()))?;
        Ok(self.purge(stream, &filter, None, keep, limit)?.0)
    }

    /// Removes of every subject that holds more than `keep` messages the oldest ones beyond that: a step of it, in the order of the stream, that removes
    /// `limit` messages at most and looks at four times as many. Answers where the next step begins; `None`: that was all.
    ///
    /// # Errors
    /// When the engine fails.
    fn trim_subjects(
        &mut self,
        stream: StreamId,
        from: Sequence,
        keep: u64,
        limit: u64,
    ) -> Result<(Evicted, Option<Sequence>), StoreError>;

    /// Raises the last sequence without a message, so that the next one is `last + 1` (purge of an empty stream to a sequence, restores).
    ///
    /// # Errors
    /// When the engine fails.
    fn skip_to(&mut self, stream: StreamId, last: Sequence, now: Now) -> Result<(), StoreError>;

    /// Time and age of the oldest message.
    ///
    /// # Errors
    /// When the engine fails.
    fn oldest(&mut self, stream: StreamId) -> Result<Option<(Sequence, Now)>, StoreError>;

    /// Sequence of the first message stored at or after `time`; `last + 1` when there is none.
    ///
    /// # Errors
    /// When the engine fails.
    fn first_at(&mut self, stream: StreamId, time: Timestamp) -> Result<Sequence, StoreError>;

    /// Reads one message into the buffer (appended); `false` when it is not there.
    ///
    /// # Errors
    /// When the engine fails; [`StoreError::Damaged`] when only this row is damaged, which poisons nothing.
    fn message(&mut self, stream: StreamId, sequence: Sequence, into: &mut MessageBuffer) -> Result<bool, StoreError>;

    /// What is known of a literal subject.
    fn subject_state(&self, stream: StreamId, subject: &[u8]) -> Option<SubjectState>;

    /// Visits every subject that matches, in unspecified order.
    fn for_each_subject(&self, stream: StreamId, filter: &Filter, visit: &mut dyn FnMut(&[u8], SubjectState));

    /// Sequence of the newest message that matches, at or below `up_to`.
    ///
    /// # Errors
    /// When the engine fails.
    fn last_matching(
        &mut self,
        stream: StreamId,
        filter: &Filter,
        up_to: Sequence,
    ) -> Result<Option<Sequence>, StoreError>;

    /// Appends the sequences of the messages at or after `from`, in order, `most` at most: none means that there are no more.
    ///
    /// # Errors
    /// When the engine fails.
    fn sequences(
        &mut self,
        stream: StreamId,
        from: Sequence,
        most: usize,
        into: &mut Vec<Sequence>,
    ) -> Result<(), StoreError>;

    /// Sequence of the first message at or after `from` that matches one of the filters (none: any). May have to look far.
    ///
    /// # Errors
    /// When the engine fails.
    fn next_matching(
        &mut self,
        stream: StreamId,
        from: Sequence,
        filters: &[Filter],
    ) -> Result<Option<Sequence>, StoreError>;

    /// Number of messages at or after `from` that match one of the filters (none: all).
    ///
    /// # Errors
    /// When the engine fails.
    fn count_matching(&mut self, stream: StreamId, from: Sequence, filters: &[Filter]) -> Result<u64, StoreError>;

    /// Bulk read: appends messages from `from` on that match (no filters: all), until `max_bytes` or `max_messages` is reached or the end.
    /// Looks at a bounded number of messages a call; `next` tells how far it came even when nothing matched.
    ///
    /// # Errors
    /// When the engine fails. A damaged row is skipped, counted and reported by the engine, not an error.
    fn read(
        &mut self,
        stream: StreamId,
        from: Sequence,
        filters: &[Filter],
        max_messages: usize,
        max_bytes: usize,
        into: &mut MessageBuffer,
    ) -> Result<Read, StoreError>;

    /// Ids of messages stored at or after `since`, oldest first, at most `limit` (the newest).
    ///
    /// # Errors
    /// When the engine fails.
    fn recent_ids(&mut self, stream: StreamId, since: AgeMillis, limit: usize) -> Result<Vec<RecentId>, StoreError>;

    /// Writes a record. Keys are ordered bytes; their first byte names the owner (see [`record_space`]).
    ///
    /// # Errors
    /// When the engine fails.
    fn put_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError>;

    /// Removes a record; nothing happens when there is none.
    ///
    /// # Errors
    /// When the engine fails.
    fn delete_record(&mut self, key: &[u8]) -> Result<(), StoreError>;

    /// Reads a record.
    ///
    /// # Errors
    /// When the engine fails.
    fn record(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Visits records whose key begins with `prefix` and is not below `from`, in key order, until `visit` returns false.
    ///
    /// # Errors
    /// When the engine fails.
    fn scan_records(
        &mut self,
        prefix: &[u8],
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError>;

    /// Makes everything since the last commit durable: returns after it is synced.
    ///
    /// # Errors
    /// The transaction is lost and the store poisoned.
    fn commit(&mut self) -> Result<(), StoreError>;

    /// The same in two parts: everything is written when it returns, and durable when what it answers was run (on another thread, say) and
    /// [`Store::synced`] was told so. In between only reads are allowed. `None`: it is durable already, as always unless [`Store::sync_apart`] was called.
    ///
    /// # Errors
    /// As [`Store::commit`].
    fn begin_commit(&mut self) -> Result<Option<SyncJob>, StoreError> {
        self.commit().map(|()| None)
    }

    /// What [`Store::begin_commit`] answered was run, and came to this.
    ///
    /// # Errors
    /// When it failed: as [`Store::commit`].
    fn synced(&mut self, _outcome: std::io::Result<()>) -> Result<(), StoreError> {
        Ok(())
    }

    /// Should commits from here on be in two parts, if the store can do so? Not while [`Store::is_dirty`].
    ///
    /// # Errors
    /// When the engine fails.
    fn sync_apart(&mut self, _apart: bool) -> Result<(), StoreError> {
        Ok(())
    }

    /// Is it certain that this message, which is the newest of its subject, is committed and would be so after a crash?
    fn is_committed(&self, _stream: StreamId, _sequence: Sequence) -> bool {
        false
    }

    /// Is there anything since the last commit?
    fn is_dirty(&self) -> bool;

    /// A small piece of house-keeping (space of deleted streams, checkpoints), between two turns. `true` when more waits.
    ///
    /// # Errors
    /// When the engine fails.
    fn maintain(&mut self) -> Result<bool, StoreError>;

    /// Is there room for messages of so many bytes together?
    ///
    /// # Errors
    /// When the engine fails.
    fn has_room(&mut self, bytes: u64) -> Result<bool, StoreError> {
        Ok(self.space().available >= bytes)
    }

    /// Room left for messages before [`StoreError::Full`], in bytes, as far as is known; and bytes used by the store.
    fn space(&self) -> Space;
}

/// Reads one message; a damaged one counts as not there: it is the store's to report, and costs nothing but itself.
pub(crate) fn undamaged(
    store: &mut dyn Store,
    stream: StreamId,
    sequence: Sequence,
    into: &mut MessageBuffer,
) -> Result<bool, StoreError> {
    match store.message(stream, sequence, into) {
        Err(StoreError::Damaged(_)) => Ok(false),
        other => other,
    }
}

/// Disk space as the store sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes of the store's files.
    pub used: u64,
    /// Bytes that may still be written above the reserved floor.
    pub available: u64,
}

/// First byte of a record's key: who owns it.
pub mod record_space {
    /// Consumers: configuration and state.
    pub const CONSUMER: u8 = b'c';
    /// Entries of MQTT session queues.
    pub const QUEUE: u8 = b'q';
    /// MQTT session rows; their meaning is the broker's.
    pub const SESSION: u8 = b's';
    /// Positions of forwards; their meaning is `forward`'s.
    pub const FORWARD: u8 = b'f';
    /// Incarnations of the store; their meaning is `forward`'s as well.
    pub const INCARNATION: u8 = b'i';
    /// When messages end that have a time to live.
    pub const TIME_TO_LIVE: u8 = b't';
    /// Messages that are sent later.
    pub const SCHEDULE: u8 = b'd';
    /// Ledgers of forwarded streams.
    pub const LEDGER: u8 = b'l';
    /// What consumers of forwarded streams are done with, and hubs have not confirmed.
    pub const OWED: u8 = b'w';
    /// How far streams have come with their origins.
    pub const ORIGIN: u8 = b'o';
    /// The age clock and other single values.
    pub const SINGLE: u8 = b'v';
}
