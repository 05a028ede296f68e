//! Messages of QoS 1 and 2 on their way to the client.
//!
//! A session's queue numbers its messages by a position that never goes back; the packet identifier is computed from
//! it ([`PacketId::of_position`]). So a send costs no write, a crash loses no identifier, and an acknowledgement is
//! found by its identifier alone, as long as the open positions span less than 65,535.
//!
//! Open messages are kept in order, oldest first, at most as many as the client takes. Whoever connects again gets all
//! of them again, in that order, before anything new; on a live connection nothing is ever sent twice.
//! `[MQTT-4.4.0-1]`, `[MQTT-4.6.0-1]`
//!
//! ```text
//!            ┌──▶ Published(QoS 1) ── PUBACK ─────────────────────────┐
//! send ──────┤                                                        ├──▶ settled
//!            └──▶ Published(QoS 2) ── PUBREC ──▶ Released ── PUBCOMP ─┤
//!                        └──── PUBREC with an error ──────────────────┘
//! ```

use std::collections::VecDeque;

use crate::protocol::{PacketId, Qos};

/// How far an open message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// PUBLISH of QoS 1 sent, PUBACK awaited.
    AtLeastOnce,
    /// PUBLISH of QoS 2 sent, PUBREC awaited.
    ExactlyOnce,
    /// PUBREC has come, PUBCOMP awaited.
    Released,
}

/// The outgoing half of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbound {
    /// Open messages by position, ascending; at most `window` are added.
    open: VecDeque<(u64, Stage)>,
    /// The lowest position that may be sent next; above every open one.
    next_position: u64,
    /// How many may be open at once on this connection; 0 while there is none.
    window: u16,
    /// How many of `open`, from the front, were sent on this connection.
    sent: usize,
}

/// What is to be sent again on a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resend {
    /// The message at this position, with DUP.
    Publish {
        /// Its position in the queue.
        position: u64,
        /// The same identifier as before.
        id: PacketId,
        /// The same QoS as before.
        qos: Qos,
    },
    /// A PUBREL.
    Pubrel {
        /// The same identifier as before.
        id: PacketId,
    },
}

/// What a PUBACK means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PubackOutcome {
    /// The message at this position is done, whatever the reason code; it may be removed lazily.
    Settled(u64),
    /// No message has this identifier: ignore.
    Unknown,
}

/// What a PUBREC means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PubrecOutcome {
    /// The client has the message at this position: commit "released", then send PUBREL.
    Released(u64),
    /// It was released before; send PUBREL once that is committed.
    AlreadyReleased(u64),
    /// The client refused the message at this position: it is done, and there is no PUBREL.
    Settled(u64),
    /// No message has this identifier: 3.1.1 sends PUBREL; 5 ignores it.
    Unknown,
}

/// What a PUBCOMP means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PubcompOutcome {
    /// The message at this position is done; it may be removed lazily.
    Settled(u64),
    /// No message has this identifier: ignore.
    Unknown,
}

/// An acknowledgement of another kind than the message's QoS and stage ask for: a protocol error (0x82).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an acknowledgement of the wrong kind for its message")]
pub struct WrongKind;

impl Outbound {
    /// Nothing open; the first message sent is at `next_position` or above.
    pub const fn new(next_position: u64) -> Self {
        Self { open: VecDeque::new(), next_position, window: 0, sent: 0 }
    }

    /// Enters a message that an earlier life of the process had open, oldest first; before any connection.
    ///
    /// `released`: PUBREC has come. Returns false, and enters nothing, for QoS 0, a position that is not above the
    /// ones before, or one too far from the oldest: a store that says so is damaged.
    pub fn restore(&mut self, position: u64, qos: Qos, released: bool) -> bool {
        let stage = match (qos, released) {
            (Qos::AtMostOnce, _) | (Qos::AtLeastOnce, true) => return false,
            (Qos::AtLeastOnce, false) => Stage::AtLeastOnce,
            (Qos::ExactlyOnce, false) => Stage::ExactlyOnce,
            (Qos::ExactlyOnce, true) => Stage::Released,
        };
        let above = self.open.back().is_none_or(|&(last, _)| position > last);
        if !above || !self.is_near(position) {
            return false;
        }
        self.open.push_back((position, stage));
        self.next_position = self.next_position.max(position.saturating_add(1));
        true
    }

    /// A connection begins: everything open is to be sent again, see [`Outbound::next_resend`].
    pub fn attach(&mut self, window: u16) {
        self.window = window.max(1);
        self.sent = 0;
    }

    /// The connection ended: nothing may be sent.
    pub const fn detach(&mut self) {
        self.window = 0;
        self.sent = 0;
    }

    /// What is to be sent again next, oldest first, or `None` when all is or the window is full.
    ///
    /// Call it after [`Outbound::attach`] and after every acknowledgement until [`Outbound::is_resending`] is false.
    pub fn next_resend(&mut self) -> Option<Resend> {
        if self.sent >= usize::from(self.window) {
            return None;
        }
        let &(position, stage) = self.open.get(self.sent)?;
        self.sent += 1;
        let id = PacketId::of_position(position);
        Some(match stage {
            Stage::AtLeastOnce => Resend::Publish { position, id, qos: Qos::AtLeastOnce },
            Stage::ExactlyOnce => Resend::Publish { position, id, qos: Qos::ExactlyOnce },
            Stage::Released => Resend::Pubrel { id },
        })
    }

