//! The state machine: streams, consumers and session queues of one store, changed by commands and by time.
//!
//! A turn of the store thread is: [`JetStream::apply`] for each waiting batch, [`JetStream::tick`] once, [`JetStream::before_commit`] and a commit
//! if [`JetStream::needs_commit`], then everything is handed out. `committer` runs that sequence; nothing may be handed out if it fails.
//!
//! An error is the store's. The state is then worth nothing: the owner drops it together with the store, and loads both again.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::account_limits::{AccountLimits, RequestLimits};
use crate::batching::Batches;
use crate::changes::Changes;
use crate::clock::StoredClock;
use crate::command::{Append, Batch, Command, Deliveries, Event, Outcome, Recipient, Ticket};
use crate::config::{Compression, Storage, StreamConfig};
use crate::consumer::Consumer;
use crate::forwarded::ledger::Cause;
use crate::forwarded::owed::Debts;
use crate::identity::{AgeMillis, ConsumerId, HIGHEST_SEQUENCE, Now, Sequence, StreamId};
use crate::queue::Queues;
use crate::record::{Reader, put};
use crate::restore::{RESTORING, Restoring};
use crate::store::layers::Layers;
use crate::store::memory::MemoryStore;
use crate::store::{MessageBuffer, Read, Store, StoreError, record_space};
use crate::stored_config;
use crate::stream::duplicates;
use crate::stream::message_id::IdKey;
use crate::stream::purging::Purging;
use crate::stream::retention::Released;
use crate::stream::sweep::Sweep;
use crate::stream::trimming::Excess;
use crate::stream::{Incoming, Removal, Stream};
use crate::templates::Template;

/// A map by a small number that shows no order: nothing may iterate over it.
pub(crate) type ById<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

pub(crate) const IDS_KEY: [u8; 4] = [record_space::SINGLE, b'i', b'd', b's'];
const IDS_VERSION: u8 = 1;
/// State changes that nobody waits for are durable after this.
const LAZY_COMMIT_MILLIS: u64 = 100;
/// Bytes of messages that nobody waits for (`persist_mode: async`) are durable at the latest when there are so many.
const MOST_UNSYNCED_BYTES: u64 = 4 << 20;

/// Timers of one turn; what is due beside them is for the next.
const TIMERS_PER_TURN: usize = 256;
/// Consumers that wait to be saved: with so many there is a commit, so that none has much to write.
const MOST_UNSAVED: usize = 512;

/// What bounds a store, and the randomness of its first opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most streams, our own not counted.
    pub max_streams: u32,
    /// Most consumers, all streams together.
    pub max_consumers: u32,
    /// Most bytes of messages, by [`crate::store::message_size`]; `None`: no limit.
    pub max_file_store: Option<u64>,
    /// The same for streams in memory.
    pub max_memory_store: Option<u64>,
    /// Most messages in an MQTT session's queue.
    pub max_queued_messages: u64,
    /// Most bytes in an MQTT session's queue.
    pub max_queued_bytes: u64,
    /// What the account may have.
    pub account: AccountLimits,
    /// What single requests may ask for.
    pub requests: RequestLimits,
    /// Random numbers: the key of the id hashes, used if the store is new.
    pub seed: (u64, u64),
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_streams: 1000,
            max_consumers: 10_000,
            max_file_store: None,
            max_memory_store: Some(64 << 20),
            max_queued_messages: 1000,
            max_queued_bytes: 64 << 20,
            account: AccountLimits::default(),
            requests: RequestLimits::default(),
            seed: (0, 0),
        }
    }
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Its oldest message expires.
    Stream(StreamId),
    /// Redelivery, expiry of pulls, heartbeats, inactivity.
    Consumer(ConsumerId),
    /// Gap records of a stream may be written.
    Gaps(StreamId),
    /// Batches that nothing is heard of are given up.
    Batches,
}

/// A read that waits for its slice.
#[derive(Debug)]
pub(crate) struct WaitingRead {
    ticket: Ticket,
    stream: StreamId,
    from: Sequence,
    max_bytes: u32,
}

