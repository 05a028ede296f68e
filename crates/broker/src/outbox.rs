//! Bytes on their way out: a queue of chunks per connection, one memory budget for all of them, and the rare [`Effect`]s.
//!
//! ```text
//!  slot ─ earlier: [chunk 64 KiB][shared payload][chunk]  ─ tail: chunk being filled
//! ```
//!
//! A connection owns no chunk while nothing is pending for it; chunks come from a pool of 64 KiB buffers, last in first out, so that the one
//! used next is still in the cache. Beyond [`MAX_LARGE`] buffers in use at once, small ones are given, so that a message to ten thousand idle
//! connections does not take 64 KiB for each. Payloads that the shell read into a buffer of their own are shared, not copied.
//!
//! Promises: nothing is queued beyond `max_pending` per connection (rounded up to a chunk) and `budget` in sum. What exceeds the first is cut as a slow consumer; when
//! the budget is used up, the connection that holds most is cut. The shell drives it with [`Outbox::take_dirty`], [`Outbox::pending`] and
//! [`Outbox::sent`]. No socket, no clock here.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::effect::{CloseReason, Effect};
use crate::identity::ConnectionId;

/// Size of a chunk. Measured: 16 KiB costs fan-out 32 %, 256 KiB costs one-to-one 27 %.
pub const CHUNK: usize = 64 * 1024;
/// A buffer given when many are in use: room for a few small messages.
const SMALL_CHUNK: usize = 2 * 1024;
/// So many 64 KiB buffers may be in use before small ones are given: half the edge's budget of 32 MB.
const MAX_LARGE: usize = 256;
/// Idle buffers kept for the next burst, 4 MiB.
const MAX_POOLED: usize = 64;
/// Publishers pause while a target has more than this unsent.
pub const CONGESTED: usize = 256 * 1024;
/// With so many connections dirty the shell flushes before more input is handled, so that buffers stay few and warm.
const MANY_DIRTY: usize = 128;

/// Limits of an [`Outbox`], in bytes.
#[derive(Clone, Copy, Debug)]
pub struct OutboxLimits {
    /// For all connections together.
    pub budget: usize,
    /// For one connection.
    pub max_pending: usize,
    /// How long a socket may take nothing, microseconds.
    pub write_deadline: u64,
}

/// The buffers of all connections of a core, and its effects.
#[derive(Debug)]
pub struct Outbox {
    core: u8,
    slots: Vec<Slot>,
    dirty: Vec<ConnectionId>,
    full: Vec<ConnectionId>,
    effects: VecDeque<Effect>,
    pool: Pool,
    limits: OutboxLimits,
    /// Bytes held: capacity of chunks in use, shared payloads, and what the shell reserved for unfinished frames.
    memory: usize,
    /// The first target found congested since [`Outbox::take_congested`].
    congested: Option<ConnectionId>,
    /// Sockets that refused bytes, and since when; oldest first. Those that took some since are skipped.
    blocked: VecDeque<(u64, ConnectionId)>,
    totals: Traffic,
}

/// Messages and their bytes (headers + payload) in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub messages: u64,
    /// Headers and payloads together.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Slot {
    /// The chunk being filled; empty when none is owned. Bytes `..used` are to be sent, after `earlier`.
    tail: Box<[u8]>,
    used: u32,
    /// Bytes already sent of the oldest chunk (the front of `earlier`, or `tail`).
    head: u32,
    generation: u32,
    open: bool,
    dirty: bool,
    full: bool,
    /// Cut: nothing is accepted any more.
    cut: bool,
    /// Filled chunks and shared payloads, oldest first.
    earlier: Option<Box<Earlier>>,
    /// Since when the socket has taken nothing, microseconds; 0: it does.
    blocked_since: u64,
    sent: Traffic,
}

#[derive(Debug, Default)]
struct Earlier {
    chunks: VecDeque<Chunk>,
    /// Bytes in `chunks`, those sent already (`head`) included.
    bytes: usize,
}

#[derive(Debug)]
enum Chunk {
    Owned { bytes: Box<[u8]>, used: u32 },
    Shared { frame: Rc<Frame>, start: u32, end: u32 },
}

