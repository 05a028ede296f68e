//! Snapshots on their way to clients, and restores on their way from them (`nats stream backup` and `restore`).
//!
//! ```text
//!  STREAM.SNAPSHOT.S ─► the store: state and consumers ─► answer    read a slice ─► archive ─► pieces to the deliver subject
//!                                                                        ▲ a place is free     │ reply: $JS.SNAPSHOT.ACK.S.<id>.<size>.<number>
//!                                                                        └─── acknowledged ◄───┘
//!  STREAM.RESTORE.S ─► the store: may it? ─► answer: $JS.SNAPSHOT.RESTORE.S.<id>
//!                             a piece with a reply ─► unpack ─► messages to the store ─► committed ─► the reply is answered
//!                             an empty piece: the end ─► the stream is there ─► answered as a creation
//! ```
//!
//! Both are bounded: a snapshot has one slice and one window of pieces in memory, a restore what came and was not unpacked, one block, and one
//! piece of messages at the store. Who goes away or is silent for [`PATIENCE`] ends it; then nothing is left of a restore.

mod receiving;
mod sending;

use std::collections::BTreeMap;

use jetstream::identity::Sequence;
use jetstream::store::MessageBuffer;

use crate::account::{GLOBAL, Service, Target};
use crate::broker::Broker;
use crate::identity::Now;
use crate::outbox::Outbox;
use crate::routing::{Message, Origin};
use receiving::Receiving;
use sending::Sending;

pub(crate) use sending::TICKET;

/// Whoever does not answer or send for so long, microseconds, is taken to be gone, as in nats-server.
const PATIENCE: u64 = 5_000_000;
/// Snapshots at a time, and restores at a time.
const MOST: usize = 4;
/// Letters of the ids in subjects.
const ID_LETTERS: usize = 22;

/// Everything under way, by number.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    next: u32,
    sending: BTreeMap<u32, Sending>,
    receiving: BTreeMap<u32, Receiving>,
    /// Interest changed while there are snapshots: a listener may have come, or gone.
    stirred: bool,
}

impl Snapshots {
    /// Somebody subscribed somewhere, or does not any more.
    pub(crate) fn interest_changed(&mut self) {
        self.stirred = self.stirred || !self.sending.is_empty();
    }

    /// When [`Broker::tick_snapshots`] is to be called.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        if self.stirred {
            return Some(0);
        }
        let sending = self.sending.values().filter_map(Sending::deadline);
        sending.chain(self.receiving.values().filter_map(Receiving::deadline)).min()
    }

    fn number(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.next
    }
}

impl Broker {
    /// A message came on the subject of a snapshot or restore.
    pub(crate) fn snapshot_message(&mut self, now: Now, number: u32, message: &Message<'_>, out: &mut Outbox) {
        if self.snapshots.sending.contains_key(&number) {
            self.snapshot_acknowledged(now, number, out);
        } else if self.snapshots.receiving.contains_key(&number) {
            self.restore_piece(now, number, message, out);
        }
    }

    /// The store read messages for a snapshot.
    pub(crate) fn snapshot_slice(
        &mut self,
        now: Now,
        number: u64,
        messages: &MessageBuffer,
        next: Sequence,
        out: &mut Outbox,
    ) {
        if let Ok(number) = u32::try_from(number) {
            self.snapshot_read(now, number, messages, next, out);
        }
    }

    /// Ends what has waited for too long, goes on with what paused.
    pub(crate) fn tick_snapshots(&mut self, now: Now, out: &mut Outbox) {
        if self.snapshots.poll_timeout().is_none_or(|at| at > now.micros) {
            return;
        }
        if std::mem::take(&mut self.snapshots.stirred) {
            for number in self.snapshots.sending.keys().copied().collect::<Vec<_>>() {
                self.snapshot_stirred(now, number, out);
            }
        }
        let is_due = |deadline: Option<u64>| deadline.is_some_and(|deadline| deadline <= now.micros);
        let sending = self.snapshots.sending.iter().filter(|(_, one)| is_due(one.deadline()));
        for number in sending.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.snapshot_late(now, number, out);
        }
        let receiving = self.snapshots.receiving.iter().filter(|(_, one)| is_due(one.deadline()));
        for number in receiving.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.restore_in_time(now, number, out);
        }
    }

    /// The store was opened anew: it knows nothing of what was under way.
    pub(crate) fn fail_snapshots(&mut self, now: Now, out: &mut Outbox) {
        for number in self.snapshots.sending.keys().copied().collect::<Vec<_>>() {
            self.end_snapshot(now, number, "500 store failed", out);
        }
        for number in self.snapshots.receiving.keys().copied().collect::<Vec<_>>() {
            self.fail_restore(now, number, out);
        }
    }

    /// What comes on subjects that match is for this number, or is not any more.
    fn snapshot_row(&mut self, filter: &subject::Filter, number: u32, added: bool) {
        self.change_row(GLOBAL, filter, Target::Service(Service::Snapshot(number)), added);
    }

    fn send_from_server(&mut self, now: Now, message: &Message<'_>, out: &mut Outbox) -> usize {
        self.publish(now, Origin::server(GLOBAL), message, out).reached
    }

    fn snapshot_id(&mut self) -> String {
        const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        (0..ID_LETTERS).map(|_| char::from(LETTERS[self.random.below(LETTERS.len())])).collect()
    }
}

#[cfg(test)]
mod tests;