/// Streams, consumers and session queues of a store.
#[derive(Debug)]
pub struct JetStream {
    pub(crate) limits: Limits,
    pub(crate) key: IdKey,
    pub(crate) streams: ById<StreamId, Stream>,
    pub(crate) stream_names: BTreeMap<Box<str>, StreamId>,
    pub(crate) consumers: ById<ConsumerId, Consumer>,
    /// Consumers to be served in this turn.
    pub(crate) ready: Vec<ConsumerId>,
    /// Consumers to be saved with the next commit.
    pub(crate) dirty: Vec<ConsumerId>,
    pub(crate) queues: Queues,
    /// Bytes of waiting pulls, all consumers together: at least as many as there are, see [`JetStream::may_wait`].
    pub(crate) waiting_bytes: usize,
    /// Scratch: messages read, sequences due.
    pub(crate) buffer: MessageBuffer,
    pub(crate) due: Vec<Sequence>,
    /// Scratch: the subject that a message gets.
    pub(crate) subject: Vec<u8>,
    pub(crate) timers: BTreeSet<(AgeMillis, Timer)>,
    /// Streams with something new in this turn.
    pub(crate) touched: Vec<StreamId>,
    /// Bytes of all users' streams on disk.
    pub(crate) stored_bytes: u64,
    /// Bytes of those in memory.
    pub(crate) memory_bytes: u64,
    /// Streams in memory.
    volatile: MemoryStore,
    /// What changes in streams that are read by subject.
    changes: Changes,
    /// Streams that are to be watched from the next batch on.
    pub(crate) to_watch: Vec<StreamId>,
    pub(crate) removed: Vec<Removal>,
    /// What consumers of work queues and interest streams are done with in this turn.
    pub(crate) released: Vec<Released>,
    /// Stretches of interest streams that are to be looked through.
    pub(crate) sweeps: BTreeMap<StreamId, Sweep>,
    pub(crate) reads: Vec<WaitingRead>,
    /// Streams that are being restored, by the asker's numbers.
    pub(crate) restores: BTreeMap<u32, Restoring>,
    pub(crate) templates: BTreeMap<Box<str>, Template>,
    pub(crate) next_template: u32,
    pub(crate) api_total: u64,
    pub(crate) api_errors: u64,
    /// Bytes of the answers of this turn, about.
    pub(crate) answered: usize,
    pub(crate) commits: u64,
    pub(crate) commit_histogram: [u64; 24],
    /// Something waits for the disk: an append, a request, an acknowledgement with a reply.
    pub(crate) sync: bool,
    /// Since when something changed that nobody waits for.
    pub(crate) lazy_since: Option<AgeMillis>,
    /// Bytes of messages of this transaction that nobody waits for.
    unsynced_bytes: u64,
    /// There is work left over from this turn.
    pub(crate) again: bool,
    /// Purges that take more than one turn, oldest first.
    pub(crate) purges: VecDeque<Purging>,
    /// Number of the newest of them.
    pub(crate) purge_number: u64,
    /// Roll-ups and lowered limits that take more than one turn.
    pub(crate) trims: VecDeque<(StreamId, Excess)>,
    /// Streams that are gone, some records of which are still there.
    pub(crate) forgotten: Vec<StreamId>,
    /// The gap stream; without it no ledgers are kept.
    pub(crate) gaps: Option<Box<StreamConfig>>,
    /// Streams whose ledger changed in this turn.
    pub(crate) books: Vec<StreamId>,
    /// Those that are to be saved with the next commit.
    pub(crate) unsaved_books: Vec<StreamId>,
    /// What waits for hubs before it goes.
    pub(crate) debts: Debts,
    /// Streams whose positions in their origins are to be saved with the next commit.
    pub(crate) unsaved_places: Vec<StreamId>,
    pub(crate) batches: Batches,
    full: bool,
    clock: StoredClock,
    next_stream: u32,
    pub(crate) next_consumer: u32,
}