/// A large frame in a buffer of its own: what connections are to get of it is shared between them.
#[derive(Debug)]
pub struct Frame {
    bytes: Vec<u8>,
    /// Chunks that refer to it; while there is one, it counts against the budget.
    queued: Cell<u32>,
}

impl Frame {
    /// Takes the bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Rc<Frame> {
        Rc::new(Frame { bytes, queued: Cell::new(0) })
    }

    /// The bytes back, unless somebody holds a part of them.
    #[must_use]
    pub fn into_bytes(frame: Rc<Frame>) -> Option<Vec<u8>> {
        Rc::into_inner(frame).map(|frame| frame.bytes)
    }

    /// The whole frame.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Owned { bytes, used } => &bytes[..*used as usize],
            Chunk::Shared { frame, start, end } => &frame.bytes[*start as usize..*end as usize],
        }
    }
}

impl Slot {
    fn is_user(&self, id: ConnectionId) -> bool {
        self.open && self.generation == id.generation()
    }

    fn id(&self, core: u8, index: usize) -> ConnectionId {
        ConnectionId::new(core, index as u32, self.generation)
    }

    fn pending(&self) -> usize {
        self.used as usize + self.earlier.as_ref().map_or(0, |earlier| earlier.bytes) - self.head as usize
    }
}

impl Outbox {
    /// Empty.
    #[must_use]
    pub fn new(core: u8, limits: OutboxLimits) -> Outbox {
        Outbox {
            core,
            slots: Vec::new(),
            dirty: Vec::new(),
            full: Vec::new(),
            effects: VecDeque::new(),
            pool: Pool::default(),
            limits,
            memory: 0,
            congested: None,
            blocked: VecDeque::new(),
            totals: Traffic::default(),
        }
    }

    // ---- for the shell

    /// The next effect, oldest first. To be drained after every call into the broker.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Is anything to be flushed?
    #[must_use]
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Moves the connections with something new to send into `into`, in the order they became dirty.
    pub fn take_dirty(&mut self, into: &mut Vec<ConnectionId>) {
        for id in self.dirty.drain(..) {
            if let Some(slot) = self.slots.get_mut(id.slot()).filter(|slot| slot.is_user(id)) {
                slot.dirty = false;
                into.push(id);
            }
        }
    }

    /// A connection that filled a whole chunk and is to be flushed before more input is handled.
    pub fn take_full(&mut self) -> Option<ConnectionId> {
        while let Some(id) = self.full.pop() {
            if let Some(slot) = self.slots.get_mut(id.slot()).filter(|slot| slot.is_user(id)) {
                slot.full = false;
                return Some(id);
            }
        }
        None
    }

    /// Should the shell flush before it goes on with its input?
    #[must_use]
    pub fn wants_flush(&self) -> bool {
        !self.full.is_empty() || self.dirty.len() >= MANY_DIRTY
    }

    /// What is to be written, oldest first, in pieces. Empty for an unknown id.
    pub fn pending(&self, id: ConnectionId) -> impl Iterator<Item = &[u8]> {
        let slot = self.slots.get(id.slot()).filter(|slot| slot.is_user(id));
        let earlier = slot
            .and_then(|slot| slot.earlier.as_ref())
            .into_iter()
            .flat_map(|earlier| earlier.chunks.iter().map(Chunk::bytes));
        let tail = slot.map(|slot| &slot.tail[..slot.used as usize]);
        let mut skip = slot.map_or(0, |slot| slot.head as usize);
        earlier.chain(tail).filter(|piece| !piece.is_empty()).map(move |piece| &piece[std::mem::take(&mut skip)..])
    }

    /// How many bytes are to be written.
    #[must_use]
    pub fn pending_bytes(&self, id: ConnectionId) -> usize {
        self.slots.get(id.slot()).filter(|slot| slot.is_user(id)).map_or(0, Slot::pending)
    }

