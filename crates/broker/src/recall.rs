//! Values that were read and are still what the store would answer: the newest message of a subject, for `DIRECT.GET` and thus buckets.
//!
//! A get costs two hand-overs between threads, and waits for the commit that is under way. What was read before and has not changed since is
//! answered from here instead. Exactly:
//!
//! - Only what the store answered is kept, so nothing that is not committed. The store tells, in the turn in which it happens, what is stored
//!   and what goes ([`Change`]); that is forgotten before anybody hears of it, since acknowledgements and deliveries of the turn come from the
//!   same call. A stream of which it does not tell (yet) has nothing here.
//! - Who publishes and then asks on the same connection gets what it published, also without waiting for the acknowledgement: nothing is
//!   answered from here while a publish on that subject is on its way to the store; one with headers, which may concern other subjects (a
//!   roll-up, the end of a batch), holds its whole stream, and a request to the API everything.
//!
//! Bounded: [`MOST_BYTES`] in all, [`LARGEST`] for one. A subject is kept when it is read for the second time in a while, so that who walks
//! through a large bucket once moves nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

use foldhash::fast::FixedState;
use jetstream::command::{Change, subject_hash};
use jetstream::identity::{AgeMillis, Sequence, StreamId, Timestamp};
use jetstream::store::StoredMessage;

/// Bytes of all of them, with what each takes beside its message.
const MOST_BYTES: usize = 4 << 20;
/// Bytes of a message that is kept.
const LARGEST: usize = 16 << 10;
/// What one takes beside its message, about.
const ENTRY_BYTES: usize = 256;
/// Places for subjects on their way to the store, a power of two: two that share one only miss more often.
const MARKS: usize = 4096;
/// Bits for subjects that were read once, a power of two: two that share one are only kept earlier.
const SEEN: usize = 1 << 17;
/// So many are noted before all are forgotten.
const MOST_SEEN: usize = SEEN / 4;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Recall {
    /// By stream and subject; nothing walks over it.
    values: HashMap<u64, Value, FixedState>,
    /// Keys of `values`.
    places: BTreeMap<(StreamId, Sequence), u64>,
    /// Keys and numbers of `values`, oldest first, and of some that are gone.
    order: VecDeque<(u64, u64)>,
    /// The number given last.
    number: u64,
    bytes: usize,
    /// Streams whose changes are told, and the last batch with a publish that may concern any of their subjects.
    streams: BTreeMap<StreamId, u64>,
    /// By the hash of a subject: the last batch with a publish on it. Empty as long as no stream is told of.
    marks: Vec<u64>,
    /// The last batch that may change anything.
    held: u64,
    /// Batches that the store was given, and those that are back, in the same order.
    given: u64,
    back: u64,
    /// A bit by the hash of a subject: what was read lately; and how many there are.
    seen: Vec<u64>,
    seen_count: usize,
}

/// The newest message of a subject.
#[derive(Debug)]
struct Value {
    stream: StreamId,
    sequence: Sequence,
    time: Timestamp,
    age: AgeMillis,
    /// Lengths of subject and headers.
    lengths: (u32, u32),
    /// Subject, headers, payload.
    bytes: Rc<[u8]>,
    /// Its number in `order`.
    number: u64,
    /// It was asked for since it was last looked at.
    wanted: bool,
}

/// A message that is remembered.
#[derive(Clone, Debug)]
pub(crate) struct Recalled {
    sequence: Sequence,
    time: Timestamp,
    age: AgeMillis,
    lengths: (u32, u32),
    bytes: Rc<[u8]>,
}

impl Recalled {
    /// As the store would give it.
    pub(crate) fn message(&self) -> StoredMessage<'_> {
        let (subject, rest) = self.bytes.split_at(self.lengths.0 as usize);
        let (headers, payload) = rest.split_at(self.lengths.1 as usize);
        StoredMessage { sequence: self.sequence, time: self.time, age: self.age, subject, headers, payload }
    }
}

impl Value {
    fn subject(&self) -> &[u8] {
        &self.bytes[..self.lengths.0 as usize]
    }

    fn size(&self) -> usize {
        self.bytes.len() + ENTRY_BYTES
    }
}

impl Recall {
    /// The newest message of a subject, if it is known for certain.
    pub(crate) fn newest(&mut self, stream: StreamId, subject: &[u8]) -> Option<Recalled> {
        let is_settled = self.is_settled(stream, subject);
        let value = self.values.get_mut(&key_of(stream, subject_hash(subject))).filter(|_| is_settled)?;
        if value.stream != stream || value.subject() != subject {
            return None;
        }
        value.wanted = true;
        let Value { sequence, time, age, lengths, bytes, .. } = value;
        Some(Recalled { sequence: *sequence, time: *time, age: *age, lengths: *lengths, bytes: Rc::clone(bytes) })
    }

    /// Is nothing on its way to the store that may change what is the newest message of a subject? Of a stream that is not told of that is not known.
    pub(crate) fn is_settled(&self, stream: StreamId, subject: &[u8]) -> bool {
        let Some(held) = self.streams.get(&stream) else { return false };
        self.held.max(*held).max(self.marks[mark_of(subject_hash(subject))]) <= self.back
    }