impl JetStream {
    /// Reads what a store holds. The events announce every stream and consumer.
    ///
    /// # Errors
    /// When the store can't be read, or holds what can't be understood.
    pub fn load(store: &mut dyn Store, now: Now, limits: Limits) -> Result<(JetStream, Vec<Event>), StoreError> {
        let ids = store.record(&IDS_KEY)?.map(|record| decode_ids(&record)).transpose()?;
        let (next_stream, next_consumer, key) =
            ids.unwrap_or((StreamId::FIRST.0, 1, IdKey(limits.seed.0, limits.seed.1)));
        let mut jetstream = JetStream {
            limits,
            key,
            streams: ById::default(),
            stream_names: BTreeMap::new(),
            consumers: ById::default(),
            ready: Vec::new(),
            dirty: Vec::new(),
            queues: Queues::default(),
            waiting_bytes: 0,
            buffer: MessageBuffer::default(),
            due: Vec::new(),
            subject: Vec::new(),
            timers: BTreeSet::new(),
            touched: Vec::new(),
            stored_bytes: 0,
            memory_bytes: 0,
            volatile: MemoryStore::default(),
            changes: Changes::default(),
            to_watch: Vec::new(),
            removed: Vec::new(),
            released: Vec::new(),
            sweeps: BTreeMap::new(),
            reads: Vec::new(),
            restores: BTreeMap::new(),
            templates: BTreeMap::new(),
            next_template: 1,
            api_total: 0,
            api_errors: 0,
            answered: 0,
            commits: 0,
            commit_histogram: [0; 24],
            sync: false,
            lazy_since: None,
            unsynced_bytes: 0,
            again: false,
            purges: VecDeque::new(),
            purge_number: 0,
            trims: VecDeque::new(),
            forgotten: Vec::new(),
            gaps: None,
            books: Vec::new(),
            unsaved_books: Vec::new(),
            debts: Debts::default(),
            unsaved_places: Vec::new(),
            batches: Batches::new(limits.requests.batches),
            full: false,
            clock: StoredClock::default(),
            next_stream,
            next_consumer,
        };
        if ids.is_none() {
            jetstream.save_ids(store)?;
        }
        let mut events = Vec::new();
        jetstream.load_streams(store, now, &mut events)?;
        jetstream.load_templates(store, &mut events)?;
        jetstream.find_forgotten(store)?;
        jetstream.load_consumers(store, now, &mut events)?;
        jetstream.load_sweeps(store)?;
        jetstream.load_owed(store)?;
        jetstream.load_trims(store)?;
        jetstream.queues = Queues::load(store)?;
        Ok((jetstream, events))
    }

    /// Applies a batch: one outcome per command is appended to `outcomes`. They hold only after the commit.
    ///
    /// # Errors
    /// When the store fails; see the module.
    pub fn apply(
        &mut self,
        store: &mut dyn Store,
        now: Now,
        batch: &Batch,
        outcomes: &mut Vec<Outcome>,
        deliveries: &mut Deliveries,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        outcomes.reserve(batch.commands.len());
        self.in_layers(store, |jetstream, store| {
            let mut turn = Context { store, now, batch, deliveries, events };
            for command in &batch.commands {
                let outcome = jetstream.command(&mut turn, command)?;
                outcomes.push(outcome);
            }
            Ok(())
        })
    }

