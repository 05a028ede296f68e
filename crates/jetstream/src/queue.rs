//! Queues of stored MQTT sessions: which messages a session is still to get, connected or not.
//!
//! An entry refers to a message in the stream that captured it, or in our own stream [`StreamId::QUEUED`] when none did. Entries share records
//! ([`Blocks`]); beside them is the row of the queue. In memory is only what an attached session is working on, and what changed lately.
//!
//! A queue is bounded in number and bytes; beyond that the oldest entry that is not on its way is dropped, and counted. So is an entry whose message
//! has left its stream. What was sent before, as far as is known, is marked: that mark is stored lazily, it decides only about DUP.

pub(crate) mod blocks;

#[cfg(test)]
mod properties;

use std::collections::{BTreeMap, VecDeque};

use crate::command::{Delivery, Event, QueueFor, QueuePlace, Recipient, Span};
use crate::consumer::delivery::{CREDIT, put_message, span};
use crate::identity::{Sequence, SessionId, StreamId};
use crate::jetstream::{ById, Context, JetStream};
use crate::queue::blocks::{Blocks, Entry, decode, decode_key, row_key};
use crate::record::{Reader, put};
use crate::store::{MessageBuffer, Store, StoreError, record_space, undamaged};

const ROW_VERSION: u8 = 1;
/// Entries read ahead of what is sent.
const AHEAD: usize = 64;
/// The packet id is made of the position: two open entries must not have the same.
const PACKET_IDS: u64 = 65_535;
/// Deliveries of one turn, as with consumers.
const TURN_BYTES: usize = 4 << 20;

/// What an attached session is working on.
#[derive(Debug)]
struct Attached {
    window: usize,
    credit: i64,
    /// Sent on this connection and not acknowledged.
    sent: VecDeque<Entry>,
    /// Read, next to be sent.
    ahead: VecDeque<Entry>,
    /// First position that was not read yet.
    cursor: u64,
}

/// One session's queue.
#[derive(Debug)]
struct SessionQueue {
    count: u64,
    bytes: u64,
    /// No entry lies below.
    first: u64,
    /// Position of the next entry.
    next: u64,
    /// Positions up to here were sent once.
    sent_up_to: u64,
    row_changed: bool,
    ready: bool,
    attached: Option<Box<Attached>>,
}

impl Default for SessionQueue {
    fn default() -> SessionQueue {
        SessionQueue {
            count: 0,
            bytes: 0,
            first: 1,
            next: 1,
            sent_up_to: 0,
            row_changed: false,
            ready: false,
            attached: None,
        }
    }
}

impl SessionQueue {
    fn forget(&mut self, entry: &Entry) {
        self.count -= 1;
        self.bytes = self.bytes.saturating_sub(u64::from(entry.size));
        if entry.position == self.first {
            self.first += 1;
        }
        if self.count == 0 {
            self.first = self.next;
        }
    }
}

/// All session queues of a store.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    sessions: BTreeMap<SessionId, SessionQueue>,
    blocks: Blocks,
    /// Messages of [`StreamId::QUEUED`] that nobody needs any more.
    freed: Vec<Sequence>,
    /// Messages of [`StreamId::QUEUED`] that more than one entry refers to.
    shared: ById<Sequence, u32>,
    ready: Vec<SessionId>,
    changed: Vec<SessionId>,
    /// Entries in all queues.
    pub(crate) queued: u64,
    /// Entries dropped since the start.
    pub(crate) dropped: u64,
    /// Entries dropped in this turn.
    told: Vec<(SessionId, u64)>,
}

impl Queues {
    /// Reads how long each queue is, and which messages are shared.
    pub(crate) fn load(store: &mut dyn Store) -> Result<Queues, StoreError> {
        let mut queues = Queues::default();
        let mut outcome = Ok(());
        let prefix = [record_space::QUEUE];
        store.scan_records(&prefix, &prefix, &mut |key, value| {
            outcome = queues.load_record(key, value);
            outcome.is_ok()
        })?;
        queues.shared.retain(|_, references| *references > 1);
        outcome.map(|()| queues)
    }