    /// The socket took `count` bytes of [`Outbox::pending`]. Chunks that are done go back to the pool.
    pub fn sent(&mut self, id: ConnectionId, count: usize) {
        let Some(slot) = self.slots.get_mut(id.slot()).filter(|slot| slot.is_user(id)) else { return };
        if count > 0 {
            slot.blocked_since = 0;
        }
        let mut count = count + slot.head as usize;
        slot.head = 0;
        if let Some(earlier) = &mut slot.earlier {
            while let Some(chunk) = earlier.chunks.front() {
                let len = chunk.bytes().len();
                if count < len {
                    slot.head = count as u32;
                    return;
                }
                count -= len;
                earlier.bytes -= len;
                let done = earlier.chunks.pop_front();
                self.memory -= done.map_or(0, |chunk| self.pool.recycle(chunk));
            }
            slot.earlier = None;
        }
        debug_assert!(count <= slot.used as usize, "more sent than was pending");
        if count < slot.used as usize {
            slot.head = count as u32;
            return;
        }
        slot.used = 0;
        let tail = std::mem::take(&mut slot.tail);
        self.memory -= self.pool.give(tail);
    }

    /// The socket refuses bytes since `now` (microseconds).
    pub fn blocked(&mut self, id: ConnectionId, now: u64) {
        if let Some(slot) = self.slots.get_mut(id.slot()).filter(|slot| slot.is_user(id))
            && slot.blocked_since == 0
        {
            slot.blocked_since = now.max(1);
            self.blocked.push_back((slot.blocked_since, id));
        }
    }

    /// Since when the socket has refused bytes, if it does.
    #[must_use]
    pub fn blocked_since(&self, id: ConnectionId) -> Option<u64> {
        let slot = self.slots.get(id.slot()).filter(|slot| slot.is_user(id))?;
        (slot.blocked_since != 0).then_some(slot.blocked_since)
    }