    /// Does something with the streams on disk and in memory as one store.
    fn in_layers<T>(
        &mut self,
        disk: &mut dyn Store,
        what: impl FnOnce(&mut JetStream, &mut dyn Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut memory = std::mem::take(&mut self.volatile);
        let mut changes = std::mem::take(&mut self.changes);
        for stream in std::mem::take(&mut self.to_watch) {
            // It may have been changed or deleted since it was read.
            if self.may_be_remembered(stream) {
                changes.watch(stream);
            }
        }
        let done = what(self, &mut Layers { disk, memory: &mut memory, changes: &mut changes });
        self.volatile = memory;
        self.changes = changes;
        done
    }

    fn command(&mut self, turn: &mut Context<'_>, command: &Command) -> Result<Outcome, StoreError> {
        if !matches!(command, Command::Ack(_) | Command::Credit { .. }) {
            // Acknowledgements that come together are looked at together; everybody else sees what they removed.
            self.remove_released(turn)?;
        }
        match command {
            Command::Append(append) => self.append(turn, append),
            Command::Take(take) => self.take(turn, take),
            Command::Begin(begin) => self.begin(turn, begin),
            Command::Record { key, value, .. } => {
                self.record(turn, key.of(&turn.batch.arena), value.of(&turn.batch.arena))
            }
            Command::Read { ticket, stream, from, max_bytes } => {
                self.reads.push(WaitingRead {
                    ticket: *ticket,
                    stream: *stream,
                    from: (*from).min(HIGHEST_SEQUENCE),
                    max_bytes: *max_bytes,
                });
                Ok(Outcome::Done)
            }
            Command::Request(request) => self.request(turn, request),
            Command::Restore { number, step } => self.restore(turn, *number, step),
            Command::Ack(ack) => self.acknowledge(turn, ack),
            Command::Pull(pull) => self.pull(turn, pull),
            Command::Unreachable { consumer, inbox, reply } => {
                let arena = &turn.batch.arena;
                Ok(self.unreachable(*consumer, inbox.of(arena), reply.of(arena), turn.now))
            }
            Command::Interest { consumer, is_there } => Ok(self.deliver_interest(turn, *consumer, *is_there)),
            Command::FlowAnswer { consumer, subject, headers } => self.flow_answer(turn, *consumer, *subject, *headers),
            Command::Credit { to: Recipient::Consumer(consumer), bytes } => {
                self.credit_consumer(*consumer, *bytes);
                Ok(Outcome::Done)
            }
            Command::Credit { to: Recipient::Session(session), bytes } => {
                self.queues.credit(*session, *bytes);
                Ok(Outcome::Done)
            }
            Command::QueueAttach { session, window } => {
                Ok(Outcome::Attached { queued: self.queues.attach(*session, *window) })
            }
            Command::QueueDetach { session } => {
                self.queues.detach(*session);
                Ok(Outcome::Done)
            }
            Command::QueueAck { session, position } => {
                if self.queues.acknowledge(turn.store, *session, *position)? {
                    self.lazy_since.get_or_insert(turn.now.age);
                }
                Ok(Outcome::Done)
            }
            Command::Forwarded(forwarded) => self.forwarded(turn, forwarded),
            Command::QueueDrop { session } => {
                self.sync = true;
                self.queues.clear(turn.store, *session)?;
                Ok(Outcome::Done)
            }
        }
    }

    /// What time and the applied commands bring about: limits, expiry, redelivery, deliveries. Called once in each turn, after the batches.
    ///
    /// # Errors
    /// When the store fails; see the module.
    pub fn tick(
        &mut self,
        store: &mut dyn Store,
        now: Now,
        deliveries: &mut Deliveries,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        self.in_layers(store, |jetstream, store| {
            jetstream.tick_all(&mut Context { store, now, batch: &Batch::default(), deliveries, events })
        })?;
        let changes = self.changes.take();
        if !changes.is_empty() {
            events.push(Event::Changed(changes));
        }
        Ok(())
    }

    fn tick_all(&mut self, turn: &mut Context<'_>) -> Result<(), StoreError> {
        self.again = false;
        self.answered = 0;
        self.remove_released(turn)?;
        self.fire_timers(turn)?;
        self.continue_purge(turn)?;
        self.continue_trim(turn)?;
        self.forget(turn)?;
        self.sweep(turn)?;
        self.remove_confirmed(turn)?;
        for stream in std::mem::take(&mut self.touched) {
            self.settle(turn, stream)?;
        }
        self.keep_books(turn)?;
        self.serve(turn)?;
        self.remove_released(turn)?;
        self.serve_queues(turn)?;
        self.read_slices(turn)
    }

    /// Is a commit due: something waits for it, or unwatched changes have waited long enough?
    #[must_use]
    pub fn needs_commit(&self, now: Now) -> bool {
        let is_late = self.lazy_since.is_some_and(|since| now.age.0 >= since.0 + LAZY_COMMIT_MILLIS);
        self.sync || is_late || self.dirty.len() >= MOST_UNSAVED
    }

    /// Does anything of this turn wait for the disk, so that nothing may leave before a commit?
    #[must_use]
    pub fn needs_sync(&self) -> bool {
        self.sync
    }

    /// Writes what is kept in memory into the transaction that is about to be committed.
    ///
    /// # Errors
    /// When the store fails; see the module.
    pub fn before_commit(&mut self, store: &mut dyn Store, now: Now) -> Result<(), StoreError> {
        self.save_consumers(store)?;
        self.save_books(store)?;
        self.save_owed(store)?;
        self.save_places(store)?;
        self.queues.save(store)?;
        self.clock.save(store, now)
    }

    /// The commit succeeded; it took so long.
    pub fn committed(&mut self, micros: u64) {
        self.sync = false;
        self.lazy_since = None;
        self.unsynced_bytes = 0;
        self.commits += 1;
        let slot = (micros.max(1).ilog2() as usize).min(self.commit_histogram.len() - 1);
        self.commit_histogram[slot] += 1;
    }

    /// When a turn is wanted even if no command comes.
    #[must_use]
    pub fn next_wake(&self, now: Now) -> Option<AgeMillis> {
        if self.again {
            return Some(now.age);
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        let lazy = self.lazy_since.map(|since| AgeMillis(since.0 + LAZY_COMMIT_MILLIS));
        timer.into_iter().chain(lazy).min()
    }

    /// A message was stored whose sender does not wait for the disk.
    pub(crate) fn stored_unsynced(&mut self, now: Now, size: u64) {
        self.lazy_since.get_or_insert(now.age);
        self.unsynced_bytes += size;
        self.sync |= self.unsynced_bytes >= MOST_UNSYNCED_BYTES;
    }

    pub(crate) fn set_full(&mut self, turn: &mut Context<'_>, full: bool) {
        if self.full != full {
            self.full = full;
            turn.events.push(Event::Full(full));
        }
    }

    fn record(&mut self, turn: &mut Context<'_>, key: &[u8], value: &[u8]) -> Result<Outcome, StoreError> {
        self.sync = true;
        if value.is_empty() {
            turn.store.delete_record(key)?;
        } else {
            turn.store.put_record(key, value)?;
        }
        Ok(Outcome::Done)
    }

    fn fire_timers(&mut self, turn: &mut Context<'_>) -> Result<(), StoreError> {
        let mut fired = 0;
        while let Some((at, timer)) = self.timers.first().copied().filter(|(at, _)| *at <= turn.now.age) {
            if fired == TIMERS_PER_TURN {
                self.again = true;
                break;
            }
            fired += 1;
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Stream(id) => self.touch(id),
                Timer::Consumer(id) => self.consumer_in_time(turn, id)?,
                Timer::Gaps(id) => self.list_book(id),
                Timer::Batches => self.batches_in_time(turn),
            }
        }
        Ok(())
    }

    /// The stream is looked at in this turn's [`JetStream::tick`].
    pub(crate) fn touch(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if !stream.touched {
            stream.touched = true;
            self.touched.push(id);
        }
    }

    /// Brings a stream within its limits, and plans when its next message expires.
    pub(crate) fn settle(&mut self, turn: &mut Context<'_>, id: StreamId) -> Result<(), StoreError> {
        let mut more = self.act_in_time(turn, id)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        stream.touched = false;
        let owes = stream.owed.is_changed();
        let unfinished = std::mem::take(&mut stream.unfinished);
        more |= stream.enforce_limits(turn.store, turn.now, &mut self.removed)?;
        more |= stream.end_messages(turn.store, turn.now, &mut self.removed)?;
        let next_end = stream.next_end.into_iter().chain(stream.next_schedule(turn.now)).min();
        let next_end = next_end.filter(|_| !stream.config.sealed);
        let due = stream.next_expiry(turn.store)?.into_iter().chain(next_end).min();
        // A time to live may end before what was planned.
        if stream.scheduled.is_none_or(|at| at <= turn.now.age || next_end.is_some_and(|end| end < at)) {
            if let Some(at) = stream.scheduled {
                self.timers.remove(&(at, Timer::Stream(id)));
            }
            // Never at once: what is due now and still there waits for the next step, or is the store's to explain.
            stream.scheduled = due.map(|at| at.max(AgeMillis(turn.now.age.0 + 1)));
            self.timers.extend(stream.scheduled.map(|at| (at, Timer::Stream(id))));
        }
        unfinished.into_iter().for_each(|excess| self.trim_later(id, excess));
        self.count_bytes(turn.store, id);
        if owes {
            self.owed_changed(turn, id);
        }
        if more {
            // The step is durable with this turn, so that no transaction grows long.
            self.sync = true;
            self.again = true;
            self.touch(id);
        }
        if !self.removed.is_empty() {
            self.lazy_since.get_or_insert(turn.now.age);
            self.account_removed(turn, id)?;
        }
        self.wake_consumers(turn, id);
        Ok(())
    }

    /// Its consumers have something to look at: new messages, or a beginning that has moved.
    pub(crate) fn wake_consumers(&mut self, turn: &Context<'_>, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (shrunk, purged) = (std::mem::take(&mut stream.shrunk), std::mem::take(&mut stream.purged));
        let state = turn.store.state(id);
        let (first, end) = (state.first, Some((stream.appended, state.last)));
        if std::mem::replace(&mut stream.woken_at, end) == end && !shrunk {
            // Only asked about: there may be thousands of consumers, and nothing for any of them.
            return;
        }
        let stream = &*stream;
        for id in stream.consumers.values() {
            let Some(consumer) = self.consumers.get_mut(id) else { continue };
            if shrunk {
                consumer.move_to_first(first, purged);
                if consumer.dirty && consumer.is_stored() && !consumer.delivering.listed {
                    consumer.delivering.listed = true;
                    self.dirty.push(*id);
                }
            }
            if !consumer.delivering.ready
                && !consumer.delivering.waiting.is_empty()
                && !consumer.passes_to(stream, state.last)
            {
                consumer.delivering.ready = true;
                self.ready.push(*id);
            }
        }
    }

    /// Tells the owner, the stream's ledger and its consumers what is gone.
    pub(crate) fn account_removed(&mut self, turn: &mut Context<'_>, id: StreamId) -> Result<(), StoreError> {
        self.account_lost(turn, id)?;
        let stream = self.streams.get_mut(&id);
        let consumers = stream.map(|stream| {
            stream.shrunk = true;
            stream.purged |= self.removed.iter().any(|removal| removal.cause == Cause::Purge);
            &stream.consumers
        });
        let left = turn.store.state(id).first;
        for removal in self.removed.drain(..) {
            let gone = removal.evicted;
            for consumer in consumers.iter().flat_map(|consumers| consumers.values()) {
                if let Some(consumer) = self.consumers.get_mut(consumer) {
                    consumer.account_removed(&removal);
                    consumer.forget_removed(turn.store, &removal)?;
                    turn.events.extend(consumer.news.drain(..).map(Event::Advisory));
                }
            }
            match turn.events.last_mut() {
                Some(Event::Removed { stream, last, messages, oldest, .. })
                    if *stream == id && last.next() == gone.first =>
                {
                    *last = gone.last;
                    *messages += gone.messages;
                    *oldest = left;
                }
                _ => turn.events.push(Event::Removed {
                    stream: id,
                    first: gone.first,
                    last: gone.last,
                    messages: gone.messages,
                    oldest: left,
                }),
            }
        }
        Ok(())
    }

    fn read_slices(&mut self, turn: &mut Context<'_>) -> Result<(), StoreError> {
        for read in std::mem::take(&mut self.reads) {
            let mut messages = Box::new(MessageBuffer::default());
            let known = self.streams.contains_key(&read.stream);
            let got = if known {
                turn.store.read(read.stream, read.from, &[], usize::MAX, read.max_bytes as usize, &mut messages)?
            } else {
                Read::Ready { next: read.from }
            };
            match got {
                Read::Ready { next } => turn.events.push(Event::Slice { ticket: read.ticket, messages, next }),
                Read::Pending => self.reads.push(read),
            }
        }
        Ok(())
    }

    /// A number for a new stream, never given before.
    pub(crate) fn new_stream_id(&mut self, store: &mut dyn Store, storage: Storage) -> Result<StreamId, StoreError> {
        let volatile = if storage == Storage::Memory { StreamId::VOLATILE } else { 0 };
        let id = StreamId(self.next_stream | volatile);
        self.next_stream += 1;
        self.save_ids(store)?;
        Ok(id)
    }

    /// A number for a new consumer, never given before.
    pub(crate) fn new_consumer_id(&mut self, store: &mut dyn Store) -> Result<ConsumerId, StoreError> {
        let id = ConsumerId(self.next_consumer);
        self.next_consumer += 1;
        self.save_ids(store)?;
        Ok(id)
    }

    fn save_ids(&self, store: &mut dyn Store) -> Result<(), StoreError> {
        let mut record = vec![IDS_VERSION];
        for number in [u64::from(self.next_stream), u64::from(self.next_consumer), self.key.0, self.key.1] {
            put(&mut record, number);
        }
        store.put_record(&IDS_KEY, &record)
    }

    fn load_streams(&mut self, store: &mut dyn Store, now: Now, events: &mut Vec<Event>) -> Result<(), StoreError> {
        let all = store.streams()?;
        if !all.iter().any(|loaded| loaded.stream == StreamId::QUEUED) {
            store.create_stream(StreamId::QUEUED, Sequence(1), b"")?;
        }
        let most_ids = duplicates::share(all.len());
        for loaded in all {
            if loaded.stream < StreamId::FIRST {
                continue;
            }
            // After damage the ids that were given may be unknown too.
            self.next_stream = self.next_stream.max(loaded.stream.0 + 1);
            if loaded.description == RESTORING {
                store.delete_stream(loaded.stream)?;
                continue;
            }
            let (config, created) = match stored_config::decode_stream(&loaded.description) {
                Ok(described) => described,
                // Nobody knows what it was for; what is left of it can still be read.
                Err(StoreError::Damaged(_)) if store.state(loaded.stream).messages > 0 => {
                    let config = StreamConfig::named(&format!("RECOVERED_{}", loaded.stream.0));
                    (StreamConfig { subjects: Vec::new(), ..config }, now.wall)
                }
                Err(StoreError::Damaged(_)) => {
                    store.delete_stream(loaded.stream)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            store.compress(loaded.stream, config.compression == Compression::S2);
            let mut stream = Stream::new(loaded.stream, config, created);
            stream.load(store, now, most_ids)?;
            self.stored_bytes += stream.counted_bytes;
            events.push(stream_up(&stream, store));
            stream.load_places(store, self.key)?;
            events.extend(stream.origins(store, self.key).map(|origins| Event::origins(stream.id, origins)));
            self.stream_names.insert(stream.config.name.clone(), loaded.stream);
            self.streams.insert(loaded.stream, stream);
            self.touch(loaded.stream);
        }
        self.batches_allowed(StreamId::NONE);
        Ok(())
    }
}

/// What a command may use while it is applied.
pub(crate) struct Context<'a> {
    pub(crate) store: &'a mut dyn Store,
    pub(crate) now: Now,
    pub(crate) batch: &'a Batch,
    pub(crate) deliveries: &'a mut Deliveries,
    pub(crate) events: &'a mut Vec<Event>,
}

impl<'a> Context<'a> {
    pub(crate) fn message(&self, append: &Append) -> Incoming<'a> {
        let arena = &self.batch.arena;
        Incoming {
            subject: append.subject.of(arena),
            headers: append.headers.of(arena),
            payload: append.payload.of(arena),
            taken: None,
        }
    }
}

/// The announcement of a stream.
pub(crate) fn stream_up(stream: &Stream, store: &dyn Store) -> Event {
    Event::StreamUp {
        stream: stream.id,
        name: stream.config.name.clone(),
        subjects: stream.config.subjects.iter().map(|subject| subject.as_str().into()).collect(),
        allow_direct: stream.config.allow_direct,
        no_ack: stream.config.no_ack,
        state: store.state(stream.id),
    }
}

fn decode_ids(record: &[u8]) -> Result<(u32, u32, IdKey), StoreError> {
    let mut from = Reader::new(record, IDS_VERSION, "numbers given so far")?;
    Ok((from.number_u32()?, from.number_u32()?, IdKey(from.number()?, from.number()?)))
}