    fn load_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let Some((session, block)) = decode_key(key) else {
            return Err(StoreError::Damaged("key of a session queue".into()));
        };
        let queue = self.sessions.entry(session).or_default();
        let Some(block) = block else {
            let mut from = Reader::new(value, ROW_VERSION, "row of a session queue")?;
            queue.next = queue.next.max(from.number()?);
            queue.sent_up_to = from.number()?;
            queue.first = queue.next;
            return Ok(());
        };
        for entry in decode(block, value)? {
            // Keys come in order: the row first, then the blocks.
            if queue.count == 0 {
                queue.first = entry.position;
            }
            queue.count += 1;
            queue.bytes += u64::from(entry.size);
            queue.next = queue.next.max(entry.position + 1);
            self.queued += 1;
            if entry.stream == StreamId::QUEUED {
                *self.shared.entry(entry.sequence).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Adds a stored message to queues.
    pub(crate) fn add(
        &mut self,
        store: &mut dyn Store,
        targets: &[QueueFor],
        stream: StreamId,
        sequence: Sequence,
        size: u64,
        limits: (u64, u64),
    ) -> Result<(), StoreError> {
        if stream == StreamId::QUEUED && targets.len() > 1 {
            self.shared.insert(sequence, targets.len() as u32);
        }
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        for target in targets {
            self.make_room(store, target.session, u64::from(size), limits)?;
            let queue = self.sessions.entry(target.session).or_default();
            let entry = Entry { position: queue.next, stream, sequence, quality: target.quality, size };
            let first = queue.count == 0;
            queue.next += 1;
            queue.count += 1;
            queue.bytes += u64::from(size);
            self.queued += 1;
            self.blocks.push(store, target.session, entry, first)?;
            if let Some(attached) = &mut queue.attached
                && attached.cursor == entry.position
                && attached.ahead.len() < AHEAD
            {
                attached.ahead.push_back(entry);
                attached.cursor += 1;
            }
            self.serve_soon(target.session);
        }
        Ok(())
    }

    fn make_room(
        &mut self,
        store: &mut dyn Store,
        session: SessionId,
        size: u64,
        (most, most_bytes): (u64, u64),
    ) -> Result<(), StoreError> {
        loop {
            let Some(queue) = self.sessions.get(&session) else { return Ok(()) };
            if queue.count == 0 || (queue.count < most && queue.bytes + size <= most_bytes) {
                return Ok(());
            }
            let on_their_way = queue.attached.as_ref().and_then(|attached| attached.sent.back());
            let behind = on_their_way.map_or(queue.first, |entry| entry.position + 1);
            let mut oldest = self.blocks.read(store, session, behind, 1)?;
            if oldest.is_empty() {
                oldest = self.blocks.read(store, session, queue.first, 1)?;
            }
            let Some(entry) = oldest.first().copied() else { return Ok(()) };
            self.drop_entry(store, session, &entry)?;
        }
    }

    /// An entry that the client will not get.
    fn drop_entry(&mut self, store: &mut dyn Store, session: SessionId, entry: &Entry) -> Result<(), StoreError> {
        self.dropped += 1;
        match self.told.last_mut() {
            Some((last, messages)) if *last == session => *messages += 1,
            _ => self.told.push((session, 1)),
        }
        self.remove(store, session, entry)
    }

    /// Takes an entry out, and its message if nobody else needs it.
    fn remove(&mut self, store: &mut dyn Store, session: SessionId, entry: &Entry) -> Result<(), StoreError> {
        if let Some(queue) = self.sessions.get_mut(&session) {
            queue.forget(entry);
            if let Some(attached) = &mut queue.attached {
                take(&mut attached.sent, entry.position);
                take(&mut attached.ahead, entry.position);
            }
        }
        self.queued -= 1;
        self.note_row(session);
        self.release(entry);
        self.blocks.remove(store, session, entry.position)
    }

    fn release(&mut self, entry: &Entry) {
        if entry.stream != StreamId::QUEUED {
            return;
        }
        if let Some(references) = self.shared.get_mut(&entry.sequence) {
            *references -= 1;
            if *references == 1 {
                self.shared.remove(&entry.sequence);
            }
            return;
        }
        self.freed.push(entry.sequence);
    }

    /// A session is connected; answers how many entries its queue has.
    pub(crate) fn attach(&mut self, session: SessionId, window: u16) -> u64 {
        let queue = self.sessions.entry(session).or_default();
        queue.attached = Some(Box::new(Attached {
            window: usize::from(window.max(1)),
            credit: CREDIT,
            sent: VecDeque::new(),
            ahead: VecDeque::new(),
            cursor: queue.first,
        }));
        let queued = queue.count;
        self.serve_soon(session);
        queued
    }

    /// A session's connection is gone.
    pub(crate) fn detach(&mut self, session: SessionId) {
        if let Some(queue) = self.sessions.get_mut(&session) {
            queue.attached = None;
        }
    }

    /// The client has a message; `false` when it was not in the queue.
    pub(crate) fn acknowledge(
        &mut self,
        store: &mut dyn Store,
        session: SessionId,
        position: u64,
    ) -> Result<bool, StoreError> {
        let Some(queue) = self.sessions.get(&session) else { return Ok(false) };
        let sent = queue.attached.as_ref().and_then(|attached| {
            let index = attached.sent.binary_search_by_key(&position, |entry| entry.position).ok()?;
            attached.sent.get(index).copied()
        });
        let entry = match sent {
            Some(entry) => Some(entry),
            None => self.blocks.find(store, session, position)?,
        };
        let Some(entry) = entry else { return Ok(false) };
        self.remove(store, session, &entry)?;
        self.serve_soon(session);
        Ok(true)
    }

    /// Forgets a queue with everything in it.
    pub(crate) fn clear(&mut self, store: &mut dyn Store, session: SessionId) -> Result<(), StoreError> {
        let mut from = 1;
        loop {
            let entries = self.blocks.read(store, session, from, AHEAD)?;
            let Some(last) = entries.last() else { break };
            from = last.position + 1;
            self.queued -= entries.len() as u64;
            entries.iter().for_each(|entry| self.release(entry));
        }
        self.sessions.remove(&session);
        self.blocks.clear(store, session)
    }

    /// Bytes of deliveries left the process.
    pub(crate) fn credit(&mut self, session: SessionId, bytes: u32) {
        if let Some(attached) = self.sessions.get_mut(&session).and_then(|queue| queue.attached.as_mut()) {
            attached.credit = (attached.credit + i64::from(bytes)).min(CREDIT);
            self.serve_soon(session);
        }
    }

    fn serve_soon(&mut self, session: SessionId) {
        let Some(queue) = self.sessions.get_mut(&session) else { return };
        if queue.attached.is_some() && !queue.ready {
            queue.ready = true;
            self.ready.push(session);
        }
    }

    fn note_row(&mut self, session: SessionId) {
        let Some(queue) = self.sessions.get_mut(&session) else { return };
        if !queue.row_changed {
            queue.row_changed = true;
            self.changed.push(session);
        }
    }

    /// Did anything change that is not written yet?
    pub(crate) fn has_changes(&self) -> bool {
        !self.changed.is_empty() || !self.freed.is_empty() || self.blocks.has_changes()
    }

    /// Writes what changed.
    pub(crate) fn save(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        self.blocks.save(store)?;
        self.freed.sort_unstable();
        for run in self.freed.chunk_by(|before, next| before.next() == *next) {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                store.remove_run(StreamId::QUEUED, *first, *last)?;
            }
        }
        self.freed.clear();
        for session in std::mem::take(&mut self.changed) {
            let Some(queue) = self.sessions.get_mut(&session) else { continue };
            queue.row_changed = false;
            let mut row = vec![ROW_VERSION];
            put(&mut row, queue.next);
            put(&mut row, queue.sent_up_to);
            store.put_record(&row_key(session), &row)?;
        }
        Ok(())
    }

    /// The next entry that may be sent now, taken from what was read ahead.
    fn next_to_send(&mut self, store: &mut dyn Store, session: SessionId) -> Result<Option<Entry>, StoreError> {
        let Some(queue) = self.sessions.get_mut(&session) else { return Ok(None) };
        let Some(attached) = &mut queue.attached else { return Ok(None) };
        if attached.sent.len() >= attached.window || attached.credit <= 0 {
            return Ok(None);
        }
        if attached.ahead.is_empty() && attached.cursor < queue.next {
            attached.ahead = self.blocks.read(store, session, attached.cursor, AHEAD)?.into();
            let whole = attached.ahead.len() < AHEAD;
            let read_to = attached.ahead.back().map_or(queue.next, |entry| entry.position + 1);
            attached.cursor = if whole { queue.next } else { read_to };
        }
        let oldest_open = attached.sent.front().map_or(u64::MAX, |entry| entry.position);
        let id_is_free = |entry: &Entry| entry.position < oldest_open.saturating_add(PACKET_IDS);
        Ok(if attached.ahead.front().is_some_and(id_is_free) { attached.ahead.pop_front() } else { None })
    }

    /// An entry is on its way; answers whether it was before.
    fn note_sent(&mut self, session: SessionId, entry: Entry, cost: u32) {
        let Some(queue) = self.sessions.get_mut(&session) else { return };
        queue.sent_up_to = queue.sent_up_to.max(entry.position);
        if let Some(attached) = &mut queue.attached {
            attached.credit -= i64::from(cost);
            attached.sent.push_back(entry);
        }
        self.note_row(session);
    }

    fn was_sent(&self, session: SessionId, position: u64) -> bool {
        self.sessions.get(&session).is_some_and(|queue| position <= queue.sent_up_to)
    }
}

impl JetStream {
    /// Sends attached sessions what they may get now.
    pub(crate) fn serve_queues(&mut self, turn: &mut Context<'_>) -> Result<(), StoreError> {
        for session in std::mem::take(&mut self.queues.ready) {
            if let Some(queue) = self.queues.sessions.get_mut(&session) {
                queue.ready = false;
            }
            if turn.deliveries.arena.len() >= TURN_BYTES {
                self.again = true;
                self.queues.serve_soon(session);
                continue;
            }
            while let Some(entry) = self.queues.next_to_send(turn.store, session)? {
                self.send_entry(turn, session, entry)?;
            }
        }
        let dropped = self.queues.told.drain(..);
        turn.events.extend(dropped.map(|(session, messages)| Event::QueueDropped { session, messages }));
        if self.queues.has_changes() {
            self.lazy_since.get_or_insert(turn.now.age);
        }
        Ok(())
    }