    /// When the next socket has refused bytes for too long, microseconds.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        self.blocked.front().map(|(since, _)| since.saturating_add(self.limits.write_deadline))
    }

    /// Cuts the connections whose sockets have taken nothing for too long.
    pub(crate) fn tick(&mut self, now: u64) {
        while let Some((since, id)) = self.blocked.front().copied() {
            let still = self.blocked_since(id) == Some(since) && !self.slots[id.slot()].cut;
            if still && now < since.saturating_add(self.limits.write_deadline) {
                return;
            }
            self.blocked.pop_front();
            if still {
                self.cut(id.slot(), CloseReason::SlowConsumerWriteDeadline);
            }
        }
    }

    /// Takes memory for bytes of an unfinished frame out of the budget; `false`: there is none, the connection must wait or go.
    pub fn reserve(&mut self, bytes: usize) -> bool {
        let fits = self.memory.saturating_add(bytes) <= self.limits.budget;
        if fits {
            self.memory += bytes;
        }
        fits
    }

    /// Gives back what [`Outbox::reserve`] took.
    pub fn release(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.memory, "released more than was reserved");
        self.memory = self.memory.saturating_sub(bytes);
    }

    /// Bytes held by all connections, against the budget.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// The first congested target that got something since the last call.
    pub fn take_congested(&mut self) -> Option<ConnectionId> {
        self.congested.take()
    }

    /// What was sent to a connection.
    #[must_use]
    pub fn traffic(&self, id: ConnectionId) -> Traffic {
        self.slots.get(id.slot()).filter(|slot| slot.is_user(id)).map_or(Traffic::default(), |slot| slot.sent)
    }

    /// What was sent to all connections.
    #[must_use]
    pub fn totals(&self) -> Traffic {
        self.totals
    }

    /// Frees pooled buffers that a burst left behind; to be called now and then.
    pub fn trim(&mut self) {
        self.pool.trim();
    }

    // ---- for the broker

    /// Opens the buffers of a connection.
    pub fn open(&mut self, id: ConnectionId) {
        if self.slots.len() <= id.slot() {
            self.slots.resize_with(id.slot() + 1, Slot::default);
        }
        let slot = &mut self.slots[id.slot()];
        debug_assert!(!slot.open, "slot in use");
        *slot = Slot { generation: id.generation(), open: true, ..Slot::default() };
    }

    /// Forgets a connection and what was pending for it.
    pub fn close(&mut self, id: ConnectionId) {
        self.discard(id);
        if let Some(slot) = self.slots.get_mut(id.slot()).filter(|slot| slot.is_user(id)) {
            slot.open = false;
        }
    }

    /// Asks the shell for something.
    pub fn effect(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    /// Appends bytes that are no message.
    pub fn append(&mut self, id: ConnectionId, bytes: &[u8]) {
        if self.slots.get(id.slot()).is_some_and(|slot| slot.is_user(id)) {
            self.append_pieces(id.slot(), bytes, &[]);
        }
    }

    /// Appends a message in two pieces to the connection in `slot`, which the caller knows to be open, and counts it. `size` is the message's
    /// headers + payload.
    #[inline]
    pub(crate) fn deliver(&mut self, slot: usize, prefix: &[u8], tail: &[u8], size: usize) {
        self.append_pieces(slot, prefix, tail);
        self.count(slot, size);
    }

    /// Like [`Outbox::deliver`], the second piece shared instead of copied.
    pub(crate) fn deliver_shared(
        &mut self,
        index: usize,
        prefix: &[u8],
        frame: &Rc<Frame>,
        range: std::ops::Range<usize>,
        size: usize,
    ) {
        self.append_pieces(index, prefix, &[]);
        self.count(index, size);
        if self.slots[index].cut || !self.make_room(index, range.len()) {
            return;
        }
        self.close_tail(index);
        let slot = &mut self.slots[index];
        let earlier = slot.earlier.get_or_insert_default();
        earlier.bytes += range.len();
        earlier.chunks.push_back(Chunk::Shared {
            frame: Rc::clone(frame),
            start: range.start as u32,
            end: range.end as u32,
        });
        if frame.queued.get() == 0 {
            self.memory += frame.bytes.capacity();
        }
        frame.queued.set(frame.queued.get() + 1);
        self.note_full(index);
    }

    #[inline]
    fn count(&mut self, index: usize, size: usize) {
        let slot = &mut self.slots[index];
        slot.sent.messages += 1;
        slot.sent.bytes += size as u64;
        self.totals.messages += 1;
        self.totals.bytes += size as u64;
    }

    #[inline]
    fn append_pieces(&mut self, index: usize, first: &[u8], second: &[u8]) {
        let slot = &mut self.slots[index];
        let start = slot.used as usize;
        let middle = start + first.len();
        let end = middle + second.len();
        if end <= slot.tail.len() && slot.dirty {
            copy_short(&mut slot.tail[start..middle], first);
            copy_short(&mut slot.tail[middle..end], second);
            slot.used = end as u32;
            return;
        }
        self.append_slowly(index, first);
        self.append_slowly(index, second);
    }

    /// Marks dirty, takes chunks, splits what does not fit.
    #[cold]
    fn append_slowly(&mut self, index: usize, mut bytes: &[u8]) {
        self.mark_dirty(index);
        while !bytes.is_empty() && !self.slots[index].cut {
            let slot = &mut self.slots[index];
            let room = slot.tail.len() - slot.used as usize;
            if room == 0 {
                if !self.next_chunk(index, bytes.len()) {
                    return;
                }
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            let start = slot.used as usize;
            slot.tail[start..start + now.len()].copy_from_slice(now);
            slot.used += now.len() as u32;
            bytes = later;
        }
    }

    fn mark_dirty(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if !slot.dirty && !slot.cut {
            slot.dirty = true;
            self.dirty.push(slot.id(self.core, index));
        }
    }

    /// Moves a filled tail to `earlier` and takes an empty one.
    fn next_chunk(&mut self, index: usize, wanted: usize) -> bool {
        if !self.make_room(index, wanted.min(CHUNK)) {
            return false;
        }
        if self.slots[index].used > 0 {
            self.close_tail(index);
            self.note_full(index);
        }
        let chunk = self.pool.take(wanted);
        self.memory += chunk.len();
        self.slots[index].tail = chunk;
        true
    }

    fn close_tail(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if slot.used == 0 {
            return;
        }
        let used = std::mem::take(&mut slot.used);
        let bytes = std::mem::take(&mut slot.tail);
        let earlier = slot.earlier.get_or_insert_default();
        earlier.bytes += used as usize;
        earlier.chunks.push_back(Chunk::Owned { bytes, used });
    }

    fn note_full(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if !slot.full {
            slot.full = true;
            self.full.push(slot.id(self.core, index));
        }
        if self.congested.is_none() && slot.pending() > CONGESTED {
            self.congested = Some(slot.id(self.core, index));
        }
    }

    /// Checks both limits before `more` bytes are held for a connection; cuts it, or the largest, when one is reached.
    fn make_room(&mut self, index: usize, more: usize) -> bool {
        if self.slots[index].pending() + more > self.limits.max_pending {
            self.cut(index, CloseReason::SlowConsumerPendingBytes);
            return false;
        }
        while self.memory + more > self.limits.budget {
            let largest = (0..self.slots.len())
                .filter(|other| self.slots[*other].open)
                .max_by_key(|other| self.slots[*other].pending());
            match largest {
                Some(largest) if self.slots[largest].pending() > 0 => self.cut(largest, CloseReason::OutOfMemory),
                // Unfinished frames hold all of it: who wants to send must wait for them, so this one goes.
                _ => self.cut(index, CloseReason::OutOfMemory),
            }
            if self.slots[index].cut {
                return false;
            }
        }
        true
    }

    fn cut(&mut self, index: usize, reason: CloseReason) {
        let id = self.slots[index].id(self.core, index);
        self.discard(id);
        self.slots[index].cut = true;
        self.effects.push_back(Effect::Close { id, reason });
    }

    /// Drops what is pending.
    fn discard(&mut self, id: ConnectionId) {
        let Some(slot) = self.slots.get_mut(id.slot()).filter(|slot| slot.is_user(id)) else { return };
        slot.used = 0;
        slot.head = 0;
        let tail = std::mem::take(&mut slot.tail);
        let earlier = slot.earlier.take();
        self.memory -= self.pool.give(tail);
        for chunk in earlier.into_iter().flat_map(|earlier| earlier.chunks) {
            self.memory -= self.pool.recycle(chunk);
        }
    }
}

/// Buffers of [`CHUNK`] bytes that nobody uses, last in first out.
#[derive(Debug, Default)]
struct Pool {
    idle: Vec<Box<[u8]>>,
    /// Large buffers in use.
    in_use: usize,
}

impl Pool {
    fn take(&mut self, wanted: usize) -> Box<[u8]> {
        if self.in_use >= MAX_LARGE {
            return vec![0; wanted.clamp(SMALL_CHUNK, CHUNK - 1)].into_boxed_slice();
        }
        self.in_use += 1;
        self.idle.pop().unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice())
    }

    /// Takes a buffer back; returns its size.
    fn give(&mut self, buffer: Box<[u8]>) -> usize {
        let size = buffer.len();
        if size == CHUNK {
            self.in_use -= 1;
            if self.idle.len() < MAX_POOLED {
                self.idle.push(buffer);
            }
        }
        size
    }

    /// Takes a chunk back; returns the memory that is free now.
    fn recycle(&mut self, chunk: Chunk) -> usize {
        match chunk {
            Chunk::Owned { bytes, .. } => self.give(bytes),
            Chunk::Shared { frame, .. } => {
                frame.queued.set(frame.queued.get() - 1);
                if frame.queued.get() == 0 { frame.bytes.capacity() } else { 0 }
            }
        }
    }

    fn trim(&mut self) {
        let keep = self.idle.len() / 2;
        self.idle.truncate(keep);
    }
}

/// Copies short pieces in steps of 16 bytes, without a call: `memcpy` of musl costs twice as much at these lengths.
#[inline(always)]
fn copy_short(to: &mut [u8], from: &[u8]) {
    let len = from.len();
    if !(16..=512).contains(&len) {
        to.copy_from_slice(from);
        return;
    }
    let mut at = 0;
    while at + 16 <= len {
        to[at..at + 16].copy_from_slice(&from[at..at + 16]);
        at += 16;
    }
    // The last step overlaps the one before it.
    to[len - 16..len].copy_from_slice(&from[len - 16..len]);
}