    /// Whether something open was not sent on this connection yet; nothing new may be sent before.
    pub fn is_resending(&self) -> bool {
        self.sent < self.open.len()
    }

    /// Whether a message at [`Outbound::next_position`] may be sent now. `[MQTT-3.3.4-9]`
    pub fn has_room(&self) -> bool {
        self.may_send(self.next_position)
    }

    /// Opens the message at `position` and gives the identifier to send it with; `None` while the window is full,
    /// something is to be sent again first, or the position was passed.
    ///
    /// Positions between were dropped or delivered otherwise and are passed. QoS 0 needs none of this: `None`.
    pub fn send(&mut self, position: u64, qos: Qos) -> Option<PacketId> {
        if position < self.next_position || !self.may_send(position) {
            return None;
        }
        let stage = match qos {
            Qos::AtMostOnce => return None,
            Qos::AtLeastOnce => Stage::AtLeastOnce,
            Qos::ExactlyOnce => Stage::ExactlyOnce,
        };
        self.open.push_back((position, stage));
        self.sent += 1;
        self.next_position = position.saturating_add(1);
        Some(PacketId::of_position(position))
    }

    /// Whether the message at `position` is open.
    pub fn is_open(&self, position: u64) -> bool {
        self.open.binary_search_by_key(&position, |&(position, _)| position).is_ok()
    }

    /// The lowest position that may be sent next.
    pub const fn next_position(&self) -> u64 {
        self.next_position
    }

    /// The oldest position that is not settled: everything below may be removed from the queue.
    pub fn oldest_open(&self) -> u64 {
        self.open.front().map_or(self.next_position, |&(position, _)| position)
    }

    /// How many messages are open.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// A PUBACK came. `[MQTT-4.3.2-3]`
    pub fn handle_puback(&mut self, id: PacketId) -> Result<PubackOutcome, WrongKind> {
        match self.find(id) {
            None => Ok(PubackOutcome::Unknown),
            Some((index, Stage::AtLeastOnce)) => Ok(PubackOutcome::Settled(self.settle(index))),
            Some(_) => Err(WrongKind),
        }
    }

    /// A PUBREC came; `is_error`: with a reason code of 0x80 or more, which 3.1.1 has not. `[MQTT-4.3.3-4]`
    pub fn handle_pubrec(&mut self, id: PacketId, is_error: bool) -> Result<PubrecOutcome, WrongKind> {
        match self.find(id) {
            None => Ok(PubrecOutcome::Unknown),
            Some((index, Stage::ExactlyOnce)) if is_error => Ok(PubrecOutcome::Settled(self.settle(index))),
            Some((index, Stage::ExactlyOnce)) => {
                let (position, stage) = &mut self.open[index];
                *stage = Stage::Released;
                Ok(PubrecOutcome::Released(*position))
            }
            Some((index, Stage::Released)) => Ok(PubrecOutcome::AlreadyReleased(self.open[index].0)),
            Some((_, Stage::AtLeastOnce)) => Err(WrongKind),
        }
    }

    /// A PUBCOMP came.
    pub fn handle_pubcomp(&mut self, id: PacketId) -> Result<PubcompOutcome, WrongKind> {
        match self.find(id) {
            None => Ok(PubcompOutcome::Unknown),
            Some((index, Stage::Released)) => Ok(PubcompOutcome::Settled(self.settle(index))),
            Some(_) => Err(WrongKind),
        }
    }

    /// The message at this position is gone from the queue (expired, purged, too large for the client): nothing of it
    /// is open any more. Returns whether it was. Only for what was not sent on this connection.
    pub fn abandon(&mut self, position: u64) -> bool {
        match self.open.binary_search_by_key(&position, |&(position, _)| position) {
            Ok(index) => {
                self.settle(index);
                true
            }
            Err(_) => false,
        }
    }

    fn may_send(&self, position: u64) -> bool {
        self.open.len() < usize::from(self.window) && !self.is_resending() && self.is_near(position)
    }

    /// Whether the identifier of `position` is different from those of all open positions.
    fn is_near(&self, position: u64) -> bool {
        self.open.front().is_none_or(|&(oldest, _)| position.saturating_sub(oldest) < PacketId::COUNT)
    }

    /// The open message with this identifier: the only position of that identifier in the span of the open ones.
    fn find(&self, id: PacketId) -> Option<(usize, Stage)> {
        let &(oldest, _) = self.open.front()?;
        let first = u64::from(PacketId::of_position(oldest).value());
        let ahead = (u64::from(id.value()) + PacketId::COUNT - first) % PacketId::COUNT;
        let position = oldest.checked_add(ahead)?;
        let index = self.open.binary_search_by_key(&position, |&(position, _)| position).ok()?;
        Some((index, self.open[index].1))
    }

    fn settle(&mut self, index: usize) -> u64 {
        if index < self.sent {
            self.sent -= 1;
        }
        match self.open.remove(index) {
            Some((position, _)) => position,
            None => self.next_position,
        }
    }
}