    fn send_entry(&mut self, turn: &mut Context<'_>, session: SessionId, entry: Entry) -> Result<(), StoreError> {
        self.buffer.clear();
        let known = entry.stream == StreamId::QUEUED || self.streams.contains_key(&entry.stream);
        if !known || !undamaged(turn.store, entry.stream, entry.sequence, &mut self.buffer)? {
            return self.queues.drop_entry(turn.store, session, &entry);
        }
        let resent = self.queues.was_sent(session, entry.position);
        let place = QueuePlace { session, position: entry.position, quality: entry.quality, resent };
        let delivery = write_delivery(&mut turn.deliveries.arena, &self.buffer, place);
        self.queues.note_sent(session, entry, delivery.cost());
        turn.deliveries.entries.push(delivery);
        Ok(())
    }
}

fn write_delivery(arena: &mut Vec<u8>, buffer: &MessageBuffer, place: QueuePlace) -> Delivery {
    let message = buffer.get(0);
    let (subject, headers, payload) =
        message.map_or((&[][..], &[][..], &[][..]), |message| (message.subject, message.headers, message.payload));
    let start = arena.len();
    arena.extend_from_slice(subject);
    let subject = span(start, arena.len());
    let start = arena.len();
    let (headers, payload) = put_message(arena, headers, None, payload);
    Delivery {
        from: Some(Recipient::Session(place.session)),
        to: Span::default(),
        subject,
        tail: span(start, arena.len()),
        reply: Span::default(),
        headers,
        payload,
        queue: Some(place),
    }
}

/// Takes an entry out of a list in order of positions.
fn take(entries: &mut VecDeque<Entry>, position: u64) {
    if let Ok(index) = entries.binary_search_by_key(&position, |entry| entry.position) {
        entries.remove(index);
    }
}

#[cfg(test)]
mod tests {
    use super::{PACKET_IDS, Queues};
    use crate::command::QueueFor;
    use crate::identity::{Sequence, SessionId, StreamId};
    use crate::store::memory::MemoryStore;

    #[test]
    fn no_entry_gets_the_packet_id_of_one_that_is_still_open() {
        let (mut queues, mut store, session) = (Queues::default(), MemoryStore::default(), SessionId(1));
        let target = [QueueFor { session, quality: 1 }];
        for sequence in 1..=PACKET_IDS + 5 {
            let limits = (u64::MAX, u64::MAX);
            queues.add(&mut store, &target, StreamId::FIRST, Sequence(sequence), 1, limits).expect("adds");
        }
        queues.attach(session, 10);
        let first = queues.next_to_send(&mut store, session).expect("reads").expect("an entry");
        queues.note_sent(session, first, 0);
        let mut last = first.position;
        while let Some(entry) = queues.next_to_send(&mut store, session).expect("reads") {
            last = entry.position;
            queues.note_sent(session, entry, 0);
            assert!(queues.acknowledge(&mut store, session, entry.position).expect("acknowledges"));
        }
        assert_eq!(last, PACKET_IDS, "the next one has the id of the first");
        assert!(queues.acknowledge(&mut store, session, first.position).expect("acknowledges"));
        assert!(queues.next_to_send(&mut store, session).expect("reads").is_some());
    }
}