    /// The store answered that this is the newest message of its subject.
    pub(crate) fn answered(&mut self, stream: StreamId, message: &StoredMessage<'_>) {
        let size = message.subject.len() + message.headers.len() + message.payload.len();
        if !self.streams.contains_key(&stream) || size > LARGEST || !self.is_read_again(message.subject) {
            return;
        }
        let key = key_of(stream, subject_hash(message.subject));
        self.forget(key);
        self.number += 1;
        let value = Value {
            stream,
            sequence: message.sequence,
            time: message.time,
            age: message.age,
            lengths: (message.subject.len() as u32, message.headers.len() as u32),
            bytes: [message.subject, message.headers, message.payload].concat().into(),
            number: self.number,
            wanted: false,
        };
        self.bytes += value.size();
        self.places.insert((stream, message.sequence), key);
        self.order.push_back((key, self.number));
        self.values.insert(key, value);
        self.make_room();
    }

    /// A publish is about to be given to the store.
    #[inline]
    pub(crate) fn published(&mut self, stream: StreamId, subject: &[u8], has_headers: bool) {
        // Nothing is known of any other stream.
        let Some(held) = self.streams.get_mut(&stream) else { return };
        if has_headers {
            *held = self.given + 1;
        } else {
            self.marks[mark_of(subject_hash(subject))] = self.given + 1;
        }
    }

    /// A request is about to be given to the store that may change anything.
    pub(crate) fn hold(&mut self) {
        self.held = self.given + 1;
    }

    /// The store was given a batch.
    pub(crate) fn given(&mut self) {
        self.given += 1;
    }

    /// It gave one back.
    pub(crate) fn back(&mut self) {
        self.back += 1;
    }

    /// What the store tells at the end of a turn.
    pub(crate) fn changed(&mut self, changes: &[(StreamId, Change)]) {
        for (stream, change) in changes {
            match change {
                Change::Watched => self.watch(*stream),
                Change::Unwatched => self.forget_stream(*stream),
                Change::Stored(hash) => self.forget(key_of(*stream, *hash)),
                Change::Gone(first, last) => self.forget_between(*stream, *first, *last),
            }
        }
    }

    /// A stream is gone, or another one than before.
    pub(crate) fn forget_stream(&mut self, stream: StreamId) {
        if self.streams.remove(&stream).is_some() {
            self.forget_between(stream, Sequence(0), Sequence(u64::MAX));
        }
    }

    /// The store was opened anew.
    pub(crate) fn forget_all(&mut self) {
        *self = Recall { given: self.given, back: self.back, ..Recall::default() };
    }

    fn watch(&mut self, stream: StreamId) {
        if self.marks.is_empty() {
            self.marks = vec![0; MARKS];
            self.seen = vec![0; SEEN / 64];
        }
        self.forget_stream(stream);
        // What was published on it until now was not marked.
        self.streams.insert(stream, self.given + 1);
    }

    /// Was the subject read a while ago? It was now.
    fn is_read_again(&mut self, subject: &[u8]) -> bool {
        let bit = subject_hash(subject) as usize & (SEEN - 1);
        let (word, mask) = (bit / 64, 1 << (bit % 64));
        if self.seen[word] & mask != 0 {
            return true;
        }
        if self.seen_count == MOST_SEEN {
            self.seen.fill(0);
            self.seen_count = 0;
        }
        self.seen[word] |= mask;
        self.seen_count += 1;
        false
    }

    fn forget(&mut self, key: u64) {
        if let Some(value) = self.values.remove(&key) {
            self.bytes -= value.size();
            self.places.remove(&(value.stream, value.sequence));
        }
    }

    fn forget_between(&mut self, stream: StreamId, first: Sequence, last: Sequence) {
        if first > last {
            return;
        }
        while let Some((place, key)) = self.places.range((stream, first)..=(stream, last)).next() {
            let (place, key) = (*place, *key);
            self.forget(key);
            self.places.remove(&place);
        }
    }

    /// The oldest go that were not asked for lately.
    fn make_room(&mut self) {
        while self.bytes > MOST_BYTES
            && let Some((key, number)) = self.order.pop_front()
        {
            match self.values.get_mut(&key).filter(|value| value.number == number) {
                Some(value) if value.wanted => {
                    value.wanted = false;
                    self.order.push_back((key, number));
                }
                Some(_) => self.forget(key),
                None => {}
            }
        }
        if self.order.len() > 2 * self.values.len() + 64 {
            let values = &self.values;
            self.order.retain(|(key, number)| values.get(key).is_some_and(|value| value.number == *number));
        }
    }
}

fn key_of(stream: StreamId, hash: u64) -> u64 {
    hash ^ u64::from(stream.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn mark_of(hash: u64) -> usize {
    hash as usize & (MARKS - 1)
}

#[cfg(test)]
mod tests;
